"""Points of the InfluxDB line protocol: text in, measurement, tags, fields and timestamp out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from streamrde.connectors.codecs.refusals import shortened
from streamrde.errors import PayloadError

FieldValue = float | bool | str | int


class Point(NamedTuple):
    """One point as it is written. Names and values are still escaped."""

    line: int
    """Number of the line that it begins on, from 1."""
    series: str
    """Measurement and tags. Points of one series mostly have the same text here."""
    fields: list[tuple[str, str]]
    """Names of the fields, unescaped, and their values as they are written."""
    timestamp: int | None
    """Number of whatever the precision is, or None if the point has no time."""


# A backslash escapes what would end a name, and is itself everywhere else. No text matches in two ways, so matching is
# linear.
_MEASUREMENT = re.compile(r"(?:[^\\, \n]|\\[, ]|\\(?![, ]))+")
_NAME = r"(?:[^\\,= \n]|\\[,= ]|\\(?![,= ]))+"
_TAG = re.compile(rf",({_NAME})=({_NAME})")
_FIELD = re.compile(rf'({_NAME})=("(?:[^"\\]|\\.)*"|[^,=" \n]+)', re.DOTALL)
_BLANK = re.compile(r"[ \t\r\0]*")
_TIMESTAMP = re.compile(r"-?[0-9]+(?=[ \t\r\0]*(?:\n|$))", re.ASCII)
_END = re.compile(r"[ \t\r\0]*(?:\n|$)")

_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_INTEGER = re.compile(r"[-+]?[0-9]{1,20}[iu]")
_BOOLEANS = dict.fromkeys(("t", "T", "true", "True", "TRUE"), True)
_BOOLEANS |= dict.fromkeys(("f", "F", "false", "False", "FALSE"), False)
_INT64 = 2**63


def parse_points(text: str) -> Iterator[Point]:
    """Yield the points of a payload.

    Raises:
        PayloadError: a line is not of the line protocol. The message has its number.
    """
    # Without escapes and texts every separator is one, and splitting is several times as fast as matching.
    return _walk(text) if '"' in text or "\\" in text else _split(text)


def series_of(written: str) -> tuple[str, dict[str, str]]:
    """Return the measurement and the tags of `Point.series`."""
    found = _MEASUREMENT.match(written)
    tags = {} if found is None else {_plain(key): _plain(value) for key, value in _TAG.findall(written, found.end())}
    return ("" if found is None else re.sub(r"\\([, ])", r"\1", found[0])), tags


def value_of(written: str) -> FieldValue:
    """Return a field's value: a number, a truth value or a text.

    Raises:
        ValueError: it is none of them. The message says what it is.
    """
    if _NUMBER.fullmatch(written):
        return float(written)
    if (truth := _BOOLEANS.get(written)) is not None:
        return truth
    if written[0] == '"':
        return re.sub(r'\\(["\\])', r"\1", written[1:-1])
    if _INTEGER.fullmatch(written):
        number = int(written[:-1])
        if (-_INT64 <= number < _INT64) if written[-1] == "i" else (0 <= number < 2 * _INT64):
            return number
        raise ValueError(f"{written}, which does not fit into 64 bits")
    raise ValueError(f"{shortened(written)!r}, which is no number, no text in quotes, and neither true nor false")


def written_name(name: str) -> str:
    """Return the name of a tag or field as the protocol writes it."""
    return re.sub(r"([,= ])", r"\\\1", name)


def _plain(name: str) -> str:
    return re.sub(r"\\([,= ])", r"\1", name) if "\\" in name else name


def _split(text: str) -> Iterator[Point]:
    before = ""
    for number, line in enumerate(text.split("\n"), 1):
        parts = [part for part in line.strip(" \t\r\0").split(" ") if part]
        if not parts or parts[0][0] == "#":
            continue
        if not 2 <= len(parts) <= 3:
            raise _refused(number, "it is not a measurement, fields and perhaps a timestamp", line)
        series, written = parts[0], parts[1]
        if series != before and not _is_series(series):
            raise _refused(number, "its measurement or a tag is not name=value", line)
        before = series
        fields: list[tuple[str, str]] = []
        for field in written.split(","):
            name, _, value = field.partition("=")
            if not name or not value or "=" in value:
                raise _refused(number, f"its field {shortened(field)!r} is not name=value", line)
            fields.append((name, value))
        timestamp = None
        if len(parts) == 3:
            if not _TIMESTAMP.fullmatch(parts[2]):
                raise _refused(number, f"its timestamp {shortened(parts[2])!r} is not an integer", line)
            timestamp = _in_range(number, parts[2])
        yield Point(number, series, fields, timestamp)


def _is_series(series: str) -> bool:
    measurement, *tags = series.split(",")
    return bool(measurement) and all(len(pair) == 2 and all(pair) for pair in (tag.split("=") for tag in tags))


def _walk(text: str) -> Iterator[Point]:
    place, number = 0, 1
    while place < len(text):
        start = _after(_BLANK, text, place)
        if text.startswith("#", start) or _END.match(text, start):
            end = text.find("\n", start)
            place, number = len(text) if end < 0 else end + 1, number + 1
            continue
        point, place = _point(text, start, number)
        yield point
        number += text.count("\n", start, place)


def _point(text: str, start: int, number: int) -> tuple[Point, int]:
    """Return the point that begins at `start`, and where the next line begins."""
    if (found := _MEASUREMENT.match(text, start)) is None:
        raise _refused(number, "it has no measurement", text[start:])
    place = found.end()
    while (found := _TAG.match(text, place)) is not None:
        place = found.end()
    series = text[start:place]
    fields: list[tuple[str, str]] = []
    space = _after(_BLANK, text, place)
    if space == place:
        raise _refused(number, "its measurement or a tag is not name=value", text[start:])
    place = space
    while True:
        if (found := _FIELD.match(text, place)) is None:
            raise _refused(
                number, f"its field {shortened(text[place:].split(' ')[0])!r} is not name=value", text[start:]
            )
        fields.append((_plain(found[1]), found[2]))
        place = found.end()
        if not text.startswith(",", place):
            break
        place += 1
    timestamp, space = None, _after(_BLANK, text, place)
    if space > place and (found := _TIMESTAMP.match(text, space)) is not None:
        timestamp, space = _in_range(number, found[0]), found.end()
    if (found := _END.match(text, space)) is None:
        raise _refused(number, "what follows its fields is not a timestamp, an integer", text[start:])
    return Point(number, series, fields, timestamp), found.end()


def _after(pattern: re.Pattern[str], text: str, place: int) -> int:
    found = pattern.match(text, place)
    return place if found is None else found.end()


def _in_range(number: int, digits: str) -> int:
    # Twenty digits are more than 64 bits hold, and Python refuses to read thousands of them.
    if len(digits) <= 20 and -_INT64 <= (timestamp := int(digits)) < _INT64:
        return timestamp
    raise PayloadError(f"line {number}: its timestamp {shortened(digits)} does not fit into 64 bits")


def _refused(number: int, reason: str, line: str) -> PayloadError:
    beginning = shortened(line.split("\n")[0].strip())
    return PayloadError(f"line {number} is not line protocol: {reason}; it begins {beginning!r}")
