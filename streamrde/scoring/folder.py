"""A job's folder: the plan, and what of it is done.

It is beside the output, or in the working folder if the output is in an object store.

    plan.json               the job, its files, its parts
    start.00012.arrow       snapshots from which part 12 starts, where the job was given a state
    lock                    held while a process works in the folder
    00012.0003.arrow        predictions of part 12, fourth commit; its metadata say how far the part is
    00012.0003.live.arrow   snapshots of the part's streams at that commit, to go on from
    00012.0003.kept.arrow   snapshots of streams that ended, for the store that the job leaves behind

A file is written under a temporary name and renamed. The predictions of a commit come last: where they are, all of the
commit is. Nothing here is synced: it survives a killed process, and a commit that a power cut damaged is done again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from streamrde.connectors.files.errors import mapped_errors
from streamrde.connectors.files.places import Place, as_path
from streamrde.connectors.files.writing import PredictionWriter
from streamrde.disk import replace_file
from streamrde.errors import ConfigError, DataError
from streamrde.scoring.plan import FORMAT, Plan

_PROGRESS = b"streamrde.progress"
# How long an earlier process's workers may take to notice that it is gone.
_LOCK_SECONDS = 20.0


class Progress(msgspec.Struct, frozen=True):
    """Progress of a part, at a commit."""

    piece: int
    """Pieces that are done."""
    row: int
    """Row of the next piece's file where to go on; 0 = at its start."""
    rows: int
    """Samples taken so far."""
    predictions: int
    counts: tuple[int, ...]
    state_counts: tuple[int, ...]
    done: bool = False
    sorted: bool = False
    seconds: dict[str, float] = {}
    """Time in reading, in the fleet and in writing; they overlap."""
    dropped: dict[str, int] = {}
    """Rows that could not be read and were left out, by the reason."""
    troubles: dict[str, int] = {}
    """Streams that went wrong, by kind. See `Fleet.trouble_counts`."""
    implausible: dict[str, int] = {}
    """Values that were not plausible, by channel."""
    said: tuple[str, ...] = ()
    """Some of the streams that went wrong: file, stream, reason and remedy."""
    cuts: dict[str, list[int]] = {}
    """Streams that begin again and were split, and how many of their rows come before each restart."""

    @classmethod
    def total(cls, parts: Sequence[Progress]) -> Progress:
        """Add up parts."""
        seconds: Counter[str] = Counter()
        dropped, troubles, implausible = Counter[str](), Counter[str](), Counter[str]()
        for part in parts:
            seconds.update(part.seconds)
            dropped.update(part.dropped)
            troubles.update(part.troubles)
            implausible.update(part.implausible)
        return cls(
            piece=sum(part.piece for part in parts),
            row=0,
            rows=sum(part.rows for part in parts),
            predictions=sum(part.predictions for part in parts),
            counts=tuple(map(sum, zip(*(part.counts for part in parts), strict=True))),
            state_counts=tuple(map(sum, zip(*(part.state_counts for part in parts), strict=True))),
            said=tuple(line for part in parts for line in part.said),
            cuts={name: places for part in parts for name, places in part.cuts.items()},
            seconds=dict(seconds),
            dropped=dict(dropped),
            troubles=dict(troubles),
            implausible=dict(implausible),
        )


class Commit(msgspec.Struct, frozen=True):
    """Commit that was found."""

    number: int
    predictions: Path
    progress: Progress


class JobFolder:
    """Keep the files of one job. The module lists them."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @classmethod
    def beside(cls, out: str) -> JobFolder:
        """Return the folder that belongs to an output: beside it, or in the working folder if it is in a store."""
        target = as_path(out)
        if isinstance(target, Place):
            return cls(f".{target.name}.{hashlib.sha256(str(target).encode()).hexdigest()[:12]}.job")
        return cls(target.with_name(f".{target.name}.job"))

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the folder against other processes, and return a descriptor that workers inherit.

        The lock lasts until the last holder is gone: workers that outlive their parent for a moment are waited for.

        Raises:
            ConfigError: another process works in the folder.
        """
        with mapped_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT)
        try:
            _lock(descriptor, self.path)
            self.path.mkdir(parents=True, exist_ok=True)  # its last holder may have removed it
            os.set_inheritable(descriptor, True)
            yield descriptor
        finally:
            os.close(descriptor)

    def save(self, plan: Plan) -> None:
        """Keep the plan, in place of whatever the folder holds."""
        for file in self.path.iterdir():
            if file.name != "lock":
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        self.replace(plan)

    def replace(self, plan: Plan) -> None:
        """Keep the plan, and the commits as they are."""
        with mapped_errors(self.path):
            # It may have URLs that are signed.
            replace_file(self.path / "plan.json", msgspec.json.encode(plan), mode=0o600)

    def plan(self) -> Plan | None:
        """Return the plan, or None if there is none that this version can read."""
        try:
            plan = msgspec.json.decode((self.path / "plan.json").read_bytes(), type=Plan)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None
        return plan if plan.format == FORMAT else None

    def commits(self, part: int) -> list[Commit]:
        """Return the commits of a part, in order."""
        found = []
        for number in range(10**6):
            commit = self._commit_of(part, number)
            if commit is None:
                break
            found.append(commit)
        return found

    def _commit_of(self, part: int, number: int) -> Commit | None:
        """Return a commit, or None if it is missing or damaged."""
        file = self._file(part, number, "")
        if not file.exists():
            return None
        try:
            with pa.OSFile(str(file)) as handle, pa.ipc.open_file(handle) as reader:
                progress = msgspec.json.decode(reader.schema.metadata[_PROGRESS], type=Progress)
        except (pa.ArrowInvalid, OSError, KeyError, TypeError, msgspec.MsgspecError):
            return None
        return Commit(number, file, progress)

    def commit(
        self,
        part: int,
        number: int,
        batches: Iterable[pa.RecordBatch],
        schema: pa.Schema,
        progress: Progress,
        *,
        live: tuple[Mapping[str, bytes], Mapping[str, tuple[Any, ...]]] | None,
        kept: Mapping[str, bytes],
    ) -> None:
        """Write a commit, its predictions last.

        Raises:
            DataError: another worker has written it: one that was given up, on a machine that came back.
        """
        if self._commit_of(part, number) is not None:
            raise DataError(
                f"{self.path}: another worker scores part {part}, too; when it has ended, use --resume to continue",
                path=str(self.path),
            )
        if kept:
            self._write(self._file(part, number, ".kept"), [_snapshots(kept, {})])
        if live is not None:
            self._write(self._file(part, number, ".live"), [_snapshots(*live)])
        metadata = {_PROGRESS.decode(): msgspec.json.encode(progress).decode()}
        self._write(self._file(part, number, ""), batches, schema, metadata)
        if number:
            self._file(part, number - 1, ".live").unlink(missing_ok=True)

    def live(self, part: int, number: int) -> tuple[dict[str, bytes], dict[str, tuple[Any, ...]]]:
        """Return the streams' snapshots at a commit, and their last truth."""
        table = _read(self._file(part, number, ".live"))
        names = table["stream"].to_pylist()
        latest = (msgspec.json.decode(text, type=tuple[Any, ...] | None) for text in table["truth"].to_pylist())
        snapshots = dict(zip(names, table["snapshot"].to_pylist(), strict=True))
        return snapshots, {name: row for name, row in zip(names, latest, strict=True) if row is not None}

    def put_start(self, part: int, snapshots: Mapping[str, bytes]) -> None:
        """Keep the snapshots from which a part's streams go on."""
        self._write(self._start(part), [_snapshots(snapshots, {})])

    def start(self, part: int) -> dict[str, bytes]:
        """Return the snapshots from which a part's streams go on, by name."""
        table = _read(self._start(part))
        return dict(zip(table["stream"].to_pylist(), table["snapshot"].to_pylist(), strict=True))

    def kept(self, part: int) -> Iterator[dict[str, bytes]]:
        """Yield the snapshots of the streams of a part that ended."""
        for commit in self.commits(part):
            file = self._file(part, commit.number, ".kept")
            if file.exists():
                table = _read(file)
                yield dict(zip(table["stream"].to_pylist(), table["snapshot"].to_pylist(), strict=True))

    def forget(self, part: int) -> None:
        """Remove a part's commits, the last one first: what is left is whole."""
        for commit in reversed(self.commits(part)):
            commit.predictions.unlink(missing_ok=True)
        for file in self.path.glob(f"{part:05d}.*"):
            file.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _start(self, part: int) -> Path:
        return self.path / f"start.{part:05d}.arrow"

    def _file(self, part: int, number: int, kind: str) -> Path:
        return self.path / f"{part:05d}.{number:04d}{kind}.arrow"

    def _write(
        self,
        file: Path,
        batches: Iterable[pa.RecordBatch],
        schema: pa.Schema | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        batches = list(batches)
        with PredictionWriter(file, schema or batches[0].schema, metadata=metadata, sync=False) as writer:
            for batch in batches:
                writer.write(batch)


def _snapshots(snapshots: Mapping[str, bytes], latest: Mapping[str, tuple[Any, ...]]) -> pa.RecordBatch:
    return pa.record_batch(
        {
            "stream": pa.array(list(snapshots), pa.string()),
            "snapshot": pa.array(list(snapshots.values()), pa.binary()),
            "truth": pa.array([msgspec.json.encode(latest.get(name)) for name in snapshots], pa.binary()),
        }
    )


def _read(file: Path) -> pa.Table:
    with mapped_errors(file), pa.OSFile(str(file)) as handle, pa.ipc.open_file(handle) as reader:
        return reader.read_all()


def _lock(descriptor: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: an open file cannot be replaced there, which is protection enough
        return
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"{folder}: another process is scoring into the same output; wait for it, or choose another one"
                ) from None
            time.sleep(0.05)
        else:
            return
