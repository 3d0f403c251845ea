"""One stream: push samples, get predictions. No clock, no I/O, no asyncio, no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from streamrde.adapting.bands import as_tracking
from streamrde.adapting.settings import Adapt, Serve
from streamrde.adapting.trackers import Tracking
from streamrde.errors import ParameterError, SampleError, ShapeError
from streamrde.floats import as_floats, swapped
from streamrde.inference.bundle import Bundle
from streamrde.inference.learner import take
from streamrde.inference.lone_window import LoneWindow
from streamrde.inference.plausibility import Plausible
from streamrde.inference.predictions import Prediction, Predictions
from streamrde.inference.states import OnRange, Serving, StateCounts
from streamrde.inference.steppers import Stepper
from streamrde.inference.table import Counts, OnFault, StreamTable
from streamrde.inference.troubles import Troubles
from streamrde.kernels.outcome import Outcome, Refusal
from streamrde.times import as_time, as_times
from streamrde.times.plausible import OnTime, TimeCheck
from streamrde.windowing.order import Order

_SLOT = np.zeros(1, dtype=np.intp)


class Predictor:
    """A stateful predictor of one stream.

    Args:
        bundle: the model, from `load`.
        stream: stream name in the predictions.
        faults: treatment of a sample that is late, a repeat, or not finite. ``"error"`` raises and leaves the state
            unchanged. ``"drop"`` skips and counts it (see `counts`).
        order: rules for late and repeated samples. None: they are faults.
        stepper, on_range, step_error, novelty, plausible, restart_after, time_check, adapt, intervals: as for
            Fleet.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        stream: str = "",
        faults: OnFault = "error",
        order: Order | None = None,
        stepper: Stepper | None = None,
        on_range: OnRange = "mend",
        step_error: bool = False,
        novelty: bool = False,
        plausible: Plausible | None = None,
        restart_after: int = 0,
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
            "stepper": stepper,
            "on_range": on_range,
            "step_error": step_error,
            "novelty": novelty,
            "plausible": plausible,
            "restart_after": restart_after,
            "time_check": time_check,
            "adapt": Adapt.of(adapt),
            "intervals": as_tracking(intervals),
        }
        serving = Serving(
            stepper=stepper,
            on_range=on_range,
            step_error=step_error,
            novelty=novelty,
            restart_after=restart_after,
            time_check=time_check,
            adapt=Adapt.of(adapt),
            intervals=as_tracking(intervals),
        )
        if serving.adapt.share:
            raise ParameterError("share: a Predictor has one stream; leave it out, or use a Fleet")
        self._table = StreamTable(bundle, order, serving)
        self._table.add(pa.array([stream], pa.string()))
        self._faults: OnFault = faults
        self._drops = faults == "drop"
        self._troubles = Troubles(bundle.header, plausible=plausible)
        if self._troubles.plausible.otherwise != "use":
            self._table.loop.limit(*self._troubles.near)
        states = self._table.states
        self._lone = LoneWindow(states, bundle.header) if LoneWindow.suits(states, bundle.header) else None
        self._name = stream
        self._push_one: Callable[..., Outcome | Literal[False] | None] | None = None
        self._choose_push()

    def __repr__(self) -> str:
        return f"Predictor(stream={self.stream!r}, samples={self.counts.samples})"

    def __reduce__(self) -> tuple[Any, ...]:
        check_stepper_pickles(self._settings["stepper"], type(self).__name__)
        return _restored, (type(self), self._table.bundle, self._table.predecessors, self.snapshot(), self._settings)

    def __copy__(self) -> Predictor:
        return self.__deepcopy__({})

    def __deepcopy__(self, memo: dict[int, Any]) -> Predictor:
        # The bundle and a stepper hold no state of the stream and are shared.
        table = self._table
        copied = _restored(type(self), table.bundle, table.predecessors, self.snapshot(), self._settings)
        memo[id(self)] = copied
        return copied

    @property
    def stream(self) -> str:
        """Stream name in the predictions."""
        return self._name

    @property
    def counts(self) -> Counts:
        """Counts of the samples since the stream began, by outcome."""
        return self._table.counts(_SLOT)

    @property
    def state_counts(self) -> StateCounts:
        """Counts of windows after which the state needed attention, since the stream began."""
        return self._table.state_counts(_SLOT)

    def push(self, t: float, x: ArrayLike) -> list[Prediction]:
        """Take one sample. Return the predictions of the windows that it closed, often none.

        Args:
            t: its time, in seconds of any origin or as datetime64 or datetime. It must be after the time of the sample
                before unless `order` allows otherwise.
            x: the data channels without time, (channels,), raw (unscaled); NaN = not observed.
        Raises:
            ShapeError: x has another number of channels.
            SampleError: t is not finite, or x infinite.
            OrderError: t is not after the last sample, or before an edge that `advance` passed.
            TimeUnitError: the stream's first times cannot be seconds. See `time_check`.
        """
        if self._push_one is not None:
            try:
                outcome = self._push_one(self._table.rows, 0, t, x, self._drops)
            except Refusal as refusal:
                times, sample = np.array([t]), np.array([x], dtype=np.float64)
                raise self._table.unusable(refusal, _SLOT, times, sample) from None
            if outcome is None:
                return []
            if outcome is not False:
                return self._closed(outcome)
        sample = as_floats("x", x)
        if sample.shape != (len(self._table.header.channels),):
            raise ShapeError(f"x has shape {sample.shape}: {_wanted(self._table)}")
        return self.push_many([t], sample[None])

    def push_many(self, t: ArrayLike, X: ArrayLike) -> list[Prediction]:
        """Take samples in order. The predictions are the same, bit for bit, as from pushing them one by one.

        Args:
            t: times, (n,), in seconds or as datetime64.
            X: data channels, (n, channels).
        Raises:
            ShapeError, SampleError, OrderError, TimeUnitError: as `push`. None of the samples is taken.
        """
        times, samples = check_samples(self._table, t, X)
        slots = np.zeros(len(times), dtype=np.intp)
        samples = self._troubles.judge(self._table.names, slots, times, samples, raises=not self._drops)
        closed = self._table.push(slots, times, samples, faults=self._faults)
        if self._push_one is None:
            self._choose_push()
        return self._predictions(closed)

    def advance(self, t: float) -> list[Prediction]:
        """Let time reach t without a sample: close the windows that end by then.

        With ``interpolation="hold"`` the last value holds until t. Nothing closes with "linear", since the path is not
        known before the next sample, or with `Count`, which has no edges in time.
        """
        return self._predictions(self._table.advance(_SLOT, np.array([as_time(t)])))

    def label(
        self, values: ArrayLike | Mapping[str, Any], *, t: float | None = None, window: int | None = None
    ) -> dict[str, Any]:
        """Learn from the label of an earlier prediction. See `Fleet.label`.

        Args:
            values: targets, (outputs,), or a class. Of several heads, a dict by head.
            t, window: time that the label is for, or number of its window.
        Returns:
            the row of `Fleet.label`'s batch.
        """
        rows: Any = {name: [value] for name, value in values.items()} if isinstance(values, Mapping) else [values]
        times = None if t is None else [as_time(t)]
        batch, _ = take(self._table, [self._name], rows, times, None if window is None else [window])
        row: dict[str, Any] = batch.to_pylist()[0]
        return row

    def flush(self) -> list[Prediction]:
        """End the stream: close its last, short window and forget it. The next sample begins a new one."""
        closed = self._predictions(self._table.flush(_SLOT))
        self._table.reset(_SLOT)
        self._choose_push()
        return closed

    def peek(self, t: float | None = None) -> Prediction:
        """Return a provisional prediction from the open window's partial log-signature. It commits nothing.

        If t is the window's end (hold), it equals the prediction that `advance` will commit.

        Args:
            t: time up to which the last value is held (``interpolation="hold"`` only). None: the last sample's time.
        Raises:
            SampleError: there is no sample yet.
        """
        if not self.counts.samples:
            raise SampleError(f"stream '{self.stream}' has no sample yet: push one before peek", stream=self.stream)
        closed = self._table.peek(_SLOT, None if t is None else as_time(t))
        return self._predictions(closed, provisional=True)[0]

    def snapshot(self) -> bytes:
        """Return the stream's whole state, as bytes that `restore` reads on any machine."""
        return self._table.snapshot(0)

    @classmethod
    def restore(
        cls,
        bundle: Bundle,
        data: bytes,
        *,
        faults: OnFault = "error",
        order: Order | None = None,
        stepper: Stepper | None = None,
        on_range: OnRange = "mend",
        step_error: bool = False,
        novelty: bool = False,
        plausible: Plausible | None = None,
        restart_after: int = 0,
        time_check: TimeCheck | OnTime = "error",
        adapt: Adapt | Serve = "off",
        intervals: Tracking | float | None = None,
    ) -> Predictor:
        """Return a predictor in the state of a Predictor's or a Fleet's snapshot.

        Raises:
            SnapshotError: the bytes are damaged, or belong to another model.
        """
        predictor = cls(
            bundle,
            faults=faults,
            order=order,
            stepper=stepper,
            on_range=on_range,
            step_error=step_error,
            novelty=novelty,
            plausible=plausible,
            restart_after=restart_after,
            time_check=time_check,
            adapt=adapt,
            intervals=intervals,
        )
        predictor._go_on(data)
        return predictor

    def _go_on(self, snapshot: bytes) -> None:
        """Continue from a snapshot, under its stream's name."""
        name, values = self._table.read_snapshot(snapshot)
        self._table.release(_SLOT)
        self._table.add(pa.array([name], pa.string()))
        self._table.restore(0, values)
        self._name = name
        self._choose_push()

    def _choose_push(self) -> None:
        """Choose the fast way, which checks no times, once the stream's first times have been checked."""
        self._push_one = None if self._table.clocks.watching else self._table.loop.push_one

    def _closed(self, outcome: Outcome) -> list[Prediction]:
        """Return the predictions after the windows that one sample closed."""
        if self._lone is not None and self._lone.is_one(outcome):
            found = self._lone.predict(self._name, self._table.rows, outcome.windows, outcome.logsigs)
            if found is not None:
                return [found]
        return self._predictions(self._table.pushed(outcome))

    def _predictions(self, closed: Predictions, *, provisional: bool = False) -> list[Prediction]:
        table, asked = self._table, as_tracking(self._settings["intervals"])
        return closed.predictions(
            table.names, table.header, provisional=provisional, sets=None if asked is None else asked.sets
        )


def _restored(
    cls: type[Predictor], bundle: Bundle, predecessors: set[str], snapshot: bytes, settings: dict[str, Any]
) -> Predictor:
    """Make a copy of a predictor from its parts."""
    predictor = cls(bundle, **settings)
    predictor._table.predecessors = set(predecessors)
    predictor._go_on(snapshot)
    return predictor


def check_stepper_pickles(stepper: Any, owner: str) -> None:
    """Raise TypeError that says why `owner` cannot be pickled, unless its stepper can be."""
    if stepper is None:
        return
    try:
        stepper.__reduce_ex__(4)
    except Exception as error:
        raise TypeError(
            f"this {owner} cannot be pickled: its stepper, a {type(stepper).__name__}, cannot ({error}); keep its "
            f"snapshot() instead, and restore it with a new stepper"
        ) from None


def check_faults(faults: str) -> None:
    """Raise ParameterError unless `faults` is one that exists."""
    if faults not in ("error", "drop"):
        raise ParameterError(f"faults={faults!r}: use 'error' or 'drop'")


def check_windows(windows: int) -> int:
    """Return a bound on the windows of one call, or raise ParameterError unless it is at least 1."""
    if not windows >= 1:
        raise ParameterError(f"windows={windows}: a call closes at least 1; give a whole number")
    return int(windows)


def as_time_check(check: TimeCheck | OnTime, faults: OnFault) -> TimeCheck:
    """Return the check, or raise ParameterError if it cannot be one."""
    check = check if isinstance(check, TimeCheck) else TimeCheck(check)
    if check.action == "reject" and faults == "error":
        raise ParameterError("time_check='reject' counts and skips rows: use it with faults='drop'")
    return check


def check_samples(table: StreamTable, t: ArrayLike, x: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return times (n,) and samples (n, channels) as float64. Raise ShapeError if they do not fit the model."""
    times, samples = as_times("t", t), as_floats("x", x)
    channels = len(table.header.channels)
    if samples.ndim != 2 or samples.shape[1] != channels:
        hint = ""
        if samples.ndim == 2 and samples.shape == (channels, times.size):
            hint = f"; {swapped('x', samples.shape)}"
        raise ShapeError(f"x has shape {samples.shape}: {_wanted(table, rows='n, ')}{hint}")
    if times.shape != samples.shape[:1]:
        raise ShapeError(f"t has shape {times.shape} and x {samples.shape}: give one time per row of x")
    return times, samples


def _wanted(table: StreamTable, rows: str = "") -> str:
    names = [channel.name for channel in table.header.channels]
    return f"this model takes ({rows}{len(names)}{'' if rows else ','}), the channels {', '.join(names)}, without time"
