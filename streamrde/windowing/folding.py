"""Signatures of windows while pieces of path come one by one: folded all at once where nothing asks for them before."""

from __future__ import annotations

import numpy as np

from streamrde.arrays import Floats
from streamrde.kernels import fold
from streamrde.signature.paths import log_coordinates
from streamrde.windowing.policies import Count, Every
from streamrde.windowing.rows import Layout


class _Run:
    """What one stream adds to one window."""

    __slots__ = ("continues", "pieces", "row")

    def __init__(self, row: Floats, *, continues: bool) -> None:
        self.row = row
        self.continues = continues
        """Whether it continues the row's signature; every other window's accumulator starts afresh."""
        self.pieces: list[Floats] = []


class Folding:
    """The signatures of streams during one call; `finish` ends it."""

    def __init__(self, layout: Layout) -> None:
        partition = layout.partition
        self._channels, self._depth = partition.path_channels, partition.depth
        self._place = layout.signature
        self._later = isinstance(partition.windows, Every | Count)
        self._open: dict[int, _Run] = {}
        self._closed: list[_Run] = []

    def append(self, row: Floats, slot: int, increment: Floats) -> None:
        """Append a straight piece, (C,), to the open window of a stream."""
        self._run(row, slot).pieces.append(increment)
        if not self._later:
            self._fold(list(self._open.values()))
            self._open.clear()

    def close(self, row: Floats, slot: int) -> None:
        """Close the open window of a stream."""
        self._closed.append(self._run(row, slot))
        if self._later:
            self._open[slot] = _Run(row, continues=False)
        else:
            # Folded by now, and kept, because the row's signature begins afresh.
            del self._open[slot]
            row[self._place], self._closed[-1].row = 0.0, row[self._place].copy()

    def logsig(self, row: Floats) -> Floats:
        """Log-signature of the open window, (B,); only where pieces are folded as they come."""
        return np.asarray(log_coordinates(row[self._place][None], self._channels, self._depth)[0])

    def finish(self) -> Floats:
        """Store the signatures of the open windows; the log-signatures of the closed ones, in order, (closed, B)."""
        if self._later:
            signatures = self._fold([*self._closed, *self._open.values()])[: len(self._closed)]
        else:
            signatures = np.array([run.row for run in self._closed])
        size = self._place.stop - self._place.start
        return log_coordinates(signatures.reshape(-1, size), self._channels, self._depth)

    def _run(self, row: Floats, slot: int) -> _Run:
        if slot not in self._open:
            self._open[slot] = _Run(row, continues=True)
        return self._open[slot]

    def _fold(self, runs: list[_Run]) -> Floats:
        """Signatures of runs, (runs, C + ... + C^depth); a stream's last one is stored in its row."""
        signatures = np.zeros((len(runs), self._place.stop - self._place.start))
        for signature, run in zip(signatures, runs, strict=True):
            if run.continues:
                signature[:] = run.row[self._place]
        lengths = np.array([len(run.pieces) for run in runs], dtype=np.intp)
        if lengths.any():
            increments = np.array([piece for run in runs for piece in run.pieces])
            fold(signatures, increments, np.cumsum(lengths) - lengths, lengths, self._depth)
        for signature, run in zip(signatures, runs, strict=True):
            run.row[self._place] = signature
        return signatures
