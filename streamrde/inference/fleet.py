"""Many streams of one model: rows of samples in, record batches of predictions out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from streamrde.adapting.bands import as_tracking
from streamrde.adapting.settings import Adapt, Serve
from streamrde.adapting.trackers import Tracking
from streamrde.arrays import Indices
from streamrde.errors import BundleError, ParameterError, ShapeError
from streamrde.inference.bundle import Bundle, state_differences
from streamrde.inference.copies import copied, copied_deeply, reduced
from streamrde.inference.fleet_snapshots import SHARED, Changes, restore_shared, shared_snapshot
from streamrde.inference.learner import Learner
from streamrde.inference.names import stream_column
from streamrde.inference.overview import overview
from streamrde.inference.plausibility import Plausible
from streamrde.inference.predictions import NOT_FINITE, Predictions, prediction_schema
from streamrde.inference.predictor import as_time_check, check_faults, check_samples, check_windows
from streamrde.inference.slices import Slices
from streamrde.inference.states import Feature, OnRange, Serving, StateCounts
from streamrde.inference.steppers import Stepper
from streamrde.inference.table import Counts, OnFault, StreamTable
from streamrde.inference.troubles import KINDS, Kind, Trouble, Troubles, Vigilance
from streamrde.inference.unused import NOTHING_UNUSED, unused_rows
from streamrde.times import as_time
from streamrde.times.plausible import OnTime, TimeCheck
from streamrde.windowing.order import Order
from streamrde.windowing.rows import Column


class Fleet(Learner):
    """Stateful predictors of many streams, the array twin of Predictor.

    Each stream's predictions are, bit for bit, those of its own Predictor, whatever the order of the streams' rows and
    however they are cut into calls.

    Args:
        bundle: the model, from `load`.
        faults: treatment of a row that is late, a repeat, or not finite. ``"error"`` raises and takes no row of that
            call. ``"drop"`` skips and counts it (see `counts`).
        order: rules for late and repeated samples. None: they are faults.
        archive: mapping in which `evict` stores the snapshots of streams, and `push` looks for a stream that returns.
            The stream then continues with its window numbers and its state (unless the model's gaps reset it), in a
            new segment. None: it starts from scratch.
        stepper: stepper of the model, such as a TorchStepper. None: the compiled one, or the one in NumPy.
        threads: number of threads for the streams of large calls. Predictions do not depend on it.
        on_range: treatment of a hidden state that is not finite, or out of its range in training. ``"mend"`` resets one
            that is not finite to the initial state of the path at the next window, and keeps the others. ``"keep"``
            keeps both. ``"reset"`` resets both. The prediction is flagged and counted in any case (see
            `state_counts`).
        step_error: estimate the solver's error in every window, at three times the solver's cost.
        novelty: measure how far each window lies outside of the training data, as a p-value (see inference.novelty),
            and watch each stream for drift (`state_counts`). The model must know its training windows.
        features: further columns of the record batches: ``"state"``, the hidden state after the window, and
            ``"logsignature"``.
        plausible: limits of the channels' values, and the treatment of others.
        vigilance: limits from which a stream counts as gone wrong. See `troubles`.
        restart_after: number of late samples in a row after which a stream's time starts again, as by `restart`.
            0: never.
        on_trouble: function that is called with each new trouble, once per stream, kind and channel, and again (with
            `Trouble.again`) while a stream's samples are refused. None: warn about implausible values.
        time_check: treatment of streams whose first times cannot be seconds. ``"error"`` raises. ``"reject"`` counts
            their rows as rejected, with the reason in `suspects`. ``"off"`` skips the check. See `TimeCheck` and
            `times.plausible`.
        adapt: use of labels that come after their predictions (see `label`): the name of what is served, such as
            ``"best"``, or an `Adapt`. ``"off"``: labels are refused.
        intervals: coverage of intervals of numbers, `lower` and `upper`, and of sets of classes, `set`, such as 0.9, or
            a `Tracking`. They follow the labels if the fleet adapts. None: there are none.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        faults: OnFault = "error",
        order: Order | None = None,
        archive: MutableMapping[str, bytes] | None = None,
        stepper: Stepper | None = None,
        threads: int = 1,
        on_range: OnRange = "mend",
        step_error: bool = False,
        novelty: bool = False,
        features: Sequence[Feature] = (),
        plausible: Plausible | None = None,
        vigilance: Vigilance | None = None,
        restart_after: int = 0,
        on_trouble: Callable[[Trouble], None] | None = None,
        time_check: TimeCheck | OnTime = "error",
        adapt: Adapt | Serve = "off",
        intervals: Tracking | float | None = None,
    ) -> None:
        check_faults(faults)
        time_check = as_time_check(time_check, faults)
        # The arguments of __init__, for __reduce__ and __deepcopy__.
        self._settings: dict[str, Any] = {
            "faults": faults,
            "order": order,
            "archive": archive,
            "stepper": stepper,
            "threads": threads,
            "on_range": on_range,
            "step_error": step_error,
            "novelty": novelty,
            "features": tuple(features),
            "plausible": plausible,
            "vigilance": vigilance,
            "restart_after": restart_after,
            "on_trouble": on_trouble,
            "time_check": time_check,
            "adapt": Adapt.of(adapt),
            "intervals": as_tracking(intervals),
        }
        self._order = order
        self._serving = Serving(**{name: self._settings[name] for name in Serving.__struct_fields__})
        self._features = self._serving.features
        self._table = StreamTable(bundle, order, self._serving)
        self._archive = archive
        self._troubles = Troubles(bundle.header, plausible=plausible, vigilance=vigilance, on_trouble=on_trouble)
        self._time = -np.inf
        # The last push's unused rows, made into a batch only on request.
        self._unused: tuple[Any, Any, Any, Any, Any] | None = None
        self._faults: OnFault = faults
        self._ended, self._ended_states = Counts(), StateCounts()
        # Streams that ended since the last checkpoint.
        self._gone: set[str] = set()
        self._owing: dict[str, None] = {}  # streams that owe windows, in turn
        self._archived: dict[str, bytes] = {}
        self._columns: Any = {"features": self._features, "novelty": novelty, "sets": self._serving.sets}
        self.schema: pa.Schema = prediction_schema(bundle.header, **self._columns)
        """Schema of the record batches."""

    def __reduce__(self) -> tuple[Any, ...]:
        return reduced(self)

    def __copy__(self) -> Fleet:
        return copied(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Fleet:
        return copied_deeply(self, memo)

    def __len__(self) -> int:
        return len(self._table.names)

    def __contains__(self, stream: object) -> bool:
        return stream in self._table.names

    def __repr__(self) -> str:
        return f"Fleet(streams={len(self)})"

    @property
    def on_range(self) -> OnRange:
        """Treatment of a hidden state out of its range."""
        return self._serving.on_range

    @property
    def streams(self) -> list[str]:
        """Names of the live streams, in the order of their first samples."""
        return self._names(self._find(None))

    @property
    def archive(self) -> MutableMapping[str, bytes] | None:
        """Archive of the streams that `evict` ended."""
        return self._archive

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the data channels, in the order of x."""
        return tuple(channel.name for channel in self._table.header.channels)

    @property
    def event_time(self) -> float:
        """Latest time of any stream's samples, seconds, or -inf before the first."""
        return float(self._time)

    @property
    def unused(self) -> pa.RecordBatch:
        """Rows of the last `push` that were not used, with the reason: late, duplicate or rejected. See `UNUSED`.

        With ``duplicates="last"`` a row that replaced an earlier one is listed in its place.
        """
        if self._unused is None:
            return NOTHING_UNUSED
        return unused_rows(*self._unused)

    @property
    def suspects(self) -> dict[str, str]:
        """Live streams whose rows are rejected for their times, and why, by name."""
        return {self._table.names[slot]: suspect.reason for slot, suspect in self._table.clocks.suspects.items()}

    def counts(self, stream: str | None = None) -> Counts:
        """Return the counts of a live stream's rows, or of all rows ever pushed, by outcome."""
        if stream is not None:
            return self._table.counts(self._find([stream]))
        return self._ended + self._table.counts(self._find(None))

    def state_counts(self, stream: str | None = None) -> StateCounts:
        """Count the windows after which the state needed attention, for a live stream or for all streams ever."""
        if stream is not None:
            return self._table.state_counts(self._find([stream]))
        return self._ended_states + self._table.state_counts(self._find(None))

    def overview(self, most: int | None = None) -> pa.RecordBatch:
        """Return times, window and counts of the live streams, or the first `most`: see `inference.overview`."""
        return overview(self._table, self._find(None)[:most])

    def troubles(self, most: int = 20) -> list[Trouble]:
        """Return the latest troubles of streams, the last one first, each with its kind, reason and remedy."""
        return self._troubles.latest(most, self._table.names, self._table.rows)

    @property
    def restart_after(self) -> int:
        """Late samples in a row with which a stream's time begins again. 0 means never."""
        return self._serving.restart_after

    @property
    def on_trouble(self) -> Callable[[Trouble], None] | None:
        """Function that is called with each trouble when it is noticed, and again while samples go on being refused."""
        return self._troubles.on_trouble

    @on_trouble.setter
    def on_trouble(self, take: Callable[[Trouble], None] | None) -> None:
        self._troubles.on_trouble = self._settings["on_trouble"] = take

    @property
    def trouble_counts(self) -> dict[Kind, int]:
        """Number of streams that went wrong so far, by kind. A kind about channels counts the channels of streams."""
        return {kind: self._troubles.counts[kind] for kind in KINDS}

    @property
    def implausible(self) -> dict[str, int]:
        """Number of values that were not plausible so far, by channel."""
        return {channel: self._troubles.implausible[channel] for channel in self.channels}

    @property
    def owing(self) -> int:
        """Streams that may owe windows since a `push` with a bound."""
        return len(self._owing)

    def push(
        self,
        streams: pa.Array | Sequence[str] | NDArray[Any],
        t: ArrayLike,
        x: ArrayLike,
        *,
        windows: int | None = None,
    ) -> pa.RecordBatch:
        """Take rows of samples. A stream begins with its first row.

        Args:
            streams: stream of each row, (n,): strings, or integers, which become their decimal text.
            t: times in seconds or as datetime64, (n,), ascending within each stream unless `order` allows otherwise.
                Streams may be interleaved in any way.
            x: data channels without time, (n, channels), raw (unscaled); NaN = not observed.
            windows: bound on the windows that the passing of time closes in this call, beyond two per row. None: no
                bound. A stream that reaches it owes the other windows to ``slices(...).owed()`` or to the next call
                with the stream. Its samples are taken, and its predictions stay the same.
        Returns:
            a prediction per closed window (see `prediction_schema`), in the order of the rows that closed them.
        Raises:
            ShapeError: the three arrays do not fit together.
            SampleError, OrderError: with ``faults="error"``, as Predictor.push.
            TimeUnitError: with ``time_check="error"``. None of the rows is taken.
        """
        times, samples = check_samples(self._table, t, x)
        names = stream_column(streams)
        if len(names) != len(times):
            raise ShapeError(f"streams has {len(names)} rows and t {len(times)}: give one stream per row")
        bound = -1 if windows is None else check_windows(windows)
        slots, began = self._table.add(names)
        self._unused = None
        try:
            if self._archive is not None:
                self._return(began, self._archive)
            raises, room = self._faults == "error", len(self._table.rows)
            taken = self._troubles.look(self._table.names, room, slots, times, samples, raises=raises)
            closed = self._table.push(slots, times, taken, faults=self._faults, windows=bound)
        except BaseException:
            self._troubles.forget(began)
            self._table.release(began)
            raise
        self._table.changed[slots] = True
        if len(self._table.owing):
            self._owing |= dict.fromkeys(self._names(self._table.owing))
        used = times
        if len((table := self._table).unused):
            rows, faults = table.unused["row"], table.unused["fault"]
            self._unused = rows, faults, names, times[rows], samples[rows]
            used = np.delete(times, rows)
        self._troubles.pushed(table, slots, times, samples, self._serving.restart_after)
        self._time = max(self._time, used.max(initial=-np.inf))
        return self._batch(closed)

    def slices(self, *, windows: int) -> Slices:
        """Return `Slices`, which works on many streams and on windows that they owe, at most `windows` at a time."""
        return Slices(self, windows)

    def _return(self, slots: Indices, archive: MutableMapping[str, bytes]) -> None:
        """Restore streams from the archive."""
        for slot, name in zip(slots.tolist(), self._names(slots), strict=True):
            if (data := archive.get(name)) is not None:
                self._table.restore(slot, self._table.read_snapshot(data)[1])

    def advance(self, t: float, streams: Iterable[str] | None = None) -> pa.RecordBatch:
        """Let time reach t: close the windows that end by then, as Predictor.advance, in all or some streams.

        Windows that late samples may still belong to stay open.
        """
        return self._advance(as_time(t), self._find(streams), -1, -1)

    def _advance(self, t: float, slots: Indices, windows: int, share: int) -> pa.RecordBatch:
        before = self._table.progress(slots)
        closed = self._table.advance(slots, np.full(len(slots), t), windows, share)
        moved = (before != self._table.progress(slots)).any(axis=1)
        self._table.changed[slots[moved]] = True
        return self._batch(closed)

    def flush(self, streams: Iterable[str] | None = None) -> pa.RecordBatch:
        """End streams (None: all): close their last windows and free their rows.

        A stream that comes back starts from scratch. To pause a stream, keep its snapshot.
        """
        return self._end(self._find(streams), -1, -1, keep=False)

    def _end(self, slots: Indices, windows: int, share: int, *, keep: bool) -> pa.RecordBatch:
        batch = self._batch(self._table.flush(slots, windows, share))
        slots = slots[~np.isin(slots, self._table.owing)]
        self._ended += self._table.counts(slots)
        self._ended_states += self._table.state_counts(slots)
        self._table.forget_counts(slots)
        self._troubles.ended(self._table.names, slots)
        names = self._names(slots)
        for name in names:
            self._owing.pop(name, None)
        if keep and self._archive is not None:
            for slot, name in zip(slots.tolist(), names, strict=True):
                self._archive[name] = self._archived[name] = self._table.snapshot(slot)
        else:
            self._gone.update(names)
            if self._archive is not None:
                for name in names:
                    self._archive.pop(name, None)
        self._table.release(slots)
        return batch

    def restart(self, streams: Iterable[str]) -> pa.RecordBatch:
        """Restart the streams' time: close their last windows and forget the times they have reached.

        The next sample of each stream is taken at any time and starts a segment. Window numbers continue, and so do
        states if the model carries them to a stream that returns.
        """
        slots = self._find(streams)
        closed = self._table.restart(slots)
        self._table.changed[slots] = True
        self._time = float(self._table.last(self._find(None)).max(initial=-np.inf))
        return self._batch(closed)

    def peek(self, streams: Iterable[str] | None = None, t: float | None = None) -> pa.RecordBatch:
        """Return a provisional prediction per stream (None: all), as Predictor.peek does. It commits nothing.

        The batch has the column `provisional` beside those of `schema`.
        """
        time = None if t is None else as_time(t)
        slots = self._find(streams)
        slots = slots[self._table.last(slots) > -np.inf]
        closed = self._table.peek(slots, time)
        return self._batch(closed, provisional=True)

    def evict(self, *, idle: float, now: float | None = None) -> pa.RecordBatch:
        """End the streams that were silent for long: close their last windows and free their rows.

        Args:
            idle: seconds. Streams whose latest sample is longer ago are ended.
            now: the present time. None: the fleet's `event_time`.
        """
        return self._end(self._idle(idle, now), -1, -1, keep=True)

    def _idle(self, idle: float, now: float | None) -> Indices:
        if not idle >= 0:
            raise ParameterError(f"idle={idle}: give a number of seconds, at least 0")
        return self._table.silent(self._find(None), (self.event_time if now is None else as_time(now)) - idle)

    def snapshot(self, streams: Iterable[str] | None = None) -> dict[str, bytes]:
        """Return the whole state of each stream, by name. Predictor.restore reads one too.

        Of all streams (None), also what they learned together with `Adapt.share`, as `fleet_snapshots.SHARED`.
        """
        shared = shared_snapshot(self._table) if streams is None else {}
        return self._table.snapshots(self._find(streams)) | shared

    def restore(self, snapshots: Mapping[str, bytes], *, repeats: int = 0) -> None:
        """Restore streams to their snapshots, beside the live ones.

        `checkpoint` counts them as unchanged until they next take a row.

        Args:
            snapshots: by the streams' names.
            repeats: rows that each stream may get a second time, from a source that repeats unacknowledged rows. This
                many late rows do not count against its clock.
        Raises:
            SnapshotError: one is damaged, or belongs to another model. Then none is restored.
        """
        states = {name: self._table.read_snapshot(data)[1] for name, data in snapshots.items() if name != SHARED}
        restore_shared(self._table, snapshots.get(SHARED))
        slots, _ = self._table.add(pa.array(list(states), pa.string()))
        for slot, values in zip(slots.tolist(), states.values(), strict=True):
            self._table.restore(slot, values)
            if repeats:
                self._table.rows[slot, Column.REFUSED] = -repeats
            self._time = max(self._time, values[Column.TOP])
        # Streams that wait may owe windows or lack observations. The next call finds out.
        self._owing |= dict.fromkeys(name for name, values in states.items() if values[Column.PENDING])

    def checkpoint(self) -> Changes:
        """Return the changes since the last call, or since the fleet was created.

        A stream that ended and started again only counts as changed. To keep a fleet for good, save the changes at
        intervals. `restore` of the latest snapshot of every stream that has not ended brings the fleet back.
        """
        live = self._find(None)
        changed = self._table.snapshots(live[self._table.changed[live]])
        changed |= shared_snapshot(self._table) if self._taught else {}
        archived = {name: data for name, data in self._archived.items() if name not in self._table.names}
        ended = tuple(name for name in self._gone if name not in self._table.names)
        self._table.changed[:] = False
        self._gone, self._archived, self._taught = set(), {}, False
        return Changes(changed | archived, ended)

    @property
    def fingerprint(self) -> str:
        """The model's fingerprint."""
        return self._table.bundle.fingerprint

    @property
    def novelty_fingerprint(self) -> str:
        """Fingerprint of the windows' p-values, or "" if they are not computed."""
        return self._table.bundle.novelty_fingerprint if self._serving.novelty else ""

    @property
    def predecessors(self) -> frozenset[str]:
        """Fingerprints of the models that this fleet had before its own, whose snapshots it restores too."""
        return frozenset(self._table.predecessors)

    def swap(self, bundle: Bundle) -> None:
        """Continue with another model. Every stream keeps its open window and its hidden state.

        Args:
            bundle: a model with the same header except for field, solver and description: one trained further, or
                again. The meaning of the hidden state must be the same, which is checked of a reservoir only.
        Raises:
            BundleError: the headers differ in more than that. The message lists the differences. Nothing has changed.
        """
        old, new = self._table.bundle, bundle
        if differences := state_differences(old, new):
            raise BundleError(
                f"the model cannot continue the state of the one before: {'; '.join(differences)}; keep these as they "
                "were, or start with an empty state store"
            )
        if self._serving.novelty and new.header.novelty is None:
            raise BundleError(
                "the new model does not know its training windows, which novelty needs: call add_novelty on it"
            )
        serving = msgspec.structs.replace(self._serving, stepper=None)
        self._settings["stepper"] = None
        saved, names, slots = self.snapshot(), self.streams, self._find(None)
        table = StreamTable(new, self._order, serving)
        table.predecessors = {*self._table.predecessors, old.fingerprint} - {new.fingerprint}
        self._table = table
        self.restore(saved)
        self._troubles.swapped(new.header, slots, self._find(names))
        self._table.changed[self._find(None)] = self._taught = True

    def accept(self, predecessors: Iterable[str]) -> None:
        """Accept snapshots of these models too, by fingerprint: models that this one replaced."""
        self._table.predecessors |= set(predecessors) - {self.fingerprint}

    def _find(self, streams: Iterable[str] | None) -> Indices:
        return self._table.names.find(streams)

    def _names(self, slots: Indices) -> list[str]:
        return self._table.names.names_of(slots).to_pylist()  # type: ignore[no-any-return]

    def _batch(self, closed: Predictions, *, provisional: bool = False) -> pa.RecordBatch:
        if not provisional:
            bad = closed.select(np.flatnonzero(closed.flag == NOT_FINITE))
            self._troubles.cut(self._table.names, self._table.cuts)
            self._troubles.not_finite(self._table.names, bad.slot, bad.t_end, mended=self.on_range != "keep")
        return closed.record_batch(self._table.names, self._table.header, provisional=provisional, **self._columns)
