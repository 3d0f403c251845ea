"""Times that cannot be right in the unit they are taken for, and the unit that they are probably in.

Two things give a wrong unit away. Its size: seconds since 1970 stay below 1e11 until the year 5138, and milliseconds
passed that in 1973. And the time between samples, if the model knows it from training: a unit is wrong by a
factor of 60 at least and mostly of 1000 or more, and sensors of one kind rarely differ by that much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np

from streamrde.arrays import Floats
from streamrde.errors import ParameterError
from streamrde.times.texts import NotATimeError, parse_format
from streamrde.times.units import UNITS

OnTime: TypeAlias = Literal["error", "reject", "off"]

LARGEST = 1e11
"""Seconds that no time reaches: the year 5138."""
# Between 1979 and 2103 in seconds since 1970. Times in between are taken for dates.
_EPOCH = (3e8, 4.2e9)
_COMPACT = ("%Y%m%d%H%M%S", "%Y%m%d%H%M%S%f", "%Y%m%d%H%M")
# A sensor 50 or 100 times slower than training's is one that somebody attaches; milliseconds taken for seconds look
# 1,000 times slower, and the sensors themselves may differ by 5 in between.
_SLOWER = 200.0
# Windows between two samples: below, an honest slow sensor still says something in most of them.
_WINDOWS = 8.0
# Without statistics of training nothing but this says that samples are far apart.
_WINDOWS_UNKNOWN = 200.0
# In training the user sees the intervals when setting the windows: this many windows between samples are an error.
_WINDOWS_TRAINING = 20.0
# Times the 0.99 quantile of training's samples per window.
_CROWDED = 5.0
# How far the rate may be from training's, beside the unit. 60 is so near to real differences that little is allowed.
_BAND, _NARROW = 3.0, 1.1
_EXCEL = (20_000.0, 80_000.0)


class TimeCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Choose what to do with times that cannot be right.

    Raises:
        ParameterError: no such action.
    """

    action: OnTime = "error"
    """"error" raises; "reject" counts and skips the rows of such a stream; "off" does not look."""
    unit: str = "s"
    """Unit in which the times were before they became seconds, for messages."""

    def __post_init__(self) -> None:
        if self.action not in ("error", "reject", "off"):
            raise ParameterError(f"time_check = {self.action!r}: use one of error, reject, off")
        if self.unit not in UNITS:
            raise ParameterError(f"unit = {self.unit!r}: use one of {', '.join(UNITS)}")


class Expectation(NamedTuple):
    """Times between samples, as training saw them. All are in seconds."""

    window: float = 0.0
    """Length of a window that time closes. It is 0 if time closes none."""
    interval: float = 0.0
    """Median time between two samples in training. It is 0 if not known."""
    silence: float = math.inf
    """Longest time between two samples in training."""
    samples: float = math.inf
    """Samples in a window of training that few exceed."""

    @property
    def long(self) -> float:
        """Time between samples that counts as too long."""
        if self.interval:
            return max(_SLOWER * self.interval, _WINDOWS * self.window)
        return _WINDOWS_UNKNOWN * self.window if self.window else math.inf

    @property
    def short(self) -> float:
        """Time between samples up to which it may be too short."""
        if not self.interval:
            return 1e-3 if self.window else 0.0
        return self.interval / 60 * _NARROW

    def suspect_short(self, unit: str, t: float, gap: float) -> str | None:
        """Return why samples `gap` seconds apart, around time t, are too near each other, or None if they are not."""
        days = _EXCEL[0] <= _raw(t, unit) <= _EXCEL[1]
        if not self.interval:
            near = days and self.window > 1e4 * gap and _round_seconds(gap / UNITS[unit].seconds * 86400)
            return self._apart(gap, unit, "excel") if near else None
        if self.window and self.window <= _CROWDED * self.samples * gap:
            return None
        wanted = self.interval / gap
        for other in ("min", "h", "d", "s", "ms", "us"):
            factor = UNITS[other].seconds / UNITS[unit].seconds
            band = _BAND if factor >= 1000 else _NARROW
            if factor >= 60 and factor / band <= wanted <= factor * band:
                return self._apart(gap, unit, "excel" if other == "d" and days else other)
        return None

    def suspect_long(self, unit: str, gap: float) -> str | None:
        """Return why samples `gap` seconds apart are too far apart, or None if no finer unit explains it."""
        finer = [other for other in ("s", "ms", "us", "ns") if UNITS[other].seconds < UNITS[unit].seconds]
        if not finer:
            return None
        if self.interval:
            ratio = gap / self.interval
            return self._apart(gap, unit, min(finer, key=lambda u: abs(math.log(ratio * _factor(u, unit)))))
        fits = [other for other in finer if gap * _factor(other, unit) <= self.window]
        return self._apart(gap, unit, fits[0] if fits else finer[-1])

    def _apart(self, gap: float, unit: str, likely: str) -> str:
        training = f", and in training they were {self.interval:.3g} s apart" if self.interval else ""
        if self.window >= gap:
            training += f" ({self.window / gap:,.0f} samples to a window of {self.window:g} s)"
        elif self.window:
            training += f" ({gap / self.window:,.0f} windows of {self.window:g} s from one sample to the next)"
        return (
            f"its samples are {gap:.3g} s apart{training}: the times look like {UNITS[likely].name}, not "
            f"{UNITS[unit].name}; {_remedy(f'time_unit = {likely!r}')}"
        )


def suspect_size(t: float, unit: str) -> str | None:
    """Return why a time cannot be right by its size alone, or None if it can."""
    if not abs(t) >= LARGEST or math.isinf(t):
        return None
    raw = _raw(t, unit)
    shown = f"its time {raw:.17g} is not a number of {UNITS[unit].name}"
    if (compact := compact_date(raw)) is not None:
        form, moment = compact
        return f"{shown}: it looks like the digits of a date ({moment}); {_remedy(f'time_format = {form!r}')}"
    for other, (rate, length, zero, name) in UNITS.items():
        seconds = (raw - zero) * length / rate
        if _EPOCH[0] <= seconds <= _EPOCH[1]:
            date = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=round(seconds))).isoformat()[:19]
            return f"{shown}: it looks like {name} since 1970 ({date}Z); {_remedy(f'time_unit = {other!r}')}"
    return f"{shown}, and none of another unit that makes it a date; {_remedy('time_unit or time_format')}"


def suspect_recordings(ts: Sequence[Floats], expected: Expectation, unit: str) -> str | None:
    """Return why the times of recordings, each (L,) ascending, cannot be right, or None if they can."""
    for t in ts:
        for end in (t[:1], t[-1:]):
            if len(end) and (reason := suspect_size(float(end[0]), unit)):
                return reason
    gaps = [float(np.median(np.diff(t))) for t in ts if len(t) > 1]
    if not gaps:
        return None
    gap = float(np.median(gaps))
    if expected.interval:
        if gap >= expected.long and gap > expected.silence:
            return expected.suspect_long(unit, gap)
    elif expected.window and gap >= _WINDOWS_TRAINING * expected.window:
        return expected.suspect_long(unit, gap)
    return expected.suspect_short(unit, float(ts[0][0]), gap) if 0 < gap <= expected.short else None


def _remedy(setting: str) -> str:
    return f"set {setting}, or give seconds; if they are right, set time_check = 'off'"


def _factor(unit: str, of: str) -> float:
    return UNITS[unit].seconds / UNITS[of].seconds


def _raw(t: float, unit: str) -> float:
    """Convert seconds back to the number that was given, in `unit`."""
    rate, length, zero, _ = UNITS[unit]
    return t * rate / length + zero


def compact_date(raw: float) -> tuple[str, str] | None:
    """Read digits such as 20240305120000 as a date. Return their format and the moment, or None.

    >>> compact_date(20240305120000)
    ('%Y%m%d%H%M%S', '2024-03-05T12:00:00')
    """
    if not 1e11 <= raw < 1e21:
        return None
    digits = str(int(raw))
    for form in _COMPACT:
        try:
            moment = parse_format(digits, form)
        except NotATimeError:
            continue
        if 1970 <= moment.year <= 2100:
            return form, moment.isoformat()[:19]
    return None


def _round_seconds(seconds: float) -> bool:
    """Return True if sensors are commonly sampled at this interval: 1, 2 or 5 times a power of ten, 15, 30 or 60."""
    if not 1e-3 <= seconds <= 100:
        return False
    power = 10.0 ** math.floor(math.log10(seconds))
    steps = [power * step for step in (1, 2, 2.5, 5, 10)] + [15.0, 30.0, 60.0]
    return any(abs(seconds / step - 1) < 0.01 for step in steps)
