"""The hidden states in the rows of live streams: where they begin, move, are read out and watched."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamrde.adapting import drift
from streamrde.adapting.scores import Sets
from streamrde.adapting.settings import Adapt
from streamrde.adapting.trackers import Tracking
from streamrde.arrays import Bools, Floats, Indices, Ints, Reals
from streamrde.errors import ParameterError
from streamrde.floats import as_size
from streamrde.inference.bundle import Bundle
from streamrde.inference.novelty import NOVEL, Novelty
from streamrde.inference.steppers import RowStepper, Stepper, make_stepper, step_in_rounds
from streamrde.inference.turns import before, rounds
from streamrde.times.plausible import TimeCheck

OnRange: TypeAlias = Literal["mend", "keep", "reset"]
Feature: TypeAlias = Literal["state", "logsignature"]
"""Further outputs of a window: the hidden state after it, its log-signature or, of other models, token (unscaled)."""


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """Options for stepping a model. None of them changes a prediction, except `on_range` and `restart_after`."""

    stepper: Any = None
    """A Stepper; None: the fastest there is for the model."""
    threads: int = 1
    """How many to split the streams of large calls over."""
    on_range: OnRange = "mend"
    """Action on a state that is not finite, or out of the range it had in training.

    "mend" restarts one that is not finite, as the initial state of the path where the next window begins, and keeps the
    others. "keep" keeps both. "reset" restarts both."""
    step_error: bool = False
    """Estimate the solver's error in every window, at thrice the solver's cost."""
    novelty: bool = False
    """Tell of every window how far it lies outside of training, and watch the streams for drift."""
    features: tuple[Feature, ...] = ()
    """Further outputs of every window."""
    restart_after: int = 0
    """Late samples in a row with which a stream's time begins again, in a new segment. If 0, it never does."""

    adapt: Adapt = Adapt(serve="off")
    """Use of labels that come after their predictions."""

    intervals: Tracking | None = None
    """Intervals or sets of the predictions, and how they follow labels."""

    time_check: TimeCheck = TimeCheck()
    """Check for streams whose times cannot be right, and what to do with them."""

    def __post_init__(self) -> None:
        if self.on_range not in ("mend", "keep", "reset"):
            raise ParameterError(f"on_range={self.on_range!r}: use 'mend', 'keep' or 'reset'")
        msgspec.structs.force_setattr(self, "threads", as_size("threads", self.threads))
        msgspec.structs.force_setattr(self, "restart_after", as_size("restart_after", self.restart_after, least=0))
        if set(self.features) - {"state", "logsignature"} or len(set(self.features)) < len(self.features):
            raise ParameterError(f"features={self.features!r}: use 'state', 'logsignature', both, or none")

    @property
    def sets(self) -> Sets | None:
        """Return the kind of the sets of classes, or None without intervals."""
        return None if self.intervals is None else self.intervals.sets


class StateCounts(NamedTuple):
    """Windows that call for a look."""

    out_of_range: int = 0
    """After them the hidden state was not where it was in training."""
    not_finite: int = 0
    """After them the hidden state was not finite."""
    inexact: int = 0
    """The estimated error of their step was above the model's tolerance."""
    novel: int = 0
    """Their p-value was below 1 %; of what the model was trained on, one in a hundred is. With `novelty` only."""
    drifts: int = 0
    """With them the evidence was enough that the stream is not like those of training. With `novelty` only."""
    cuts: int = 0
    """Silences, not windows: so long that the stream was cut rather than its silence filled with windows."""

    def __add__(self, other: StateCounts) -> StateCounts:  # type: ignore[override]
        return StateCounts(*(a + b for a, b in zip(self, other, strict=True)))


_FIRST = np.zeros(1, dtype=np.intp)

_COUNTED = 3
"""Of StateCounts, what every stream counts."""


class Stepped(NamedTuple):
    """Results of stepped states, one entry each. See predictions.Closed."""

    value: Reals
    flag: NDArray[np.uint8]
    error: Floats
    novelty: Floats
    state: Floats
    logsignature: Floats

    def put(self, places: Bools, part: Stepped) -> None:
        """Fill in the entries at some places."""
        self.value[places], self.flag[places], self.error[places] = part.value, part.flag, part.error
        self.novelty[places], self.state[places] = part.novelty, part.state
        self.logsignature[places] = part.logsignature


class States:
    """The columns of a stream's row that hold its state, from `start` on.

        z | counts | mean | previous | drift

    z: hidden state, (hidden,). counts: the first three of StateCounts. mean: of the states after each window, and their
    number, (hidden + 1,), only for models with ``pooling="mean"``. previous: the last closed window's token,
    (B,), NaN where the state was begun after it, only for models with ``first_stage="previous"``. drift: two of
    StateCounts and the logarithm of the drift test's capital, only where novelty is asked for.

    Args:
        bundle: the model.
        serving: how to step it.
        start: the first column.
    """

    def __init__(self, bundle: Bundle, serving: Serving, start: int) -> None:
        header = bundle.header
        self.header = header
        self.stepper: Stepper = serving.stepper or make_stepper(bundle, threads=serving.threads)
        self._in_rows = self.stepper if isinstance(self.stepper, RowStepper) else None
        if header.field.in_rows and self._in_rows is None:
            raise ParameterError(f"stepper: a model with field '{header.field.tag}' has its own; leave stepper out")
        self.estimates = serving.step_error or header.substeps == "auto"
        self._resets, self._mends = serving.on_range == "reset", serving.on_range != "keep"
        self._low, self._high = _allowed(bundle)
        learns, of_state = serving.adapt.serve != "off", serving.adapt.takes_state(header.learned)
        self._hidden = header.hidden if "state" in serving.features or (learns and of_state) else 0
        self._takes_state = learns and of_state
        self._logsig = header.logsig_channels if "logsignature" in serving.features else 0
        self._averages, self._carries = header.pooling == "mean", header.first_stage == "previous"
        sizes = [
            header.hidden,
            _COUNTED,
            header.hidden + 1 if self._averages else 0,
            header.logsig_channels if self._carries else 0,
            drift.COLUMNS if serving.novelty else 0,
        ]
        stops = np.cumsum([start, *sizes])
        self._z, self._counts, self._mean, self._previous, self.drift = (slice(a, b) for a, b in pairwise(stops))
        self.stop = int(stops[-1])
        """The column after the last."""
        self.after_counts = self._counts.stop
        self._novelty = novelty_of(bundle) if serving.novelty else None
        asked = serving.novelty or serving.features or learns or serving.intervals is not None
        alone = not (self.estimates or self._averages or self._carries or asked)
        self.steps_alone = alone
        """True if `step_alone` does all that is asked for after a window."""

    def states_of(self, rows: Floats, slots: Indices) -> Floats:
        """Return the hidden states of streams, (n, hidden)."""
        return rows[slots, self._z]

    def begin(self, rows: Floats, slots: Indices, x: Floats) -> None:
        """Give streams whose path begins at x, (n, C - 1), without time, their initial states."""
        rows[slots, self._z] = self._initial(x)
        rows[slots, self._mean] = 0.0

    def inputs_of(self, states: Floats) -> Floats:
        """Return what corrections take of hidden states, (n, hidden): of a reservoir, its pooled features."""
        if self._in_rows is None or not self._takes_state:
            return states
        return self._in_rows.features(states)

    def counts(self, rows: Floats, slots: Indices) -> StateCounts:
        """Sum over streams."""
        drifting = slice(self.drift.start, min(self.drift.start + 2, self.drift.stop))
        return StateCounts(*(int(n) for part in (self._counts, drifting) for n in rows[slots, part].sum(axis=0)))

    def forget_counts(self, rows: Floats, slots: Indices) -> None:
        """Reset the counts."""
        rows[slots, self._counts] = 0
        rows[slots, self.drift.start : min(self.drift.start + 2, self.drift.stop)] = 0

    def step(
        self,
        rows: Floats,
        slots: Indices,
        windows: Ints,
        logsigs: Floats,
        last: Floats,
        unjudged: Bools | None = None,
    ) -> Stepped:
        """Step streams over closed windows in order, and read out. A slot appears once per window.

        Args:
            last: value of the data channels where each window ends, (n, channels).
            unjudged: windows whose novelty is not judged: shorter than their policy would have them, or without a
                sample.
        """
        if self._in_rows is not None:
            stepped = self._step_in_rows(self._in_rows, rows, slots, logsigs)
        else:
            # For a lone window the loop is as fast.
            in_turn = self._resets or self._averages or len(slots) < 2
            stepped = (self._step_and_judge if in_turn else self._step_then_judge)(rows, slots, windows, logsigs, last)
        if self._novelty is not None and len(slots):
            stepped.novelty[:] = self._novelty.p(logsigs)
            if unjudged is not None:
                stepped.novelty[unjudged] = np.nan
            alarm = self._novelty.alarm
            drift.watch(rows, self.drift.start, slots, stepped.novelty, novel=NOVEL, alarm=alarm)
        return stepped

    def step_alone(self, rows: Floats, logsigs: Floats) -> tuple[Reals, int] | None:
        """Step the stream in row 0 over a window, as `step` does. Return its outputs (1, outputs) and flag.

        Returns None, and changes nothing, if the state becomes one that must be looked after.
        """
        if self._in_rows is not None:
            unusual, value = self._in_rows.advance(rows[:, self._z], _FIRST, logsigs, read=True)
            flag = 2 * int(unusual[0])
            if flag:
                rows[0, self._counts.start + 1] += 1
            assert value is not None  # noqa: S101 (`read` says so)
            return value, flag
        z = self.stepper.step(rows[:1, self._z].astype(self.stepper.dtype), logsigs)
        if self._judge(z)[0]:
            return None
        rows[:1, self._z] = z
        return self.stepper.output(z), 0

    def _step_in_rows(self, stepper: RowStepper, rows: Floats, slots: Indices, logsigs: Floats) -> Stepped:
        """Step states in place. They stay finite: a token that is not is flagged, and counts as one that is usual."""
        if not len(slots):  # of a table without rows, too
            return self.nothing(0)
        states, read = rows[:, self._z], self.header.emit == "every"
        if self._hidden:
            # Each state must be copied before the stream's next window.
            stepped = self.nothing(len(slots))
            for places in rounds(slots):
                unusual, value = stepper.advance(states, slots[places], logsigs[places], read=read)
                stepped.flag[places], stepped.state[places] = 2 * unusual, states[slots[places]]
                if value is not None:
                    stepped.value[places] = value
        else:
            unusual, value = stepper.advance(states, slots, logsigs, read=read)
            if value is None:
                stepped = self.nothing(len(slots))._replace(flag=2 * unusual.view(np.uint8))
            else:
                error, novelty = np.full((2, len(slots)), np.nan)
                state, logsignature = np.empty((len(slots), 0)), np.empty((len(slots), self._logsig))
                stepped = Stepped(value, 2 * unusual.view(np.uint8), error, novelty, state, logsignature)
        if stepped.flag.any():
            np.add.at(rows[:, self._counts.start + 1], slots, stepped.flag == 2)
        if self.estimates:
            stepped.error[:] = 0.0
        stepped.logsignature[:] = logsigs[:, : self._logsig]
        return stepped

    def _step_then_judge(self, rows: Floats, slots: Indices, windows: Ints, logsigs: Floats, last: Floats) -> Stepped:
        """Step a model whose next state depends on the state alone, and compute the outputs of all windows at once."""
        stepped, before_each = self.nothing(len(slots)), before(slots)
        previous = None
        if self._carries:
            previous = np.where(before_each[:, None] < 0, rows[slots, self._previous], logsigs[before_each])
            previous = np.where(_has_previous(windows, previous), previous, logsigs)
        turns = list(rounds(slots))
        z = self._states(rows, slots[turns[0]])
        error = stepped.error if self.estimates else None
        z = step_in_rounds(self.stepper, z, logsigs, previous, turns, before_each, error)
        if self._mends and not np.isfinite(z).all():
            return self._step_and_judge(rows, slots, windows, logsigs, last)
        # A slot's last window is written last, and stays.
        rows[slots, self._z] = z
        if self._carries:
            rows[slots, self._previous] = logsigs
        flag = self._judge(z)
        for place, alarms in enumerate((flag == 1, flag == 2)):
            np.add.at(rows[:, self._counts.start + place], slots, alarms)
        if self.estimates:
            np.add.at(rows[:, self._counts.start + 2], slots, ~(stepped.error <= self.header.tolerance))
        stepped.state[:], stepped.logsignature[:] = z[:, : self._hidden], logsigs[:, : self._logsig]
        return stepped._replace(value=self.stepper.output(z), flag=flag)

    def _step_and_judge(self, rows: Floats, slots: Indices, windows: Ints, logsigs: Floats, last: Floats) -> Stepped:
        """`step` where what is found of one window decides the next."""
        stepped = self.nothing(len(slots))
        for places in rounds(slots):
            of, own = slots[places], logsigs[places]
            z, previous = self._states(rows, of), None
            if self._carries:
                previous = rows[of, self._previous]
                previous = np.where(_has_previous(windows[places], previous), previous, own)
                rows[of, self._previous] = own
            if self.estimates:
                z, stepped.error[places] = self.stepper.step_with_error(z, own, previous)
            else:
                z = self.stepper.step(z, own, previous)
            rows[of, self._z] = z
            if self._averages:
                self._average(rows, of, z)
            stepped.value[places], flag = self._read_out(rows, of, z), self._judge(z)
            stepped.flag[places] = flag
            stepped.state[places] = z[:, : self._hidden]
            stepped.logsignature[places] = own[:, : self._logsig]
            if flag.any():
                self._alarm(rows, of, flag, last[places])
            if self.estimates:
                rows[of, self._counts.start + 2] += ~(stepped.error[places] <= self.header.tolerance)
        return stepped

    def _alarm(self, rows: Floats, slots: Indices, flag: NDArray[np.uint8], last: Floats) -> None:
        """Count states out of their range, and reset them if `on_range` says so."""
        rows[slots, self._counts.start] += flag == 1
        rows[slots, self._counts.start + 1] += flag == 2
        if self._mends:
            flagged = flag > 0 if self._resets else flag == 2
            base = np.zeros((int(flagged.sum()), self.header.path_channels - 1))
            base[:, : last.shape[1]] = last[flagged]  # observation counts start again too
            rows[slots[flagged], self._z] = self._initial(base)
            rows[slots[flagged], self._previous] = np.nan

    def look(self, rows: Floats, slots: Indices) -> Stepped:
        """Return the outputs of streams in their present states."""
        if self._in_rows is not None:
            value = self._in_rows.read(rows[:, self._z], slots)
            return self.nothing(len(slots))._replace(value=value, state=rows[slots, self._z][:, : self._hidden])
        z = self._states(rows, slots)
        value, flag = self._read_out(rows, slots, z), self._judge(z)
        return self.nothing(len(slots))._replace(value=value, flag=flag, state=z[:, : self._hidden].astype(np.float64))

    def nothing(self, count: int) -> Stepped:
        """Return entries to be filled in."""
        value = np.empty((count, self.header.outputs), dtype=self.header.output_dtype)
        flag, error, novelty = np.zeros(count, dtype=np.uint8), *np.full((2, count), np.nan)
        state, logsignature = np.empty((count, self._hidden)), np.full((count, self._logsig), np.nan)
        return Stepped(value, flag, error, novelty, state, logsignature)

    def _states(self, rows: Floats, slots: Indices) -> Reals:
        return rows[slots, self._z].astype(self.stepper.dtype)

    def _initial(self, x: Floats) -> Reals:
        return self.stepper.initial(np.insert(x, 0, 0.0, axis=1))

    def _average(self, rows: Floats, slots: Indices, z: Reals) -> None:
        """Add states to the running mean, except those that are not finite, which would spoil it for ever."""
        finite = np.isfinite(z).all(axis=1)
        slots, z = slots[finite], z[finite]
        mean = rows[slots, self._mean]
        mean[:, -1] += 1
        mean[:, :-1] += (z - mean[:, :-1]) / mean[:, -1:]
        rows[slots, self._mean] = mean

    def _read_out(self, rows: Floats, slots: Indices, z: Reals) -> Reals:
        """Return the outputs of streams in states z, or of their running means."""
        if self._averages:
            mean = rows[slots, self._mean]
            z = np.where(mean[:, -1:] > 0, mean[:, :-1], z).astype(self.stepper.dtype)
        return self.stepper.output(z)

    def _judge(self, z: Reals) -> NDArray[np.uint8]:
        """Return places in predictions.FLAGS for states (n, hidden)."""
        flag: NDArray[np.uint8] = np.asarray(((z < self._low) | (z > self._high)).any(axis=1), dtype=np.uint8)
        flag[~np.isfinite(z).all(axis=1)] = 2
        return flag


def _allowed(bundle: Bundle) -> tuple[Floats | float, Floats | float]:
    """Return the allowed range of the hidden state, (hidden,) each."""
    if not bundle.header.hidden_range:
        return -np.inf, np.inf
    low, high = bundle.tensors["range.low"], bundle.tensors["range.high"]
    margin = bundle.header.range_margin * (high - low)
    return low - margin, high + margin


def novelty_of(bundle: Bundle) -> Novelty:
    """Return the novelty measure of the model's windows.

    Raises:
        ParameterError: the model does not know how those of its training were distributed.
    """
    header = bundle.header
    if header.novelty is None:
        raise ParameterError(
            "novelty=True: this model's file does not say how the windows of its training were distributed; train it "
            "with novelty = true, or add that to it with streamrde.models.add_novelty"
        )
    seconds = header.windows.length if header.windows.fixed_length else 0.0
    depth = header.token.window_depth(header.depth)
    return Novelty(bundle.tensors, header.novelty, channels=header.path_channels, depth=depth, seconds=seconds)


def _has_previous(windows: Ints, previous: Floats) -> Bools:
    """Mark the windows, (n, 1), whose predecessor led to the same state."""
    return np.asarray((windows > 0) & ~np.isnan(previous[:, 0]))[:, None]
