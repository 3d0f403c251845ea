"""Random features of tokens at several scales, and linear readouts of their pools."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np

from streamrde.arrays import Floats, Reals
from streamrde.features import Block, Drawn, FeatureSpec, Pool, draw, make_pooling, pool_streams
from streamrde.fitting.examples import Candidate, Examples, Tokens, tokens_of
from streamrde.fitting.readout import MOST_LOGISTIC, Readout, average_readout, logistic_readout, ridge_readout
from streamrde.fitting.ridge import Linear
from streamrde.inference.bundle import Bundle
from streamrde.inference.ends import Blank
from streamrde.inference.fields.reservoir import Reservoir
from streamrde.inference.header import Channel, Header
from streamrde.signature.words import logsignature_channels
from streamrde.windowing import Every
from streamrde.windowing.tokens import Scale, Token

_WINDOWS = 128  # base windows in the median stream; short streams have one for each sample
_SCALES = (1, 2, 4, 8, 16, 32, 64, 128)  # base windows of a scale
_LONGEST = 0.7  # of the median stream: a longer scale would nearly be the whole stream once more
_LARGEST = 120, 300  # most entries of a scale of depth 3, and of depth 2
_DIRECTIONS = 2400
_FEW_DIRECTIONS = 800  # for so many streams that the features, not the streams, decide the time
_MANY = 1500  # streams
_NONZEROS = (1, 2, 3, 12)  # few entries in a direction act like the kernels of ROCKET
_CLIP = 5.0

_ABOVE = (Pool("share", stretched=True), Pool("share", rising=True, stretched=True), Pool("max"))
_BEST = (Pool("best", stretched=True), Pool("best", rising=True, stretched=True))


class Drawing(NamedTuple):
    """Random features of all streams."""

    header: Header
    drawn: Drawn
    pooled: Floats
    """(n, P)"""


def fit_reservoirs(examples: Examples) -> Iterator[Candidate]:
    """Fit readouts of random features: of shares above biases, of the best among neighbours, and of both."""
    if examples.along:
        return
    classes, count = len(examples.labels), len(examples.truth)
    header = _header(examples)
    tokens = tokens_of(examples, header.partition)
    blocks = _blocks(len(header.token.scales), _DIRECTIONS if count <= _MANY else _FEW_DIRECTIONS)
    # Their biases are medians: each direction then has the same chance against its neighbours.
    rivals = tuple(
        msgspec.structs.replace(block, low=0.5, high=0.5, number=len(blocks) + i) for i, block in enumerate(blocks)
    )
    drawings, readouts = [], []
    for name, some, pools in (("above", blocks, _ABOVE), ("best", rivals, _BEST)):
        spec = FeatureSpec(blocks=some, pools=pools, seed=examples.seed, squash="root")
        drawing = _drawing(header, spec, tokens)
        readout = ridge_readout(drawing.pooled, examples.truth, classes, examples.folds)
        yield _candidate(f"{name}, ridge", drawing, readout)
        drawings.append(drawing)
        readouts.append(readout)
    both, average = _joined(*drawings), average_readout(readouts, examples.truth, classes)
    yield _candidate("above and best, ridge", both, average)
    if classes and count <= MOST_LOGISTIC:
        # It takes longer than ridge, and is tried on what suits ridge best.
        place = int(np.argmin([readout.losses.mean() for readout in readouts]))
        readout = logistic_readout(drawings[place].pooled, examples.truth, classes, examples.folds)
        yield _candidate(f"{('above', 'best')[place]}, logistic", drawings[place], readout)


def _candidate(name: str, drawing: Drawing, readout: Readout) -> Candidate:
    return Candidate(
        name,
        readout.held_out,
        readout.losses,
        partial(_bundle, drawing, readout.linear),
        lambda fold: _bundle(drawing, readout.without(fold)),
    )


def _drawing(header: Header, spec: FeatureSpec, tokens: Tokens) -> Drawing:
    places = header.partition.places
    drawn = draw(spec, places, tokens.values, clip=header.clip)
    pooled = pool_streams(make_pooling(spec, places, drawn), tokens.values, tokens.stops, at=tokens.at)
    return Drawing(_with_features(header, spec), drawn, pooled)


def _with_features(header: Header, spec: FeatureSpec) -> Header:
    hidden = spec.state_size(header.partition.places)
    return msgspec.structs.replace(header, field=Reservoir(features=spec), hidden=hidden)


def _joined(first: Drawing, second: Drawing) -> Drawing:
    """Return the features of two drawings from the same tokens, one after the other."""
    specs = [_spec(own.header) for own in (first, second)]
    count = len(specs[0].blocks)
    pools = [
        msgspec.structs.replace(pool, blocks=(begin, begin + len(spec.blocks)))
        for spec, begin in zip(specs, (0, count), strict=True)
        for pool in spec.pools
    ]
    spec = msgspec.structs.replace(specs[0], blocks=specs[0].blocks + specs[1].blocks, pools=tuple(pools))
    drawn = first.drawn._replace(
        weights=first.drawn.weights + second.drawn.weights, biases=first.drawn.biases + second.drawn.biases
    )
    pooled = np.concatenate([first.pooled, second.pooled], axis=1)
    return Drawing(_with_features(first.header, spec), drawn, pooled)


def _spec(header: Header) -> FeatureSpec:
    assert isinstance(header.field, Reservoir)  # noqa: S101 (as `_with_features` makes it)
    return header.field.features


def _bundle(drawing: Drawing, linear: Linear) -> Bundle:
    header, drawn = drawing.header, drawing.drawn
    tensors: dict[str, Reals] = {
        "x0.shift": np.zeros(header.path_channels),
        "x0.scale": np.ones(header.path_channels),
        **Reservoir(features=_spec(header)).tensors("field", drawn),
        "output.shift": np.zeros(header.outputs),
        "output.scale": np.ones(header.outputs),
        # In rows, as kernels read them and as a file would have them.
        "readout.weight": np.ascontiguousarray(linear.weight.T),
        "readout.bias": linear.bias,
    }
    return Bundle(header, tensors)


def _header(examples: Examples) -> Header:
    own, channels, labels = examples.recordings, examples.channels, examples.labels
    observed = np.concatenate([recording.x for recording in own])
    known = np.isfinite(observed)
    fills = np.where(known, observed, 0.0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
    span = float(np.median([recording.t[-1] - recording.t[0] for recording in own]))
    step = float(np.median(np.concatenate([np.diff(recording.t) for recording in own])))
    policy = Every(_seconds(float(np.median([len(recording.t) for recording in own])), span, step))
    scales = tuple(Scale(m) for m in _SCALES if m == 1 or m * policy.seconds <= _LONGEST * span)
    path = 1 + len(channels)
    depth = 1 + sum(logsignature_channels(path, 3 - i) <= most for i, most in enumerate(_LARGEST))
    spec = FeatureSpec(pools=_ABOVE)
    return Header(
        channels=tuple(Channel(name=n, fill=float(f)) for n, f in zip(channels, fills, strict=True)),
        depth=depth,
        hidden=1,
        outputs=len(labels) or examples.truth.shape[1],
        field=Reservoir(features=spec),
        initial=Blank(),
        clip=_CLIP,
        windows=policy,
        token=Token(scales=scales, ends=True),
        interpolation="linear" if known.mean() > 0.98 else "hold",
        task="classification" if labels else "regression",
        labels=labels or examples.targets,
        target_at="stream",
    )


def _seconds(length: float, span: float, step: float) -> float:
    """Return the length of a base window: a whole number of samples where they are evenly spaced."""
    seconds = max(1, round(length / _WINDOWS)) * step
    # Samples that come in bursts would have many more windows than samples.
    return seconds if seconds * 1.5 * _WINDOWS >= span else span / _WINDOWS


def _blocks(scales: int, directions: int) -> tuple[Block, ...]:
    """Return directions over each scale by itself, and as many over two or three neighbours."""
    alone = [(i,) for i in range(scales)]
    several = [tuple(range(i, i + count)) for count in (2, 3) for i in range(scales - count + 1)]
    halves = (alone, several) if several else (alone,)
    return tuple(
        Block(directions=max(1, directions // len(halves) // len(half)), scales=own, ends=True, nonzeros=_NONZEROS)
        for half in halves
        for own in half
    )
