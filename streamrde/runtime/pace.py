"""Set how much a run does in one go before others have their turn: the event loop, signals, metrics, other streams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streamrde.connectors.samples import Samples
from streamrde.errors import ParameterError

SLICE_WINDOWS = 250
"""Windows of a slice, where nothing else is said: tens of milliseconds with a model of the usual size."""
_ROWS = 1024
_LEAST_ROWS = 64  # with fewer, calls cost more than rows
# A slice is to take so many seconds of the fleet's work: with the sink's that leaves the rest of 100 ms.
_SECONDS = 0.025
_LEAST = 1 / 64


def until_ends(samples: Samples, ends: Sequence[tuple[int, str]]) -> Iterator[tuple[list[str], Samples]]:
    """Yield the samples in parts, each with the streams that end before it. Without ends there is one part.

    Args:
        samples: rows of many streams.
        ends: streams that end, each with the row before which it ends, in the order of these.
    """
    begin, ended = 0, list[str]()
    for row, stream in ends:
        if row > begin:
            yield ended, _rows(samples, begin, row)
            begin, ended = row, []
        ended.append(stream)
    yield ended, samples if begin == 0 else _rows(samples, begin, len(samples.t))


def _rows(samples: Samples, begin: int, end: int) -> Samples:
    return Samples(samples.streams.slice(begin, end - begin), samples.t[begin:end], samples.x[begin:end])


class Pace:
    """Choose the rows and windows of a slice: the allowed number, or fewer if the model is slow.

    Args:
        windows: that a slice may close at most because time passes, at least 1.
    """

    def __init__(self, windows: int = SLICE_WINDOWS) -> None:
        if not windows >= 1:
            raise ParameterError(f"slice_windows={windows}: a slice closes at least 1 window")
        self._most = windows
        self._share = 1.0

    @property
    def windows(self) -> int:
        """Windows of the next slice."""
        return max(1, int(self._most * self._share))

    @property
    def rows(self) -> int:
        """Rows of the next slice."""
        return max(_LEAST_ROWS, int(_ROWS * self._share))

    def adapt(self, seconds: float) -> None:
        """Note the time that the fleet worked on a slice."""
        if seconds > 2 * _SECONDS:
            self._share = max(_LEAST, self._share / 2)
        elif seconds < _SECONDS / 2:
            self._share = min(1.0, self._share * 2)

    def slices(self, samples: Samples) -> Iterator[Samples]:
        """Yield the samples in parts, each as large as the pace then is. There is at least one part."""
        begin, rows = 0, len(samples.t)
        while begin == 0 or begin < rows:
            end = min(rows, begin + self.rows)
            if end - begin == rows:
                yield samples
                return
            yield _rows(samples, begin, end)
            begin = end
