"""Write a job's output: the parts' predictions in order, to one file or a folder of files, as a whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pyarrow as pa

from streamrde.connectors.files.errors import mapped_errors
from streamrde.connectors.files.formats import readable, writable, writing_format
from streamrde.connectors.files.places import AnyPath, Place, as_path, is_url, shown
from streamrde.connectors.files.writing import PredictionWriter
from streamrde.disk import prepare_file, prepare_folder
from streamrde.errors import ConfigError
from streamrde.inference.bundle import Bundle
from streamrde.scoring.job import Job

# What would be taken for something else than a store.
_NO_STORES = (".gz", ".json", ".jsonl", ".ndjson", ".txt", ".xlsx", ".pkl", ".npz", ".safetensors")

COMPLETE = "_SUCCESS"
"""Name of the empty file by which a folder in an object store is whole, as Hadoop and Spark call it."""

# Rows of an output's row group or record batch, but for the last of a file.
CHUNK_ROWS = 65536


def rechunked(batches: Iterable[pa.RecordBatch], rows: int = CHUNK_ROWS) -> Iterator[pa.RecordBatch]:
    """Yield the same rows in batches of `rows`, so that a file does not depend on earlier cuts."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        while count >= rows:
            table = pa.Table.from_batches(held).combine_chunks()
            yield table.slice(0, rows).to_batches()[0]
            rest = table.slice(rows)
            held, count = rest.to_batches(), rest.num_rows
    if count:
        yield pa.Table.from_batches(held).combine_chunks().to_batches()[0]


def provenance(job: Job, bundle: Bundle) -> dict[str, str]:
    """Return a file's metadata on the origin of its rows."""
    from streamrde import __version__

    return {
        "streamrde.version": __version__,
        "streamrde.model": bundle.fingerprint,
        "streamrde.job": msgspec.json.encode(job.deciding(), order="deterministic").decode(),
    }


def is_folder(out: str) -> bool:
    """Return True if an output names a folder: it ends with a slash, has no extension, or is a folder already."""
    path = as_path(out)
    ends = path.url.partition("?")[0].endswith("/") if isinstance(path, Place) else out.endswith(("/", os.sep))
    return ends or not path.suffix or path.is_dir()


def check_output(out: str, *, resume: bool = False) -> None:
    """Refuse an output that cannot be written, or whose files would be mixed with another job's.

    Args:
        resume: files that an upload has left behind which was not completed may be there, and are replaced.
    Raises:
        ConfigError: the extension is of no format, nothing can be written there, or a folder of that name has files.
    """
    path = as_path(out)
    if not is_folder(out):
        if writing_format(path) is None:
            raise ConfigError(
                f"out = {out!r}: predictions cannot be written as {path.suffix!r}; use one of {', '.join(writable())}, "
                f"or a folder of Parquet files: {out.rstrip('/')}/"
            )
        if isinstance(path, Place):
            with mapped_errors(path):
                path.parent.mkdir()
        else:
            prepare_file(str(path), "out")
        return
    if isinstance(path, Place):
        _check_folder(path, resume)
        return
    with mapped_errors(path):
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{out}: is a file, and not the folder that is to be written; choose another name")
        if path.exists() and any(path.iterdir()):
            raise ConfigError(f"{out}: the folder exists and is not empty; remove it, or choose another one")
    prepare_folder(path.parent, "out")


def _check_folder(place: Place, resume: bool) -> None:
    with mapped_errors(place):
        place.mkdir()
        names = {file.name for file in place.walk()}
    if names and (COMPLETE in names or not resume):
        raise ConfigError(
            f"{place}: the folder exists and is not empty; remove it, or choose another one"
            + ("" if COMPLETE in names else ", or use --resume if a job was stopped while it wrote there")
        )


def check_store(path: str) -> None:
    """Refuse a state store that has the name of recorded files or predictions, or is a folder.

    Raises:
        ConfigError: it is.
    """
    if is_url(path):
        raise ConfigError(f"state_out = {shown(path)!r}: a state store is an SQLite file on this machine; give a path")
    if Path(path).is_dir() or path.endswith(("/", os.sep)):
        raise ConfigError(f"state_out = {path!r}: is a folder; give the path of a file, such as state.db")
    if Path(path).suffix.lower() in (*readable(), *_NO_STORES):
        raise ConfigError(
            f"state_out = {path!r}: a state store is an SQLite file; call it .db, .sqlite or .sqlite3 (or give the "
            ".toml file of a run)"
        )


def write_file(out: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch], metadata: Mapping[str, str]) -> None:
    """Write one file that appears whole or not at all."""
    _write(as_path(out), schema, batches, metadata)


def _write(path: AnyPath, schema: pa.Schema, batches: Iterable[pa.RecordBatch], metadata: Mapping[str, str]) -> None:
    with PredictionWriter(path, schema, metadata=metadata) as writer:
        for batch in rechunked(batches):
            writer.write(batch)


def write_folder(
    out: str, schema: pa.Schema, parts: Iterable[Iterable[pa.RecordBatch]], metadata: Mapping[str, str]
) -> None:
    """Write a folder of Parquet files, one per part, that appears whole or not at all.

    A store has no folders to rename. There the files appear one by one, each whole, and in the end an empty file
    `COMPLETE` says that all are there.
    """
    target = as_path(out)
    if isinstance(target, Place):
        with tempfile.TemporaryDirectory(prefix="streamrde-") as temporary, mapped_errors(target):
            for number, batches in enumerate(parts):
                _write(target / f"part-{number:05d}.parquet", schema, batches, metadata)
            mark = Path(temporary) / COMPLETE
            mark.touch()
            (target / COMPLETE).upload(mark)
        return
    folder = target.with_name(f".{target.name}.tmp")
    with ExitStack() as stack, mapped_errors(target):
        shutil.rmtree(folder, ignore_errors=True)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for number, batches in enumerate(parts):
            _write(folder / f"part-{number:05d}.parquet", schema, batches, metadata)
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(exist_ok=True)
        if target.exists():
            target.rmdir()
        folder.rename(target)
