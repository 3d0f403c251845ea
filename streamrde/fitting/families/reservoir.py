"""Random features of tokens at several scales, and linear readouts of their pools."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np

from streamrde.arrays import Floats, Reals
from streamrde.features import Block, Drawn, FeatureSpec, Pool, draw, make_pooling, pool_streams
from streamrde.fitting.examples import Candidate, Examples, Tokens, tokens_of
from streamrde.fitting.families.bands import find_bands
from streamrde.fitting.readout import MOST_LOGISTIC, Readout, average_readout, logistic_readout, ridge_readout
from streamrde.fitting.ridge import Linear
from streamrde.fitting.rotations import Triples, find_triples, turned
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
_LARGEST = 140, 300  # most entries of a scale of depth 3, and of depth 2
_DIRECTIONS = 2400
_FEW_DIRECTIONS = 800  # for so many streams that ridge takes most of the time
_MANY = 1500  # streams
_NONZEROS = (1, 2, 3, 12)  # few entries in a direction act like the kernels of ROCKET
_CLIP = 5.0
_DEGREES = 30.0  # largest turn of a sensor
_COPIES = 3
_MOST_ROWS = 2000  # streams and their copies
_PART = 1 << 25  # numbers of tokens that are held at once, 256 MB
_LEAST_STREAMS = 5  # in a part

_ABOVE = (Pool("share", stretched=True), Pool("share", rising=True, stretched=True), Pool("max"))
_WAVES = (Pool("last", "rates"), Pool("last", "shares"))
_BEST = (Pool("best", stretched=True), Pool("best", rising=True, stretched=True))


class Drawing(NamedTuple):
    """Random features of all streams."""

    header: Header
    drawn: Drawn
    pooled: Floats
    """(n, P)"""


def fit_reservoirs(examples: Examples) -> Iterator[Candidate]:
    """Fit readouts of random features: of shares above biases, of the best among neighbours, and of both, alone and
    beside oscillations in frequency bands."""
    if examples.along:
        return
    classes, count = len(examples.labels), len(examples.truth)
    header = _header(examples)
    parts = _parts(examples, header)
    # Of as many streams as fit into memory; if these are all, they are not made again.
    sample = tokens_of(parts[0], header.partition)
    whole = sample if len(parts) == 1 else None
    blocks = _blocks(len(header.token.scales), _DIRECTIONS if count <= _MANY else _FEW_DIRECTIONS)
    # Their biases are medians: each direction then has the same chance against its neighbours.
    rivals = tuple(
        msgspec.structs.replace(block, low=0.5, high=0.5, number=len(blocks) + i) for i, block in enumerate(blocks)
    )
    drawings, readouts = [], []
    for name, some, pools in (("above", blocks, _ABOVE), ("best", rivals, _BEST)):
        spec = FeatureSpec(blocks=some, pools=pools, seed=examples.seed, squash="root")
        drawn = draw(spec, header.partition.places, sample.values, clip=header.clip)
        drawing = Drawing(_with_features(header, spec), drawn, _pooled(examples, header, spec, drawn, whole))
        readout = ridge_readout(drawing.pooled, examples.truth, classes, examples.folds)
        yield _candidate(f"{name}, ridge", drawing, readout)
        drawings.append(drawing)
        readouts.append(readout)
    both, average = _joined(*drawings), average_readout(readouts, examples.truth, classes)
    yield _candidate("above and best, ridge", both, average)
    if header.token.bands is not None:
        spec = FeatureSpec(pools=_WAVES, seed=examples.seed, squash="root")
        drawn = draw(spec, header.partition.places, sample.values, clip=header.clip)
        waves = Drawing(_with_features(header, spec), drawn, _pooled(examples, header, spec, drawn, whole))
        three = [*readouts, ridge_readout(waves.pooled, examples.truth, classes, examples.folds)]
        average = average_readout(three, examples.truth, classes)
        yield _candidate("above, best and bands, ridge", _joined(both, waves), average)
    place = int(np.argmin([readout.losses.mean() for readout in readouts]))
    name, drawing = ("above", "best")[place], drawings[place]
    triples = find_triples(examples.channels)
    if triples and count * (1 + _COPIES) <= _MOST_ROWS:
        readout = _of_turned(examples, drawing, triples)
        yield _candidate(f"{name}, ridge, sensors turned", drawing, readout)
        readouts[place] = readout
        average = average_readout(readouts, examples.truth, classes)
        yield _candidate(f"above and best, ridge, sensors turned for {name}", both, average)
    if classes and count <= MOST_LOGISTIC:
        # It takes longer than ridge, and is tried on what suits ridge best.
        yield _candidate(
            f"{name}, logistic", drawing, logistic_readout(drawing.pooled, examples.truth, classes, examples.folds)
        )


def _of_turned(examples: Examples, drawing: Drawing, triples: Triples) -> Readout:
    """Return the ridge readout that also learns from copies of the streams with turned sensors."""
    rng = np.random.default_rng(examples.seed)
    pooled = [drawing.pooled]
    for _ in range(_COPIES):
        copies = [replace(own, x=turned(own.x, triples, _DEGREES, rng)) for own in examples.recordings]
        changed = examples._replace(recordings=copies)
        pooled.append(_pooled(changed, drawing.header, _spec(drawing.header), drawing.drawn))
    times = 1 + _COPIES
    truth, folds = np.tile(examples.truth, (times, 1)), np.tile(examples.folds, times)
    return ridge_readout(np.concatenate(pooled), truth, len(examples.labels), folds, judged=len(examples.truth))


def _candidate(name: str, drawing: Drawing, readout: Readout) -> Candidate:
    return Candidate(
        name,
        readout.held_out,
        readout.losses,
        partial(_bundle, drawing, readout.linear),
        lambda fold: _bundle(drawing, readout.without(fold)),
        "reservoir",
    )


def _parts(examples: Examples, header: Header) -> list[Examples]:
    """Divide the examples into parts whose tokens fit into memory, evenly chosen ones in each."""
    windows = sum(1 + (own.t[-1] - own.t[0]) / _length(header) for own in examples.recordings)
    # Long silences make fewer windows than this, and a part must be a fair sample all the same.
    most = max(1, len(examples.recordings) // _LEAST_STREAMS)
    count = min(most, 1 + int(windows * header.partition.token_size) // _PART)
    return [
        examples._replace(recordings=examples.recordings[first::count], truth=examples.truth[first::count])
        for first in range(count)
    ]


def _length(header: Header) -> float:
    assert isinstance(header.windows, Every)  # noqa: S101 (as `_header` makes it)
    return header.windows.seconds


def _pooled(examples: Examples, header: Header, spec: FeatureSpec, drawn: Drawn, whole: Tokens | None = None) -> Floats:
    """Return the features of all streams, (n, P). whole: their tokens, if they are known."""
    pooling = make_pooling(spec, header.partition.places, drawn)
    if whole is not None:
        return pool_streams(pooling, whole.values, whole.stops, at=whole.at)
    parts = _parts(examples, header)
    found = np.empty((len(examples.truth), pooling.size))
    for first, part in enumerate(parts):
        tokens = tokens_of(part, header.partition)
        found[first :: len(parts)] = pool_streams(pooling, tokens.values, tokens.stops, at=tokens.at)
    return found


def _with_features(header: Header, spec: FeatureSpec) -> Header:
    hidden = spec.state_size(header.partition.places)
    return msgspec.structs.replace(header, field=Reservoir(features=spec), hidden=hidden)


def _joined(first: Drawing, second: Drawing) -> Drawing:
    """Return the features of two drawings from the same tokens, one after the other."""
    specs = [_spec(own.header) for own in (first, second)]
    count = len(specs[0].blocks)
    pools = [
        _moved(pool, begin, len(spec.blocks))
        for spec, begin in zip(specs, (0, count), strict=True)
        for pool in spec.pools
    ]
    spec = msgspec.structs.replace(specs[0], blocks=specs[0].blocks + specs[1].blocks, pools=tuple(pools))
    drawn = first.drawn._replace(
        weights=first.drawn.weights + second.drawn.weights, biases=first.drawn.biases + second.drawn.biases
    )
    pooled = np.concatenate([first.pooled, second.pooled], axis=1)
    return Drawing(_with_features(first.header, spec), drawn, pooled)


def _moved(pool: Pool, begin: int, count: int) -> Pool:
    """Return a pool of the same blocks, which are some of `count` and now stand from `begin` on."""
    if pool.of != "random":
        return pool
    first, stop = pool.blocks or (0, count)
    return msgspec.structs.replace(pool, blocks=(begin + first, begin + stop))


def _spec(header: Header) -> FeatureSpec:
    assert isinstance(header.field, Reservoir)  # noqa: S101 (as `_with_features` makes it)
    return header.field.features


def _slim(drawing: Drawing) -> tuple[Header, Drawn]:
    """Return what a model needs: no bands, the last part of a token, if no pool keeps them."""
    header, drawn = drawing.header, drawing.drawn
    if any(pool.of in ("rates", "shares") for pool in _spec(header).pools):
        return header, drawn
    header = msgspec.structs.replace(header, token=msgspec.structs.replace(header.token, bands=None))
    size = header.partition.token_size
    return header, drawn._replace(shift=drawn.shift[:size], scale=drawn.scale[:size])


def _bundle(drawing: Drawing, linear: Linear) -> Bundle:
    header, drawn = _slim(drawing)
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
        token=Token(scales=scales, ends=True, bands=find_bands(examples)),
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
