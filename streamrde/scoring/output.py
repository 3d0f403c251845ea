"""Write a job's output: the parts' predictions in order, to one file or a folder of files, as a whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pyarrow as pa

from streamrde.connectors.files.errors import mapped_errors
from streamrde.connectors.files.formats import readable, writable, writing_format
from streamrde.connectors.files.writing import PredictionWriter
from streamrde.disk import prepare_file, prepare_folder
from streamrde.errors import ConfigError
from streamrde.inference.bundle import Bundle
from streamrde.scoring.job import Job

# What would be taken for something else than a store.
_NO_STORES = (".gz", ".json", ".jsonl", ".ndjson", ".txt", ".xlsx", ".pkl", ".npz", ".safetensors")

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
    return out.endswith(("/", os.sep)) or not Path(out).suffix or Path(out).is_dir()


def check_output(out: str) -> None:
    """Refuse an output that cannot be written, or whose files would be mixed with another job's.

    Raises:
        ConfigError: the extension is of no format, nothing can be written there, or a folder of that name has files.
    """
    path = Path(out)
    if not is_folder(out):
        if writing_format(path) is None:
            raise ConfigError(
                f"out = {out!r}: predictions cannot be written as {path.suffix!r}; use one of {', '.join(writable())}, "
                f"or a folder of Parquet files: {out.rstrip('/')}/"
            )
        prepare_file(out, "out")
        return
    with mapped_errors(path):
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{out}: is a file, and not the folder that is to be written; choose another name")
        if path.exists() and any(path.iterdir()):
            raise ConfigError(f"{out}: the folder exists and is not empty; remove it, or choose another one")
    prepare_folder(path.parent, "out")


def check_store(path: str) -> None:
    """Refuse a state store that has the name of recorded files or predictions, or is a folder.

    Raises:
        ConfigError: it is.
    """
    if Path(path).is_dir() or path.endswith(("/", os.sep)):
        raise ConfigError(f"state_out = {path!r}: is a folder; give the path of a file, such as state.db")
    if Path(path).suffix.lower() in (*readable(), *_NO_STORES):
        raise ConfigError(
            f"state_out = {path!r}: a state store is an SQLite file; call it .db, .sqlite or .sqlite3 (or give the "
            ".toml file of a run)"
        )


def write_file(out: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch], metadata: Mapping[str, str]) -> None:
    """Write one file that appears whole or not at all."""
    with PredictionWriter(out, schema, metadata=metadata) as writer:
        for batch in rechunked(batches):
            writer.write(batch)


def write_folder(
    out: str, schema: pa.Schema, parts: Iterable[Iterable[pa.RecordBatch]], metadata: Mapping[str, str]
) -> None:
    """Write a folder of Parquet files, one per part, that appears whole or not at all."""
    target = Path(out)
    temporary = target.with_name(f".{target.name}.tmp")
    with ExitStack() as stack, mapped_errors(target):
        shutil.rmtree(temporary, ignore_errors=True)
        stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        for number, batches in enumerate(parts):
            write_file(str(temporary / f"part-{number:05d}.parquet"), schema, batches, metadata)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir(exist_ok=True)
        if target.exists():
            target.rmdir()
        temporary.rename(target)
