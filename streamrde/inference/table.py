"""The live state of streams: one row of float64 each, and all that can happen to it.

    (see windowing.rows) | (see states) | (see adapting.section)

A Fleet is a table of such rows, a Predictor is a table with one, a snapshot is the bytes of
one and of the samples that are held beside it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from streamrde import snapshots
from streamrde.adapting.drift import COLUMNS
from streamrde.arrays import Bools, Floats, Indices, Structured
from streamrde.errors import OrderError, SampleError, SnapshotError
from streamrde.inference.bundle import Bundle
from streamrde.inference.clocks import Clocks, expectation_of
from streamrde.inference.labels import adapting_of, bands_of
from streamrde.inference.names import StreamNames
from streamrde.inference.predictions import Predictions
from streamrde.inference.snapshot_header import SnapshotHeader
from streamrde.inference.states import Serving, StateCounts, States, Stepped
from streamrde.inference.turns import lasts, places_of, rounds
from streamrde.kernels import Loop, fold
from streamrde.kernels.outcome import CUT, UNUSED, Outcome, Refusal
from streamrde.windowing.compiled import compiled_loop
from streamrde.windowing.logsigs import explain_unusable
from streamrde.windowing.loop import ReferenceLoop
from streamrde.windowing.order import Order
from streamrde.windowing.ordering import Fault
from streamrde.windowing.rows import COUNTS, Column, Layout

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


class StreamTable:
    """Rows of live streams of one model, addressed by slot."""

    def __init__(self, bundle: Bundle, order: Order | None = None, serving: Serving | None = None) -> None:
        header = bundle.header
        self.bundle = bundle
        self.header = header
        layout = Layout(header.partition)
        serving = serving or Serving()
        self.states = States(bundle, serving, layout.width)
        self._threads = serving.threads
        self._signature = layout.signature
        self.adapting = adapting_of(bundle, serving, self.states.stop)
        self.bands = bands_of(bundle, serving)
        learned = np.empty(0) if self.adapting is None else self.adapting.blank
        self._blank = np.zeros(self.states.stop + len(learned))
        self._blank[: layout.width] = layout.blank
        self._blank[self.states.stop :] = learned
        self._entry = layout.entry
        order = order or Order()
        again = serving.restart_after
        self.loop = compiled_loop(Loop, layout, len(self._blank), order, again) or ReferenceLoop(layout, order, again)
        self.rows = np.empty((0, len(self._blank)))
        self.changed = np.zeros(0, dtype=bool)
        """By slot: whether a stream's state changed since it was last saved."""
        self.names = StreamNames()
        self.clocks = Clocks(expectation_of(header), serving.time_check, self.names.__getitem__)
        self.unused: Structured = np.empty(0, UNUSED)
        """Rows of the last push that were not used, of dtype `UNUSED`."""
        self.refused = self.unused
        """Those of them that do not belong to streams whose times cannot be right."""
        self.restarted: Indices = np.empty(0, np.intp)
        """Rows of the last push with which their stream's time began again."""
        self.cuts: Structured = np.empty(0, CUT)
        """Streams that the last call cut after a silence, of dtype `CUT`."""
        self.owing: Indices = np.empty(0, np.intp)
        """Streams that the last call's bound on windows stopped, in order of slot."""
        self.predecessors: set[str] = set()
        """Fingerprints of models whose snapshots this one goes on with; see `Fleet.swap`."""

    def add(self, streams: pa.Array) -> tuple[Indices, Indices]:
        """Return the slots of the rows' streams, and the new ones among them, which have no sample yet.

        Args:
            streams: names, as `stream_column` gives them.
        """
        slots, added = self.names.add(streams)
        if len(added):
            self._make_room(int(added.max()) + 1)
            self.rows[added] = self._blank
            self.clocks.begin(added)
        return slots, added

    def _make_room(self, slots: int) -> None:
        used = len(self.rows)
        if slots > used:
            # Twice as much: memory that no stream has touched yet is not taken from the system.
            grown = np.empty((max(slots, 2 * used), self.rows.shape[1]))
            grown[:used] = self.rows
            self.rows = grown
            self.changed = np.append(self.changed, np.zeros(len(grown) - used, dtype=bool))

    def release(self, slots: Indices) -> None:
        """Stop watching streams."""
        for slot in slots[self.rows[slots, Column.HELD] > 0].tolist():
            self.loop.hold(slot, np.empty((0, self._entry)), 0)
        self.changed[slots] = False
        self.clocks.end(slots)
        self.names.release(slots)

    def counts(self, slots: Indices) -> Counts:
        """Sum over streams of their rows' fates."""
        return Counts(*(int(n) for n in self.rows[slots, COUNTS].sum(axis=0)))

    def state_counts(self, slots: Indices) -> StateCounts:
        """Sum over streams of the windows that call for a look."""
        return self.states.counts(self.rows, slots)._replace(cuts=int(self.rows[slots, Column.CUTS].sum()))

    def forget_counts(self, slots: Indices) -> None:
        """Reset the counts."""
        self.rows[slots, COUNTS] = 0
        self.rows[slots, Column.CUTS] = 0
        self.states.forget_counts(self.rows, slots)

    def last(self, slots: Indices) -> Floats:
        """Return the latest time of each stream's samples, or -inf without any."""
        return np.asarray(self.rows[slots, Column.TOP])

    def states_of(self, slots: Indices) -> tuple[Floats, Indices]:
        """Return the hidden states of streams, (n, hidden), and the number of windows that each has closed, (n,)."""
        return self.states.states_of(self.rows, slots), self.rows[slots, Column.WINDOW].astype(np.intp)

    def silent(self, slots: Indices, since: float) -> Indices:
        """Return the streams whose latest sample came before a time."""
        last = self.last(slots)
        # A stream whose time is to begin again has reached none.
        waits = (last == -np.inf) & (self.rows[slots, Column.STARTED] > 0)
        return np.asarray(slots[(last < since) & ~waits])

    def progress(self, slots: Indices) -> Floats:
        """Return the entries of a stream's row that change when only time passes, (slots, 2)."""
        return self.rows[slots[:, None], [[Column.WINDOW, Column.HELD]]]

    def push(self, slots: Indices, t: Floats, x: Floats, *, faults: OnFault, windows: int = -1) -> Predictions:
        """Take samples in order of arrival. Predictions come in the order of the rows that closed their windows.

        Args:
            slots, t, x: (rows,), (rows,), (rows, channels).
            faults: "error" raises at the first row that cannot be used and leaves the table as it was; "drop" counts
                such rows and goes on.
            windows: what time may close beyond a few windows per row, negative for any number; the rest is owed.
        """
        self.clocks.fresh = ()
        judged = self.clocks.judge(slots, t, self.rows) if self.clocks.watching else None
        if judged is None or not len(judged.rejected):
            closed = self._push(slots, t, x, faults, windows)
            self.refused = self.unused
        else:
            used = np.delete(np.arange(len(slots)), judged.rejected)
            closed = self._push(slots[used], t[used], x[used], faults, windows)
            for column in (Column.REJECTED, Column.REFUSED):
                np.add.at(self.rows[:, column], slots[judged.rejected], 1)
            self.restarted = used[self.restarted]
            self.refused = self.unused
            self.refused["row"] = used[self.refused["row"]]
            rejected = np.zeros(len(judged.rejected), UNUSED)
            rejected["row"], rejected["fault"] = judged.rejected, Fault.REJECTED
            unused = np.append(self.refused, rejected)
            self.unused = unused[np.argsort(unused["row"])]
        if judged is not None:
            self.clocks.remember(judged)
        return closed

    def _push(self, slots: Indices, t: Floats, x: Floats, faults: OnFault, windows: int) -> Predictions:
        t, x = np.ascontiguousarray(t), np.ascontiguousarray(x)
        try:
            outcome = self.loop.push(self.rows, slots, t, x, faults == "drop", self._threads, windows)
        except Refusal as refusal:
            raise self.unusable(refusal, slots, t, x) from None
        return self.pushed(outcome)

    def pushed(self, outcome: Outcome) -> Predictions:
        """Note which rows of a push were not used, and return its predictions."""
        self.restarted, self.unused = outcome.unused["row"][:0], outcome.unused
        if len(outcome.unused):
            restarted = outcome.unused["fault"] == Fault.RESTARTED
            self.restarted, self.unused = outcome.unused["row"][restarted], outcome.unused[~restarted]
        return self._emitted(self._step(outcome))

    def advance(self, slots: Indices, t: Floats, windows: int = -1, share: int = -1) -> Predictions:
        """Time t, (slots,), has come: close the windows that end by then, as far as lateness allows.

        Args:
            windows, share: what all streams may close, and each of them; negative for any number. Those in `owing`
                want to be called for again.
        """
        return self._emitted(self._step(self.loop.advance(self.rows, slots, t, windows, share)))

    def go_on(self, slots: Indices, windows: int, share: int) -> Predictions:
        """Close windows that streams owe. `windows` and `share` are as in `advance`."""
        return self._emitted(self._step(self.loop.go_on(self.rows, slots, windows, share)))

    def flush(self, slots: Indices, windows: int = -1, share: int = -1) -> Predictions:
        """Close the open windows at the ends of their streams. A window without any change is dropped.

        Of a model that emits last, the one prediction of each stream, of all its windows.

        Args:
            windows, share: as of `advance`; a stream in `owing` has not ended.
        """
        closed = self._flush(slots, windows, share)
        if self.header.emit == "every":
            return closed
        ended = slots[~np.isin(slots, self.owing)]
        return self._last(ended, closed.select(np.flatnonzero(np.isin(closed.slot, ended))))

    def _flush(self, slots: Indices, windows: int, share: int) -> Predictions:
        outcome = self.loop.flush(self.rows, slots, windows, share)
        return self._step(outcome, None if self.header.windows.fixed_length else lasts(outcome.windows["slot"]))

    def restart(self, slots: Indices) -> Predictions:
        """End the streams' segments and forget the times they have reached, as after a gap of unknown length."""
        closed = self._flush(slots, -1, -1)
        self.rows[slots, Column.REFUSED] = 0
        self.rows[slots[:, None], [[Column.ORDERED, Column.TOP]]] = -np.inf
        return self._emitted(closed)

    def reset(self, slots: Indices) -> None:
        """Reset streams to new ones, with their counts."""
        self.rows[slots] = self._blank
        self.clocks.begin(slots)
        for slot in slots.tolist():
            self.loop.hold(slot, np.empty((0, self._entry)), 0)

    def peek(self, slots: Indices, t: float | None) -> Predictions:
        """Predict for each open window as if it ended at time t, or at the last sample. It commits nothing.

        Where t is the window's end under hold, this is the prediction that `advance` will commit, bit for bit.
        """
        before, cuts, owing = self.rows[slots], self.cuts, self.owing
        try:
            end, committed = before[:, Column.LAST].copy(), self.nothing()
            if t is not None and self.header.interpolation == "hold":
                committed = self._step(self.loop.pass_time(self.rows, slots, np.full(len(slots), t)))
                end = np.maximum(t, end)
                self._move_time(slots, end)
            filled = self.rows[slots, Column.FILLED] > 0
            outcome = self.loop.close(self.rows, slots[filled])
            closed = self._step(outcome, np.ones(len(outcome.windows), dtype=bool))
            closed = closed._replace(t_end=end[places_of(slots, closed.slot)])
            if self.header.emit == "last":
                return self._last(slots, closed)
            # A window that ends now is predicted as if closed, one that has only begun from the present state.
            just_now = committed.select(np.flatnonzero(committed.t_end == end[places_of(slots, committed.slot)]))
            rest = slots[~filled & ~np.isin(slots, just_now.slot)]
            just_now = just_now.select(np.flatnonzero(~np.isin(just_now.slot, closed.slot)))
            found = Predictions.join([closed, just_now, self._standing(rest)], self.nothing())
            return found.select(np.argsort(places_of(slots, found.slot), kind="stable"))
        finally:
            self.rows[slots], self.cuts, self.owing = before, cuts, owing

    def snapshot(self, slot: int) -> bytes:
        """Return the stream's row and held samples with a header that identifies stream and model."""
        bundle = self.bundle
        header = SnapshotHeader(
            self.names[slot],
            bundle.fingerprint,
            len(Column),
            bundle.state_fingerprint,
            "" if self.adapting is None else self.adapting.layout,
            0 if self.adapting is None else len(self.adapting.blank),
        )
        return snapshots.pack(header, np.append(self.rows[slot], self.loop.held(slot)))

    def snapshots(self, slots: Indices) -> dict[str, bytes]:
        """Return the snapshots of streams by name."""
        names = self.names.names_of(slots).to_pylist()
        return {name: self.snapshot(slot) for slot, name in zip(slots.tolist(), names, strict=True)}

    def read_snapshot(self, data: bytes) -> tuple[str, Floats]:
        """Name of a snapshot of this model, and its values, as `restore` takes them."""
        header, values = snapshots.unpack(data, SnapshotHeader)
        if header.model != self.bundle.fingerprint and header.model not in self.predecessors:
            raise SnapshotError(
                f"the snapshot of stream '{header.stream}' belongs to the model {header.model[:12]}, and this is "
                f"{self.bundle.fingerprint[:12]}: restore it with the model it was taken from"
            )
        if header.state and header.state != self.bundle.state_fingerprint:
            raise SnapshotError(
                f"the snapshot of stream '{header.stream}' has pools of other features than this model's: restore it "
                "with the model it was taken from"
            )
        width = len(self._blank)
        # Of a later version it has too many values, which is said below.
        values = np.insert(values, min(header.columns, len(values)), np.zeros(max(len(Column) - header.columns, 0)))
        if header.columns <= Column.CUTS:
            # Rows of before had where the open window begins.
            base = self.states.after_counts
            values = np.delete(values, np.s_[base : base + self.header.path_channels - 1])
        held, ripe = values[[Column.HELD, Column.PENDING]] if len(values) > Column.PENDING else (-1, 0)
        values = self._with_labels(header, values, held)
        if len(values) != width + held * self._entry or not (0 <= ripe <= held and ripe == ripe // 1):
            raise SnapshotError(
                f"the snapshot of stream '{header.stream}' has {len(values)} values and this model's state {width}: "
                "it was taken by another version of streamrde"
            )
        return header.stream, values

    def _with_labels(self, header: SnapshotHeader, values: Floats, held: float) -> Floats:
        """Fit a snapshot's values to this table: what labels taught, if the table keeps that, and the drift test."""
        end = len(values) - (int(held) * self._entry if 0 <= held <= len(values) else 0)
        begin = max(end - header.learned, 0)
        own = np.empty(0) if self.adapting is None else self.adapting.blank
        if header.learned and self.adapting is not None:
            if header.labels != self.adapting.layout or header.learned != len(own):
                raise SnapshotError(
                    f"the snapshot of stream '{header.stream}' was taken with other settings of labels (layout "
                    f"{header.labels}, and this is {self.adapting.layout}): keep adapt and the model's horizon as they "
                    "were, or restore with adapt='off', which forgets what the stream has learned"
                )
            own = values[begin:end]
        rest = self._with_drift(np.concatenate([values[:begin], values[end:]]), held)
        width = self.states.stop
        return np.concatenate([rest[:width], own, rest[width:]])

    def _with_drift(self, values: Floats, held: float) -> Floats:
        """Fit a snapshot's values to this table: with the drift test's columns if the table has them, or else without.

        Novelty changes no prediction: a stream may go on with it that began without, and the other way round.
        """
        start, has = self.states.drift.start, self.states.stop > self.states.drift.start
        found = len(values) - held * self._entry
        if has and found == start:
            return np.insert(values, start, np.zeros(COLUMNS))
        if not has and found == start + COLUMNS:
            return np.delete(values, np.s_[start : start + COLUMNS])
        return values

    def restore(self, slot: int, values: Floats) -> None:
        """Put a stream back to where it was."""
        width = len(self._blank)
        self.rows[slot] = values[:width]
        self.loop.hold(slot, values[width:].reshape(-1, self._entry), int(values[Column.PENDING]))
        self.clocks.resume(slot, float(values[Column.SAMPLES]))

    def _step(self, outcome: Outcome, cut_short: Bools | None = None) -> Predictions:
        """Begin states and step the model over the windows that closed, some of them perhaps before their time."""
        self.cuts, self.owing = outcome.cuts, outcome.owing
        windows, episodes = outcome.windows, outcome.episodes
        unjudged = windows["sampled"] == 0
        if cut_short is not None:
            unjudged |= cut_short
        slots = np.ascontiguousarray(windows["slot"])
        if len(episodes) and len(windows) and (episodes["episode"] > 1).any():
            stepped = self._step_in_turn(outcome, unjudged)
        else:
            self._begin(episodes["slot"], outcome.origins)
            stepped = self.states.step(self.rows, slots, windows["step"], outcome.logsigs, outcome.values, unjudged)
        never = np.empty((len(slots), 0))  # until `_served` knows them
        closed = Predictions(slots, windows["window"], windows["t_start"], windows["t_end"], *stepped, never)
        return self._served(closed)

    def _served(self, closed: Predictions) -> Predictions:
        """Return what is served after windows, with its thresholds. It then waits for its labels."""
        if self.adapting is None:
            return closed._replace(threshold=self._thresholds(closed.slot))
        value, threshold = np.empty_like(closed.value), np.empty((len(closed.slot), self.adapting.units))
        for places in rounds(closed.slot):
            own = closed.select(places)
            frozen = own.value.astype(np.float64)
            state = self.states.inputs_of(own.state)
            served = self.adapting.issue(self.rows, own.slot, own.window, own.t_end, frozen, state)
            value[places], threshold[places] = served.value, served.threshold
        return closed._replace(value=value, threshold=threshold)

    def _thresholds(self, slots: Indices) -> Floats:
        """Return the thresholds of streams' intervals, (n, units), or (n, 0) if there are none."""
        if self.adapting is not None:
            return self.adapting.thresholds(self.rows, slots)
        return np.empty((len(slots), 0)) if self.bands is None else np.tile(self.bands.first, (len(slots), 1))

    def _step_in_turn(self, outcome: Outcome, unjudged: Bools) -> Stepped:
        """Step where a stream's state begins between two of its windows: one episode after the other."""
        windows, begun = outcome.windows, outcome.episodes
        # Each window's and each beginning's place among the episodes that its stream goes through here.
        slots = np.append(windows["slot"], begun["slot"])
        numbers = np.append(windows["episode"], begun["episode"])
        episodes, place = np.unique(np.stack([slots, numbers]), axis=1, return_inverse=True)
        leads = np.flatnonzero(np.append(True, episodes[0, 1:] != episodes[0, :-1]))
        turn = np.arange(episodes.shape[1]) - np.repeat(leads, np.diff(np.append(leads, episodes.shape[1])))
        turn = turn[place.ravel()]
        window_turn, begin_turn = turn[: len(windows)], turn[len(windows) :]
        stepped = self.states.nothing(len(windows))
        for now in range(int(turn.max()) + 1):
            begin, step = begin_turn == now, window_turn == now
            self._begin(begun["slot"][begin], outcome.origins[begin])
            part = self.states.step(
                self.rows,
                windows["slot"][step],
                windows["step"][step],
                outcome.logsigs[step],
                outcome.values[step],
                unjudged[step],
            )
            stepped.put(step, part)
        return stepped

    def _begin(self, slots: Indices, first: Floats) -> None:
        """Give streams their initial states."""
        if len(slots):
            self.states.begin(self.rows, slots, first)

    def _emitted(self, closed: Predictions) -> Predictions:
        """Return the predictions that are emitted while a stream goes on."""
        return closed if self.header.emit == "every" else self.nothing()

    def _last(self, slots: Indices, closed: Predictions) -> Predictions:
        """Return the predictions of streams whose last windows closed, some of them just now."""
        slots = slots[self.rows[slots, Column.WINDOW] > 0]
        row, (error, novelty), end = self.rows[slots], np.full((2, len(slots)), np.nan), self.rows[slots, Column.START]
        just_now = places_of(slots, closed.slot)
        error[just_now], novelty[just_now], end[just_now] = closed.error, closed.novelty, closed.t_end
        seen = self.states.look(self.rows, slots)._replace(error=error, novelty=novelty)
        return Predictions(
            slots, row[:, Column.WINDOW].astype(np.int64) - 1, row[:, Column.T0], end, *seen, self._thresholds(slots)
        )

    def _standing(self, slots: Indices) -> Predictions:
        """Return predictions of streams whose open windows are still empty."""
        row = self.rows[slots]
        start, window = row[:, Column.START], row[:, Column.WINDOW].astype(np.int64)
        standing = self.states.look(self.rows, slots)
        if self.adapting is not None and len(slots):
            frozen = standing.value.astype(np.float64)
            state = self.states.inputs_of(standing.state)
            served = self.adapting.serve(self.rows, slots, frozen, state).value
            standing = standing._replace(value=served.astype(standing.value.dtype))
        return Predictions(slots, window, start, start, *standing, self._thresholds(slots))

    def _move_time(self, slots: Indices, end: Floats) -> None:
        """Hold the last values from where the paths end to times `end`, in the open windows."""
        passed = end - self.rows[slots, Column.T0] - self.rows[slots, Column.CURSOR]
        slots, passed = slots[passed > 0], passed[passed > 0]
        increments = np.zeros((len(slots), self.header.path_channels))
        increments[:, 0] = passed
        if self.header.missing.elapsed:
            increments[:, -len(self.header.channels) :] = passed[:, None]
        signature = self.rows[slots, self._signature]
        fold(signature, increments, np.arange(len(slots)), np.ones(len(slots), np.intp), self.header.depth)
        self.rows[slots, self._signature] = signature
        self.rows[slots, Column.FILLED] += 1

    def unusable(self, refusal: Refusal, slots: Indices, t: Floats, x: Floats) -> SampleError:
        """Return the error that says why a row of a push cannot be used."""
        row, bound = refusal.row, refusal.bound
        name, time = self.names[int(slots[row])], float(t[row])
        if refusal.fault == Fault.REJECTED:
            message = f"stream '{name}': {explain_unusable(row, refusal.column, t, x)}"
            return SampleError(message, stream=name, row=row)
        return OrderError(
            f"row {row}: sample of stream '{name}' at {time} s is not after {bound} s, which the stream has reached; "
            f"sort by time and drop repeats, or set faults='drop' to count and skip such samples",
            stream=name, row=row, t=time, last=bound,
        )  # fmt: skip

    def nothing(self) -> Predictions:
        """Return the result without any closed window."""
        empty, slots = np.empty(0), np.empty(0, np.intp)
        states = self.states.nothing(0)
        return Predictions(slots, empty.astype(np.int64), empty, empty, *states, self._thresholds(slots))
