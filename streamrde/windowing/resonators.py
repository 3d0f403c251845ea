"""Follow each channel's oscillations in frequency bands, sample by sample and in constant memory.

A resonator of angular frequency w and damping g is a complex number that turns, decays, and jumps with the channel:

    z <- e^((i w - g) dt) z + dx

The part of the channel that oscillates near w adds up in it. For each band a channel keeps the integral of |z|^2 over
time, and the number of times that Re z changed sign: twice the number of oscillations.

The exponentials are made of products and sums in a fixed order, never by a library's exp or cos: the compiled twin in
kernels/tokens.cpp has the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from streamrde.arrays import Bools, Floats
from streamrde.kernels.layout import check_numbers
from streamrde.windowing.tokens import Bands


class Trace(IntEnum):
    """First columns of a channel's resonators. `Wave` has the others, one number per band each."""

    BEGUN = 0
    TIME = 1
    VALUE = 2
    LIFE = 3
    """Seconds since the first observation, weighted as energies and changes are."""


class Wave(IntEnum):
    """Blocks of columns that follow."""

    REAL = 0
    IMAGINARY = 1
    ENERGY = 2
    CHANGES = 3


check_numbers("Trace", Trace.__members__)
check_numbers("Wave", Wave.__members__)

_DEGREE = 9  # of exp's polynomial below 1/8, where the next term is under 2^-52
_SPENT = 64.0  # e^-64 is nothing
_REST = 1e-12  # a resonator with so small a part of its mean energy rests: rounding must not make it change sign
_STEPS = 4096.0  # steps between samples are rounded to 12 bits, so that one regular step is one number


class Factors(NamedTuple):
    """Say what a step of time does to resonators, (count,) each but for `fade`."""

    real: Floats
    imaginary: Floats
    gain: Floats
    """Integral of |z|^2 over the step for z = 1 at its beginning."""
    fade: float
    """Weight of what came before."""


@lru_cache(maxsize=64)
def speeds(bands: Bands) -> Floats:
    """Return angular frequency, damping, and the longest step that matters, (3, count + 1), the last for `fade`."""
    turns = [2.0 * math.pi * f for f in bands.frequencies] + [0.0]
    decays = [bands.damping * turn for turn in turns[:-1]] + [
        math.log(2.0) / bands.half_life if bands.half_life else 0.0
    ]
    return np.array([turns, decays, longest_steps(decays)])


def longest_steps(decays: Sequence[float]) -> list[float]:
    """Return the steps after which nothing is left, seconds."""
    return [_SPENT / decay if decay else math.inf for decay in decays]


@lru_cache(maxsize=1024)
def _factors(bands: Bands, step: float) -> Factors:
    own = speeds(bands)
    a, b = powers(own, step)
    real, imaginary = a[:-1], b[:-1]
    gain = (1.0 - (real * real + imaginary * imaginary)) / (2.0 * own[1, :-1])
    return Factors(real, imaginary, gain, float(a[-1]))


def powers(speeds: Floats, step: float) -> tuple[Floats, Floats]:
    """Return ``e^((i turn - decay) step)`` of `speeds`, real and imaginary parts, by products and sums alone."""
    turns, decays, longest = speeds
    steps = np.minimum(step, longest)
    x, y = -(decays * steps), turns * steps
    halvings = max(0, math.frexp(max(float(-x.min()), float(y.max())))[1] + 3)
    x, y = x * math.ldexp(1.0, -halvings), y * math.ldexp(1.0, -halvings)
    a, b = np.ones_like(x), np.zeros_like(x)
    for k in range(_DEGREE, 0, -1):
        part = 1.0 / k
        a, b = 1.0 + (a * x - b * y) * part, (a * y + b * x) * part
    for _ in range(halvings):
        a, b = a * a - b * b, 2.0 * (a * b)
    return a, b


def rounded_step(dt: float) -> float:
    """Return a step of dt seconds, rounded to 12 bits."""
    mantissa, exponent = math.frexp(dt)
    return math.ldexp(math.floor(mantissa * _STEPS + 0.5) / _STEPS, exponent)


def factors(bands: Bands, dt: float) -> Factors:
    """Return the factors of a step of dt seconds, which is rounded to 12 bits."""
    return _factors(bands, rounded_step(dt))


def width(bands: Bands) -> int:
    """Return the number of columns of a channel's resonators."""
    return len(Trace) + len(Wave) * bands.count


def add_sample(
    rows: Floats, move: Callable[[Floats, float, float], None], t: float, x: Floats, observed: Bools
) -> None:
    """Take a sample's observed channels into rows that begin with `Trace`, (channels, width), in place.

    Args:
        move: what a channel's row goes through when the channel moves by dx in dt seconds, ``move(row, dt, dx)``.
    """
    for i in np.flatnonzero(observed):
        own, value = rows[i], x[i]
        if own[Trace.BEGUN]:
            move(own, float(t - own[Trace.TIME]), float(value - own[Trace.VALUE]))
        own[Trace.BEGUN], own[Trace.TIME], own[Trace.VALUE] = 1.0, t, value


def advance(own: Floats, bands: Bands, dt: float, dx: float) -> None:
    """Let a channel move by dx in dt seconds: change its resonators, (width,), in place."""
    turn = factors(bands, dt)
    real, imaginary, energy, changes = own[len(Trace) :].reshape(len(Wave), bands.count)
    with np.errstate(over="ignore", invalid="ignore"):
        own[Trace.LIFE] = own[Trace.LIFE] * turn.fade + dt
        energy[:] = energy * turn.fade + (real * real + imaginary * imaginary) * turn.gain
        a, b = (real * turn.real - imaginary * turn.imaginary) + dx, real * turn.imaginary + imaginary * turn.real
        rests = (a * a + b * b) * own[Trace.LIFE] < _REST * energy
        a[rests] = 0.0
        b[rests] = 0.0
        changes[:] = changes * turn.fade + ((a > 0) != (real > 0))
        real[:], imaginary[:] = a, b


def read(rows: Floats, bands: Bands) -> tuple[Floats, Floats]:
    """Return oscillations per second and shares of the amplitude, (channels x count,) each. See `Token.bands`."""
    found = np.full((2, len(rows), bands.count), np.nan)
    for i, own in enumerate(rows):
        _, _, energy, changes = own[len(Trace) :].reshape(len(Wave), bands.count)
        if own[Trace.LIFE] > 0:
            found[0, i] = changes / (2.0 * own[Trace.LIFE])
        total = list(accumulate(energy.tolist()))[-1]
        if total > 0:
            found[1, i] = np.sqrt(energy / total)
    return found[0].ravel(), found[1].ravel()
