"""Check the first samples of each stream for times that cannot be right. See `times.plausible` for the rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamrde.arrays import Floats, Indices
from streamrde.errors import TimeUnitError
from streamrde.inference.header import Header
from streamrde.times.plausible import LARGEST, Expectation, TimeCheck, suspect_size
from streamrde.windowing.rows import Column

if TYPE_CHECKING:
    from streamrde.inference.fleet import Fleet

# Gaps between samples, by what they are.
_FINE, _LONG, _SHORT = range(3)
_ENOUGH = 4
"""Gaps as in training after which a stream is no longer looked at."""
_LONG_ONES = 3
"""Gaps that are too long after which its times cannot be right: one may be a pause, three of three are none."""
_LONG_ONES_KNOWN = 8
"""The same for gaps that are within the longest silence of training: regular as no stream of pauses is."""
_MOST = 15
"""Gaps after which a stream is no longer looked at, whatever they were. Samples too near to each other close no window
meanwhile, so that nothing is lost by waiting for all of them."""
_RECOVERED = 8
"""Plausible times in a row after which a stream's rows are used again."""


def expectation_of(header: Header) -> Expectation:
    """Return what a model knows about the times between samples."""
    window, known = header.windows.length, header.statistics
    if known is None or not known.interval > 0:
        return Expectation(window)
    return Expectation(window, known.interval, known.longest_silence, known.samples_per_window[2])


class _Stream(NamedTuple):
    """State of the check of a stream."""

    gaps: tuple[int, int, int]
    watched: bool
    suspect: Suspect | None


class Suspect(NamedTuple):
    """A stream whose times cannot be right."""

    reason: str
    last: float
    """Time of its last row."""
    run: int
    """Plausible rows in a row."""


class Watch(msgspec.Struct, frozen=True, array_like=True):
    """Describe a stream whose times are still looked at, to go on with after a snapshot."""

    gaps: tuple[int, int, int]
    suspect: tuple[str, float, int] | None = None


class Clocks:
    """Which of a table's streams have times that cannot be right.

    A stream is watched for its first samples only. The fate of a row depends on its stream's rows up to it, not on how
    rows are cut into calls.

    Args:
        expected: of the model.
        check: what to do.
        name: the name of the stream that has a slot.
    """

    def __init__(self, expected: Expectation, check: TimeCheck, name: Callable[[int], str]) -> None:
        self._expected, self._check, self._name = expected, check, name
        self._active = check.action != "off"
        self._long, self._short = expected.long, expected.short
        self._watched = np.zeros(0, dtype=bool)
        self._gaps = np.zeros((0, 3), dtype=np.uint8)
        self.suspects: dict[int, Suspect] = {}
        """By slot."""
        self.fresh: tuple[int, ...] = ()
        """Indices of those that the last push found."""
        self.watching = 0
        """Streams that are watched now, suspects among them."""

    def begin(self, slots: Indices) -> None:
        """Start watching streams."""
        if not self._active or not len(slots):
            return
        if (size := int(slots.max()) + 1) > len(self._watched):
            more = max(size, 2 * len(self._watched)) - len(self._watched)
            self._watched = np.append(self._watched, np.zeros(more, dtype=bool))
            self._gaps = np.append(self._gaps, np.zeros((more, 3), dtype=np.uint8), axis=0)
        self.end(slots)
        self._watched[slots] = True
        self._gaps[slots] = 0
        self.watching += len(slots)

    def end(self, slots: Indices) -> None:
        """Stop watching streams."""
        slots = slots[slots < len(self._watched)]
        self.watching -= int(np.count_nonzero(self._watched[slots]))
        self._watched[slots] = False
        if self.suspects:
            for slot in slots.tolist():
                self.suspects.pop(slot, None)

    def resume(self, slot: int, samples: float) -> None:
        """Continue watching a restored stream, if it has few samples."""
        (self.begin if samples <= _MOST else self.end)(np.array([slot], dtype=np.intp))

    def watch_of(self, slot: int) -> Watch | None:
        """Describe a stream that is watched, or return None."""
        if slot >= len(self._watched) or not self._watched[slot]:
            return None
        fine, long, short = self._gaps[slot].tolist()
        return Watch((fine, long, short), self.suspects.get(slot))

    def go_on(self, slot: int, watch: Watch | None) -> None:
        """Continue to watch a restored stream as it was watched."""
        slots = np.array([slot], dtype=np.intp)
        if watch is None or not self._active:
            self.end(slots)
            return
        self.begin(slots)
        self._gaps[slot] = watch.gaps
        if watch.suspect is not None:
            self.suspects[slot] = Suspect(*watch.suspect)

    def judge(self, slots: Indices, t: Floats, rows: Floats) -> Judgement | None:
        """Look at rows in order of arrival and judge them. Return None if none of their streams is watched.

        Raises:
            TimeUnitError: a stream's times cannot be right, and `check` says to raise; nothing is remembered.
        """
        mine = np.flatnonzero(self._watched[slots])
        if not len(mine):
            return None
        mine = mine[np.argsort(slots[mine], kind="stable")]
        own, times = slots[mine], t[mine]
        starts = np.flatnonzero(np.diff(own, prepend=-1))
        before = np.append(-np.inf, times[:-1])
        before[starts] = rows[own[starts], Column.TOP]
        with np.errstate(invalid="ignore"):
            gap = times - before
            odd = (np.abs(times) >= LARGEST) | ((gap >= self._long) & (gap < np.inf)) | (gap <= self._short)
            fine = (gap > self._short) & (gap < self._long)
        # Streams without anything odd, which are nearly all, are counted together.
        of = np.cumsum(np.diff(own, prepend=-1) != 0) - 1
        streams = own[starts]
        closely = np.zeros(len(streams), dtype=bool)
        closely[of[odd]] = True
        closely |= self._gaps[streams][:, [_LONG, _SHORT]].any(axis=1)
        if self.suspects:
            closely |= np.isin(streams, list(self.suspects))
        counted = self._gaps[streams, _FINE] + np.bincount(of[fine], minlength=len(streams))
        found: dict[int, _Stream] = {}
        rejected: list[Indices] = []
        stops = np.append(starts[1:], len(own))
        for i in np.flatnonzero(closely).tolist():
            rows_of = mine[starts[i] : stops[i]]
            slot = int(streams[i])
            first = rejects = 0
            found[slot], first, rejects = self._look(slot, t[rows_of], rows[slot])
            if rejects > first and self._check.action == "error":
                row = int(rows_of[first])
                suspect = found[slot].suspect
                name = self._name(slot)
                reason = "" if suspect is None else suspect.reason
                raise TimeUnitError(f"row {row}: stream '{name}': {reason}", stream=name, row=row)
            rejected.append(rows_of[first:rejects])
        plain = ~closely
        return Judgement(
            np.sort(np.concatenate(rejected)) if rejected else np.empty(0, np.intp),
            streams[plain],
            np.minimum(counted[plain], _MOST).astype(np.uint8),
            found,
        )

    def remember(self, judgement: Judgement) -> None:
        """Take on what `judge` found, its rows having been taken."""
        found = [slot for slot, stream in judgement.streams.items() if stream.suspect is not None]
        self.fresh = tuple(slot for slot in found if slot not in self.suspects)
        done = judgement.slots[judgement.fine >= _ENOUGH]
        self._gaps[judgement.slots, _FINE] = judgement.fine
        self._watched[done] = False
        self.watching -= len(done)
        for slot, stream in judgement.streams.items():
            self._gaps[slot] = stream.gaps
            if stream.suspect is None:
                self.suspects.pop(slot, None)
            else:
                self.suspects[slot] = stream.suspect
            if not stream.watched:
                self._watched[slot] = False
                self.watching -= 1

    def _look(self, slot: int, times: Floats, row: Floats) -> tuple[_Stream, int, int]:
        """Look at one stream's rows one by one. Return its state and the bounds of the rejected rows, [first, stop)."""
        suspect, count, last = self.suspects.get(slot), self._gaps[slot].tolist(), float(row[Column.TOP])
        start = float(row[Column.T0]) if row[Column.STARTED] else float(times[0])
        # Rows out of order have gaps that mean nothing; they are for `order`, or for a sort.
        ordered = bool((np.diff(times) >= 0).all())
        first = 0 if suspect is not None else len(times)
        for place, t in enumerate(times.tolist()):
            if suspect is not None:
                gap = t - suspect.last
                run = suspect.run + 1 if abs(t) < LARGEST and self._short < gap < self._long else 0
                suspect = Suspect(suspect.reason, t, run)
                if run == _RECOVERED:
                    return _Stream((0, 0, 0), False, None), first, place + 1
                continue
            reason = suspect_size(t, self._check.unit)
            gap = t - last
            if reason is None and ordered and 0 < gap < np.inf:
                kind = _LONG if gap >= self._long else _SHORT if gap <= self._short else _FINE
                count[kind] += 1
                reason, done = self._decide(count, t, gap, (t - start) / max(sum(count), 1))
                if done and reason is None:
                    return _Stream((count[0], count[1], count[2]), False, None), len(times), len(times)
            if reason is not None:
                suspect, first = Suspect(reason, t, 0), place
            elif t > last or last == -np.inf:
                last = t
        return _Stream((count[0], count[1], count[2]), True, suspect), first, len(times)

    def _decide(self, count: list[int], t: float, gap: float, mean: float) -> tuple[str | None, bool]:
        """Return why the times cannot be right after these gaps, the last being `gap`, and whether that is settled."""
        total, fine, long = sum(count), count[_FINE], count[_LONG]
        needed = _LONG_ONES if gap > self._expected.silence or not self._expected.interval else _LONG_ONES_KNOWN
        if long >= needed and 4 * long >= 3 * total and gap >= self._long:
            reason = self._expected.suspect_long(self._check.unit, gap)
            return reason, True
        if fine >= _ENOUGH and 2 * fine > total:
            return None, True
        if total < _MOST:
            return None, False
        if 5 * count[_SHORT] >= 4 * total:
            return self._expected.suspect_short(self._check.unit, t, mean), True
        return None, True


class Judgement(NamedTuple):
    """The outcome for the rows of one call."""

    rejected: Indices
    """Places of rows that are not used, ascending."""
    slots: Indices
    """Streams that have only gaps as they should be,"""
    fine: NDArray[np.uint8]
    """and how many of these."""
    streams: dict[int, _Stream]
    """The other streams, by slot."""


def watches_of(fleet: Fleet, streams: Iterable[str]) -> dict[str, Watch]:
    """Describe those of the streams whose times are still looked at, which snapshots do not."""
    names = list(streams)
    clocks, slots = fleet._table.clocks, fleet._find(names)
    found = ((name, clocks.watch_of(slot)) for name, slot in zip(names, slots.tolist(), strict=True))
    return {name: watch for name, watch in found if watch is not None}


def go_on_watching(fleet: Fleet, watches: Mapping[str, Watch | None]) -> None:
    """Continue to look at the times of restored streams as before their snapshots."""
    for name, slot in zip(watches, fleet._find(watches).tolist(), strict=True):
        fleet._table.clocks.go_on(slot, watches[name])
