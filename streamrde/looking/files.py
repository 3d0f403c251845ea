"""Look at recorded files: their first rows, of as many files as tell something."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from streamrde.connectors.dialect import PLAIN, Dialect
from streamrde.connectors.files.errors import mapped_errors
from streamrde.connectors.files.formats import reading_format
from streamrde.connectors.files.recogniser import Recognised, dialect_of
from streamrde.connectors.files.record_batches import read_batches, rows_of, schema_of
from streamrde.connectors.files.recordings import Recording, find_recordings
from streamrde.errors import DataError
from streamrde.looking.cells import OtherSign
from streamrde.looking.guesses import Findings, Guess
from streamrde.looking.roles import Given, find
from streamrde.looking.spread import look_at_spread, spread_over, targets_in
from streamrde.looking.table import Table

# Enough rows to see rates, gaps and spellings, and few enough to be read in a second.
_ROWS = 40_000
_FILES = 12
_COUNTED = 100  # files whose rows are counted, where their ends tell them
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def look_at_files(files: str | Sequence[str], given: Given) -> Findings:
    """Look at recorded files and find what their columns hold.

    Raises:
        DataError: there is no such file, it cannot be read, or it has no column of numbers.
    """
    recordings = find_recordings(files)
    source = files if isinstance(files, str) else ", ".join(files)
    parts = spread_over(recordings)
    if parts:

        def look(name: str, own: Sequence[Recording]) -> Findings:
            return _look(own, source, replace(given, target=targets_in(name, given.target)), among=True)

        joined = look_at_spread(parts, source, given.target, look)
        if joined is not None:
            return joined
    return _look(recordings, source, given)


def _look(recordings: Sequence[Recording], source: str, given: Given, *, among: bool = False) -> Findings:
    """Look at files of one kind.

    Args:
        among: they are some of several kinds, and another one may have the targets.
    """
    csv = _dialect(recordings)
    if csv is None:
        given = replace(given, units={**_units(recordings[0]), **given.units})
    else:
        recordings = [recording._replace(csv=csv.dialect) for recording in recordings]
        given = replace(given, units={**csv.units, **given.units})
    table, seen = _table(recordings, csv.dialect if csv is not None else PLAIN)
    if among:
        given = replace(given, target=tuple(name for name in given.target if name in table.columns))
    found = find(table, source, seen, given)
    changed = {} if csv is None else _changed(csv.dialect)
    if csv is None or not changed:
        return found
    guess = Guess(changed, "; ".join(csv.evidence), "; ".join(csv.doubts))
    return replace(found, columns={**found.columns, "csv": guess})


def _units(recording: Recording) -> dict[str, str]:
    """Return the units that a file says of its columns, as recordings in EDF do."""
    fields = schema_of(recording)
    said = {field.name: field.metadata.get(b"unit", b"") for field in fields if field.metadata}
    return {name: unit.decode("utf-8", "replace") for name, unit in said.items() if unit}


def _dialect(recordings: Sequence[Recording]) -> Recognised | None:
    """Return how the first text file is written, or None if there is none."""
    texts = (one for one in recordings if (own := reading_format(one.path)) is not None and own.is_text)
    first = next(texts, None)
    if first is None:
        return None
    with mapped_errors(first.path):
        return dialect_of(first.path)


def _changed(dialect: Dialect) -> dict[str, Any]:
    """Return the keys of a dialect that differ from the usual one."""
    own = msgspec.structs.asdict(dialect)
    return {name: value for name, value in own.items() if value != getattr(PLAIN, name)}


def _table(recordings: Sequence[Recording], dialect: Dialect) -> tuple[Table, str]:
    # Files from all over: those of one folder are often sorted by label or by device.
    places = np.unique(np.linspace(0, len(recordings) - 1, min(_FILES, len(recordings))).astype(int))
    chosen = [recordings[place] for place in places]
    names = _names(chosen)
    columns: dict[str, list[Any]] = {name: [] for name in names}
    parts: list[int] = []
    most = max(1, _ROWS // len(chosen))
    for number, recording in enumerate(chosen):
        left = most
        for _, batch in read_batches(recording, names, batch_rows=most, skipped=Counter()):
            taken = batch.slice(0, left)
            for name, column in zip(names, taken.columns, strict=True):
                columns[name] += _values(column, dialect)
            parts += [number] * taken.num_rows
            left -= taken.num_rows
            if not left:
                break
    whole = "each file is one" if len(recordings) > 1 else "the file is one"
    return Table(str(chosen[0].path), columns, parts, whole), _seen(recordings, len(chosen), len(parts), len(names))


def _names(chosen: Sequence[Recording]) -> list[str]:
    """Return the columns that all files have, each once."""
    schemas = [[*schema_of(recording).names, *recording.partitions] for recording in chosen]
    names = [name for name in dict.fromkeys(schemas[0]) if all(own.count(name) == 1 for own in schemas)]
    if not names:
        raise DataError(
            f"{chosen[0].path}: has no column in common with {chosen[-1].path}; look at files of one kind at a time",
            path=str(chosen[0].path),
        )
    return names


def _values(column: pa.Array, dialect: Dialect) -> list[Any]:
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    values: list[Any] = column.to_pylist()
    values = [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in values]
    if dialect.decimal == "." and not dialect.thousands:
        return values
    return [_plain(value, dialect) if isinstance(value, str) else value for value in values]


def _plain(text: str, dialect: Dialect) -> str:
    """Write a number with a decimal point and without signs between thousands. Leave other texts.

    A number that has a point where the file's numbers have commas is none for its readers.
    """
    digits = text.strip()
    if dialect.thousands:
        sign = re.escape(dialect.thousands)
        digits = re.sub(rf"(?<=\d){sign}(?=\d{{3}}(\D|$))", "", digits)
    if dialect.decimal != "." and "." in digits and _NUMBER.fullmatch(digits):
        return OtherSign(text)
    digits = digits.replace(dialect.decimal, ".")
    return digits if _NUMBER.fullmatch(digits) else text


def _seen(recordings: Sequence[Recording], files: int, rows: int, columns: int) -> str:
    try:
        counts = [rows_of(recording) for recording in recordings[:_COUNTED]]
    except DataError:
        counts = [None]
    whole = sum(count for count in counts if count is not None) if None not in counts else None
    of = f" of {whole:,}" if whole is not None and whole != rows and len(recordings) <= _COUNTED else ""
    first = "" if of == "" and whole == rows else "the first "
    name = recordings[0].path.name
    from_files = f"in {name}" if len(recordings) == 1 else f"in {files} of {len(recordings):,} files ({name}, ...)"
    return f"{first}{rows:,}{of} rows {from_files}, {columns} columns"
