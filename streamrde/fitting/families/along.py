"""Targets along streams: the last token, exponential means of several lengths, and random features of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from streamrde.arrays import Floats
from streamrde.features import Block, FeatureSpec, Pool, draw, make_pooling
from streamrde.fitting.along import LONGEST
from streamrde.fitting.examples import Candidate, Examples, evenly, squared_losses, tokens_of
from streamrde.fitting.pooled import Pooled, candidate, features_of, header_for, with_features
from streamrde.fitting.readout import MOST_LOGISTIC, Readout, logistic_readout, ridge_readout
from streamrde.fitting.ridge import Linear
from streamrde.inference.header import Header
from streamrde.windowing.policies import Every
from streamrde.windowing.tokens import Scale, Token

_SCALES = (1, 2, 4, 8, 16, LONGEST)  # base windows
_DEEP = (1, 8)  # scales that have the model's depth: the others' increments cost little with many channels
_LIVES = (4.0, 16.0, 64.0)  # half-lives of the means, in base windows
_POOLS = (Pool("last", "token"), Pool("mean", "token"), *(Pool("mean", "ends", life) for life in _LIVES))
_DIRECTIONS = 300
_EXCERPTS = 64
_SAMPLE = 20_000  # samples, about, from which scales of tokens and biases are drawn


class _Prepared(NamedTuple):
    """The features of all rows, and the last values among them."""

    pooled: Pooled
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
    for own, name in ((_linear(whole), "along, linear"), (whole, "along, random features")):
        readout = ridge_readout(own.pooled.features, examples.truth, classes, examples.folds, weights=examples.weights)
        yield candidate(f"{name}, ridge", own.pooled, readout)
        if own.last.any():
            yield candidate(f"{name}, change", own.pooled, _change(examples, own))
    if classes and len(examples.truth) <= MOST_LOGISTIC:
        readout = logistic_readout(
            whole.pooled.features, examples.truth, classes, examples.folds, weights=examples.weights
        )
        yield candidate("along, random features, logistic", whole.pooled, readout)


def _change(examples: Examples, own: _Prepared) -> Readout:
    """Fit the difference between a target and its last value, and add the value again."""
    weight, bias = own.last[:, :-1].T, own.last[:, -1]
    before = own.pooled.features @ weight + bias
    readout = ridge_readout(own.pooled.features, examples.truth - before, 0, examples.folds)
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
    windows = examples.windows
    assert isinstance(windows, Every)  # noqa: S101 (rows along streams have them)
    scales = tuple(Scale(m, 2 if m in _DEEP else 1) for m in _SCALES)
    spec = FeatureSpec(
        blocks=(Block(directions=_DIRECTIONS, scales=tuple(range(len(scales))), ends=True),),
        pools=(*_POOLS, Pool("last"), Pool("mean", "random", _LIVES[1])),
        seed=examples.seed,
    )
    token = Token(scales=scales, ends=True)
    header = header_for(examples, spec, windows=windows, token=token, depth=2, clip=16.0, linear_from=0.9)
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
    return _Prepared(Pooled(header, drawn, features_of(examples, pooling, header.partition)), last)


def _linear(whole: _Prepared) -> _Prepared:
    """Return the same without random features, which come last."""
    (header, drawn, features), last = whole
    spec = FeatureSpec(pools=_POOLS, seed=whole.pooled.spec.seed)
    size = spec.size(header.partition.places)
    pooled = Pooled(
        with_features(header, spec), drawn._replace(weights=(), biases=()), np.ascontiguousarray(features[:, :size])
    )
    return _Prepared(pooled, np.concatenate([last[:, :size], last[:, -1:]], axis=1))


def _sample(examples: Examples, header: Header) -> Floats:
    """Return tokens of evenly chosen excerpts of the streams."""
    chosen = [examples.recordings[i] for i in evenly(len(examples.recordings), _EXCERPTS)]
    length = max(2, _SAMPLE // len(chosen))
    cut = []
    for i, recording in enumerate(chosen):
        start = max(0, len(recording.t) - length) * i // max(1, len(chosen) - 1)
        part = slice(start, start + length)
        cut.append(replace(recording, t=recording.t[part], x=recording.x[part]))
    whole = examples._replace(recordings=cut, windows=None, truth=np.zeros((len(cut), 1)))
    return tokens_of(whole, header.partition).values
