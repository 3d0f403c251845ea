"""Payloads of plain text: key=value pairs, numbers with a sign between them, or one bare value."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from streamrde.connectors.codecs.rows import RowCodec
from streamrde.connectors.columns import Columns
from streamrde.connectors.dialect import Dialect
from streamrde.connectors.ends import MAX_BYTES, Message, Rows
from streamrde.errors import PayloadError, SampleError

Fields = dict[str, str]

# Signs between the values of a line where the configuration names none. The first that occurs is taken.
_DELIMITERS = (";", "\t", "|", ",")
_COMMA = re.compile(r"[-+]?[0-9]*,[0-9]+(?:[eE][-+]?[0-9]+)?")
_NAME = r"[^\W\d][^\s=:;,&|]*"


class TextCodec(RowCodec):
    """Decode and encode text.

    A payload is one bare value ``21.5``; values with a sign between them, ``23.5;1013;45``, whose paths are ``[0]``,
    ``[1]`` and so on; pairs ``temp=21.5 hum=45`` or ``temp: 21.5, hum: 45``; or a form, ``temp=21.5&hum=45``, as
    browsers and weather stations post it. Each line is a sample. Lines of pairs with different names are one.

    `columns.csv` says what is unusual: `delimiter` (otherwise the first of ``;``, tab, ``|`` and ``,`` that occurs, or
    else white space), `decimal`, `thousands`, `comment`, `encoding` and `quote`.
    """

    format = "text"

    def __init__(self, columns: Columns, *, max_bytes: int = MAX_BYTES) -> None:
        self._dialect = columns.csv
        super().__init__(columns, max_bytes=max_bytes)
        # All values are text, which no struct of numbers fits.
        self._layout, self._struct_fits = None, False

    def _parser(self, rows: Any) -> Callable[[bytes], Any]:
        return lambda payload: msgspec.convert(self._read(payload), rows)

    def _read(self, payload: bytes) -> list[Fields | list[str] | str]:
        try:
            text = payload.decode(self._dialect.encoding)
        except UnicodeDecodeError:
            raise msgspec.DecodeError(f"it is not text in {self._dialect.encoding}") from None
        if not (rows := rows_of(text, self._dialect)):
            raise msgspec.DecodeError("it is empty")
        return rows

    def _shaped(self, message: Message) -> Rows:
        try:
            found = self._read(message.payload)
        except msgspec.DecodeError as error:
            raise PayloadError(f"not a sample: {error}") from None
        if len(found) == 1:
            return self.shape.rows(found[0], message)
        if all(isinstance(row, dict) for row in found):
            return self.shape.rows(found, message)
        parts = [self.shape.rows(row, message) for row in found]
        t = np.concatenate([part.t for part in parts])
        if np.isnan(t).any():
            raise PayloadError(f"{len(t)} lines without a time: send them one by one, or each with its time")
        streams = [stream for part in parts for stream in part.streams or ()]
        return Rows(t, np.concatenate([part.x for part in parts]), streams or None)

    def encode_samples(self, t: ArrayLike, x: ArrayLike) -> bytes:
        """Return samples as lines of pairs. See `Codec.encode_samples`."""
        times, values = np.asarray(t, dtype=np.float64), np.asarray(x, dtype=np.float64)
        names = [self.columns.time, *self.columns.values] if self.columns.time else list(self.columns.values)
        if bad := [name for name in names if not re.fullmatch(_NAME, name)]:
            raise SampleError(f"{bad[0]!r} cannot be the name in a pair of text; use codec = 'json'")
        if (self.columns.time and not np.isfinite(times).all()) or np.isinf(values).any():
            raise SampleError("text carries finite numbers only; drop the sample")
        lines = []
        for time, row in zip(times.tolist(), values.tolist(), strict=True):
            stamp = [_quoted(str(self._encode_time(time)))] if self.columns.time else []
            lines.append(" ".join(f"{name}={one}" for name, one in zip(names, [*stamp, *row], strict=True)))
        return "\n".join(lines).encode(self._dialect.encoding)


def rows_of(text: str, dialect: Dialect) -> list[Fields | list[str] | str]:
    """Return the rows of a text: fields by name, values in their order, or one bare value. All are text."""
    text = text.removeprefix("\ufeff").strip("\0 \t\r\n")
    if "&" in text and "\n" not in text and all("=" in part for part in text.split("&")):
        return [dict(parse_qsl(text, keep_blank_values=True))]
    rows: list[Fields | list[str] | str] = []
    for line in text.splitlines():
        line = line.strip(" \t\r\0")
        if not line or (dialect.comment and line.startswith(dialect.comment)):
            continue
        row = _pairs(line, dialect) or _values(line, dialect)
        before = rows[-1] if rows else None
        if isinstance(row, dict) and isinstance(before, dict) and not row.keys() & before.keys():
            before |= row
        else:
            rows.append(row)
    return rows


def _pairs(line: str, dialect: Dialect) -> Fields | None:
    """Return the pairs of a line, or None if it is anything else."""
    pair, found, place = _pair_of(dialect), Fields(), 0
    while place < len(line):
        if (match := pair.match(line, place)) is None:
            return None
        found[match[1]] = _point(match[2].strip(dialect.quote or None), dialect)
        place = match.end()
    return found


@functools.lru_cache(maxsize=64)
def _pair_of(dialect: Dialect) -> re.Pattern[str]:
    quote = re.escape(dialect.quote or '"')
    ends = re.escape(dialect.delimiter) if dialect.delimiter.strip() else (";|" if dialect.decimal == "," else ",;|")
    value = rf"{quote}[^{quote}]*{quote}|[^\s{ends}]*"
    return re.compile(rf"({_NAME})\s*[=:]\s*({value})(?:\s*[{ends}]\s*|\s+|$)")


def _values(line: str, dialect: Dialect) -> list[str] | str:
    delimiter: str | None = dialect.delimiter
    if not delimiter:
        delimiter = next((sign for sign in _DELIMITERS if sign != dialect.decimal and sign in line), None)
    elif delimiter == " ":
        delimiter = None
    parts = [_point(part.strip().strip(dialect.quote or None), dialect) for part in line.split(delimiter)]
    return parts if len(parts) > 1 else parts[0]


def _point(text: str, dialect: Dialect) -> str:
    """Return a number of the dialect with a decimal point, and other text as it is."""
    if dialect.thousands and _grouped(dialect).fullmatch(text):
        text = text.replace(dialect.thousands, "")
    if dialect.decimal == "," and _COMMA.fullmatch(text):
        return text.replace(",", ".")
    return text


@functools.lru_cache(maxsize=64)
def _grouped(dialect: Dialect) -> re.Pattern[str]:
    """Match numbers with thousands apart, and not dates such as 01.03.2024."""
    sign, point = re.escape(dialect.thousands), re.escape(dialect.decimal)
    return re.compile(rf"[-+]?[0-9]{{1,3}}(?:{sign}[0-9]{{3}})+(?:{point}[0-9]*)?")


def _quoted(text: str) -> str:
    return f'"{text}"' if re.search(r"[\s,;|]", text) else text
