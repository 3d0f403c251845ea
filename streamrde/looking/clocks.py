"""Find the column of the time, its unit and its form."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from streamrde.arrays import Floats, Ints
from streamrde.errors import ParameterError
from streamrde.looking.cells import Cells
from streamrde.looking.guesses import Guess, Other, percent
from streamrde.looking.long_form import last
from streamrde.looking.table import Table
from streamrde.times import UNITS, NotATimeError, TimeForm, to_seconds
from streamrde.times.plausible import compact_date

# Words in a column's name, the most telling first.
_NAMES = (
    "time",
    "timestamp",
    "datetime",
    "ts",
    "t",
    "date",
    "epoch",
    "unixtime",
    "unix",
    "zeit",
    "datum",
    "zeitstempel",
)
_NAMES_WEAK = (
    "seconds",
    "sec",
    "secs",
    "elapsed",
    "millis",
    "uptime",
    "changed",
    "recorded",
    "sampled",
    "measured",
    "created",
    "clock",
    "utc",
    "ms",
    "us",
    "ns",
    "received",
    "updated",
    "observed",
    "at",
)
# Times of something else than the sample.
_OTHER_TIMES = frozenset(
    (
        "minute",
        "hour",
        "day",
        "boot",
        "expires",
        "expiry",
        "until",
        "start",
        "begin",
        "end",
        "install",
        "valid",
        "next",
        "scheduled",
    )
)
_UNIT_WORDS = {
    "s": ("s", "sec", "secs", "second", "seconds"),
    "ms": ("ms", "msec", "millis", "millisecond", "milliseconds"),
    "us": ("us", "usec", "micros", "microsecond", "microseconds"),
    "ns": ("ns", "nsec", "nanos", "nanosecond", "nanoseconds"),
    "min": ("min", "mins", "minute", "minutes"),
    "h": ("h", "hr", "hrs", "hour", "hours"),
    "d": ("d", "day", "days"),
}  # fmt: skip
# Seconds since 1970 that are taken for a date: from 1995 to 2100.
_DATES = (7.9e8, 4.1e9)
# Whole steps that clocks counting milliseconds show, of sensors at usual rates.
_MILLISECONDS = frozenset((2, 4, 5, 8, 10, 16, 17, 20, 25, 33, 40, 50, 100, 125, 200, 250, 500, 1000, 2000, 5000))
# Texts of times that are not ISO 8601. Those with the day first stand before those with the month first.
_DAYS = (
    "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%y", "%d/%m/%y",
    "%m/%d/%y", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%b %d %Y", "%Y%m%d", "%a %b %d %Y",
)  # fmt: skip
_CLOCKS = (
    " %H:%M:%S", " %H:%M:%S.%f", " %H:%M:%S,%f", " %H:%M", " %I:%M:%S %p", " %I:%M %p", ", %H:%M:%S", "T%H:%M:%S",
    " %H%M%S", "T%H%M%SZ", "%H%M%S", "%H%M%S%f", "%H%M", "",
)  # fmt: skip
FORMATS = tuple(f"{day}{clock}" for day in _DAYS for clock in _CLOCKS)
_ISO = re.compile(r"\d{4}-?\d\d-?\d\d([T ]\d\d:?\d\d.*)?")
_OFFSET = re.compile(r"(Z|[+-]\d\d:?\d\d)\s*$", re.IGNORECASE)
_CLOCK = re.compile(r"\d{1,2}:\d\d(:\d\d([.,]\d+)?)?( ?[AaPp][Mm])?")
_NEAR = 5.0  # the time of a row itself says more than any name
_TRIED = 60  # values that a format has to fit
_RISES = 0.98
_MOSTLY = 0.8


_LOCAL = Guess(
    "",
    "the times name no zone, and are taken for UTC",
    others=(Other("time_zone", "Europe/Vienna", "the times are local ones of that zone"),),
)


class Reading(NamedTuple):
    """Describe one way to read times."""

    time: str | tuple[str, str]
    keys: dict[str, Guess]
    """time_unit, time_format and time_zone, where they are not the defaults."""
    seconds: Floats
    """(rows,), NaN where there is no time."""
    rises: float
    """Share of the rows whose time is not before that of the row above in the same stream."""
    score: float
    why: str
    unsure: str = ""


def find_time(
    table: Table, codes: Ints, *, given: str | None = None, taken: Sequence[str] = (), near: Collection[str] = ()
) -> Reading | None:
    """Return the best reading of the times, or None if no column holds them.

    Args:
        codes: each row's stream.
        given: the column, if it is known.
        taken: columns that have another role.
        near: columns that win over others that are as good: those of a row itself, not of the message around it.
    """
    names = [given] if given else [name for name in table.names if name not in taken]
    found = [reading for name in names if (reading := _reading(table.cells(name), codes, sure=bool(given)))]
    if not given:
        found += _in_two(table, codes, names)
    if not found:
        return None
    found.sort(key=lambda one: -one.score - _NEAR * (one.time in near))
    best = found[0]
    others = [one for one in found[1:] if one.score > 2.5 and isinstance(one.time, str) and one.time not in best.time]
    keys = {"time": Guess(best.time, best.why, best.unsure), **best.keys}
    keys["time"] = keys["time"].also(*(Other("time", one.time, f"it counts: {one.why}") for one in others[:3]))
    return best._replace(keys=keys)


def looks_like_time(table: Table, name: str, codes: Ints) -> bool:
    """Return True if a column holds times too, so that it is no channel."""
    reading = _reading(table.cells(name), codes, sure=False)
    return reading is not None and reading.score > 2.5


def counts_rows(cells: Cells, codes: Ints) -> bool:
    """Return True if a column only numbers the rows."""
    words = _words(cells.name)
    named = not words or bool(
        words
        & {
            "index",
            "idx",
            "seq",
            "sequence",
            "counter",
            "count",
            "row",
            "frame",
            "n",
            "nr",
            "no",
            "sample",
            "unnamed",
            "id",
            "packet",
            "fcnt",
        }
    )
    if not named or not cells.whole or len(cells.numbers) < 3:
        return False
    same = np.diff(codes) == 0
    steps = np.diff(cells.numbers)[same] if same.any() else np.diff(cells.numbers)
    return bool(len(steps)) and bool((steps == 1).mean() > _RISES)


def _reading(cells: Cells, codes: Ints, *, sure: bool) -> Reading | None:
    keys: dict[str, Guess] = {}
    unsure = ""
    if cells.moments and cells.moments == cells.there:
        seconds = np.array([_moment(value) for value in cells.values])
        what, content = "holds dates and times", 3.0
        if any(isinstance(value, datetime) and value.tzinfo is None for value in cells.values[:_TRIED]):
            keys["time_zone"] = _LOCAL
    elif cells.is_number and cells.found >= 0.9 * cells.there and not cells.words:
        if counts_rows(cells, codes) and not sure:
            return None
        unit, why, unsure, content = _unit(cells, codes)
        seconds = _of_numbers(cells.numbers, unit, keys, why, unsure)
        what = f"holds numbers: {why}" if why else "holds numbers"
        unsure = ""
    elif cells.texts:
        read = _of_text(cells, codes)
        if read is None:
            return None
        seconds, keys, what = read
        content = 3.0
    else:
        return None
    rises = _rises(seconds, codes)
    named = _named(cells.name)
    if not sure and (rises < _MOSTLY or (content < 1 and not named)) and not (content >= 3 and rises > 0.5):
        return None
    if not sure and content < 3 and len(np.unique(seconds[np.isfinite(seconds)])) < min(3, len(seconds)):
        return None
    if not sure and _words(cells.name) & _OTHER_TIMES:
        return None
    text = f"column '{cells.name}' {what}; it rises in {percent(rises)} of the rows"
    doubt = "" if named or content >= 3 else f"the column '{cells.name}' is taken for the time only because it rises"
    return Reading(
        cells.name, keys, seconds, rises, named + content + rises + (10 if sure else 0), text, unsure or doubt
    )


def _named(name: str) -> float:
    """Return how much a name says that a column holds the time. Of paths, short ones say more."""
    words, plain, far = _words(name), last(name), 0.1 * name.count(".")
    if words & _OTHER_TIMES:
        return 0.0
    if plain in _NAMES:
        return 3.0 + 0.01 * (len(_NAMES) - _NAMES.index(plain)) - far
    if {word for word in words if len(word) > 1} & set(_NAMES):
        return 2.0 - far
    return 1.0 - far if words & set(_NAMES_WEAK) else 0.0


def _words(name: str) -> set[str]:
    parts = re.split(r"[^A-Za-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))
    return {part.lower() for part in parts if part}


def _rises(seconds: Floats, codes: Ints) -> float:
    order = np.argsort(codes, kind="stable")
    t, same = seconds[order], np.diff(codes[order]) == 0
    steps = np.diff(t)[same]
    steps = steps[np.isfinite(steps)]
    return float((steps >= 0).mean()) if len(steps) else 1.0


def _unevenness(seconds: Floats, codes: Ints) -> float:
    """Return the largest step of a stream's times in median steps."""
    steps = np.diff(seconds)[np.diff(codes) == 0]
    steps = steps[np.isfinite(steps) & (steps > 0)]
    return float(steps.max() / np.median(steps)) if len(steps) else 1.0


def _moment(value: Any) -> float:
    if value is None:
        return np.nan
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, timedelta):
        return value.total_seconds()
    try:
        return datetime.combine(value, datetime.min.time(), UTC).timestamp()
    except TypeError:
        return np.nan


def _of_numbers(numbers: Floats, unit: str, keys: dict[str, Guess], why: str, unsure: str) -> Floats:
    if unit.startswith("%"):
        keys["time_format"] = Guess(unit, why)
        form = TimeForm("s", unit)
        return np.array([form.seconds(int(number)) if np.isfinite(number) else np.nan for number in numbers])
    if unit != "s" or unsure:
        others = (Other("time_unit", "s" if unit != "s" else "ms", "the numbers count those"),) if unsure else ()
        keys["time_unit"] = Guess(unit, why, unsure, others)
    return to_seconds(numbers, unit)


def _unit(cells: Cells, codes: Ints) -> tuple[str, str, str, float]:
    """Return the unit of numbers, or a format, then why, a doubt, and how much the numbers look like times."""
    own = cells.numbers[np.isfinite(cells.numbers)]
    middle, words = float(np.median(own)), _words(cells.name)
    if cells.whole and (compact := compact_date(middle)) is not None:
        return compact[0], f"the digits of a date, such as {int(middle)} for {compact[1]}", "", 3.0
    for unit in ("s", "ms", "us", "ns"):
        seconds = middle / UNITS[unit].rate
        if _DATES[0] <= seconds <= _DATES[1]:
            moment = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=round(seconds))).isoformat()[:19]
            digits = len(str(int(abs(middle))))
            return unit, f"{digits} digits: {UNITS[unit].name} since 1970, as {moment}Z", "", 3.0
    named = next((unit for unit, own in _UNIT_WORDS.items() if words & set(own)), None)
    if named is not None:
        return named, f"{UNITS[named].name}, by the column's name", "", 1.0
    same = np.diff(codes) == 0
    steps = np.diff(cells.numbers)[same] if same.any() else np.diff(cells.numbers)
    steps = steps[np.isfinite(steps) & (steps > 0)]
    step = float(np.median(steps)) if len(steps) else 0.0
    if own.min() >= 20_000 and own.max() <= 80_000 and not cells.whole and 0 < step < 1.1:
        return "excel", "Excel day numbers, by their size", "", 2.0
    content = 1.0 if step and _rises(cells.numbers, codes) >= _RISES and len(np.unique(own)) > 2 else 0.0
    if content and np.quantile(steps, 0.9) > 2 * step:
        content = 0.5  # a meter's reading rises too, but not steadily
    # A sensor's milliseconds are usual steps, or a few off them.
    wavers = 2 <= step <= 5000 and bool(len(steps)) and 0 < np.abs(steps - step).mean() < step / 4
    if cells.whole and (step in _MILLISECONDS or wavers):
        doubt = f"whole numbers {step:g} apart are taken for milliseconds ({1000 / step:g} samples a second)"
        return "ms", f"whole numbers, mostly {step:g} apart", doubt, content
    return "s", f"seconds, {step:g} apart" if step else "", "", content


def _of_text(cells: Cells, codes: Ints) -> tuple[Floats, dict[str, Guess], str] | None:
    own = [str(value).strip() for value in cells.values if value is not None and str(value).strip()]
    if not own:
        return None
    return _of_texts([None if value is None else str(value).strip() for value in cells.values], codes)


def _of_texts(texts: list[str | None], codes: Ints) -> tuple[Floats, dict[str, Guess], str] | None:
    there = [text for text in texts if text]
    tried = [there[i] for i in np.linspace(0, len(there) - 1, min(_TRIED, len(there))).astype(int)]
    keys: dict[str, Guess] = {}
    if all(_ISO.fullmatch(text) for text in tried) and _all_read(TimeForm(), tried):
        seconds, what = _read(TimeForm(), texts), f"holds dates and times in ISO 8601, such as {tried[0]}"
    else:
        fits = [form for form in FORMATS if _fits(form, tried[0]) and _all_read(TimeForm("s", form), tried)]
        if not fits:
            return None
        # Of a day and a month that may be either, the right one goes forward, in even steps.
        read = {form: _read(TimeForm("s", form), texts) for form in fits}
        order = {form: (-_rises(read[form], codes), _unevenness(read[form], codes)) for form in fits}
        # Where dates are written without zeros, or with AM and PM, the month mostly stands first.
        american = any(re.match(r"\d/|\d\d/\d/", text) or text[-2:].upper() in ("AM", "PM") for text in tried)
        fits.sort(key=lambda form: form.startswith("%m") != american)
        fits.sort(key=lambda form: order[form])
        best, seconds = fits[0], read[fits[0]]
        unsure = ""
        others: tuple[Other, ...] = ()
        if len(fits) > 1 and order[fits[1]][0] <= order[best][0] and order[fits[1]][1] < 2 * order[best][1]:
            unsure = f"{tried[0]!r} fits {best!r} and {fits[1]!r}"
            others = (Other("time_format", fits[1], "the day and the month stand the other way round"),)
        what = f"holds dates and times, such as {tried[0]!r}"
        keys["time_format"] = Guess(
            best, f"the form of all values that were looked at, such as {tried[0]!r}", unsure, others
        )
    if not any(_OFFSET.search(text[10:]) for text in tried):
        keys["time_zone"] = _LOCAL
    return seconds, keys, what


def _fits(form: str, text: str) -> bool:
    try:
        datetime.strptime(text, form)  # noqa: DTZ007 (only its form matters)
    except ValueError:
        return False
    return True


def _all_read(form: TimeForm, texts: Sequence[str]) -> bool:
    try:
        return bool(np.isfinite([form.seconds(text) for text in texts]).all())
    except (NotATimeError, OverflowError):
        return False


def _read(form: TimeForm, texts: Sequence[str | None]) -> Floats:
    seconds = np.full(len(texts), np.nan)
    places = [i for i, text in enumerate(texts) if text]
    try:
        seconds[places] = form.column(pa.array([texts[i] for i in places], pa.string()))
    except (NotATimeError, TypeError, pa.ArrowInvalid):
        for i in places:
            try:
                seconds[i] = form.seconds(texts[i])
            except (NotATimeError, OverflowError):
                continue
    return seconds


def _in_two(table: Table, codes: Ints, names: Sequence[str]) -> list[Reading]:
    """Find a column of dates and one of times of day."""
    clocks = [name for name in names if _all_match(table, name, _CLOCK)]
    for clock in clocks:
        for day in names:
            if day == clock or (table.cells(day).found == table.cells(day).there and not table.cells(day).whole):
                continue
            pairs = zip(table.columns[day], table.columns[clock], strict=True)
            joined = [None if a is None or b is None else f"{str(a)[:10].strip()} {str(b).strip()}" for a, b in pairs]
            try:
                read = _of_texts(joined, codes) if any(joined) else None
            except ParameterError:
                read = None
            if read is not None:
                seconds, keys, what = read
                together = what.replace("holds", "they are", 1)
                why = f"column '{day}' has the date and '{clock}' the time of day: {together}"
                return [Reading((day, clock), keys, seconds, _rises(seconds, codes), 9.0, why)]
    return []


def _all_match(table: Table, name: str, pattern: re.Pattern[str]) -> bool:
    own = [str(value).strip() for value in table.columns[name] if value is not None][:_TRIED]
    return bool(own) and all(pattern.fullmatch(text) for text in own)
