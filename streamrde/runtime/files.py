"""Recorded files as the source of a run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

from streamrde.connectors.ends import Batch, Source
from streamrde.connectors.files.reading import Faults, SampleReader
from streamrde.connectors.files.recordings import find_recordings
from streamrde.connectors.samples import Columns

logger = logging.getLogger(__name__)


class FileSource(Source[Batch]):
    """Read the rows of files in constant memory. See `connectors.files.read` for what may be in them.

    Args:
        files: a file, a folder, a glob, or several.
        columns: where stream, time and channels stand.
        batch_rows: rows in a batch, at most.
        faults: a row without a time or a stream, or with text for a number: "error" ends the run, "drop" leaves it out.
            Such rows are counted as malformed, and said with their reason where the file ends.
    """

    def __init__(
        self, files: str | Sequence[str], columns: Columns, *, batch_rows: int = 65536, faults: Faults = "error"
    ) -> None:
        self._recordings = find_recordings(files)
        self._reader = SampleReader(columns, batch_rows=batch_rows, faults=faults)
        self._stopped = False

    async def __aiter__(self) -> AsyncIterator[Batch]:
        for recording in self._recordings:
            for _, samples in self._reader.read(recording):
                await asyncio.sleep(
                    0
                )  # nothing else here waits: without it a run could be neither stopped nor cancelled
                if self._stopped:
                    return
                self.counts.samples += len(samples.t)
                yield Batch(samples)
            self._leave(str(recording.path))

    def _leave(self, path: str) -> None:
        """Count and say which rows of a file were left out."""
        left_out = self._reader.dropped + self._reader.nameless
        for reason, count in left_out.items():
            logger.warning("%s: %s rows are left out: %s", path, f"{count:,}", reason)
        self.counts.malformed += left_out.total()
        self._reader.dropped.clear()
        self._reader.nameless.clear()

    def stop(self) -> None:
        """End before the next batch."""
        self._stopped = True
