"""Find restarts of a recorded stream: its times jump back and go on from there, as after a reboot.

Rows that are merely out of order can be sorted. Two recordings in one, each from 0, must not be: sorting would put them
into one another, sample by sample. After a restart many rows go on in order, among times that were there already. Late
rows are few, come back to where the stream was, or fill a gap that it had.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamrde.arrays import Floats, Indices
from streamrde.connectors.samples import Samples
from streamrde.errors import DataError

OnRestart: TypeAlias = Literal["error", "split", "sort"]
Times: TypeAlias = Floats

# Rows after a jump back from which it is judged: a stream that goes on for so long does not come back soon.
_LOOK = 64
# Fewer rows are late samples, whichever way they came.
_LEAST = 3
# Of the rows after a jump so many go forward; half of them do in rows without any order.
_FORWARD = 0.75
# The largest gaps of a stream that are known, for blocks that come late and fill one.
_GAPS = 32
# A restart leaves parts of at least so many rows on average, or there is next to no other disorder.
_PART_ROWS = 8
# Jumps back without any order, after which a stream's rows count as shuffled.
_SHUFFLED = 1000


class Restart(NamedTuple):
    """A stream that begins again."""

    stream: str
    place: int
    """Number of rows of the stream that came before, in the order in which they were read."""
    file: str
    before: float
    """The latest time before, seconds."""
    after: float
    """The time with which it begins again, seconds."""


class Restarts:
    """Look for restarts in samples, in the order in which they were recorded. Memory per stream is constant.

    Args:
        partial: rows may have only some of their sample's channels. Then each channel has an order of its own: a file
            may hold one after the other.
    """

    def __init__(self, *, partial: bool = False) -> None:
        self._clocks: dict[tuple[str, int], _Clock] = {}
        self._partial = partial

    def push(self, samples: Samples, file: str = "") -> None:
        """Look at rows of a file. Those of one file come together."""
        for name, rows in _rows_by_stream(samples):
            for part, own in parts_of(samples.x, rows) if self._partial else [(0, rows)]:
                clock = self._clocks.get((name, part))
                if clock is None:
                    clock = self._clocks[name, part] = _Clock()
                clock.push(samples.t[own], file)

    def found(self) -> list[Restart]:
        """Return the restarts that explain the disorder of their stream. Call it once, after all rows."""
        return [Restart(name, *restart) for (name, _), clock in self._clocks.items() for restart in clock.end()]

    def places(self) -> dict[str, list[int]]:
        """Return the places of the restarts, by stream. Call it once, in place of `found`.

        Raises:
            DataError: rows have only some of the channels: those of one part may stand anywhere.
        """
        found = self.found()
        if found and self._partial:
            raise DataError(
                f"{found[0].file}: stream {found[0].stream!r} begins again at {found[0].after:.12g} s, and restarts = "
                "'split' needs all channels in each row: divide the file, or set restarts = 'sort'",
                path=found[0].file,
                setting="restarts",
            )
        return places_by_stream(found)


def parts_of(x: Floats, rows: Indices) -> list[tuple[int, Indices]]:
    """Return the rows by the first channel that each has."""
    first = np.argmax(~np.isnan(x[rows]), axis=1)
    return [(int(part), rows[first == part]) for part in np.unique(first)]


def find_restarts(t: Times) -> list[int]:
    """Return the rows with which a stream begins again."""
    clock = _Clock()
    clock.push(t, "")
    return [place for place, *_ in clock.end()]


def places_by_stream(restarts: Sequence[Restart]) -> dict[str, list[int]]:
    """Return the places of the restarts, by stream."""
    cuts: dict[str, list[int]] = {}
    for restart in restarts:
        cuts.setdefault(restart.stream, []).append(restart.place)
    return cuts


def part_name(stream: str, part: int) -> str:
    """Name a part of a stream that begins again: the first keeps the stream's, then ``stream#2``, ``stream#3``."""
    return stream if part == 0 else f"{stream}#{part + 1}"


def split_streams(samples: Iterable[Samples], cuts: Mapping[str, Sequence[int]]) -> Iterator[Samples]:
    """Yield the same rows, with each part of a stream that begins again as a stream of its own (see `part_name`)."""
    seen: dict[str, int] = dict.fromkeys(cuts, 0)
    for batch in samples:
        names: NDArray[np.object_] | None = None
        for name, rows in _rows_by_stream(batch):
            if name not in cuts:
                continue
            places = seen[name] + np.arange(len(rows))
            seen[name] += len(rows)
            parts = np.searchsorted(cuts[name], places, side="right")
            if parts.any():
                names = np.array(batch.streams.to_pylist(), object) if names is None else names
                names[rows] = [part_name(name, part) for part in parts.tolist()]
        yield batch if names is None else batch._replace(streams=pa.array(names, pa.string()).dictionary_encode())


def explain(restarts: Sequence[Restart], key: str) -> str:
    """Say where a stream begins again, and what can be done: "split" or "sort" as `key`."""
    first = restarts[0]
    streams = len({restart.stream for restart in restarts})
    more = f" (the first of {len(restarts):,} restarts in {streams:,} streams)" if len(restarts) > 1 else ""
    return (
        f"stream '{first.stream}' jumps back from {first.before:.12g} s to {first.after:.12g} s at its row "
        f"{first.place} and goes on from there{more}: its clock began again, or these are several recordings. "
        f"Set {key} 'split' to make each part a stream of its own ({part_name(first.stream, 1)}), or "
        "'sort' to put all rows in order of time"
    )


def _rows_by_stream(samples: Samples) -> Iterator[tuple[str, Indices]]:
    """Return the rows of each stream."""
    codes, names = samples.by_code()
    order = np.argsort(codes, kind="stable")
    edges = np.flatnonzero(np.diff(codes[order], prepend=-1, append=-1))
    rows: dict[str, list[Indices]] = {}
    for a, b in itertools.pairwise(edges):
        rows.setdefault(names[int(codes[order[a]])].as_py(), []).append(order[a:b])
    for name, parts in rows.items():  # two entries of a dictionary may be the same name
        yield name, parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))


class _Clock:
    """Follow the times of one stream, and judge each jump back."""

    def __init__(self) -> None:
        self._count = 0
        self._low = self._high = np.nan
        self._gaps: list[tuple[float, float]] = []
        """The largest steps forward, (from, to)."""
        self._file = ""
        self._new_file = False
        """The next row is the first of another file than the first."""
        self._ceiling = np.inf
        """The first time of the files before, while those of this file are below it."""
        self._before = (np.inf, -np.inf)
        """The first and the last time of the files before."""
        self._block: tuple[int, str, float, float] | None = None
        self._waiting: Times = np.empty(0)
        """Rows after a jump back that is not judged yet."""
        self._strong: list[tuple[int, str, float, float]] = []
        self._weak: list[tuple[int, str, float, float]] = []
        self._late = 0
        self._shuffled = False

    def push(self, t: Times, file: str) -> None:
        if self._shuffled:
            return
        if file != self._file:
            self._judge_waiting()
            self._new_file = self._count > 0
            if self._block is not None:
                self._leave_block()  # that file stood before the others, and is whole
            self._file = file
        if len(self._waiting):
            t, self._waiting = np.concatenate([self._waiting, t]), np.empty(0)
        self._follow(t)

    def _judge_waiting(self) -> None:
        if len(self._waiting) and not self._shuffled:
            t, self._waiting = self._waiting, np.empty(0)
            self._follow(t, last=True)

    def end(self) -> list[tuple[int, str, float, float]]:
        """Return the restarts, if they explain the disorder."""
        self._judge_waiting()
        if self._shuffled:
            return []
        weak = self._weak if not self._late and len(self._weak) <= 2 else []
        found = sorted(self._strong + weak)
        late = self._late + (0 if weak else len(self._weak))
        parts = self._count / (len(found) + 1)
        explained = (parts >= _PART_ROWS and late <= self._count / 4) or late == 0
        return found if explained else []

    def _follow(self, t: Times, *, last: bool = False) -> None:
        start = 0
        while start < len(t):
            rest = t[start:]
            if np.isnan(self._high):
                self._low = self._high = float(rest[0])
            top = np.maximum.accumulate(np.concatenate([[self._high], rest]))[:-1]
            back = np.flatnonzero(rest < top)
            jump = int(back[0]) if len(back) else len(rest)
            self._go_on(rest[:jump])
            start += jump
            if start >= len(t):
                return
            after = t[start : start + _LOOK]
            returns = np.flatnonzero(after > self._high)
            window = after[: returns[0]] if len(returns) else after
            if not len(returns) and len(after) < _LOOK and not last:
                self._waiting = t[start:]
                return
            start += self._judge(window, returned=len(returns) > 0)
            if self._shuffled:
                return

    def _go_on(self, t: Times) -> None:
        """Note rows that are in order."""
        if not len(t):
            return
        self._new_file = False
        steps = np.diff(t, prepend=self._high)
        for i in np.argsort(steps)[-_GAPS:].tolist() if len(t) > _GAPS else range(len(t)):
            self._gaps.append((float(t[i] - steps[i]), float(t[i])))
        self._gaps = sorted(self._gaps, key=lambda gap: gap[0] - gap[1])[:_GAPS]
        self._count += len(t)
        self._low, self._high = min(self._low, float(t[0])), float(t[-1])
        if self._block is not None and self._high >= self._ceiling:
            self._strong.append(self._block)  # it reaches into what came before
            self._block, self._ceiling = None, np.inf

    def _judge(self, window: Times, *, returned: bool) -> int:
        """Judge the rows after a jump back, at least one, and return the number judged."""
        low, high = float(window.min()), float(window.max())
        new_file, self._new_file = self._new_file, False
        here = (self._count, self._file, self._high, float(window[0]))
        forward = (np.diff(window) >= 0).mean() if len(window) > 1 else 0.0
        fills = any(a < low and high < b for a, b in self._gaps)
        if len(window) < _LEAST or forward < _FORWARD or fills:
            # In order, they are one late block; else each is late by itself.
            taken = len(window) if fills and forward == 1 else 1
            self._count += taken
            self._late += 1
            self._shuffled = self._late > _SHUFFLED and self._late > self._count / 8
            return taken
        if returned:
            self._weak.append(here)
            self._count += len(window)
            return len(window)
        if new_file and high < self._low:
            self._block, self._ceiling = here, self._low
            self._before = (self._low, self._high)
        else:
            self._strong.append(here)
            self._block, self._ceiling = None, np.inf
        self._low = self._high = float(window[0])
        self._gaps = []
        self._count += 1
        return 1

    def _leave_block(self) -> None:
        low, high = self._before
        self._gaps.append((self._high, low))
        self._low, self._high = min(self._low, low), max(self._high, high)
        self._block, self._ceiling = None, np.inf
