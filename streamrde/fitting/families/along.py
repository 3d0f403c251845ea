"""Targets along streams: the last token, exponential means of several lengths, and random features of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np

from streamrde.arrays import Floats, Reals
from streamrde.features import Block, Drawn, FeatureSpec, Pool, draw, make_pooling
from streamrde.fitting.along import LONGEST
from streamrde.fitting.examples import Candidate, Examples, features_of, squared_losses, tokens_of
from streamrde.fitting.readout import MOST_LOGISTIC, Readout, logistic_readout, ridge_readout
from streamrde.fitting.ridge import Linear
from streamrde.inference.bundle import Bundle
from streamrde.inference.ends import Blank
from streamrde.inference.fields.reservoir import Reservoir
from streamrde.inference.header import Channel, Header
from streamrde.inference.statistics import bridge_of
from streamrde.windowing.policies import Every
from streamrde.windowing.tokens import Scale, Token

_SCALES = (1, 2, 4, 8, 16, LONGEST)  # base windows
_DEEP = (1, 8)  # scales that have the model's depth: the others' increments cost little with many channels
_LIVES = (4.0, 16.0, 64.0)  # half-lives of the means, in base windows
_DIRECTIONS = 300
_SAMPLE = 20_000  # samples, about, from which scales of tokens and biases are drawn


class _Prepared(NamedTuple):
    """The features of all rows, and what makes them."""

    header: Header
    drawn: Drawn
    spec: FeatureSpec
    features: Floats
    """(n, P)"""
    last: Floats
    """(outputs, P) and (outputs, 1), side by side: linear functions of the features that give each target's last
    value, or 0 if it is no channel."""


def fit_along(examples: Examples) -> Iterator[Candidate]:
    """Fit readouts of features of the latest windows to targets along the streams.

    With a horizon, a target that is a channel too is learned as its value, and as its change since the last one.
    """
    if not examples.along:
        return
    classes = len(examples.labels)
    whole = _prepare(examples)
    for own, name in ((_linear(examples, whole), "along, linear"), (whole, "along, random features")):
        readout = ridge_readout(own.features, examples.truth, classes, examples.folds)
        yield _candidate(f"{name}, ridge", own, readout)
        if own.last.any():
            yield _candidate(f"{name}, change", own, _change(examples, own))
    if classes and len(examples.truth) <= MOST_LOGISTIC:
        readout = logistic_readout(whole.features, examples.truth, classes, examples.folds)
        yield _candidate("along, random features, logistic", whole, readout)


def _change(examples: Examples, own: _Prepared) -> Readout:
    """Fit the difference between a target and its last value, and add the value again."""
    weight, bias = own.last[:, :-1].T, own.last[:, -1]
    before = own.features @ weight + bias
    readout = ridge_readout(own.features, examples.truth - before, 0, examples.folds)
    held_out = readout.held_out + before

    def whole(linear: Linear) -> Linear:
        return Linear(linear.weight + weight, linear.bias + bias)

    return Readout(
        whole(readout.linear),
        held_out,
        squared_losses(examples.truth, held_out),
        lambda fold: whole(readout.without(fold)),
    )


def _prepare(examples: Examples) -> _Prepared:
    header, spec = _header(examples, _DIRECTIONS)
    places = header.partition.places
    drawn = draw(spec, places, _sample(examples, header), clip=header.clip)
    pooling = make_pooling(spec, places, drawn)
    last = np.zeros((header.outputs, pooling.size + 1))
    if examples.horizon and not examples.labels:
        for j, target in enumerate(examples.targets):
            if target in examples.channels:
                entry = places.ends.start + examples.channels.index(target)
                if drawn.scale[entry]:
                    # The first pool is the last token, standardised.
                    last[j, entry], last[j, -1] = 1 / drawn.scale[entry], drawn.shift[entry]
    return _Prepared(header, drawn, spec, features_of(examples, pooling, header.partition), last)


def _linear(examples: Examples, whole: _Prepared) -> _Prepared:
    """Return the same without random features, which come last."""
    header, spec = _header(examples, 0)
    size = spec.size(header.partition.places)
    drawn = whole.drawn._replace(weights=(), biases=())
    last = np.concatenate([whole.last[:, :size], whole.last[:, -1:]], axis=1)
    return _Prepared(header, drawn, spec, np.ascontiguousarray(whole.features[:, :size]), last)


def _sample(examples: Examples, header: Header) -> Floats:
    """Return tokens of evenly chosen excerpts of the streams."""
    own = examples.recordings
    chosen = [own[i] for i in np.unique(np.linspace(0, len(own) - 1, 64).astype(int))]
    length = max(2, _SAMPLE // len(chosen))
    cut = []
    for i, recording in enumerate(chosen):
        spare = max(0, len(recording.t) - length)
        start = spare * i // max(1, len(chosen) - 1)
        part = slice(start, start + length)
        cut.append(recording.__class__(**{**vars(recording), "t": recording.t[part], "x": recording.x[part]}))
    whole = examples._replace(recordings=cut, windows=None, truth=np.zeros((len(cut), 1)))
    return tokens_of(whole, header.partition).values


def _candidate(name: str, own: _Prepared, readout: Readout) -> Candidate:
    make: Callable[[Linear], Bundle] = partial(_bundle, own)
    return Candidate(
        name, readout.held_out, readout.losses, lambda: make(readout.linear), lambda fold: make(readout.without(fold))
    )


def _bundle(own: _Prepared, linear: Linear) -> Bundle:
    header = own.header
    tensors: dict[str, Reals] = {
        "x0.shift": np.zeros(header.path_channels),
        "x0.scale": np.ones(header.path_channels),
        **Reservoir(features=own.spec).tensors("field", own.drawn),
        "output.shift": np.zeros(header.outputs),
        "output.scale": np.ones(header.outputs),
        "readout.weight": np.ascontiguousarray(linear.weight.T),
        "readout.bias": linear.bias,
    }
    return Bundle(header, tensors)


def _header(examples: Examples, directions: int) -> tuple[Header, FeatureSpec]:
    own, channels = examples.recordings, examples.channels
    count, total = np.zeros(len(channels)), np.zeros(len(channels))
    for recording in own:
        known = np.isfinite(recording.x)
        count += known.sum(axis=0)
        total += np.where(known, recording.x, 0.0).sum(axis=0)
    share = float(count.sum()) / (len(channels) * sum(len(recording.t) for recording in own))
    scales = tuple(Scale(m, 2 if m in _DEEP else 1) for m in _SCALES)
    blocks = (Block(directions=directions, scales=tuple(range(len(scales))), ends=True),) if directions else ()
    spec = FeatureSpec(
        blocks=blocks,
        pools=(
            Pool("last", "token"),
            Pool("mean", "token"),
            *(Pool("mean", "ends", life) for life in _LIVES),
            *((Pool("last"), Pool("mean", "random", _LIVES[1])) if directions else ()),
        ),
        seed=examples.seed,
    )
    windows = examples.windows
    assert isinstance(windows, Every)  # noqa: S101 (rows along streams have them)
    header = Header(
        channels=tuple(
            Channel(name=n, fill=float(f)) for n, f in zip(channels, total / np.maximum(1, count), strict=True)
        ),
        depth=2,
        hidden=1,
        outputs=len(examples.labels) or examples.truth.shape[1],
        field=Reservoir(features=spec),
        initial=Blank(),
        clip=16.0,
        windows=windows,
        token=Token(scales=scales, ends=True),
        interpolation="linear" if share > 0.9 else "hold",
        bridge=bridge_of([recording.t for recording in own], windows),
        task="classification" if examples.labels else "regression",
        labels=examples.labels or examples.targets,
        target_at="window",
        horizon=examples.horizon,
    )
    return msgspec.structs.replace(header, hidden=spec.state_size(header.partition.places)), spec
