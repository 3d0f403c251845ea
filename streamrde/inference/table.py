"""The live state of streams: one row of float64 each, and all that can happen to it.

    (see windowing.rows) | z | previous

z: hidden state, (hidden,). previous: the last closed window's log-signature, (B,), only for models with
``first_stage="previous"``. A Fleet is a table of such rows, a Predictor is a table with one, a snapshot is the bytes of
one and of the samples that are held beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamrde import snapshots
from streamrde.errors import OrderError, SampleError, SnapshotError
from streamrde.inference.bundle import Bundle
from streamrde.inference.predictions import Closed
from streamrde.inference.stepper import make_stepper
from streamrde.kernels import Loop, fold
from streamrde.windowing.compiled import compiled_loop
from streamrde.windowing.logsigs import explain_unusable
from streamrde.windowing.loop import ReferenceLoop, Refusal, Taken
from streamrde.windowing.order import Order
from streamrde.windowing.ordering import Fault
from streamrde.windowing.rows import COUNTS, Column, Layout

Floats = NDArray[np.float64]
Slots = NDArray[np.intp]
OnFault: TypeAlias = Literal["error", "drop"]


class Counts(NamedTuple):
    """Rows handed in, by what became of them: their sum is the number of rows."""

    samples: int = 0
    """Used, or held until their turn comes."""
    late: int = 0
    """Dropped: before an earlier sample, or before a window edge that had been closed."""
    duplicate: int = 0
    """Dropped, or another was dropped for it: at the very time of an earlier sample."""
    rejected: int = 0
    """Dropped: a time or value that no path can pass through."""
    merged: int = 0
    """Used as a part of a sample of the same time."""

    def __add__(self, other: Counts) -> Counts:  # type: ignore[override]
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


class Unused(NamedTuple):
    """Rows of one push that were not used."""

    row: Slots
    """Their places in the arrays handed in."""
    fault: NDArray[np.int64]
    """Why, a `Fault` each."""


class SnapshotHeader(msgspec.Struct, frozen=True, tag="stream", tag_field="kind", forbid_unknown_fields=True):
    """What a stream's snapshot belongs to."""

    stream: str
    model: str
    """Fingerprint of the bundle."""


class StreamTable:
    """Rows of live streams of one model, addressed by slot."""

    def __init__(self, bundle: Bundle, order: Order | None = None) -> None:
        header = bundle.header
        self.bundle = bundle
        self.header = header
        self.stepper = make_stepper(bundle)
        layout = Layout(header.partition)
        previous = header.logsig_channels if header.first_stage == "previous" else 0
        stops = np.cumsum([layout.width, header.hidden, previous])
        self._x, self._signature = layout.x, layout.signature
        self._z, self._previous = (slice(a, b) for a, b in pairwise(stops))
        self._blank = np.zeros(stops[-1])
        self._blank[: layout.width] = layout.blank
        self._entry = layout.entry
        order = order or Order()
        self.loop = compiled_loop(Loop, layout, int(stops[-1]), order) or ReferenceLoop(layout, order)
        self.rows = np.empty((0, stops[-1]))
        self.names: list[str] = []
        self.unused = Unused(np.empty(0, np.intp), np.empty(0, np.int64))
        """Of the last push."""
        self.predecessors: set[str] = set()
        """Fingerprints of models whose snapshots this one goes on with; see `Fleet.swap`."""
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
        self.reset(np.array([slot]))
        return slot

    def release(self, slot: int) -> None:
        """Forget a stream."""
        self.names[slot] = ""
        self._free.append(slot)

    def counts(self, slots: Slots) -> Counts:
        """Sum over streams of their rows' fates."""
        return Counts(*(int(n) for n in self.rows[slots, COUNTS].sum(axis=0)))

    def forget_counts(self, slots: Slots) -> None:
        """Begin to count anew."""
        self.rows[slots, COUNTS] = 0

    def last(self, slots: Slots) -> Floats:
        """Latest time of each stream's samples; -inf where there is none."""
        return np.asarray(self.rows[slots, Column.TOP])

    def progress(self, slots: Slots) -> Floats:
        """What changes in a stream's row when time alone passes, (slots, 2)."""
        return self.rows[slots[:, None], [[Column.WINDOW, Column.HELD]]]

    def push(self, slots: Slots, t: Floats, x: Floats, *, faults: OnFault) -> Closed:
        """Take samples in order of arrival; predictions come in the order of the rows that closed their windows.

        Args:
            slots, t, x: (rows,), (rows,), (rows, channels).
            faults: "error" raises at the first row that cannot be used and leaves the table as it was; "drop" counts
                such rows and goes on.
        """
        taken = self.loop.push(self.rows, slots, np.ascontiguousarray(t), np.ascontiguousarray(x), faults == "drop")
        if len(taken) == len(Refusal._fields):
            raise self._refused(Refusal(*taken), slots, t, x)
        taken = Taken(*taken)
        self.unused = Unused(taken.unused, taken.fault)
        return self._take(taken)

    def advance(self, slots: Slots, t: Floats) -> Closed:
        """Time t, (slots,), has come: close the windows that end by then, as far as lateness allows."""
        return self._take(Taken(*self.loop.advance(self.rows, slots, t)))

    def flush(self, slots: Slots) -> Closed:
        """Close the open windows as the ends of their streams; a window in which nothing happened is none."""
        return self._take(Taken(*self.loop.flush(self.rows, slots)))

    def reset(self, slots: Slots) -> None:
        """Make streams as new; what they counted is forgotten too."""
        self.rows[slots] = self._blank
        for slot in slots.tolist():
            self.loop.hold(slot, np.empty((0, self._entry)), 0)

    def peek(self, slot: int, t: float | None) -> Closed:
        """What the open window would predict if it ended at time t, or at the last sample; nothing is committed."""
        before = self.rows[slot].copy()
        slots = np.array([slot])
        try:
            end = before[Column.LAST]
            if t is not None and self.header.interpolation == "hold":
                self._take(Taken(*self.loop.pass_time(self.rows, slots, np.array([t]))))
                end = max(t, before[Column.LAST])
                self._move_time(slot, end)
            if self.rows[slot, Column.FILLED]:
                closed = self._take(Taken(*self.loop.close(self.rows, slots)))
                return closed._replace(t_end=np.array([end]))
            row = self.rows[slot]
            value = self.stepper.output(self.rows[slots, self._z].astype(self.stepper.dtype))
            start = row[[Column.START]]
            return Closed(slots, row[[Column.WINDOW]].astype(np.int64), start, start, value)
        finally:
            self.rows[slot] = before

    def snapshot(self, slot: int) -> bytes:
        """The stream's row and held samples with a header that says what they belong to."""
        header = SnapshotHeader(self.names[slot], self.bundle.fingerprint)
        return snapshots.pack(header, np.append(self.rows[slot], self.loop.held(slot)))

    def read_snapshot(self, data: bytes) -> tuple[str, Floats]:
        """Name of a snapshot of this model, and its values, as `restore` takes them."""
        header, values = snapshots.unpack(data, SnapshotHeader)
        if header.model != self.bundle.fingerprint and header.model not in self.predecessors:
            raise SnapshotError(
                f"the snapshot of stream '{header.stream}' belongs to the model {header.model[:12]}, and this is "
                f"{self.bundle.fingerprint[:12]}: restore it with the model it was taken from"
            )
        width = len(self._blank)
        held, ripe = values[[Column.HELD, Column.RIPE]] if len(values) >= width else (-1, 0)
        if len(values) != width + held * self._entry or not (0 <= ripe <= held and ripe == ripe // 1):
            raise SnapshotError(
                f"the snapshot of stream '{header.stream}' has {len(values)} values and this model's state {width}: "
                "it was taken by another version of streamrde"
            )
        return header.stream, values

    def restore(self, slot: int, values: Floats) -> None:
        """Put a stream back to where it was."""
        width = len(self._blank)
        self.rows[slot] = values[:width]
        self.loop.hold(slot, values[width:].reshape(-1, self._entry), int(values[Column.RIPE]))

    def _take(self, taken: Taken) -> Closed:
        """Begin the states and step the models of the windows that closed."""
        if len(taken.began) and len(taken.slot) and (taken.begins > 1).any():
            return self._take_in_turn(taken)
        self._begin(taken.began, taken.first)
        value = self._step(taken.slot, taken.since, taken.logsigs)
        return Closed(taken.slot, taken.window, taken.start, taken.end, value)

    def _take_in_turn(self, taken: Taken) -> Closed:
        """`_take` where a stream's state begins between two of its windows: one state after the other."""
        # The how-manieth of the states that a stream goes through here each window and each beginning belongs to.
        slots, begins = np.append(taken.slot, taken.began), np.append(taken.of, taken.begins)
        states, place = np.unique(np.stack([slots, begins]), axis=1, return_inverse=True)
        leads = np.flatnonzero(np.append(True, states[0, 1:] != states[0, :-1]))
        turn = np.arange(states.shape[1]) - np.repeat(leads, np.diff(np.append(leads, states.shape[1])))
        turn = turn[place.ravel()]
        of_window, of_beginning = turn[: len(taken.slot)], turn[len(taken.slot) :]
        value = np.empty((len(taken.slot), self.header.outputs), dtype=self.stepper.dtype)
        for now in range(int(turn.max()) + 1):
            begin, step = of_beginning == now, of_window == now
            self._begin(taken.began[begin], taken.first[begin])
            value[step] = self._step(taken.slot[step], taken.since[step], taken.logsigs[step])
        return Closed(taken.slot, taken.window, taken.start, taken.end, value)

    def _begin(self, slots: Slots, first: Floats) -> None:
        """Give streams their initial states."""
        if len(slots):
            self.rows[slots, self._z] = self.stepper.initial(np.insert(first, 0, 0.0, axis=1))

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

    def _move_time(self, slot: int, end: float) -> None:
        """Hold the last value from where the path ends to time `end`, in the open window."""
        row = self.rows[slot]
        increments = np.zeros((1, self.header.path_channels))
        increments[0, 0] = end - row[Column.T0] - row[Column.CURSOR]
        if self.header.missing.elapsed:
            increments[0, -len(self.header.channels) :] = increments[0, 0]
        if increments[0, 0] > 0:
            signature = row[self._signature][None].copy()
            fold(signature, increments, np.zeros(1, np.intp), np.ones(1, np.intp), self.header.depth)
            row[self._signature] = signature[0]
            row[Column.FILLED] += 1

    def _refused(self, refusal: Refusal, slots: Slots, t: Floats, x: Floats) -> SampleError:
        row, bound = refusal.row, refusal.bound
        name, time = self.names[slots[row]], float(t[row])
        if refusal.fault == Fault.REJECTED:
            message = f"stream '{name}': {explain_unusable(row, refusal.column, t, x)}"
            return SampleError(message, stream=name, row=row)
        return OrderError(
            f"row {row}: sample of stream '{name}' at {time} s is not after {bound} s, which the stream has reached; "
            f"sort by time and drop repeats, or set faults='drop' to count and skip such samples",
            stream=name, row=row, t=time, last=bound,
        )  # fmt: skip

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
