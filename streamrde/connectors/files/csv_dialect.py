"""Explain why a text file lacks columns: it is written in another dialect, or in long form."""

from __future__ import annotations

import re
from collections.abc import Sequence

from streamrde import toml
from streamrde.connectors.dialect import Dialect
from streamrde.connectors.files.places import AnyPath
from streamrde.connectors.files.recogniser import SPOKEN, Recognised, cells_of, dialect_of
from streamrde.connectors.files.text_files import NUMBER, Header
from streamrde.errors import DataError

# Rows from which values are judged.
_ROWS = 200
_VALUE = re.compile(r"value|state|reading|measure|^val$|^v$", re.IGNORECASE)
_TIME = re.compile(r"time|date|changed|updated|stamp|^ts$|^t$", re.IGNORECASE)


def explain_columns(path: AnyPath, header: Header, wanted: Sequence[str], dialect: Dialect) -> str | None:
    """Return why columns that are asked for are not in the header, or None if nothing is recognised."""
    try:
        found = dialect_of(path)
    except DataError:
        return None
    if (why := _explain_dialect(path, header, found, wanted, dialect)) is not None:
        return why
    if not found.dialect.header and dialect.header:
        return (
            f"has no header: its first line is data ({', '.join(header.names[:3])}, ...); write the columns' names "
            f"above it, or call columns 0, 1, 2, ... and set {found.dialect.toml()} in [columns]"
        )
    return _explain_long(header, wanted, dialect.between(path.name))


def _explain_dialect(
    path: AnyPath, header: Header, found: Recognised, wanted: Sequence[str], dialect: Dialect
) -> str | None:
    names = {name.lower() for name in found.names}
    known, given = (
        sum(name.lower() in own for name in wanted) for own in (names, {name.lower() for name in header.names})
    )
    is_one_column = len(header.names) == 1 < len(found.names)
    if not (is_one_column and found.dialect.header) and (known <= given or 2 * known <= len(wanted)):
        return None
    what = []
    lines = found.dialect.skip
    if lines != dialect.skip and lines:
        preamble = header.head.splitlines()[0][:40]
        what.append(
            f"its header stands in line {lines + 1}, below {lines} line{'s' if lines > 1 else ''} of preamble "
            f"({preamble!r}, ...)"
        )
    if found.dialect.comment != dialect.comment and found.dialect.comment:
        what.append(f"its remarks begin with {found.dialect.comment!r}")
    own, theirs = dialect.between(path.name), found.dialect.between(path.name)
    if own != theirs:
        what.append(f"its columns are parted by {_spoken(theirs)}, not by {_spoken(own)}")
    if found.dialect.decimal != dialect.decimal:
        what.append(f"its numbers have a decimal {'comma' if found.dialect.decimal == ',' else 'point'}")
    if found.dialect.thousands != dialect.thousands and found.dialect.thousands:
        what.append(f"its thousands are parted by {found.dialect.thousands!r}")
    if found.dialect.units_row and not dialect.units_row:
        what.append("the line below its header has units")
    if not what:
        return None
    return f"{', and '.join(what)}; set {found.dialect.toml() or 'csv = {}'} in [columns]"


def _spoken(delimiter: str) -> str:
    return SPOKEN.get(delimiter, repr(delimiter))


def _explain_long(header: Header, wanted: Sequence[str], delimiter: str) -> str | None:
    """Recognise long format: a column of names, each row with one value."""
    names, wanted = header.names, [name.lower() for name in wanted]
    data = [cells_of(line, delimiter) for line in header.head.splitlines()[header.lines : header.lines + _ROWS]]
    data = [row for row in data if len(row) == len(names)][:-1] or data
    data = [row for row in data if len(row) == len(names)]
    if not 2 <= len(names) <= 8 or len(data) < 2:
        return None
    for i, name in enumerate(names):
        cells = {row[i] for row in data}
        matches = {w for w in wanted for cell in cells if re.search(rf"(^|[^a-z0-9]){re.escape(w)}$", cell.lower())}
        if not matches or any(NUMBER.fullmatch(cell) for cell in cells):
            continue
        values = [
            other
            for j, other in enumerate(names)
            if j != i and sum(bool(NUMBER.fullmatch(row[j])) for row in data) > len(data) // 2
        ]
        spoken = [other for other in values if _VALUE.search(other)]
        plain = [other for other in values if not _TIME.search(other)]
        value = (spoken or plain or values or [names[1 - (i == 1)]])[0]
        shown = ", ".join(toml.value(cell) for cell in sorted(cells)[:3])
        return (
            f"is in long format: one value a row, named in column {name!r} ({', '.join(sorted(cells)[:3])}, ...); set "
            f"name = {toml.value(name)}, value = {toml.value(value)} and channels = [{shown}, ...] in [columns], or "
            "give each channel a column"
        )
    return None
