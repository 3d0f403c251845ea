"""Oscillations of each channel in frequency bands, for data that are sampled evenly enough: linear readouts of their
rates, and of these beside pulses of activity or beside the bands' shares."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from streamrde.features import FeatureSpec, Pool, draw, make_pooling
from streamrde.fitting.examples import Candidate, Examples, evenly, tokens_of
from streamrde.fitting.pooled import Pooled, candidate, features_of, header_for, slim, with_features
from streamrde.fitting.readout import MOST_LOGISTIC, logistic_readout, ridge_readout
from streamrde.windowing import Every
from streamrde.windowing.tokens import MOST_BANDS, Bands, Pulses, Scale, Token

_WINDOWS = 24  # in the median stream: they decide when the model answers
_PER_OCTAVE = 3  # bands; four have the same error on heart rates, two a larger one
_CYCLES = 1.5  # of the lowest frequency in a stream
_DAMPING = 0.3  # of the resonators
_OCTAVES = 3.0  # fewer between the lowest and the highest frequency say little of a spectrum
_STEPS, _PULSES = 2.0, 16.0  # the shortest time constant in steps, and the longest in a stream
_CONSTANTS_PER_OCTAVE = 2
_MEMORY = 16  # windows back that answers along a stream look
_RATES, _PEAKS, _SHARES = Pool("last", "rates"), Pool("last", "pulses"), Pool("last", "shares")
_NAMES = {
    "rates in bands": (_RATES,),
    "rates in bands and pulses": (_RATES, _PEAKS),
    "rates and shares of bands": (_RATES, _SHARES),
}
_EVEN = 3.0  # times the median step within which nine of ten steps lie
_SAMPLE = 500  # streams that tokens are scaled by


def fit_bands(examples: Examples) -> Iterator[Candidate]:
    """Fit linear readouts of rates in frequency bands, and of these beside pulses, or beside the bands' shares."""
    bands = find_bands(examples)
    if bands is None:
        return
    classes, truth, folds = len(examples.labels), examples.truth, examples.folds
    every = _follow(examples, bands)
    made = {name: _of_pools(every, pools) for name, pools in _NAMES.items()}
    for name, own in made.items():
        readout = ridge_readout(own.features, truth, classes, folds, weights=examples.weights)
        yield candidate(f"{name}, ridge", own, readout)
    if classes and len(examples.recordings) <= MOST_LOGISTIC:
        name, own = list(made.items())[-1]
        readout = logistic_readout(own.features, truth, classes, folds, weights=examples.weights)
        yield candidate(f"{name}, logistic", own, readout)


def find_bands(examples: Examples) -> Bands | None:
    """Return the bands between one and a half cycles per stream and a quarter of the sampling rate.

    None: streams are too short, or too few samples come evenly, to speak of frequencies.
    """
    steps, span, (_, share) = examples.steps, examples.span, examples.observed
    step = float(np.median(steps))
    half_life = 0.0
    if examples.windows is not None:
        if not examples.windows.length:
            return None
        span = min(span, _MEMORY * examples.windows.length)
        half_life = span / 2
    if share < 0.9 or np.quantile(steps, 0.9) > _EVEN * step:
        return None
    low, high = _CYCLES / span, 0.25 / step
    octaves = np.log2(high / low)
    if octaves < _OCTAVES:
        return None
    return Bands(
        low, high, min(MOST_BANDS, 1 + round(_PER_OCTAVE * float(octaves))), damping=_DAMPING, half_life=half_life
    )


def find_pulses(examples: Examples, bands: Bands | None) -> Pulses | None:
    """Return the pulses of streams with such bands, with time constants from two steps to a part of a stream.

    None: there are no bands either.
    """
    if bands is None:
        return None
    span = 2 * bands.half_life or examples.span
    shortest, longest = _STEPS * float(np.median(examples.steps)), span / _PULSES
    count = 1 + round(_CONSTANTS_PER_OCTAVE * float(np.log2(longest / shortest)))
    return Pulses(shortest, longest, max(2, min(MOST_BANDS, count)), half_life=bands.half_life)


def _follow(examples: Examples, bands: Bands) -> Pooled:
    spec = FeatureSpec(pools=(_RATES, _PEAKS, _SHARES), seed=examples.seed)
    windows = examples.windows or Every(examples.span / _WINDOWS)
    # Oscillations need no log-signature, and a token has one at least: the smallest.
    token = Token(scales=(Scale(1),), bands=bands, pulses=find_pulses(examples, bands))
    header = header_for(examples, spec, windows=windows, token=token, depth=1)
    places = header.partition.places
    sample = tokens_of(examples.of_streams(evenly(len(examples.recordings), _SAMPLE)), header.partition)
    # What is pooled is the last token: those on the way, where rates are still rough, would give another scale.
    drawn = draw(spec, places, sample.values[sample.at], clip=header.clip)
    return Pooled(header, drawn, features_of(examples, make_pooling(spec, places, drawn), header.partition))


def _of_pools(every: Pooled, pools: tuple[Pool, ...]) -> Pooled:
    """Return the same with some of its pools alone."""
    spec = FeatureSpec(pools=pools, seed=every.spec.seed)
    own = dict(zip(every.spec.pools, every.spec.slices(every.header.partition.places), strict=True))
    features = np.concatenate([every.features[:, own[pool]] for pool in pools], axis=1)
    return slim(Pooled(with_features(every.header, spec), every.drawn, features))
