"""Read the header of a CSV file, and recognise why the file cannot be read."""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO, cast

from streamrde.connectors.files.cells import COMMA_NUMBER
from streamrde.errors import DataError

# Enough for a long preamble and some rows; a header of more bytes than this is no header.
_HEAD_BYTES = 1 << 18
# Lines among which a header is looked for, and rows from which values are judged.
_LINES = 200
_DELIMITERS = {";": "';'", "\t": "tabs", "|": "'|'", " ": "spaces"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|nan", re.IGNORECASE)
_GZIP = b"\x1f\x8b"
# First bytes of what is not text, and what to do about it.
_OTHERS = {
    b"PAR1": "is a Parquet file by its content; call it .parquet",
    b"ARROW1": "is an Arrow IPC file by its content; call it .arrow",
    b"\x28\xb5\x2f\xfd": "is compressed with Zstandard, which is not read; unpack it, or compress it with gzip",
    b"BZh": "is compressed with bzip2, which is not read; unpack it, or compress it with gzip",
    b"\xfd7zXZ": "is compressed with xz, which is not read; unpack it, or compress it with gzip",
    b"PK\x03\x04": "is a ZIP archive or a spreadsheet by its content; unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "is an Excel workbook by its content; save the sheet as CSV",
    b"<!": "is HTML by its content; download the table itself",
    b"<html": "is HTML by its content; download the table itself",
    b"<?xml": "is XML by its content; store it as CSV or Parquet",
    b'{"': "is JSON by its content; store it as CSV or Parquet",
    b"[{": "is JSON by its content; store it as CSV or Parquet",
}


class Header(NamedTuple):
    """Hold the first record of a CSV file."""

    names: list[str]
    lines: int
    """Lines up to its end: a quoted name may hold some."""
    head: str
    """The file's first characters, from which the record was taken."""


def read_header(path: Path) -> Header:
    """Read the names of the columns.

    Names that are not UTF-8 are taken for Windows-1252: they matter only where such a column is asked for.

    Raises:
        DataError: the file is not text, is UTF-16, or is compressed otherwise than its name says.
    """
    with _open(path) as file:
        data = file.read(_HEAD_BYTES)
    text = _decoded(path, data)
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        for row in rows:
            if row:
                return Header(row, rows.line_num, text)
    except csv.Error as error:
        raise DataError(
            f"{path}: its header cannot be read ({error}); look for an open quote", path=str(path)
        ) from None
    raise DataError(f"{path}: has no rows (it is blank); leave it out or record it again", path=str(path))


def _open(path: Path) -> BinaryIO:
    compressed = path.name.lower().endswith(".gz")
    with path.open("rb") as file:
        magic = file.read(2)
    if (magic == _GZIP) != compressed and len(magic) == len(_GZIP):
        wrong = (
            "is not compressed with gzip; call it .csv" if compressed else "is compressed with gzip; call it .csv.gz"
        )
        raise DataError(f"{path}: {wrong}", path=str(path))
    return cast(BinaryIO, gzip.open(path)) if compressed else path.open("rb")


def _decoded(path: Path, data: bytes) -> str:
    for magic, what in _OTHERS.items():
        if data.startswith(magic):
            raise DataError(f"{path}: {what}", path=str(path))
    # Text in UTF-16 has a mark or, as these are mostly Latin letters and digits, a zero in every other byte.
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or data[:200].count(0) > len(data[:200]) // 3:
        raise DataError(f"{path}: is UTF-16 text; save it as UTF-8, with iconv -f utf-16 -t utf-8", path=str(path))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start >= len(data) - 3:  # the head ends within a character
            return data[: error.start].decode("utf-8-sig")
        return data.decode("cp1252", errors="replace")


def explain_columns(header: Header, wanted: Sequence[str]) -> str | None:
    """Return why columns that are asked for are not in the header, or None if nothing is recognised."""
    rows = header.head.splitlines()[:_LINES]
    wanted = [name.lower() for name in wanted]
    best = _find_header(rows, wanted)
    if best is not None:
        line, delimiter = best
        return _explain_dialect(rows, line, delimiter)
    if header.names and all(_NUMBER.fullmatch(name.strip()) for name in header.names):
        return (
            f"has no header: its first line is data ({', '.join(header.names[:3])}, ...); write the columns' names "
            "above it"
        )
    return _explain_long(rows, wanted) or _explain_delimiter(rows)


def _fields(line: str, delimiter: str) -> list[str]:
    if delimiter == " ":
        return line.split()
    row = next(csv.reader([line], delimiter=delimiter), [])
    return [field.strip() for field in row]


def _find_header(rows: Sequence[str], wanted: Sequence[str]) -> tuple[int, str] | None:
    """Find the line and the delimiter that give most of the wanted names, if they give more than half of them."""
    found = [
        (
            sum(name in {field.lower().lstrip("# ") for field in _fields(row, delimiter)} for name in wanted),
            -i,
            delimiter,
        )
        for i, row in enumerate(rows)
        for delimiter in (",", *_DELIMITERS)
        if delimiter in row
    ]
    count, line, delimiter = max(found, default=(0, 0, ","), key=lambda entry: entry[:2])
    if count <= len(wanted) // 2 or (line, delimiter) == (0, ","):
        return None
    return -line, delimiter


def _explain_dialect(rows: Sequence[str], line: int, delimiter: str) -> str:
    what, options = [], []
    if line:
        what.append(
            f"its header stands in line {line + 1}, below {line} line{'s' if line > 1 else ''} of preamble "
            f"({rows[0][:40]!r}, ...)"
        )
        options.append(f"skiprows={line}")
    if delimiter != ",":
        what.append(f"its columns are parted by {_DELIMITERS[delimiter]}, not by commas")
        options.append(f"sep={delimiter!r}")
        cells = [cell for row in rows[line + 1 :] for cell in _fields(row, delimiter)]
        if sum(bool(COMMA_NUMBER.fullmatch(cell)) for cell in cells) > len(cells) // 4:
            what.append("its numbers have a decimal comma")
            options.append("decimal=','")
    return f"{', and '.join(what)}; {_remedy(options)}"


def _remedy(options: Sequence[str]) -> str:
    return (
        "save it with commas, decimal points and the header in the first line, or as Parquet: "
        f"pandas.read_csv(FILE, {', '.join(options)}).to_parquet(...)"
    )


def _explain_delimiter(rows: Sequence[str]) -> str | None:
    """Name the delimiter of a file that has one column if commas are the delimiters."""
    if len(_fields(rows[0], ",")) > 1 or len(rows) < 2:
        return None
    for delimiter in (";", "\t", "|"):
        counts = {row.count(delimiter) for row in rows[:-1] if row}
        if len(counts) == 1 and counts != {0}:
            return _explain_dialect(rows, 0, delimiter)
    return None


def _explain_long(rows: Sequence[str], wanted: Sequence[str]) -> str | None:
    """Recognise long format: a column of names, each row with one value."""
    names, *data = [_fields(row, ",") for row in rows]
    data = [row for row in data if len(row) == len(names)][:-1] or data
    if not 2 <= len(names) <= 8 or len(data) < 2:
        return None
    for i, name in enumerate(names):
        cells = {row[i] for row in data if len(row) == len(names)}
        matches = {w for w in wanted for cell in cells if re.search(rf"(^|[^a-z0-9]){re.escape(w)}$", cell.lower())}
        if not matches or any(_NUMBER.fullmatch(cell) for cell in cells):
            continue
        values = [
            other
            for j, other in enumerate(names)
            if j != i
            and sum(bool(_NUMBER.fullmatch(row[j])) for row in data if len(row) == len(names)) > len(data) // 2
        ]
        value = values[0] if values else names[1 - (i == 1)]
        return (
            f"is in long format: one value a row, named in column {name!r} ({', '.join(sorted(cells)[:3])}, ...); give "
            f"each channel a column: pandas.read_csv(FILE).pivot_table(index=TIME, columns={name!r}, values={value!r})"
        )
    return None


def line_of(path: Path, row: int) -> int | None:
    """Return the line, from 1, at which a row of data (from 0) begins, or None if it cannot be found."""
    try:
        with _open(path) as file, io.TextIOWrapper(file, "latin-1", newline="") as text:
            for number, line in _records(text):
                if number == row + 1:
                    return line
    except (OSError, csv.Error, DataError):
        return None
    return None


def _records(text: TextIO) -> Iterator[tuple[int, int]]:
    """Yield the number of each record that is not blank, counted from the header's 0, and the line where it begins."""
    rows = csv.reader(text)
    number, line = 0, 1
    for row in rows:
        if row:
            yield number, line
            number += 1
        line = rows.line_num + 1
