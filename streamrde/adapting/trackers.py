"""Thresholds that follow the scores of a stream: online conformal prediction, as flat numbers in a stream's row.

A tracker issues a threshold q with each prediction. When the label is known, its score s was a *miss* if s > q. Each
tracker moves q so that the share of misses goes to alpha on every sequence of scores, with no assumption about them:
they may depend on each other, and drift. A label that comes late is judged by the threshold that was issued then.

Windows without a label change nothing. Nothing here depends on other streams, or on how labels are cut into calls.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol, TypeAlias

import msgspec
import numpy as np

from streamrde.adapting.scale import Scaling, follow, no_scaling, scaling_of
from streamrde.adapting.scores import Sets
from streamrde.adapting.split import LEVELS, RANKS, thresholds
from streamrde.arrays import Bools, Floats, Indices
from streamrde.errors import ParameterError

Method: TypeAlias = Literal["tracker", "aci", "pid"]
STEPS = {"tracker": 0.05, "aci": 0.005, "pid": 0.05}
"""Steps unless another is asked for. Halving them halves how fast an interval follows, and how much it sways."""
MEMORY = 100
"""Latest scores that adaptive conformal inference keeps of each unit."""
_DECAY_FROM = 100.0  # labels after which a decaying step has fallen to 2 ** -decay of the first
_FORGETS = 0.99  # the largest score counts less with each label, for the step of the PID controller
_SMOOTHING = 0.1  # weight of the latest score in the forecast of the next one
_MOST = 100.0  # first thresholds up to which the PID controller's integrator goes
_BEYOND = 1.0  # how far h may pass the largest score: twenty misses under way, with the usual step
LEAST = 1e-12  # first threshold, at least, so that a model without errors in training can learn of some


class Tracking(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of intervals, and of how they follow the labels of a stream."""

    coverage: float = 0.9
    """Share of the labels that lie within."""
    method: Method = "tracker"
    """"tracker" moves the threshold by a step at each label. "aci" moves the level of a quantile of the latest scores.
    "pid" adds to the tracker an integrator and a forecast of the scores."""
    step: float = 0.0
    """Step at each label: of "tracker" and "pid" in thresholds, of "aci" in levels. 0: .05, .05, or .005."""
    sets: Sets = "lac"
    """Sets of classes: "lac", the smallest on average, or "aps", larger ones where classes are hard to tell apart."""
    decay: float = 0.0
    """Power with which the step of "tracker" falls with the number of labels, below 1. 0: it stays, and the interval
    follows a stream that changes."""

    def __post_init__(self) -> None:
        if not 0 < self.coverage < 1:
            raise ParameterError(f"intervals: coverage={self.coverage} is not between 0 and 1; use 0.9 for 90 %")
        if self.method not in STEPS:
            raise ParameterError(f"intervals: method={self.method!r}: use 'tracker', 'aci' or 'pid'")
        if not 0 <= self.step <= 1:
            raise ParameterError(f"intervals: step={self.step} is not between 0 and 1; leave it out for the usual one")
        if self.sets not in ("lac", "aps"):
            raise ParameterError(f"intervals: sets={self.sets!r}: use 'lac' or 'aps'")
        if not 0 <= self.decay < 1:
            raise ParameterError(f"intervals: decay={self.decay} is not in [0, 1); use 0.6, or 0 for a fixed step")
        if self.decay and self.method != "tracker":
            raise ParameterError(f"intervals: decay={self.decay} is of method 'tracker' only; leave it out")


class Tracker(Protocol):
    """Thresholds of n streams, as numbers of their rows. States are (n, units, width), and changed in place."""

    width: int
    """Numbers that are kept of each unit."""

    def blank(self) -> Floats:
        """Return the state before the first label, (units, width)."""
        ...

    def threshold(self, state: Floats) -> Floats:
        """Return the thresholds to issue now, (n, units)."""
        ...

    def learn(self, state: Floats, score: Floats, issued: Floats) -> Bools:
        """Learn from labels, at most one for each stream, and return which were misses, (n, units).

        Args:
            score: of the labels, (n, units). NaN: not known, which changes nothing.
            issued: thresholds that were issued with their predictions, (n, units).
        """
        ...


def make_tracker(
    tracking: Tracking,
    table: Floats,
    streams: Indices,
    scaled: tuple[Floats, Floats] | None = None,
    least: Floats | float = LEAST,
) -> Tracker:
    """Return the tracker of a model.

    Args:
        table, streams: the scores of held-out streams, see `split.calibrate`.
        scaled: their usual scale and ratios, see `scale.calibrate_ratios`. None: they are not known.
        least: first threshold of each unit, at least, > 0.
    """
    step = tracking.step or STEPS[tracking.method]
    if tracking.method == "aci":
        return AdaptiveLevel(table, tracking.coverage, step)
    first = np.maximum(thresholds(table, streams, tracking.coverage), least)
    if tracking.method == "pid":
        return Controller(first, table[:, np.searchsorted(LEVELS, 0.5)], tracking.coverage, step)
    scaling = no_scaling(first) if scaled is None else scaling_of(first, *scaled, streams, tracking.coverage)
    return ScoreTracker(scaling, tracking.coverage, step, tracking.decay)


class ScoreTracker:
    """A threshold that rises by a step at a miss, and falls by alpha / (1 - alpha) of that otherwise.

    With c the threshold that the scale of the stream's scores leads to (see `scale`), the step is eta c, or eta q where
    the threshold q is larger than c:

        h <- h + eta (1[miss] - alpha),   q = c h  for h <= 1,   c exp(h - 1)  above

    The sum telescopes, so that after n labels |share of misses - alpha| <= (h_0 - min h, max h - h_0) / (eta n). A
    threshold above all scores is never missed. With b the largest score and c the least that c can be, scores keep h
    between -eta alpha and h(b) + eta (1 - alpha), and the share is alpha up to (1 + log(b / c) + eta) / (eta n) for b
    >= c, whatever the order of the scores. Without a scale c is the first threshold, and with one that is seven times
    as large at most, up to the factors at other stages.
    With labels that come late it is the same share, with a range that is wider by the steps under way. So that hundreds
    of them at once do not throw the threshold away, h does not pass what the largest score so far asks for by more than
    1, which is e times that score.

    Reference: Angelopoulos, Barber & Bates 2024, "Online conformal prediction with decaying step sizes"; Angelopoulos,
    Candès & Tibshirani 2023, "Conformal PID control for time series prediction", section 2 (quantile tracking).
    """

    width = 5
    """h, number of labels, largest score, and the two sums of the scale."""

    def __init__(self, scaling: Scaling, coverage: float, step: float, decay: float = 0.0) -> None:
        self._scaling, self._alpha, self._step, self._decay = scaling, 1.0 - coverage, step, decay
        self._least = scaling.least

    def blank(self) -> Floats:
        """Return the state before the first label, (units, 5)."""
        return np.tile([1.0, 0.0, 0.0, 0.0, 0.0], (len(self._least), 1))

    def threshold(self, state: Floats) -> Floats:
        """Return the thresholds to issue now, (n, units). One below 0 is missed by every score."""
        h = state[..., 0]
        usual = self._scaling.threshold(state[..., 1], state[..., 3], state[..., 4])
        return np.asarray(usual * np.where(h > 1.0, np.exp(np.maximum(h, 1.0) - 1.0), h))

    def learn(self, state: Floats, score: Floats, issued: Floats) -> Bools:
        """Learn from labels. See `Tracker.learn`."""
        known, missed = np.isfinite(score), score > issued
        h, labels, largest = state[..., 0], state[..., 1], state[..., 2]
        eta = self._step if not self._decay else self._step * (1.0 + labels / _DECAY_FROM) ** -self._decay
        state[..., 2] = np.where(known, np.maximum(largest, score), largest)
        ratio = state[..., 2] / self._least
        most = np.where(ratio > 1.0, 1.0 + np.log(np.maximum(ratio, 1.0)), 1.0) + _BEYOND
        state[..., 0] = np.where(known, np.minimum(h + eta * (missed - self._alpha), most), h)
        state[..., 1] = labels + known
        state[..., 3], state[..., 4] = follow(self._scaling.usual, state[..., 3], state[..., 4], score)
        return np.asarray(missed & known)


class AdaptiveLevel:
    """A quantile of the latest scores, at a level that moves.

        a <- a + gamma (alpha - 1[miss]),   q = quantile of the last 100 scores at 1 - a, infinite for a <= 0

    Before labels, quantiles of held-out streams stand for the scores. |share of misses - alpha| <= (1 + gamma) /
    (gamma n), on every sequence: an infinite threshold is never missed.

    Reference: Gibbs & Candès 2021, "Adaptive conformal inference under distribution shift", proposition 4.1.
    """

    width = 2 + MEMORY
    """a, number of labels, and the latest scores, in the places of their numbers."""

    def __init__(self, table: Floats, coverage: float, step: float) -> None:
        self._table, self._alpha, self._step = table, 1.0 - coverage, step

    def blank(self) -> Floats:
        """Return the state before the first label, (units, 102)."""
        place = np.searchsorted(LEVELS, (np.arange(MEMORY) + 1.0) / MEMORY - 1e-12)
        units = len(self._table)
        begun = np.tile([self._alpha, 0.0], (units, 1))
        return np.concatenate([begun, self._table[:, np.minimum(place, RANKS - 1)]], axis=1)

    def threshold(self, state: Floats) -> Floats:
        """Return the thresholds to issue now, (n, units): infinite, or below 0, if the level has left [0, 1]."""
        level = 1.0 - state[..., 0]
        ranked = np.sort(state[..., 2:], axis=-1)
        place = np.clip(np.ceil(level * (MEMORY + 1) - 1e-9), 1, MEMORY).astype(np.intp) - 1
        found = np.take_along_axis(ranked, place[..., None], axis=-1)[..., 0]
        return np.where(level >= 1.0, np.inf, np.where(level <= 0.0, -1.0, found))

    def learn(self, state: Floats, score: Floats, issued: Floats) -> Bools:
        """Learn from labels. See `Tracker.learn`."""
        known, missed = np.isfinite(score), score > issued
        state[..., 0] = np.where(known, state[..., 0] + self._step * (self._alpha - missed), state[..., 0])
        streams, units = np.nonzero(known)
        place = 2 + state[streams, units, 1].astype(np.intp) % MEMORY
        state[streams, units, place] = score[streams, units]
        state[..., 1] += known
        return np.asarray(missed & known)


class Controller:
    """A tracker of scores less their forecast, with an integrator of the misses: conformal PID control.

        p <- p + eta m (1[miss] - alpha),   m: largest score, which fades
        i = c tan(e log(t + 1) / (t + 1)),  e: sum of 1[miss] - alpha over t labels, at most 100 c either way
        g <- g + .1 (s - g)
        q = p + i + g

    The integrator grows without bound where |e| comes near (pi / 2) (t + 1) / log(t + 1), so that the share of misses
    goes to alpha for scores up to a hundred first thresholds c.

    Reference: Angelopoulos, Candès & Tibshirani 2023, "Conformal PID control for time series prediction", with the
    tangent of equation 6 and exponential smoothing for a forecast.
    """

    width = 5
    """p, sum of misses less alpha, number of labels, forecast, largest score."""

    def __init__(self, first: Floats, usual: Floats, coverage: float, step: float) -> None:
        self._first, self._usual, self._alpha, self._step = first, usual, 1.0 - coverage, step

    def blank(self) -> Floats:
        """Return the state before the first label, (units, 5)."""
        none = np.zeros(len(self._first))
        return np.stack([self._first - self._usual, none, none, self._usual, self._first], axis=1)

    def threshold(self, state: Floats) -> Floats:
        """Return the thresholds to issue now, (n, units)."""
        p, error, labels, forecast = (state[..., i] for i in range(4))
        angle = error * np.log(labels + 1.0) / (labels + 1.0)
        limit = math.atan(_MOST)
        return np.asarray(p + self._first * np.tan(np.clip(angle, -limit, limit)) + forecast)

    def learn(self, state: Floats, score: Floats, issued: Floats) -> Bools:
        """Learn from labels. See `Tracker.learn`."""
        known, missed = np.isfinite(score), score > issued
        s = np.where(known, score, 0.0)
        turn = np.where(known, missed - self._alpha, 0.0)
        state[..., 4] = np.where(known, np.maximum(_FORGETS * state[..., 4], s), state[..., 4])
        state[..., 0] += self._step * state[..., 4] * turn
        state[..., 1] += turn
        state[..., 2] += known
        state[..., 3] += np.where(known, _SMOOTHING * (s - state[..., 3]), 0.0)
        return np.asarray(missed & known)
