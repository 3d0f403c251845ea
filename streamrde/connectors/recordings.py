"""Recorded files: which ones a pattern names, and their record batches, whatever the format."""

from __future__ import annotations

import difflib
import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from streamrde.errors import DataError

PathLike: TypeAlias = str | os.PathLike[str]

PARQUET = (".parquet", ".pq")
IPC = (".feather", ".arrow", ".ipc", ".arrows")
CSV = (".csv", ".csv.gz")
SUFFIXES = PARQUET + IPC + CSV
_TEMPORARY = ("~", ".tmp", ".temp", ".part", ".partial", ".crdownload")
_IPC_FILE_MAGIC = b"ARROW1"


class Recording(NamedTuple):
    """One recorded file."""

    path: Path
    stream: str
    """The stream's name where the file has no column for it: the file's stem; its relative path where two share it."""


def suffix_of(path: PathLike) -> str | None:
    """The one of SUFFIXES that the file's name ends with, or None."""
    name = os.fspath(path).lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def find_recordings(files: PathLike | Iterable[PathLike]) -> list[Recording]:
    """The files that `files` names: each entry a file, a folder (with all below it), or a glob.

    Entries keep their order; the files of a folder or glob are sorted; a file named twice counts once. Hidden and
    temporary files and those that start with ``_`` are passed over unless named; in folders also other formats.

    Raises:
        DataError: an entry names no file, or a file of unknown format.
    """
    entries = [files] if isinstance(files, str | os.PathLike) else list(files)
    if not entries:
        raise DataError("no files were given: give a file, a folder or a glob", path="")
    paths = list(dict.fromkeys(path for entry in entries for path in _expand(os.fspath(entry))))
    stems = Counter(_stem(path) for path in paths)
    root = os.path.commonpath([path.absolute().parent for path in paths])
    return [
        Recording(path, _stem(path) if stems[_stem(path)] == 1 else Path(os.path.relpath(path, root)).as_posix())
        for path in paths
    ]


def _stem(path: Path) -> str:
    return path.name[: -len(suffix_of(path) or "")]


def _expand(entry: str) -> list[Path]:
    path = Path(entry)
    if path.is_dir():
        return _walk(path)
    if path.exists():
        if suffix_of(path) is None:
            raise DataError(f"{entry}: unknown format; the name must end with one of {', '.join(SUFFIXES)}", path=entry)
        return [path]
    if not glob.has_magic(entry):
        raise DataError(f"{entry}: there is no such file or folder; check the path", path=entry)
    matches = sorted(glob.glob(entry, recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
    if not matches:
        raise DataError(f"{entry}: the pattern matches no file; check it, and quote it in a shell", path=entry)
    return [path for match in matches if not _is_passed_over(Path(match).name) for path in _expand(match)]


def _walk(folder: Path) -> list[Path]:
    found = sorted(
        path
        for path in folder.rglob("*")
        if suffix_of(path) and path.is_file() and not any(map(_is_passed_over, path.relative_to(folder).parts))
    )
    if not found:
        raise DataError(
            f"{folder}: the folder has no file that ends with one of {', '.join(SUFFIXES)}", path=str(folder)
        )
    return found


def _is_passed_over(name: str) -> bool:
    return name.startswith((".", "_", "~")) or name.lower().endswith(_TEMPORARY)


def read_batches(
    path: Path,
    columns: Sequence[str],
    *,
    texts: Sequence[str],
    numbers: Sequence[str],
    batch_rows: int,
    remedy: Mapping[str, str],
) -> Iterator[pa.RecordBatch]:
    """The file's record batches with these columns, at most `batch_rows` rows each, in constant memory.

    Memory holds a row group's pages of the columns asked for (Parquet), one record batch (IPC) or a 1 MiB block (CSV).

    Args:
        columns: the columns asked for, each once.
        texts: those that a CSV file holds as text, whatever they look like.
        numbers: those that a CSV file holds as float64.
        remedy: what to do where a column is missing, by column.
    Raises:
        DataError: the file cannot be opened, is cut, has no rows, or lacks a column.
    """
    suffix = suffix_of(path)
    with _mapped_errors(path):
        if path.stat().st_size == 0:
            raise DataError(f"{path}: has no rows (0 bytes); leave it out or record it again", path=str(path))
        if suffix in PARQUET:
            batches = _parquet(path, columns, texts, batch_rows, remedy)
        elif suffix in IPC:
            batches = _ipc(path, columns, remedy)
        else:
            batches = _csv(path, columns, texts, numbers, remedy)
        rows = 0
        for batch in batches:
            # Offsets, indices and text come from the file: unchecked, a wrong one reads foreign memory.
            batch.validate(full=True)
            for start in range(0, batch.num_rows, batch_rows):
                rows += (piece := batch.slice(start, batch_rows)).num_rows
                yield piece.select(columns)
        if rows == 0:
            raise DataError(f"{path}: has no rows; leave it out or record it again", path=str(path))


@contextmanager
def _mapped_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file any more; run again without it", path=str(path)) from None
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error).strip().split("\n")[0]
        raise DataError(f"{path}: cannot be read ({reason}); copy it again or leave it out", path=str(path)) from None


def _check_columns(path: Path, has: Sequence[str], columns: Sequence[str], remedy: Mapping[str, str]) -> None:
    for column in columns:
        if (times := has.count(column)) == 1:
            continue
        if times > 1:
            raise DataError(
                f"{path}: {times} columns are called {column!r}; rename all but one", path=str(path), column=column
            )
        shown = ", ".join(has[:40]) + (f", ... ({len(has)} columns)" if len(has) > 40 else "")
        close = difflib.get_close_matches(column, has, n=1) or [name for name in has if name.lower() == column.lower()]
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise DataError(
            f"{path}: has no column {column!r}; {hint}{remedy.get(column, '')}it has: {shown}",
            path=str(path),
            column=column,
        )


def _parquet(
    path: Path, columns: Sequence[str], texts: Sequence[str], batch_rows: int, remedy: Mapping[str, str]
) -> Iterator[pa.RecordBatch]:
    # Names repeat in a recording: read as a dictionary, each is held once.
    metadata = pa.parquet.read_metadata(path)
    _check_columns(path, metadata.schema.to_arrow_schema().names, columns, remedy)
    with pa.parquet.ParquetFile(path, metadata=metadata, read_dictionary=list(texts), pre_buffer=False) as file:
        yield from file.iter_batches(batch_size=batch_rows, columns=list(columns), use_threads=False)


def _ipc(path: Path, columns: Sequence[str], remedy: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(path)) as file:
        is_file = file.read(len(_IPC_FILE_MAGIC)) == _IPC_FILE_MAGIC
        file.seek(0)
        opened = pa.ipc.open_file if is_file else pa.ipc.open_stream
        with opened(file) as reader:
            names = reader.schema.names
            _check_columns(path, names, columns, remedy)
        file.seek(0)
        options = pa.ipc.IpcReadOptions(
            included_fields=sorted(names.index(column) for column in columns), use_threads=False
        )
        with opened(file, options=options) as reader:
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else reader
            yield from batches


def _csv(
    path: Path, columns: Sequence[str], texts: Sequence[str], numbers: Sequence[str], remedy: Mapping[str, str]
) -> Iterator[pa.RecordBatch]:
    # The first block tells the names and what the other columns look like. One thread: errors then name the row.
    read = pa.csv.ReadOptions(use_threads=False)
    names: list[str] = []
    try:
        with pa.csv.open_csv(path, read_options=read) as probe:
            schema = probe.schema
        _check_columns(path, names := schema.names, columns, remedy)
        types = {column: pa.string() for column in texts} | {column: pa.float64() for column in numbers}
        for column in columns:
            types.setdefault(column, _csv_type(schema.field(column).type))
        convert = pa.csv.ConvertOptions(include_columns=list(columns), column_types=types)
        with pa.csv.open_csv(path, read_options=read, convert_options=convert) as reader:
            yield from reader
    except pa.ArrowInvalid as error:
        raise _csv_error(path, str(error).split("\n")[0], names) from None


def _csv_type(inferred: pa.DataType) -> pa.DataType:
    """The type for a whole column of which the first block looked like `inferred`."""
    if pa.types.is_timestamp(inferred):
        return pa.timestamp("ns", inferred.tz)
    return pa.string() if pa.types.is_null(inferred) or pa.types.is_binary(inferred) else inferred


def _csv_error(path: Path, reason: str, names: Sequence[str]) -> DataError:
    column = None
    if reason.startswith("In CSV column #"):
        number, _, reason = reason.removeprefix("In CSV column #").partition(": ")
        column = names[int(number)] if int(number) < len(names) else None
    where = f"column {column!r}: " if column else ""
    return DataError(
        f"{path}: {where}{reason.rstrip(':')}; correct the line (row 1 is the header) or leave the file out",
        path=str(path),
        column=column,
    )
