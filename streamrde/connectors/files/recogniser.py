"""Recognise the dialect of a text file: delimiter, decimal sign, header, units, comments, encoding."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from streamrde.connectors.dialect import Dialect
from streamrde.connectors.files.places import AnyPath, as_path
from streamrde.connectors.files.text_files import NUMBER, decoded, read_head, wide_encoding
from streamrde.connectors.values import NO_VALUE, WORDS
from streamrde.errors import DataError

# Lines that are looked at, and those of them that decide what a row is: the last ones.
_LINES, _ROWS = 400, 200
SPOKEN = {",": "commas", ";": "';'", "\t": "tabs", "|": "'|'", " ": "spaces"}
_COMMA = re.compile(r"[+-]?(\d+,\d*|,\d+)([eE][+-]?\d+)?")
_GROUPED = re.compile(r"[+-]?\d{1,3}(?P<sign>[., '\u00a0\u202f\u2019])\d{3}((?P=sign)\d{3})*(?P<rest>[.,]\d*)?")
_CLOCK = r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[AaPp]\.?[Mm]\.?)?( ?Z| ?[+-]\d{2}:?\d{2})?"
_DATE = re.compile(
    rf"(\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|\d{{1,2}}[./-]\d{{1,2}}[./-]\d{{2,4}})([T ]{_CLOCK})?|{_CLOCK}"
)
_UNIT = re.compile(r"[\[(]?[^\d\s][^\s]{0,11}( [^\s]{1,6})?[\])]?|[\[(][^\])]*[\])]|1|-|%|")
_STAMP = re.compile(r"\d{8,}(\.\d*)?|\d+\.\d+")
_SEP = re.compile(r"sep=(.)\s*", re.IGNORECASE)


class Recognised(NamedTuple):
    """Dialect of a file, and how it was recognised."""

    dialect: Dialect
    names: list[str]
    """The columns' names, in order."""
    units: dict[str, str]
    """Texts of the row of units, by column."""
    evidence: list[str]
    """Signs that the dialect was taken from, one statement for each key that is not the usual one."""
    doubts: list[str]
    """Other readings that the file could have."""


class _Block(NamedTuple):
    """Rows of one length, as a delimiter gives them."""

    delimiter: str
    columns: int
    first: int
    """Line of the first row, which may be the header."""
    rows: list[list[str]]
    score: float


def dialect_of(path: str | AnyPath) -> Recognised:
    """Recognise how a file of text is written, from its first lines.

    Raises:
        DataError: the file is not text, or has no rows.
    """
    path = as_path(path) if isinstance(path, str) else path
    data = read_head(path)
    encoding = _encoding(data)
    text = decoded(path, data, encoding)
    lines = text.splitlines()[:_LINES]
    if len(text.splitlines()) > len(lines) or (len(data) >= 1 << 18 and len(lines) > 1):
        lines = lines[: _LINES - 1] if len(lines) == _LINES else lines[:-1]
    found = recognise_lines(lines, encoding=encoding, tabs=".tsv" in path.name.lower())
    if found is None:
        raise DataError(f"{path}: has no rows; leave it out or record it again", path=str(path))
    return found


def recognise_lines(lines: Sequence[str], *, encoding: str = "utf-8", tabs: bool = False) -> Recognised | None:
    """Recognise a dialect from a file's first lines, or return None if they are blank.

    Args:
        lines: without line ends.
        encoding: the encoding of the file.
        tabs: tabs are the usual delimiter.
    """
    evidence: list[str] = []
    doubts: list[str] = []
    if encoding != "utf-8":
        why = "by the file's bytes" if encoding != "cp1252" else "the most frequent one of text that is not UTF-8"
        evidence.append(f"encoding: {encoding}, {why}")
    comment, remarks = _comment(lines)
    kept = [i for i, line in enumerate(lines) if line.strip() and not (comment and line.startswith(comment))]
    if not kept:
        return None
    given = _SEP.fullmatch(lines[kept[0]])
    blocks = sorted(
        (_block(lines, kept, delimiter) for delimiter in ([given[1]] if given else SPOKEN)),
        key=lambda block: -block.score,
    )
    best = blocks[0]
    delimiter = best.delimiter if best.columns > 1 else ("\t" if tabs else ",")
    rivals = [block for block in blocks[1:] if block.columns > 1 and block.score > 0.9 * best.score]
    if delimiter == "\t":  # which is one of the blanks
        rivals = [block for block in rivals if block.delimiter != " "]
    doubts += [f"delimiter: {SPOKEN.get(b.delimiter, repr(b.delimiter))} would part columns, too" for b in rivals]
    usual = "\t" if tabs else ","
    if delimiter != usual:
        sign = SPOKEN.get(delimiter, repr(delimiter))
        evidence.append(
            f"delimiter: {sign} {'part' if sign.isalpha() else 'parts'} the {best.columns} columns of each row"
        )

    start = kept.index(best.first)
    rows = best.rows
    quote = _quote(lines[best.first :], delimiter)
    decimal, thousands = _numbers(rows[1:] or rows, delimiter, evidence, doubts)
    plain = [[_plain(cell, decimal, thousands) for cell in row] for row in rows]
    numeric = [_mostly([row[i] for row in plain[4:] or plain[2:] or plain[1:]]) for i in range(best.columns)]
    header, names = True, rows[0]
    units_row: bool | int = False
    first_is_data = any(numeric) and all(_is_value(cell) or not n for cell, n in zip(plain[0], numeric, strict=True))
    counted = [*map(str, range(best.columns))], [*map(str, range(1, best.columns + 1))]
    if (
        first_is_data
        and rows[0] not in counted
        and any(_is_value(cell) and cell for cell, n in zip(plain[0], numeric, strict=True) if n)
    ):
        above = [remark for line, remark in remarks if line < best.first]
        own = cells_of(above[-1], delimiter) if above else []
        if len(own) == best.columns and not all(_is_value(cell) for cell in own):
            names = own
            evidence.append(f"header: the last remark above the rows ({above[-1].strip()[:40]!r})")
        else:
            header, names = False, [str(i) for i in range(best.columns)]
            evidence.append("header: false, the first line has numbers where the others have numbers")
    elif any(_STAMP.fullmatch(cell) for cell, n in zip(plain[0], numeric, strict=True) if n) and len(rows) > 1:
        # As Empatica writes: a moment and a name above rows that have neither.
        header, names, start = False, [str(i) for i in range(best.columns)], start + 1
        evidence.append(f"header: false, the line above the rows has a number where names stand ({plain[0][0]})")
        doubts.append(f"skip: the line {', '.join(rows[0])!r} may say when the rows begin")
    elif len(rows) > 2 and _are_units(plain[1], numeric):
        more = next((i for i, row in enumerate(plain[2:5]) if _has_numbers(row, numeric)), 0)
        units_row = 1 + more if more else True
        evidence.append(f"units_row: the line below the header has no numbers ({', '.join(rows[1])[:60]})")
    units = dict(zip(names, rows[1], strict=True)) if units_row else {}
    skip = 0
    if start:
        skip = kept[start]
        if comment:  # remarks below the preamble are not part of it
            skip = kept[start - 1] + 1
        what, first_line = "the header stands" if header else "rows begin", lines[kept[0]].strip()[:40]
        evidence.append(f"skip: {what} in line {kept[start] + 1}, below a preamble ({first_line!r}, ...)")
    if comment:
        where = "among" if any(line > best.first for line, _ in remarks) else "above"
        evidence.append(f"comment: lines {where} the rows begin with {comment!r}")
    dialect = Dialect(
        delimiter="" if delimiter == usual else delimiter,
        decimal=decimal,
        thousands=thousands,
        skip=skip,
        header=header,
        units_row=units_row,
        comment=comment,
        encoding=encoding,
        quote=quote,
    )
    return Recognised(dialect, [name.strip() for name in names], units, evidence, doubts)


def _encoding(data: bytes) -> str:
    if (wide := wide_encoding(data)) is not None:
        return wide
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(data) - 3:
            return "cp1252"
    return "utf-8"


def _comment(lines: Sequence[str]) -> tuple[str, list[tuple[int, str]]]:
    """Return the sign of comments, and the lines that begin with it, without it."""
    signs = Counter(line[0] for line in lines if line[:1] in "#%" and line)
    if not signs:
        return "", []
    sign = signs.most_common(1)[0][0]
    first = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith(sign)), len(lines))
    rows = [line for line in lines[first:] if line.strip()]
    if 2 * sum(line.startswith(sign) for line in rows) > len(rows):
        return "", []  # values, such as colours, begin with it
    remarks = [(i, line.lstrip(sign)) for i, line in enumerate(lines) if line.startswith(sign)]
    return sign, remarks


def cells_of(line: str, delimiter: str) -> list[str]:
    """Return the cells of a line, without blanks around them."""
    if delimiter == " ":
        return line.split()
    try:
        row = next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        row = line.split(delimiter)
    return [cell.strip() for cell in row]


def _block(lines: Sequence[str], kept: Sequence[int], delimiter: str) -> _Block:
    """Find the rows at the end of the lines that have one length."""
    parted = {i: cells_of(lines[i], delimiter) for i in kept}
    last = kept[-_ROWS:]
    # A row may end with a delimiter more than the header.
    columns = Counter(len(parted[i]) for i in last).most_common(1)[0][0]
    ends = [len(parted[i]) for i in last[-2:]]
    if len(set(ends)) == 1 < ends[0]:  # a long preamble may have more lines than the rows
        columns = ends[0]
    first = next(i for i in reversed(kept) if len(parted[i]) == columns)
    odd = 0
    for i in reversed(kept):
        if len(parted[i]) == columns:
            first = i
        else:
            odd += 1
            if odd > max(1, len(last) // 50):
                break
    above = [i for i in kept if i < first]
    if above and len(parted[above[-1]]) == columns + 1 and parted[above[-1]][-1].lower() in ("", "comment"):
        parted[first := above[-1]].pop()
    elif above and len(parted[above[-1]]) == columns - 1 and all(parted[i][-1] == "" for i in kept if i >= first):
        parted[first := above[-1]].append("")
    rows = [parted[i] for i in kept if i >= first and len(parted[i]) == columns]
    own = [cell for row in rows[1:] or rows for cell in row]
    known = sum(_is_known(cell, delimiter) for cell in own) / max(len(own), 1)
    share = len(rows) / len(kept)
    return _Block(delimiter, columns, first, rows, (columns > 1) * share * (0.05 + known) * (1 - 1 / (columns + 1)))


def _is_known(cell: str, delimiter: str) -> bool:
    if NUMBER.fullmatch(cell) or _DATE.fullmatch(cell):
        return True
    return delimiter != "," and bool(_COMMA.fullmatch(cell) or _GROUPED.fullmatch(cell))


def _is_value(cell: str) -> bool:
    return not cell or bool(NUMBER.fullmatch(cell) or _DATE.fullmatch(cell))


def _mostly(cells: Sequence[str]) -> bool:
    """Return True if more than half of the cells that are not empty are values."""
    filled = [cell for cell in cells if cell]
    return bool(filled) and 2 * sum(_is_value(cell) for cell in filled) > len(filled)


def _has_numbers(cells: Sequence[str], numeric: Sequence[bool]) -> bool:
    return any(_is_value(cell) and cell for cell, is_numeric in zip(cells, numeric, strict=True) if is_numeric)


def _are_units(cells: Sequence[str], numeric: Sequence[bool]) -> bool:
    """Return True if a row has no number where the others have them, and looks like units."""
    own = [cell for cell, is_numeric in zip(cells, numeric, strict=True) if is_numeric]
    if any(cell and _is_value(cell) and cell != "1" for cell in own):
        return False
    spoken = [cell for cell in own if cell != "1" and cell.lower() not in NO_VALUE and cell.lower() not in WORDS]
    return bool(spoken) and all(_UNIT.fullmatch(cell) for cell in own)


def _numbers(rows: Sequence[Sequence[str]], delimiter: str, evidence: list[str], doubts: list[str]) -> tuple[str, str]:
    """Return the decimal sign and the sign of thousands."""
    cells = [cell for row in rows for cell in row if cell and not _DATE.fullmatch(cell)]
    groups = [match for cell in cells if (match := _GROUPED.fullmatch(cell))]
    sure = Counter(
        match["sign"]
        for match in groups
        if match["rest"] or match["sign"] not in ".," or match[0].count(match["sign"]) > 1
    )
    commas = [cell for cell in cells if _COMMA.fullmatch(cell)]
    points = [cell for cell in cells if NUMBER.fullmatch(cell) and "." in cell]
    thousands = sure.most_common(1)[0][0] if sure else ""
    # Numbers such as 21.5 beside 192.168.100.200: the points of the latter part no thousands.
    if thousands in ("", ".", ",") and any(
        thousands in cell and not _GROUPED.fullmatch(cell) for cell in (points if thousands == "." else commas)
    ):
        thousands = ""
    rests = Counter(match["rest"][0] for match in groups if match["rest"])
    if thousands == ".":
        decimal = ","
    elif thousands == ",":
        decimal = "."
    elif thousands and rests:
        decimal = rests.most_common(1)[0][0]
    else:
        decimal = "," if len(commas) > len(points) else "."
        three = [cell for cell in commas if re.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}", cell)]
        if decimal == "," and len(three) == len(commas):
            doubts.append(f"decimal: the commas of {three[0]!r} and others may part thousands instead")
    if decimal == ",":
        shown = next((cell for cell in cells if "," in cell), "")
        evidence.append(f"decimal: numbers have a decimal comma ({shown!r})")
    if thousands:
        evidence.append(f"thousands: {thousands!r} parts thousands ({groups[0][0]!r})")
    return decimal, thousands


def _plain(cell: str, decimal: str, thousands: str) -> str:
    if thousands and _GROUPED.fullmatch(cell):
        cell = cell.replace(thousands, "")
    return cell.replace(",", ".") if decimal == "," and _COMMA.fullmatch(cell) else cell


def _quote(lines: Sequence[str], delimiter: str) -> str:
    """Return the sign around values: an apostrophe only if values begin and end with it."""
    apostrophes = sum(line.count(f"{delimiter}'") + line.startswith("'") for line in lines)
    ends = sum(line.count(f"'{delimiter}") + line.endswith("'") for line in lines)
    plain = not any('"' in line for line in lines)
    return "'" if plain and apostrophes >= len(lines) // 2 > 0 and apostrophes == ends else '"'
