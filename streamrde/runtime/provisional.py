"""Predictions of windows that are still open, every so often, of the streams that had samples since."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from streamrde.inference.fleet import Fleet


class Provisional:
    """Predict between the ends of windows. Nothing of it is committed, saved or repeated.

    Args:
        fleet: the streams.
        seconds: how often, by the clock of the process.
    """

    def __init__(self, fleet: Fleet, seconds: float) -> None:
        self.seconds = seconds
        self._fleet = fleet
        self._fresh: set[str] = set()

    def mark(self, streams: Iterable[str]) -> None:
        """Note that samples of these streams were pushed."""
        self._fresh.update(streams)

    def peek(self) -> pa.RecordBatch | None:
        """Return predictions of the open windows of streams that had samples since the last call, or None.

        They carry ``provisional = true``, and see no sample after the last one pushed.
        """
        fresh, self._fresh = [stream for stream in self._fresh if stream in self._fleet], set()
        batch = self._fleet.peek(fresh) if fresh else None
        return batch if batch is not None and batch.num_rows else None
