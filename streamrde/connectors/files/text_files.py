"""Open files of text in any dialect, read their headers, and find the line of a row."""

from __future__ import annotations

import csv
import functools
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from streamrde.connectors.dialect import Dialect
from streamrde.connectors.files.places import AnyPath, input_stream
from streamrde.errors import DataError

# Enough for a long preamble and some rows; a header of more bytes than this is no header.
_HEAD_BYTES = 1 << 18
_BLOCK_BYTES = 1 << 20
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|nan", re.IGNORECASE)
TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".dat", ".lvm")
_UTF8 = ("utf-8", "utf8", "utf-8-sig")


class Compression(NamedTuple):
    """Compression of files, by their names and their first bytes."""

    suffix: str
    name: str
    spoken: str
    magic: bytes


COMPRESSIONS = (
    Compression(".gz", "gzip", "gzip", b"\x1f\x8b"),
    Compression(".bz2", "bz2", "bzip2", b"BZh"),
    Compression(".zst", "zstd", "Zstandard", b"\x28\xb5\x2f\xfd"),
)
# First bytes of what is not text, and what to do about it.
_OTHERS = {
    b"PAR1": "is a Parquet file by its content; call it .parquet",
    b"ARROW1": "is an Arrow IPC file by its content; call it .arrow",
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
    """Hold the names of a text file's columns, and where its rows begin."""

    names: list[str]
    lines: int
    """Lines before the first row: a preamble, the header, a row of units."""
    units: list[str]
    """Texts in the row of units, or an empty list."""
    head: str
    """The file's first characters, from which the header was taken."""
    line: str = ""
    """The header's line, or "". Where there are comments it may stand above each of several tables."""


def open_bytes(path: AnyPath) -> pa.NativeFile:
    """Open a text file, decompressed by its name.

    Raises:
        DataError: the file is compressed otherwise than its name says.
    """
    name = path.name.lower()
    with path.open("rb") as file:
        begin = file.read(8)
    by_name = next((one for one in COMPRESSIONS if name.endswith(one.suffix)), None)
    found = next((one for one in COMPRESSIONS if begin.startswith(one.magic)), None)
    if by_name != found and (found is not None or len(begin) > 1):
        plain = path.name if by_name is None else path.name[: -len(by_name.suffix)]
        what = f"is not compressed with {by_name.spoken}" if by_name else ""
        what = f"is compressed with {found.spoken}" if found else what
        raise DataError(f"{path}: {what}; call it {Path(plain).suffix}{found.suffix if found else ''}", path=str(path))
    file = input_stream(path)
    return file if by_name is None else pa.CompressedInputStream(file, by_name.name)


def open_rows(path: AnyPath, header: Header, dialect: Dialect) -> tuple[pa.NativeFile, int]:
    """Open a text file for a reader of CSV in UTF-8. Return the file, and the lines that the reader is to skip."""
    file = open_bytes(path)
    if dialect.encoding.lower() not in _UTF8:
        file = pa.transcoding_input_stream(file, dialect.encoding, "utf-8")
    if not is_rewritten(path, dialect):
        return file, header.lines
    return pa.PythonFile(_RowLines(file, header, dialect, dialect.between(path.name) == " "), "r"), 0


def is_rewritten(path: AnyPath, dialect: Dialect) -> bool:
    """Return True if the file's lines are changed before they are parsed. Columns are then parted by tabs."""
    return bool(dialect.comment) or dialect.between(path.name) == " "


def read_header(path: AnyPath, dialect: Dialect) -> Header:
    """Read the names of the columns.

    Names that are not UTF-8 are taken for Windows-1252: they matter only where such a column is asked for.

    Raises:
        DataError: the file is not text, is UTF-16 without the dialect saying so, is compressed otherwise than its name
            says, or is blank.
    """
    stat = path.stat()
    return _read_header(path, dialect, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4)  # a header is looked at several times in a row, by those who plan and who read
def _read_header(path: AnyPath, dialect: Dialect, size: int, modified: int) -> Header:
    text = decoded(path, read_head(path), dialect.encoding)
    lines = list(io.StringIO(text, newline=""))
    delimiter = dialect.between(path.name)
    first, remark = dialect.skip, ""
    while first < len(lines) and (not lines[first].strip() or _is_comment(lines[first], dialect)):
        remark = lines[first] if _is_comment(lines[first], dialect) else remark
        first += 1
    rows = _Rows(path, lines, first, delimiter, dialect)
    names = rows.next()
    if names is None:
        raise DataError(f"{path}: has no rows (it is blank); leave it out or record it again", path=str(path))
    units: list[str] = []
    if not dialect.header:
        lines_before = first
        names = [str(i) for i in range(len(names))]
    elif remark and (own := _fields(remark.lstrip(dialect.comment), delimiter)) and _is_data(names, own, dialect):
        lines_before, names = first, own
    else:
        lines_before = rows.line
        for i in range(int(dialect.units_row)):
            row = rows.next() or []
            units = units if i else row
            lines_before = rows.line
        # Some loggers end each row with a delimiter and not the header, or the header and not the rows.
        data = rows.next() or []
        if len(data) == len(names) + 1 and not data[-1].strip():
            names = [*names, ""]
        elif len(data) == len(names) - 1 and names[-1].strip().lower() in ("", "comment"):
            names = names[:-1]
    line = lines[first].rstrip("\r\n") if dialect.header and dialect.comment and lines_before > first else ""
    return Header([name.strip() for name in names], lines_before, [unit.strip() for unit in units], text, line)


def read_head(path: AnyPath) -> bytes:
    """Return the first bytes of a file, decompressed."""
    with open_bytes(path) as file:
        data: bytes = file.read(_HEAD_BYTES)
    return data


def decoded(path: AnyPath, data: bytes, encoding: str) -> str:
    """Return a file's first bytes as text.

    Raises:
        DataError: the bytes are not text, or are UTF-16 without the encoding saying so.
    """
    for magic, what in _OTHERS.items():
        if data.startswith(magic):
            raise DataError(f"{path}: {what}", path=str(path))
    if encoding.lower() not in _UTF8:
        whole = len(data) - len(data) % 4 if len(data) == _HEAD_BYTES else len(data)
        return data[:whole].decode(encoding, errors="replace").lstrip("\ufeff")
    if (wide := wide_encoding(data)) is not None:
        raise DataError(
            f'{path}: is UTF-16 text; set csv.encoding = "{wide}", or save it as UTF-8, with iconv -f utf-16 -t utf-8',
            path=str(path),
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start >= len(data) - 3:  # the head ends within a character
            return data[: error.start].decode("utf-8-sig")
        return data.decode("cp1252", errors="replace")


def wide_encoding(data: bytes) -> str | None:
    """Return the name of the encoding if text is UTF-16, which has a mark or a zero in about every other byte."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if data[:200].count(0) <= len(data[:200]) // 3:
        return None
    return "utf-16-be" if data[:200:2].count(0) > data[1:200:2].count(0) else "utf-16-le"


def line_of(path: AnyPath, row: int, dialect: Dialect) -> int | None:
    """Return the line, from 1, at which a row of data (from 0) begins, or None if it cannot be found."""
    try:
        header = read_header(path, dialect)
        with open_bytes(path) as file:
            is_utf8 = dialect.encoding.lower() in _UTF8
            # Line ends and quotes are the same bytes in Latin-1, which has a character for every byte.
            text = io.TextIOWrapper(file, "latin-1" if is_utf8 else dialect.encoding, "replace", newline="")
            for number, line in enumerate(_row_lines(text, header, dialect.between(path.name), dialect)):
                if number == row:
                    return line
    except (OSError, csv.Error, DataError):
        return None
    return None


def _row_lines(text: Iterable[str], header: Header, delimiter: str, dialect: Dialect) -> Iterator[int]:
    """Yield the line at which each row begins."""
    # As the text is decoded here, which need not be right: only equal lines matter.
    again = header.line.encode().decode("latin-1") if dialect.encoding.lower() in _UTF8 else header.line
    taken: list[int] = []

    def lines() -> Iterator[str]:
        inside = False
        for number, line in enumerate(text, start=1):
            if number <= header.lines or (not inside and _is_comment(line, dialect)):
                continue
            if again and not inside and line.rstrip("\r\n") == again:
                continue
            if dialect.quote:
                inside ^= line.count(dialect.quote) % 2 == 1
            taken.append(number)
            yield line

    if delimiter == " ":
        yield from (taken[-1] for line in lines() if line.strip())
        return
    for row in _reader(lines(), delimiter, dialect):
        if row:
            yield taken[0]
        taken.clear()


def _reader(lines: Iterable[str], delimiter: str, dialect: Dialect) -> Iterator[list[str]]:
    if dialect.quote:
        return csv.reader(lines, delimiter=delimiter, quotechar=dialect.quote)
    return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)


class _Rows:
    """Take records from lines one by one, and know the line after them."""

    def __init__(self, path: AnyPath, lines: list[str], first: int, delimiter: str, dialect: Dialect) -> None:
        self.path = path
        self.line = first
        """Lines up to the end of the last record taken."""
        self._taken = iter(self._lines(lines, first, dialect))
        self._blanks = delimiter == " "
        self._reader = _reader(self._taken, delimiter, dialect)

    def _lines(self, lines: list[str], first: int, dialect: Dialect) -> Iterator[str]:
        for number in range(first, len(lines)):
            if not _is_comment(lines[number], dialect):
                self.line = number + 1
                yield lines[number]

    def next(self) -> list[str] | None:
        """Return the next record that is not blank, or None."""
        if self._blanks:
            return next((line.split() for line in self._taken if line.strip()), None)
        try:
            return next((row for row in self._reader if row), None)
        except csv.Error as error:
            raise DataError(
                f"{self.path}: its header cannot be read ({error}); look for an open quote", path=str(self.path)
            ) from None


def _fields(line: str, delimiter: str) -> list[str]:
    return line.split() if delimiter == " " else next(csv.reader([line.strip()], delimiter=delimiter), [])


def _is_comment(line: str, dialect: Dialect) -> bool:
    return bool(dialect.comment) and line.startswith(dialect.comment)


def _is_data(first: list[str], remark: list[str], dialect: Dialect) -> bool:
    """Return True if the first record is a row, and the remark above it is the header."""
    numbers = sum(bool(NUMBER.fullmatch(text.strip().replace(dialect.decimal, "."))) for text in first)
    return len(remark) == len(first) and numbers > len(first) // 2


class _RowLines(io.RawIOBase):
    """Read rows of text without the lines before them, without comments, and with tabs in place of blanks.

    Where there are comments, the header may stand above each of several tables, as InfluxDB writes it.
    """

    def __init__(self, file: pa.NativeFile, header: Header, dialect: Dialect, blanks: bool) -> None:
        self._file = file
        self._before = header.lines
        self._again = header.line.encode()
        self._comment = dialect.comment.encode()
        self._quote = dialect.quote.encode()
        self._blanks = blanks
        self._inside = False
        self._rest = b""
        self._ready = b""
        self._place = 0
        self._ended = False

    def readable(self) -> bool:
        """See io.RawIOBase."""
        return True

    def close(self) -> None:
        """Close the file, too."""
        self._file.close()
        super().close()

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, and none at the end."""
        if size < 0:
            return b"".join(iter(lambda: self.read(_BLOCK_BYTES), b""))
        while self._place == len(self._ready):
            if self._ended:
                return b""
            self._ready, self._place = self._next(), 0
        piece = self._ready[self._place : self._place + size]
        self._place += len(piece)
        return piece

    def _next(self) -> bytes:
        """Return the rows of the next block that has whole lines."""
        block = self._file.read(_BLOCK_BYTES)
        self._ended = not block
        data = self._rest + block
        # A \r at the end of a block may be the first half of a line end.
        cut = len(data) if self._ended else max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1)) + 1
        self._rest = data[cut:]
        data = data[:cut]
        if self._before:
            lines = data.splitlines(keepends=True)
            data = b"".join(lines[self._before :])
            self._before -= min(self._before, len(lines))
        found = data.startswith(self._comment) or b"\n" + self._comment in data or b"\r" in data
        if self._comment and (found or (self._again and self._again in data)):
            data = b"".join(line for line in data.splitlines(keepends=True) if self._is_row(line))
        elif self._quote:
            self._inside ^= data.count(self._quote) % 2 == 1
        return self._without_blanks(data) if self._blanks else data

    def _is_row(self, line: bytes) -> bool:
        if not self._inside and (line.startswith(self._comment) or line.rstrip(b"\r\n") == self._again != b""):
            return False
        if self._quote:
            self._inside ^= line.count(self._quote) % 2 == 1
        return True

    def _without_blanks(self, data: bytes) -> bytes:
        if self._quote and self._quote in data:
            quote = re.escape(self._quote)
            texts = re.compile(quote + b"[^" + quote + b"]*" + quote + rb"|[ \t]+")
            data = texts.sub(lambda match: match[0] if match[0].startswith(self._quote) else b"\t", data)
            return b"".join(line.strip(b"\t\r\n") + b"\n" for line in data.splitlines())
        return b"".join(b"\t".join(line.split()) + b"\n" for line in data.splitlines())
