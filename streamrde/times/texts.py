"""Times written as text, and local times without a zone."""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np

from streamrde.arrays import Ints

Ambiguous = Literal["error", "earlier", "later"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_FRACTION = re.compile(r":\d\d[.,](\d{7,})")
_DIGITS = {"Y": 4, "y": 2, "m": 2, "d": 2, "H": 2, "I": 2, "M": 2, "S": 2, "j": 3}
_NANOSECONDS_PER = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


class NotATimeError(ValueError):
    """A value is not a time. If it is one of many, `place` is its position."""

    def __init__(self, message: str, *, place: int = 0) -> None:
        super().__init__(message)
        self.place = place


def parse_iso(text: str) -> tuple[datetime, int]:
    """Read an ISO 8601 date and time and return it with the nanoseconds beyond its microseconds.

    Raises:
        NotATimeError: it is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise NotATimeError(
            f"{text[:40]!r} is not an ISO 8601 date and time; set time_format, such as '%d/%m/%Y %H:%M:%S'"
        ) from None
    fraction = _FRACTION.search(text)
    return moment, int(fraction[1][6:9].ljust(3, "0")) if fraction else 0


def parse_format(text: str, form: str) -> datetime:
    """Read a date and time in the terms of `datetime.strptime`.

    Digits without anything between them must be as many as the format has, of which strptime makes no point.

    Raises:
        NotATimeError: it does not fit the format.
    """
    try:
        if text.isdigit() and (digits := _digits(form)) and not digits[0] <= len(text) <= digits[1]:
            raise ValueError
        return datetime.strptime(text, form)  # noqa: DTZ007, it may be local
    except ValueError:
        raise NotATimeError(f"{text[:40]!r} does not fit time_format = {form!r}; correct one of the two") from None


@functools.lru_cache(maxsize=64)
def _digits(form: str) -> tuple[int, int] | None:
    """Return the least and the greatest number of digits of a format, or None if it has something else."""
    letters = form[1::2]
    if set(form[::2]) != {"%"} or not set(letters) <= _DIGITS.keys() | {"f"}:
        return None
    width = sum(_DIGITS.get(letter, 0) for letter in letters)
    return width + ("f" in letters), width + 6 * ("f" in letters)


def microseconds(moment: datetime, zone: ZoneInfo | None, ambiguous: Ambiguous) -> int:
    """Return the microseconds since 1970 of a date and time.

    If it names no zone, it is local to `zone`, or UTC.

    Raises:
        NotATimeError: the clocks of the zone showed it twice, or never, and `ambiguous` is "error".
    """
    if moment.tzinfo is None:
        if zone is not None:
            return _local(moment, zone, ambiguous)
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _US


def localize(ticks: Ints, unit: str, zone: ZoneInfo, ambiguous: Ambiguous) -> Ints:
    """Return local times, counted as if they were UTC, as ticks since 1970 in UTC. It is the twin of `microseconds`.

    Args:
        ticks: of `unit` ("s", "ms", "us" or "ns").
    """
    per_minute = 60 * (10**9 // _NANOSECONDS_PER[unit])
    minutes, which = np.unique(ticks // per_minute, return_inverse=True)
    offsets = np.empty(len(minutes), np.int64)
    for i, minute in enumerate(minutes.tolist()):
        local = datetime(1970, 1, 1) + timedelta(minutes=minute)  # noqa: DTZ001, it is local
        try:
            offsets[i] = minute * 60_000_000 - _local(local, zone, ambiguous)
        except NotATimeError as error:
            raise NotATimeError(str(error), place=int(np.argmax(which == i))) from None
    return ticks - offsets[which] * 1000 // _NANOSECONDS_PER[unit]


def _local(moment: datetime, zone: ZoneInfo, ambiguous: Ambiguous) -> int:
    first = (moment.replace(tzinfo=zone, fold=0) - _EPOCH) // _US
    second = (moment.replace(tzinfo=zone, fold=1) - _EPOCH) // _US
    if first == second:
        return first
    earlier, later = sorted((first, second))
    if ambiguous != "error":
        return earlier if ambiguous == "earlier" else later
    never = (_EPOCH + first * _US).astimezone(zone).replace(tzinfo=None) != moment
    raise NotATimeError(
        f"the clocks of {zone.key} {'never showed' if never else 'showed twice'} {moment}: it can be "
        f"{_utc(earlier)} or {_utc(later)}; set time_ambiguous = 'earlier' or 'later', or store UTC"
    )


def _utc(us: int) -> str:
    return (_EPOCH + us * _US).isoformat().replace("+00:00", "Z")
