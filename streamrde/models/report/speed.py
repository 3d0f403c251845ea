"""Measure a model's serving speed briefly on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamrde.fitting.recordings import Recording
from streamrde.inference.bundle import Bundle
from streamrde.inference.fleet import Fleet
from streamrde.inference.predictor import Predictor
from streamrde.inference.steppers import make_stepper

# Seconds for each measurement, about.
_TIME = 0.3


class Speed(NamedTuple):
    """Median times in seconds, on one thread."""

    push: float
    """`Predictor.push` of a sample that closes no window, or, if every sample closes one, of those. NaN: none timed."""
    push_spread: tuple[float, float]
    """Quartiles of these times."""
    push_closes: bool
    """True if the samples timed close windows."""
    step: float
    """A window's step and readout, for one stream."""
    step_together: float
    """The same per stream, 64 streams at once."""
    fleet: float
    """`Fleet.push` per sample, windows and predictions included."""
    fleet_streams: int


def serving_speed(bundle: Bundle, recordings: Sequence[Recording]) -> Speed:
    """Replay recordings through the model and time it."""
    return Speed(*_push(bundle, recordings), *step_cost(bundle), *_fleet(bundle, recordings))


def step_cost(bundle: Bundle, *, seconds: float = _TIME) -> tuple[float, float]:
    """Return the seconds for a window's step and readout: for one stream, and per stream of 64 at once."""
    stepper, scale, found = make_stepper(bundle), bundle.tensors["logsig.scale"], []
    rng = np.random.default_rng(0)
    for streams in (1, 64):
        # Scaled so that the field sees inputs of about 1.
        # A scale of 0 is that of an input that never changed.
        logsigs = rng.normal(size=(streams, bundle.header.logsig_channels)) / np.where(scale == 0, 1.0, scale)
        logsigs[:, 0] = np.abs(logsigs[:, 0])
        z = stepper.initial(np.repeat(bundle.tensors["x0.shift"][None], streams, axis=0))
        times: list[float] = []
        until = time.perf_counter() + seconds / 2
        while len(times) < 5 or time.perf_counter() < until:
            begin = time.perf_counter()
            stepper.output(stepper.step(z, logsigs))
            times.append(time.perf_counter() - begin)
        found.append(float(np.median(times)) / streams)
    return found[0], found[1]


def _push(bundle: Bundle, recordings: Sequence[Recording]) -> tuple[float, tuple[float, float], bool]:
    """Return the median and quartiles of pushes, and True if these pushes close windows.

    A stream's first push creates its state and is not timed.
    """
    times: tuple[list[float], list[float]] = ([], [])
    until = time.perf_counter() + _TIME
    for recording in recordings:
        predictor = Predictor(bundle, faults="drop")
        for i, (t, x) in enumerate(zip(recording.t.tolist(), recording.x, strict=True)):
            begin = time.perf_counter()
            closed = predictor.push(t, x)
            if i:
                times[bool(closed)].append(time.perf_counter() - begin)
        if time.perf_counter() > until:
            break
    closes = not times[0] and bool(times[1])
    if not times[closes]:
        return float("nan"), (float("nan"), float("nan")), False
    low, middle, high = np.quantile(times[closes], [0.25, 0.5, 0.75]).tolist()
    return middle, (low, high), closes


def _fleet(bundle: Bundle, recordings: Sequence[Recording]) -> tuple[float, int]:
    chosen = recordings[:64]
    names = np.repeat([f"s{i}" for i in range(len(chosen))], [len(recording.t) for recording in chosen])
    t = np.concatenate([recording.t for recording in chosen])
    x = np.concatenate([recording.x for recording in chosen])
    times: list[float] = []
    until = time.perf_counter() + _TIME
    while not times or time.perf_counter() < until:
        fleet = Fleet(bundle)
        begin = time.perf_counter()
        fleet.push(names, t, x)
        times.append(time.perf_counter() - begin)
    return float(np.median(times)) / len(t), len(chosen)
