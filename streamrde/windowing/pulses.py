"""Count how often each channel's activity peaks, sample by sample and in constant memory.

The activity of a channel with a time constant tau is its variation of late, on the path that is linear between samples:

    a(t) = integral over s <= t of e^(-(t - s) / tau) |dx_s|

and the same of rises alone, and of falls alone. Its recent peak fades sixteen times as slowly:

    p <- max(e^(-dt / (16 tau)) p, a)

A pulse begins where a rises above 0.7 p, and ends where it falls below 0.5 p. Both thresholds follow the channel, so
counts are independent of its scale and offset. Which tau and which channel shows what repeats, such as heart beats, is
not known beforehand: most that see it at all agree, so a token has quantiles of all these rates.

Reference: Pan and Tompkins 1985, "A real-time QRS detection algorithm", section III (thresholds that follow a peak).
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from streamrde.arrays import Floats
from streamrde.kernels.layout import check_numbers
from streamrde.windowing.resonators import Trace, longest_steps, powers, rounded_step
from streamrde.windowing.tokens import LEVELS, Pulses


class Pulse(IntEnum):
    """Blocks of columns of a channel after `Trace`, of three directions times count numbers each."""

    ACTIVITY = 0
    PEAK = 1
    INSIDE = 2
    EVENTS = 3


check_numbers("Pulse", Pulse.__members__)

_DIRECTIONS = 3  # variation, rises, falls
_MEMORY = 16.0  # time constants of the activity in one of its peak; 8 to 32 tell heart rates about as well
_RISE, _FALL = 0.7, 0.5
_TINY = 2.0**-960  # less is nothing: numbers below the normal ones are slow


class Fades(NamedTuple):
    """Say what a step of time does to activities and their peaks, (count,) each but for `events`."""

    activity: Floats
    gain: Floats
    """Activity that a variation of 1 adds, spread evenly over the step."""
    peak: Floats
    events: float
    """Weight of what came before."""


@lru_cache(maxsize=64)
def speeds(pulses: Pulses) -> Floats:
    """Return turns, which are 0, decays and the longest step that matters, (3, 2 x count + 1): of activities, of their
    peaks, and of what fades."""
    decays = [1.0 / constant for constant in pulses.constants]
    every = [*decays, *(own / _MEMORY for own in decays), np.log(2.0) / pulses.half_life if pulses.half_life else 0.0]
    return np.array([[0.0] * len(every), every, longest_steps(every)])


@lru_cache(maxsize=1024)
def _fades(pulses: Pulses, step: float) -> Fades:
    own = speeds(pulses)
    real, _ = powers(own, step)
    count = pulses.count
    spent = own[1, :count] * np.minimum(step, own[2, :count])
    return Fades(real[:count], (1.0 - real[:count]) / spent, real[count:-1], float(real[-1]))


def fades(pulses: Pulses, dt: float) -> Fades:
    """Return the fades of a step of dt seconds, which is rounded to 12 bits."""
    return _fades(pulses, rounded_step(dt))


def width(pulses: Pulses) -> int:
    """Return the number of columns of a channel's pulses."""
    return len(Trace) + len(Pulse) * _DIRECTIONS * pulses.count


def advance(own: Floats, pulses: Pulses, dt: float, dx: float) -> None:
    """Let a channel move by dx in dt seconds: change its columns, (width,), in place."""
    fade = fades(pulses, dt)
    own[Trace.LIFE] = own[Trace.LIFE] * fade.events + dt
    for direction, variation in enumerate((abs(dx), max(dx, 0.0), max(-dx, 0.0))):
        activity, peak, inside, events = own[len(Trace) :].reshape(len(Pulse), _DIRECTIONS, -1)[:, direction]
        with np.errstate(over="ignore", invalid="ignore"):
            a = activity * fade.activity + variation * fade.gain
            a[a < _TINY] = 0.0
            p = np.maximum(peak * fade.peak, a)
            p[p < _TINY] = 0.0
            begins = (inside == 0) & (a > _RISE * p)
            events[:] = events * fade.events + begins
            inside[:] = np.where(a < _FALL * p, 0.0, np.maximum(inside, begins))
        activity[:], peak[:] = a, p


def read(rows: Floats) -> Floats:
    """Return quantiles of the pulses per second, (LEVELS,). See `Token.pulses`."""
    rates = [
        own[len(Trace) :].reshape(len(Pulse), -1)[Pulse.EVENTS] / own[Trace.LIFE] for own in rows if own[Trace.LIFE] > 0
    ]
    if not rates:
        return np.full(LEVELS, np.nan)
    ascending = np.sort(np.concatenate(rates))
    return np.asarray(ascending[(2 * np.arange(LEVELS) + 1) * len(ascending) // (2 * LEVELS)])
