"""Oscillations of each channel in frequency bands, for data that are sampled evenly enough: linear readouts of their
rates, and of the bands' shares too."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np

from streamrde.arrays import Floats, Reals
from streamrde.features import Drawn, FeatureSpec, Pool, draw, make_pooling, pool_streams
from streamrde.fitting.examples import Candidate, Examples, tokens_of
from streamrde.fitting.families.summaries import of_streams
from streamrde.fitting.readout import MOST_LOGISTIC, Readout, logistic_readout, ridge_readout
from streamrde.fitting.ridge import Linear
from streamrde.inference.bundle import Bundle
from streamrde.inference.ends import Blank
from streamrde.inference.fields.reservoir import Reservoir
from streamrde.inference.header import Channel, Header
from streamrde.windowing import Every
from streamrde.windowing.tokens import MOST_BANDS, Bands, Scale, Token

_WINDOWS = 24  # in the median stream: they decide when the model answers
_PER_OCTAVE = 3  # bands; four have the same error on heart rates, two a larger one
_CYCLES = 1.5  # of the lowest frequency in a stream
_DAMPING = 0.3  # of the resonators
_OCTAVES = 3.0  # fewer between the lowest and the highest frequency say little of a spectrum
_MEMORY = 16  # windows back that answers along a stream look
_EVEN = 3.0  # times the median step within which nine of ten steps lie
_CHUNK = 500  # streams whose tokens are held at once
_SAMPLE = 500  # streams that tokens are scaled by


class _Waves(NamedTuple):
    """Oscillations of all rows of truth."""

    header: Header
    spec: FeatureSpec
    drawn: Drawn
    pooled: Floats
    """(n, P)"""


def fit_bands(examples: Examples) -> Iterator[Candidate]:
    """Fit linear readouts of rates in frequency bands, and of these and the bands' shares."""
    bands = find_bands(examples)
    if bands is None:
        return
    classes, truth, folds = len(examples.labels), examples.truth, examples.folds
    both = _follow(examples, bands, (Pool("last", "rates"), Pool("last", "shares")))
    rates = _without_shares(both)
    for name, made in (("rates in bands", rates), ("rates and shares of bands", both)):
        yield _candidate(f"{name}, ridge", made, ridge_readout(made.pooled, truth, classes, folds))
    if classes and len(examples.recordings) <= MOST_LOGISTIC:
        readout = logistic_readout(both.pooled, truth, classes, folds)
        yield _candidate("rates and shares of bands, logistic", both, readout)


def find_bands(examples: Examples) -> Bands | None:
    """Return the bands between one and a half cycles per stream and a quarter of the sampling rate.

    None: streams are too short, or too few samples come evenly, to speak of frequencies.
    """
    steps = np.concatenate([np.diff(recording.t) for recording in examples.recordings])
    step = float(np.median(steps))
    known = np.concatenate([np.isfinite(recording.x) for recording in examples.recordings])
    span = float(np.median([recording.t[-1] - recording.t[0] for recording in examples.recordings]))
    half_life = 0.0
    if examples.windows is not None:
        if not examples.windows.length:
            return None
        span = min(span, _MEMORY * examples.windows.length)
        half_life = span / 2
    if known.mean() < 0.9 or np.quantile(steps, 0.9) > _EVEN * step:
        return None
    low, high = _CYCLES / span, 0.25 / step
    octaves = np.log2(high / low)
    if octaves < _OCTAVES:
        return None
    return Bands(
        low, high, min(MOST_BANDS, 1 + round(_PER_OCTAVE * float(octaves))), damping=_DAMPING, half_life=half_life
    )


def _candidate(name: str, made: _Waves, readout: Readout) -> Candidate:
    build = partial(_bundle, made)
    return Candidate(
        name, readout.held_out, readout.losses, lambda: build(readout.linear), lambda fold: build(readout.without(fold))
    )


def _follow(examples: Examples, bands: Bands, pools: tuple[Pool, ...]) -> _Waves:
    header, spec = _header(examples, bands, pools)
    places, streams = header.partition.places, examples.recordings
    some = np.unique(np.linspace(0, len(streams) - 1, _SAMPLE).astype(np.intp))
    sample = tokens_of(of_streams(examples, some), header.partition)
    # What is pooled is the last token: those on the way, where rates are still rough, would give another scale.
    drawn = draw(spec, places, sample.values[sample.at], clip=header.clip)
    pooling, pooled = make_pooling(spec, places, drawn), []
    for begin in range(0, len(streams), _CHUNK):
        tokens = tokens_of(of_streams(examples, np.arange(begin, min(begin + _CHUNK, len(streams)))), header.partition)
        pooled.append(pool_streams(pooling, tokens.values, tokens.stops, at=tokens.at))
    return _Waves(header, spec, drawn, np.concatenate(pooled))


def _without_shares(both: _Waves) -> _Waves:
    """Return the same with the first pool alone."""
    spec = msgspec.structs.replace(both.spec, pools=both.spec.pools[:1])
    places = both.header.partition.places
    header = msgspec.structs.replace(both.header, field=Reservoir(features=spec), hidden=spec.state_size(places))
    return _Waves(header, spec, both.drawn, both.pooled[:, both.spec.slices(places)[0]])


def _bundle(made: _Waves, linear: Linear) -> Bundle:
    header = made.header
    tensors: dict[str, Reals] = {
        "x0.shift": np.zeros(header.path_channels),
        "x0.scale": np.ones(header.path_channels),
        **Reservoir(features=made.spec).tensors("field", made.drawn),
        "output.shift": np.zeros(header.outputs),
        "output.scale": np.ones(header.outputs),
        "readout.weight": np.ascontiguousarray(linear.weight.T),
        "readout.bias": linear.bias,
    }
    return Bundle(header, tensors)


def _header(examples: Examples, bands: Bands, pools: tuple[Pool, ...]) -> tuple[Header, FeatureSpec]:
    own, labels = examples.recordings, examples.labels
    observed = np.concatenate([recording.x for recording in own])
    known = np.isfinite(observed)
    fills = np.where(known, observed, 0.0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
    span = float(np.median([recording.t[-1] - recording.t[0] for recording in own]))
    spec = FeatureSpec(pools=pools, seed=examples.seed)
    header = Header(
        channels=tuple(Channel(name=n, fill=float(f)) for n, f in zip(examples.channels, fills, strict=True)),
        # Bands need no log-signature, and a token has one at least: the smallest.
        depth=1,
        hidden=1,
        outputs=len(labels) or examples.truth.shape[1],
        field=Reservoir(features=spec),
        initial=Blank(),
        clip=8.0,
        windows=examples.windows or Every(span / _WINDOWS),
        token=Token(scales=(Scale(1),), bands=bands),
        interpolation="linear" if known.mean() > 0.98 else "hold",
        task="classification" if labels else "regression",
        labels=labels or examples.targets,
        target_at="window" if examples.along else "stream",
    )
    return msgspec.structs.replace(header, hidden=spec.state_size(header.partition.places)), spec
