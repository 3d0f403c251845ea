"""The live state of streams: one row of float64 each, and all that can happen to it.

    started t0 last cursor window filled start | samples late duplicate rejected | x | signature | z | previous

The first group is the stream's Position (see windowing.cutting), the second counts rows. x: the last value of each
channel, (channels,). signature: of the open window, (C + ... + C^depth,). z: hidden state, (hidden,). previous: the
last closed window's log-signature, (B,), only for models with ``first_stage="previous"``. A Fleet is a table of such
rows, a Predictor is a table with one, a snapshot is the bytes of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamrde import snapshots
from streamrde.errors import OrderError, SampleError, SnapshotError
from streamrde.inference.bundle import Bundle
from streamrde.inference.predictions import Closed
from streamrde.inference.stepper import make_stepper
from streamrde.kernels import Loop, fold, signature_channels
from streamrde.signature.paths import log_coordinates
from streamrde.signature.words import word_indices
from streamrde.windowing.cutting import Position, Runs, cut, pass_time
from streamrde.windowing.logsigs import accumulate, explain_unusable, unusable
from streamrde.windowing.order import find_disorder
from streamrde.windowing.policies import Every

Floats = NDArray[np.float64]
Slots = NDArray[np.intp]
OnFault: TypeAlias = Literal["error", "drop"]

_STARTED, _T0, _LAST, _CURSOR, _WINDOW, _FILLED, _START = range(7)
_POSITION = 7
_SAMPLES, _LATE, _DUPLICATE, _REJECTED = range(_POSITION, _POSITION + 4)
_FIXED = _POSITION + 4


class Counts(NamedTuple):
    """Rows handed in, by what became of them."""

    samples: int = 0
    """Used."""
    late: int = 0
    """Dropped: before an earlier sample, or before a window edge that had been closed."""
    duplicate: int = 0
    """Dropped: at the very time of an earlier sample."""
    rejected: int = 0
    """Dropped: a time or value that no path can pass through."""

    def __add__(self, other: Counts) -> Counts:  # type: ignore[override]
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


class SnapshotHeader(msgspec.Struct, frozen=True, tag="stream", tag_field="kind", forbid_unknown_fields=True):
    """What a stream's snapshot belongs to."""

    stream: str
    model: str
    """Fingerprint of the bundle."""


class StreamTable:
    """Rows of live streams of one model, addressed by slot."""

    def __init__(self, bundle: Bundle) -> None:
        header = bundle.header
        self.bundle = bundle
        self.header = header
        self.stepper = make_stepper(bundle)
        channels, previous = len(header.channels), header.first_stage == "previous"
        sizes = [
            channels,
            signature_channels(header.path_channels, header.depth),
            header.hidden,
            header.logsig_channels if previous else 0,
        ]
        stops = np.cumsum([_FIXED, *sizes])
        self._x, self._signature, self._z, self._previous = (slice(a, b) for a, b in pairwise(stops))
        self.loop = None if Loop is None else self._compiled_loop(Loop, int(stops[-1]))
        self._blank = np.zeros(stops[-1])
        self._blank[self._x] = [channel.fill for channel in header.channels]
        self.rows = np.empty((0, stops[-1]))
        self.names: list[str] = []
        self._free: list[int] = []

    def add(self, name: str) -> int:
        """Slot of a new stream that has no sample yet."""
        if not self._free:
            used = len(self.names)
            grown = np.empty((max(1, 2 * used), self.rows.shape[1]))
            grown[:used] = self.rows
            self.rows = grown
            self.names += [""] * (len(grown) - used)
            self._free = list(range(len(grown) - 1, used - 1, -1))
        slot = self._free.pop()
        self.names[slot] = name
        self.rows[slot] = self._blank
        return slot

    def release(self, slot: int) -> None:
        """Forget a stream."""
        self.names[slot] = ""
        self._free.append(slot)

    def counts(self, slots: Slots) -> Counts:
        """Sum over streams of their rows' fates."""
        return Counts(*(int(n) for n in self.rows[slots, _POSITION:_FIXED].sum(axis=0)))

    def last(self, slots: Slots) -> Floats:
        """Time of each stream's last sample; -inf where there is none."""
        return np.where(self.rows[slots, _STARTED] > 0, self.rows[slots, _LAST], -np.inf)

    def push(self, slots: Slots, t: Floats, x: Floats, *, faults: OnFault) -> Closed:
        """Take samples in order of arrival; predictions come in the order of the rows that closed their windows.

        Args:
            slots, t, x: (rows,), (rows,), (rows, channels).
            faults: "error" raises at the first row that cannot be used and leaves the table as it was; "drop" counts
                such rows and goes on.
        """
        if self.loop is None:
            return self._push_arrays(slots, t, x, faults)
        taken = self.loop.push(self.rows, slots, np.ascontiguousarray(t), np.ascontiguousarray(x), faults == "drop")
        if len(taken) == 4:
            fault, row, column, bound = taken
            raise self._unusable(slots, t, x, row, column) if fault == 1 else self._disordered(slots, t, row, bound)
        began, first, slot, window, t_start, t_end, logsigs = taken
        self._begin(began, first)
        return Closed(slot, window, t_start, t_end, self._step(slot, window, logsigs))

    def advance(self, slots: Slots, t: Floats) -> Closed:
        """Close the windows whose edges each stream's time t, (slots,), has reached; see `pass_time`."""
        started = self.rows[slots, _STARTED] > 0
        slots, t = slots[started], t[started]
        if not len(slots):
            return self.nothing()
        runs, moved = pass_time(
            self._position(slots), t, windows=self.header.windows, interpolation=self.header.interpolation
        )
        return self._take(slots, runs, moved)

    def flush(self, slots: Slots) -> Closed:
        """Close the open windows as the ends of their streams; a window in which nothing happened is none."""
        slots = slots[self.rows[slots, _FILLED] > 0]
        position = self._position(slots)
        header = self.header
        logsigs = log_coordinates(self.rows[slots, self._signature], header.path_channels, header.depth)
        value = self._step(slots, position.window, logsigs)
        return Closed(slots, position.window, position.start, position.last, value)

    def reset(self, slots: Slots) -> None:
        """Make streams as new; what they counted is forgotten too."""
        self.rows[slots] = self._blank

    def peek(self, slot: int, t: float | None) -> Closed:
        """What the open window would predict if it ended at time t, or at the last sample; nothing is committed."""
        before = self.rows[slot].copy()
        slots = np.array([slot])
        try:
            end = before[_LAST]
            if t is not None and self.header.interpolation == "hold":
                self.advance(slots, np.array([t]))
                end = max(t, before[_LAST])
                self._move_time(slots, end)
            position = self._position(slots)
            if position.filled[0]:
                closed = self.flush(slots)
                return closed._replace(t_end=np.array([end]))
            value = self.stepper.output(self.rows[slots, self._z].astype(self.stepper.dtype))
            return Closed(slots, position.window, position.start, position.start, value)
        finally:
            self.rows[slot] = before

    def snapshot(self, slot: int) -> bytes:
        """The stream's row with a header that says what it belongs to."""
        return snapshots.pack(SnapshotHeader(self.names[slot], self.bundle.fingerprint), self.rows[slot])

    def read_snapshot(self, data: bytes) -> tuple[str, Floats]:
        """Name and row of a snapshot of this model."""
        header, row = snapshots.unpack(data, SnapshotHeader)
        if header.model != self.bundle.fingerprint:
            raise SnapshotError(
                f"the snapshot of stream '{header.stream}' belongs to the model {header.model[:12]}, and this is "
                f"{self.bundle.fingerprint[:12]}: restore it with the model it was taken from"
            )
        if row.shape != self._blank.shape:
            raise SnapshotError(
                f"the snapshot of stream '{header.stream}' has {len(row)} values and this model's state "
                f"{len(self._blank)}: it was taken by another version of streamrde"
            )
        return header.stream, row

    def _compiled_loop(self, kind: type[Any], width: int) -> Any:
        header, windows = self.header, self.header.windows
        policy = (
            (True, windows.seconds, windows.align == "epoch", 0)
            if isinstance(windows, Every)
            else (False, 0.0, False, windows.n)
        )
        return kind(
            (width, self._x.start, self._signature.start),
            len(header.channels),
            header.depth,
            word_indices(header.path_channels, header.depth),
            policy,
            header.interpolation == "hold",
        )

    def _push_arrays(self, slots: Slots, t: Floats, x: Floats, faults: OnFault) -> Closed:
        """`push` by array operations, where there are no compiled kernels."""
        rows = np.argsort(slots, kind="stable")
        live, stream = np.unique(slots[rows], return_inverse=True)
        for find in (self._find_unusable, self._find_disorder):
            dropped = find(rows, live, stream, t, x, faults)
            if dropped is not None:
                rows = rows[~dropped]
                live, stream = np.unique(slots[rows], return_inverse=True)
        if not len(rows):
            return self.nothing()
        position = self._position(live)
        runs, moved, first = cut(
            position, stream, t[rows], x[rows], windows=self.header.windows, interpolation=self.header.interpolation
        )
        fresh = ~position.started
        self._begin(live[fresh], first[fresh])
        self.rows[live, _SAMPLES] += np.bincount(stream)
        closed = self._take(live, runs, moved)
        by_arrival = np.argsort(rows[runs.row[runs.closes]], kind="stable")
        return closed.take(by_arrival)

    def _begin(self, slots: Slots, first: Floats) -> None:
        """Give streams their initial states."""
        if len(slots):
            self.rows[slots, self._z] = self.stepper.initial(np.insert(first, 0, 0.0, axis=1))

    def _position(self, slots: Slots) -> Position:
        state = self.rows[slots, :_POSITION].T
        return Position(
            started=state[_STARTED] > 0,
            t0=state[_T0],
            last=state[_LAST],
            cursor=state[_CURSOR],
            window=state[_WINDOW].astype(np.int64),
            filled=state[_FILLED].astype(np.int64),
            start=state[_START],
            x=self.rows[slots, self._x],
        )

    def _take(self, slots: Slots, runs: Runs, moved: Position) -> Closed:
        """Fold runs, step the models of the windows that closed, and store where the streams stand now."""
        signatures = self.rows[slots, self._signature]
        logsigs = accumulate(runs, signatures, self.header.depth)
        self.rows[slots, self._signature] = signatures
        self.rows[slots, :_POSITION] = np.stack(moved[:_POSITION], axis=1)
        self.rows[slots, self._x] = moved.x
        closes = runs.closes
        of, window = slots[runs.stream[closes]], runs.window[closes]
        return Closed(of, window, runs.t_start[closes], runs.t_end[closes], self._step(of, window, logsigs))

    def _step(self, slots: Slots, windows: NDArray[np.int64], logsigs: Floats) -> NDArray[np.floating]:
        """Step streams over closed windows, in order, and read out; a slot stands once per window."""
        stepper = self.stepper
        values = np.empty((len(slots), self.header.outputs), dtype=stepper.dtype)
        for places in _rounds(slots):
            of, own = slots[places], logsigs[places]
            z = self.rows[of, self._z].astype(stepper.dtype)
            if self._previous.stop > self._previous.start:
                previous = np.where(windows[places, None] > 0, self.rows[of, self._previous], own)
                self.rows[of, self._previous] = own
                z = stepper.step(z, own, previous)
            else:
                z = stepper.step(z, own)
            self.rows[of, self._z] = z
            values[places] = stepper.output(z)
        return values

    def _move_time(self, slots: Slots, end: float) -> None:
        """Hold the last value from where the path ends to time `end`, in the open window."""
        position = self._position(slots)
        increments = np.zeros((1, self.header.path_channels))
        increments[0, 0] = end - position.t0[0] - position.cursor[0]
        if increments[0, 0] > 0:
            signature = self.rows[slots, self._signature]
            fold(signature, increments, np.zeros(1, np.intp), np.ones(1, np.intp), self.header.depth)
            self.rows[slots, self._signature] = signature
            self.rows[slots, _FILLED] += 1

    def _find_unusable(
        self, rows: Slots, live: Slots, stream: Slots, t: Floats, x: Floats, faults: OnFault
    ) -> NDArray[np.bool_] | None:
        bad = unusable(self.rows[live, _STARTED] == 0, stream, t[rows], x[rows], self.header.interpolation)
        dropped: NDArray[np.bool_] = np.asarray(bad.any(axis=1))
        if not dropped.any():
            return None
        if faults == "error":
            place = np.flatnonzero(dropped)[rows[dropped].argmin()]
            raise self._unusable(live[stream[np.argsort(rows)]], t, x, int(rows[place]), int(bad[place].argmax()))
        self._count(live[stream[dropped]], _REJECTED)
        return dropped

    def _find_disorder(
        self, rows: Slots, live: Slots, stream: Slots, t: Floats, x: Floats, faults: OnFault
    ) -> NDArray[np.bool_] | None:
        if not len(rows):
            return None
        disorder = find_disorder(self._position(live), stream, t[rows], self.header.windows)
        if disorder is None:
            return None
        dropped = disorder.late | disorder.duplicate
        if not dropped.any():
            return None
        if faults == "error":
            place = np.flatnonzero(dropped)[rows[dropped].argmin()]
            slots = live[stream[np.argsort(rows)]]
            raise self._disordered(slots, t, int(rows[place]), float(disorder.bound[place]))
        self._count(live[stream[disorder.late]], _LATE)
        self._count(live[stream[disorder.duplicate]], _DUPLICATE)
        return dropped

    def _unusable(self, slots: Slots, t: Floats, x: Floats, row: int, column: int) -> SampleError:
        name = self.names[slots[row]]
        return SampleError(f"stream '{name}': {explain_unusable(row, column, t, x)}", stream=name, row=row)

    def _disordered(self, slots: Slots, t: Floats, row: int, bound: float) -> OrderError:
        name, time = self.names[slots[row]], float(t[row])
        return OrderError(
            f"row {row}: sample of stream '{name}' at {time} s is not after {bound} s, which the stream has reached; "
            f"sort by time and drop repeats, or set faults='drop' to count and skip such samples",
            stream=name, row=row, t=time, last=bound,
        )  # fmt: skip

    def _count(self, slots: Slots, fate: int) -> None:
        """Add one to a counter for each slot named; a slot may be named many times."""
        live, times = np.unique(slots, return_counts=True)
        self.rows[live, fate] += times

    def nothing(self) -> Closed:
        """No window closed."""
        empty = np.empty(0)
        value = np.empty((0, self.header.outputs), dtype=self.stepper.dtype)
        return Closed(empty.astype(np.intp), empty.astype(np.int64), empty, empty, value)


def _rounds(slots: Slots) -> Iterator[NDArray[np.intp]]:
    """Places of the windows that can be stepped together: each stream's first, then each one's second, and so on."""
    if len(slots) < 2:
        yield from [np.zeros(1, np.intp)] * len(slots)
        return
    order = np.argsort(slots, kind="stable")
    leads = np.flatnonzero(np.diff(slots[order], prepend=-1))
    turn = np.empty(len(slots), dtype=np.intp)
    turn[order] = np.arange(len(slots)) - np.repeat(leads, np.diff(leads, append=len(slots)))
    by_turn = np.argsort(turn, kind="stable")
    yield from np.split(by_turn, np.cumsum(np.bincount(turn))[:-1])
