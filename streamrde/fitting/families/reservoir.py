"""Random features of tokens at several scales, and linear readouts of their pools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import msgspec
import numpy as np

from streamrde.arrays import Floats
from streamrde.features import Block, Drawn, FeatureSpec, Pool, draw, make_pooling, pool_streams
from streamrde.fitting.examples import Candidate, Examples, Tokens, tokens_of
from streamrde.fitting.families.bands import find_bands
from streamrde.fitting.pooled import Pooled, candidate, features_of, header_for, slim, windows_of, with_features
from streamrde.fitting.readout import MOST_LOGISTIC, Readout, average_readout, logistic_readout, ridge_readout
from streamrde.fitting.rotations import Triples, find_triples, turned
from streamrde.fitting.weights import weighted
from streamrde.inference.header import Header
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
_PART = 1 << 25  # numbers of tokens that scales and biases are drawn from, 256 MB
_LEAST_STREAMS = 5  # that they are drawn from

_ABOVE = (Pool("share", stretched=True), Pool("share", rising=True, stretched=True), Pool("max"))
_WAVES = (Pool("last", "rates"), Pool("last", "shares"))
_BEST = (Pool("best", stretched=True), Pool("best", rising=True, stretched=True))


def fit_reservoirs(examples: Examples) -> Iterator[Candidate]:
    """Fit readouts of random features: of shares above biases, of the best among neighbours, and of both, alone and
    beside oscillations in frequency bands."""
    if examples.along:
        return
    classes, count = len(examples.labels), len(examples.truth)
    header = _header(examples)
    parts = _parts(examples, header)
    sample = _tokens(examples, header, parts)
    # If these are the tokens of all streams, they are not made again.
    whole = sample if parts == 1 else None

    def drawing(spec: FeatureSpec) -> Pooled:
        drawn = draw(spec, header.partition.places, sample.values, clip=header.clip)
        return Pooled(with_features(header, spec), drawn, _pooled(examples, header, spec, drawn, whole))

    blocks = _blocks(len(header.token.scales), _DIRECTIONS if count <= _MANY else _FEW_DIRECTIONS)
    # Their biases are medians: each direction then has the same chance against its neighbours.
    rivals = tuple(
        msgspec.structs.replace(block, low=0.5, high=0.5, number=len(blocks) + i) for i, block in enumerate(blocks)
    )
    drawings, readouts = [], []
    for name, some, pools in (("above", blocks, _ABOVE), ("best", rivals, _BEST)):
        drawings.append(drawing(FeatureSpec(blocks=some, pools=pools, seed=examples.seed, squash="root")))
        readouts.append(_ridge(examples, drawings[-1].features))
        yield _candidate(f"{name}, ridge", drawings[-1], readouts[-1])
    both, average = _joined(*drawings), _average(examples, readouts)
    yield _candidate("above and best, ridge", both, average)
    if header.token.bands is not None:
        waves = drawing(FeatureSpec(pools=_WAVES, seed=examples.seed, squash="root"))
        average = _average(examples, [*readouts, _ridge(examples, waves.features)])
        yield _candidate("above, best and bands, ridge", _joined(both, waves), average)
    place = int(np.argmin([weighted(readout.losses, examples.weights).mean() for readout in readouts]))
    name, chosen = ("above", "best")[place], drawings[place]
    triples = find_triples(examples.channels)
    if triples and count * (1 + _COPIES) <= _MOST_ROWS:
        readout = _of_turned(examples, chosen, triples)
        yield _candidate(f"{name}, ridge, sensors turned", chosen, readout)
        readouts[place] = readout
        average = _average(examples, readouts)
        yield _candidate(f"above and best, ridge, sensors turned for {name}", both, average)
    if classes and count <= MOST_LOGISTIC:
        # It takes longer than ridge, and is tried on what suits ridge best.
        readout = logistic_readout(chosen.features, examples.truth, classes, examples.folds, weights=examples.weights)
        yield _candidate(f"{name}, logistic", chosen, readout)


def _of_turned(examples: Examples, drawing: Pooled, triples: Triples) -> Readout:
    """Return the ridge readout that also learns from copies of the streams with turned sensors."""
    rng = np.random.default_rng(examples.seed)
    features = [drawing.features]
    for _ in range(_COPIES):
        copies = [replace(own, x=turned(own.x, triples, _DEGREES, rng)) for own in examples.recordings]
        changed = examples._replace(recordings=copies)
        features.append(_pooled(changed, drawing.header, drawing.spec, drawing.drawn))
    times = 1 + _COPIES
    truth, folds = np.tile(examples.truth, (times, 1)), np.tile(examples.folds, times)
    weights = None if examples.weights is None else np.tile(examples.weights, times)
    return ridge_readout(
        np.concatenate(features), truth, len(examples.labels), folds, judged=len(examples.truth), weights=weights
    )


def _ridge(examples: Examples, features: Floats) -> Readout:
    return ridge_readout(features, examples.truth, len(examples.labels), examples.folds, weights=examples.weights)


def _average(examples: Examples, readouts: Sequence[Readout]) -> Readout:
    return average_readout(readouts, examples.truth, len(examples.labels), weights=examples.weights)


def _candidate(name: str, drawing: Pooled, readout: Readout) -> Candidate:
    return candidate(name, slim(drawing), readout, kind="reservoir")


def _parts(examples: Examples, header: Header) -> int:
    """Return the number of parts of which one is a fair sample of the streams whose tokens fit into memory."""
    windows = sum(windows_of(own.t, header.partition) for own in examples.recordings)
    # Long silences make fewer windows than this, and a part must be a fair sample all the same.
    most = max(1, len(examples.recordings) // _LEAST_STREAMS)
    return min(most, 1 + int(windows * header.partition.token_size) // _PART)


def _tokens(examples: Examples, header: Header, parts: int) -> Tokens:
    """Return the tokens of one part of the streams, evenly chosen."""
    return tokens_of(examples.of_streams(np.arange(0, len(examples.recordings), parts)), header.partition)


def _pooled(examples: Examples, header: Header, spec: FeatureSpec, drawn: Drawn, whole: Tokens | None = None) -> Floats:
    """Return the features of all streams, (n, P). whole: their tokens, if they are known."""
    pooling = make_pooling(spec, header.partition.places, drawn)
    if whole is None:
        return features_of(examples, pooling, header.partition)
    return pool_streams(pooling, whole.values, whole.stops, at=whole.at)


def _joined(first: Pooled, second: Pooled) -> Pooled:
    """Return the features of two drawings from the same tokens, one after the other."""
    specs = first.spec, second.spec
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
    features = np.concatenate([first.features, second.features], axis=1)
    return Pooled(with_features(first.header, spec), drawn, features)


def _moved(pool: Pool, begin: int, count: int) -> Pool:
    """Return a pool of the same blocks, which are some of `count` and now stand from `begin` on."""
    if pool.of != "random":
        return pool
    first, stop = pool.blocks or (0, count)
    return msgspec.structs.replace(pool, blocks=(begin + first, begin + stop))


def _header(examples: Examples) -> Header:
    span = examples.span
    windows = Every(window_seconds(examples, _WINDOWS))
    scales = tuple(Scale(m) for m in _SCALES if m == 1 or m * windows.seconds <= _LONGEST * span)
    path = 1 + len(examples.channels)
    depth = 1 + sum(logsignature_channels(path, 3 - i) <= most for i, most in enumerate(_LARGEST))
    token = Token(scales=scales, ends=True, bands=find_bands(examples))
    return header_for(examples, FeatureSpec(pools=_ABOVE), windows=windows, token=token, depth=depth, clip=_CLIP)


def window_seconds(examples: Examples, windows: int) -> float:
    """Return the length of a base window, with about so many of them in the median stream."""
    length = float(np.median([len(recording.t) for recording in examples.recordings]))
    return _seconds(length, examples.span, float(np.median(examples.steps)), windows)


def _seconds(length: float, span: float, step: float, windows: int = _WINDOWS) -> float:
    """Return the length of a base window: a whole number of samples where they are evenly spaced."""
    seconds = max(1, round(length / windows)) * step
    # Samples that come in bursts would have many more windows than samples.
    return seconds if seconds * 1.5 * windows >= span else span / windows


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
