"""Forms that a time may have: a number of a unit, a date and time, text, an Arrow column."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamrde.arrays import Floats, Ints
from streamrde.errors import ParameterError
from streamrde.nearest import nearest
from streamrde.times.texts import NUMBER, Ambiguous, NotATimeError, localize, microseconds, parse_format, parse_iso
from streamrde.times.units import UNITS, number_seconds, to_seconds, to_ticks

_SECONDS_UNITS = ("s", "ms", "us", "ns")


class TimeForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Describe the form in which times are written. Every time becomes float64 seconds.

    A date and time (text, Arrow timestamp, Python datetime) counts from 1970, a number from whatever it counts from.

    Raises:
        ParameterError: no such unit, format or zone.
    """

    unit: str = "s"
    """Unit of numbers: a key of UNITS. Timestamps, durations and text carry their own."""
    format: str = ""
    """strptime format of text, and of numbers that are digits of a date (20240305120000). If "", text is ISO 8601."""
    zone: str = ""
    """Time zone of dates and times that name none, such as "Europe/Berlin"; "": UTC."""
    ambiguous: Ambiguous = "error"
    """Reading of local times that are ambiguous where clocks were changed: "error", "earlier" or "later"."""

    def __post_init__(self) -> None:
        _choose("time_unit", self.unit, tuple(UNITS))
        _choose("time_ambiguous", self.ambiguous, ("error", "earlier", "later"))
        if self.format:
            _check_format(self.format)
        if self.zone:
            zone_of(self.zone)

    @property
    def reads_text(self) -> bool:
        """True if a column of these times has to be read as text."""
        return bool(self.format)

    def seconds(self, value: Any) -> float:
        """Convert one time, as a payload or a caller gives it.

        Raises:
            NotATimeError: it is not a time.
            OverflowError: the number is too large for float64.
        """
        kind = type(value)
        if kind is float or kind is int:
            return self._number(value)
        if isinstance(value, str):
            text = value.strip()
            if not self.format and NUMBER.fullmatch(text):
                return self._number(float(text) if not text.lstrip("+-").isdigit() else int(text))
            return self._text(text)
        if isinstance(value, datetime):
            return microseconds(value, self._zone, self.ambiguous) / 10**6
        raise NotATimeError(f"{_shown(value)} is not a time; send {UNITS[self.unit].name}, or ISO 8601 text")

    def column(self, times: pa.Array) -> Floats:
        """Convert an Arrow column of times.

        Args:
            times: timestamp (with zone or without), date, duration, integer, floating, decimal or string, perhaps
                dictionary-encoded; without nulls.
        Raises:
            NotATimeError: a value is not a time; `place` is its row.
            TypeError: the column has another type.
        """
        kind = times.type
        if pa.types.is_dictionary(kind):
            return self.column(times.dictionary_decode())
        if pa.types.is_timestamp(kind):
            ticks = times.cast(pa.int64()).to_numpy()
            return to_seconds(ticks if kind.tz else self._localized(ticks, kind.unit), kind.unit)
        if pa.types.is_duration(kind):
            return to_seconds(times.cast(pa.int64()).to_numpy(), kind.unit)
        if pa.types.is_date(kind):
            ticks = times.cast(pa.timestamp("ms")).cast(pa.int64()).to_numpy()
            return to_seconds(self._localized(ticks, "ms"), "ms")
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            return self.numbers(times.to_numpy())
        if pa.types.is_decimal(kind):
            return self.numbers(times.cast(pa.float64()).to_numpy())
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            return self._texts(pc.utf8_trim_whitespace(times.cast(pa.string())))
        raise TypeError(f"{kind} is not a type of time")

    def encode(self, seconds: float) -> int | float | str:
        """Write a time so that `seconds` reads it back."""
        unit = UNITS[self.unit]
        if not self.format:
            if unit.zero and self._zone is not None:
                local = datetime.fromtimestamp(seconds, self._zone).replace(tzinfo=UTC)
                return to_ticks(local.timestamp(), unit)
            return to_ticks(seconds, unit)
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=round(seconds * 10**6))
        return moment.astimezone(self._zone or UTC).strftime(self.format)

    @property
    def _zone(self) -> ZoneInfo | None:
        return zone_of(self.zone) if self.zone else None

    def _localized(self, ticks: Ints, unit: str) -> Ints:
        return localize(ticks, unit, self._zone, self.ambiguous) if self._zone is not None else ticks

    def _number(self, number: float) -> float:
        if self.format:
            return self._text(_digits(number))
        unit = UNITS[self.unit]
        seconds = number_seconds(number, unit)
        if self._zone is None or seconds != seconds:
            return seconds
        self._check_zone()
        return float(self._localized(np.array([round(seconds * 10**6)], np.int64), "us")[0]) / 10**6

    def numbers(self, numbers: NDArray[np.generic]) -> Floats:
        """Return an array of numbers of the unit, or of the digits of dates, as seconds. See `column`."""
        if self.format:
            return self._each([_digits(number) for number in numbers.tolist()])
        seconds = to_seconds(numbers, self.unit)
        if self._zone is None:
            return seconds
        self._check_zone()
        return to_seconds(self._localized(np.rint(seconds * 10**6).astype(np.int64), "us"), "us")

    def _check_zone(self) -> None:
        if not UNITS[self.unit].zero:
            raise NotATimeError(
                f"time_zone = {self.zone!r} is for local dates and times, and a number of {UNITS[self.unit].name} has "
                "none; leave time_zone out"
            )

    def _text(self, text: str) -> float:
        if self.format:
            return microseconds(parse_format(text, self.format), self._zone, self.ambiguous) / 10**6
        moment, nanoseconds = parse_iso(text)
        us = microseconds(moment, self._zone, self.ambiguous)
        # As a column of such texts has it, which Arrow reads as nanoseconds.
        return float(to_seconds(np.array([us * 1000 + nanoseconds]), "ns")[0]) if nanoseconds else us / 10**6

    def _texts(self, texts: pa.Array) -> Floats:
        if self.format:
            return self._each(texts.to_pylist())
        if not len(texts):
            return np.empty(0)
        if NUMBER.fullmatch(texts[0].as_py()):
            for kind in (pa.int64(), pa.float64()):
                try:
                    return self.numbers(texts.cast(kind).to_numpy())
                except pa.ArrowInvalid:
                    continue
        for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
            try:
                ticks = texts.cast(kind).cast(pa.int64()).to_numpy()
            except pa.ArrowInvalid:
                continue
            return to_seconds(ticks if kind.tz else self._localized(ticks, "us"), "us")
        return self._each(texts.to_pylist())

    def _each(self, texts: list[str]) -> Floats:
        """Convert texts one by one, equal texts once."""
        read = self._text if self.format else self.seconds
        found: dict[str, float] = {}
        for place, text in enumerate(texts):
            if text not in found:
                try:
                    found[text] = read(text)
                except NotATimeError as error:
                    raise NotATimeError(str(error), place=place) from None
        return np.array([found[text] for text in texts], dtype=np.float64)


@functools.lru_cache(maxsize=64)
def zone_of(name: str) -> ZoneInfo:
    """Return the time zone of that name, or raise ParameterError if there is none."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise ParameterError(
            f"time_zone = {name!r}: there is no such zone; give a name such as 'Europe/Berlin' or 'UTC' "
            "(where the system has no zones, install the package tzdata)"
        ) from None


def zero_seconds(zero: str) -> float:
    """Return the moment from which times are counted, ISO 8601, in seconds since 1970. If it names no zone, it is UTC.

    >>> zero_seconds("2000-01-01T00:00:00Z")
    946684800.0

    Raises:
        ParameterError: `zero` is not a date and time.
    """
    try:
        moment = datetime.fromisoformat(zero)
    except ValueError:
        raise ParameterError(f"time_zero = {zero!r}: give a date and time, such as '2000-01-01T00:00:00Z'") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def numpy_seconds(times: NDArray[np.generic]) -> Floats:
    """Return datetime64 and timedelta64 of any unit as float64 seconds. NaT becomes NaN.

    Raises:
        NotATimeError: a timedelta64 in years or months, which have no fixed length.
    """
    shape, times = times.shape, np.atleast_1d(times)
    unit = str(np.datetime_data(times.dtype)[0])  # type: ignore[arg-type]
    letter = times.dtype.kind
    if letter == "m" and unit in ("Y", "M"):
        raise NotATimeError(f"a duration in {'years' if unit == 'Y' else 'months'} has no length in seconds")
    nothing = np.isnat(times)
    if unit in ("ps", "fs", "as"):
        rate = {"ps": 10**12, "fs": 10**15, "as": 10**18}[unit]
        whole, rest = np.divmod(times.astype(f"{letter}8[{unit}]").astype(np.int64), rate)
        seconds = whole.astype(np.float64) + rest.astype(np.float64) / rate
    else:
        fine = unit if unit in _SECONDS_UNITS else "s"
        seconds = to_seconds(times.astype(f"{letter}8[{fine}]").astype(np.int64), fine)
    return np.where(nothing, np.nan, seconds).reshape(shape)


def object_seconds(value: Any) -> float:
    """Convert one element of an array of objects: datetime, date, timedelta, pandas' Timestamp, text or number.

    Raises:
        NotATimeError, TypeError, ValueError: it is not a time.
    """
    exact: Callable[[], np.generic] | None = getattr(value, "to_datetime64", getattr(value, "to_timedelta64", None))
    if exact is not None:
        return float(numpy_seconds(np.asarray(exact()))[()])
    if value is None:
        return float("nan")
    if isinstance(value, np.datetime64 | np.timedelta64):
        return float(numpy_seconds(np.asarray(value))[()])
    if isinstance(value, timedelta):
        return value / timedelta(seconds=1)
    if isinstance(value, date) and not isinstance(value, datetime):
        return float(numpy_seconds(np.asarray(np.datetime64(value)))[()])
    if isinstance(value, str | datetime):
        return TimeForm().seconds(value)
    return float(value)


def _choose(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        names = {UNITS[unit].name: unit for unit in allowed if unit in UNITS}
        near = nearest(str(value), [*allowed, *names])
        hint = f"did you mean {names.get(near, near)!r}? " if near else ""
        raise ParameterError(f"{key} = {value!r}: {hint}use one of {', '.join(allowed)}")


def _check_format(form: str) -> None:
    """Raise ParameterError if a format is not strptime's, has no date, or uses zone names, which are ambiguous."""
    directives = {form[i + 1] for i in range(len(form) - 1) if form[i] == "%"}
    if "Z" in directives:
        raise ParameterError(
            f"time_format = {form!r}: names of zones (%Z) are not unique; use %z for an offset, or set time_zone"
        )
    if not directives & set("YyGcx"):
        raise ParameterError(
            f"time_format = {form!r} has no date: times would begin again at midnight; take the date in, as "
            "'%Y-%m-%d %H:%M:%S'"
        )
    moment = datetime(2024, 3, 5, 12, 34, 56, tzinfo=UTC)
    try:
        datetime.strptime(moment.strftime(form), form)  # noqa: DTZ007
    except ValueError as error:
        raise ParameterError(
            f"time_format = {form!r}: {error}; write it as Python's strptime does, such as '%d/%m/%Y %H:%M:%S'"
        ) from None


def _digits(number: float) -> str:
    if number != number // 1:
        raise NotATimeError(f"{number!r} is not a whole number: time_format is for numbers that are digits of a date")
    return str(int(number))


def _shown(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=repr).decode()[:40]
