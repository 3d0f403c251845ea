"""Files that a run has beside its ends: kind "file".

Dead letters go to a file of JSON lines. Labels come from files that grow or are replaced. These are read whole, and
again whenever they change.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from streamrde.connectors.columns import ColumnKeys, Columns
from streamrde.connectors.dead_letters import encode_letter
from streamrde.connectors.ends import Batch, DeadLetter, DeadLetters, Source
from streamrde.connectors.files.reading import SampleReader
from streamrde.connectors.files.recordings import Recording
from streamrde.connectors.samples import Samples
from streamrde.connectors.sections import DeadLettersConfig, ModelOutline, RunSections, Section, SourceConfig
from streamrde.errors import ConfigError, DataError, ParameterError
from streamrde.settings import Positive, Seconds

logger = logging.getLogger(__name__)
_MOST_ROWS = 10_000
"""Labels of a batch."""


class FileDeadLettersConfig(Section, DeadLettersConfig, frozen=True, kw_only=True, tag="file"):
    """Messages that cannot be used, to a file of JSON lines."""

    path: str
    """File of JSON lines."""
    max_bytes: Positive = 64 << 20
    """Size at which the file is rotated, bytes."""

    async def probe(self) -> str:
        """Return the path."""
        return self.path

    def build(self) -> FileDeadLetters:
        """See `DeadLettersConfig.build`."""
        return FileDeadLetters(self.path, max_bytes=self.max_bytes)


class FileDeadLetters(DeadLetters):
    """Write dead letters to a file, a line of JSON each. When it is full it replaces the file `path`.1.

    Args:
        path: the file; its folder is made.
        max_bytes: size at which a new file begins. Twice as much may be on the disk.
    Raises:
        DataError: the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_bytes: int = 64 << 20) -> None:
        if max_bytes < 1:
            raise ParameterError(f"max_bytes={max_bytes}: a dead-letter file needs room")
        self.path = Path(path)
        self._max_bytes = max_bytes
        self._file: IO[bytes] | None = None

    async def __aenter__(self) -> FileDeadLetters:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab")
        except OSError as error:
            raise self._error(error) from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    async def write(self, letters: Sequence[DeadLetter]) -> None:
        """Append the letters, and return when they are on the disk."""
        await asyncio.to_thread(self._append, b"".join(encode_letter(letter) + b"\n" for letter in letters))

    def _append(self, lines: bytes) -> None:
        try:
            file = self._file
            if file is None or file.closed:
                raise OSError("not open")
            if file.tell() and file.tell() + len(lines) > self._max_bytes:
                file.close()
                self.path.replace(self.path.with_name(self.path.name + ".1"))
                self._file = file = self.path.open("ab")
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            raise self._error(error) from None

    def _error(self, error: OSError) -> DataError:
        return DataError(
            f"dead letters cannot be written to {self.path} ({error.strerror or error}); check folder and disk",
            path=str(self.path),
        )


class LabelFileConfig(ColumnKeys, SourceConfig, frozen=True, kw_only=True, tag_field="kind", tag="file"):
    """Labels from a file, or the files of a folder, which are read again when they change. Only for [labels.source]."""

    path: str
    """File, folder or glob, in any format that `streamrde score` reads. It need not be there at the start."""
    every: Seconds = 5.0
    """Seconds between two looks at the files."""

    @property
    def inflight(self) -> int:
        """See `SourceConfig.inflight`. Nothing waits for an acknowledgement."""
        return 1 << 20

    def check(self, name: str, run: RunSections) -> None:
        """See `EndConfig.check`."""
        if name != "labels.source":
            raise ConfigError(
                f'{name}.kind = "file" is for [labels.source]; recorded files are scored, not run: use '
                " streamrde score FILES --model MODEL --out PREDICTIONS"
            )
        if "://" in self.path:
            raise ConfigError(f"{name}.path = {self.path!r}: files that change are looked for on this machine only")

    async def probe(self) -> str:
        """Return the path."""
        return f"{self.path}, looked at every {self.every:g} s"

    def build(self, model: ModelOutline) -> LabelFiles:
        """See `SourceConfig.build`."""
        columns = self.columns_for(
            model.channels, stream=None if self.stream == "" else "stream_id", classes=model.classes
        )
        return LabelFiles(self.path, columns, every=self.every)


class LabelFiles(Source[Batch]):
    """Deliver all rows of files, and again whenever one of them changes.

    Labels that come again change nothing, so it does not matter how a file changes. A file that cannot be read is tried
    again at its next change. Rows that cannot be used are counted and passed over.

    Args:
        path: a file, a folder or a glob.
        columns: the labels' columns.
        every: seconds between two looks.
    """

    def __init__(self, path: str, columns: Columns, *, every: float) -> None:
        self._path = path
        self._columns = columns
        self._every = every
        self._stopping = asyncio.Event()
        self._stamps: dict[str, tuple[int, int, int]] = {}
        self._recordings: list[Recording] = []

    async def __aiter__(self) -> AsyncIterator[Batch]:
        while not self._stopping.is_set():
            stamps = await asyncio.to_thread(self._look)
            if stamps != self._stamps:
                self._stamps = stamps
                async for batch in self._read():
                    yield batch
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._stopping.wait()

    def stop(self) -> None:
        """End the iteration."""
        self._stopping.set()

    def _look(self) -> dict[str, tuple[int, int, int]]:
        """Find the files, and return what changes with them, by path."""
        try:
            self._recordings = self._reader().find(self._path)
        except DataError:  # there is none yet
            self._recordings = []
        found = {}
        for recording in self._recordings:
            with suppress(OSError):
                stat = Path(f"{recording.path}").stat()
                found[f"{recording.path}"] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        return found

    def _reader(self) -> SampleReader:
        return SampleReader(self._columns, batch_rows=_MOST_ROWS, faults="drop")

    async def _read(self) -> AsyncIterator[Batch]:
        reader = self._reader()
        rows = self._rows(reader)
        try:
            while not self._stopping.is_set() and (samples := await asyncio.to_thread(next, rows, None)) is not None:
                self.counts.messages += 1
                self.counts.samples += len(samples.t)
                yield Batch(samples)
        except DataError as error:
            logger.error("labels: %s; read again when it changes", error)
        dropped = sum(reader.dropped.values())
        if dropped:
            self.counts.malformed += dropped
            reason, _ = reader.dropped.most_common(1)[0]
            logger.warning("labels: %s: %d rows cannot be used, such as: %s", self._path, dropped, reason)

    def _rows(self, reader: SampleReader) -> Iterator[Samples]:
        for recording in self._recordings:
            yield from (samples for _, samples in reader.read(recording))
