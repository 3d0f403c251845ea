"""The outputs of a model, in their own units and in links: the units in which corrections are learned and added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from streamrde.arrays import Bools, Floats

Kind: TypeAlias = Literal["numbers", "classes", "binary"]

_LEAST_PROBABILITY = 1e-6
# In units of the targets' spread. Far beyond what is meant to be corrected, and its square still has all its digits.
_FARTHEST = 1e3
_FEATURE = 20.0
_MOST_LOGIT = 30.0


class Part(NamedTuple):
    """Some neighbouring outputs that belong together: regression targets, or the classes of one head."""

    kind: Kind
    place: slice


class Targets:
    """Maps between values, which users see, and links.

    A regression's link is ``(value - shift) / scale``. Of classes it is the logarithm of their probabilities less its
    mean over the classes. Of one output, the probability of the second of two classes, it is the logit.

    Args:
        parts: all outputs in order.
        shift, scale: mean and spread of the targets, (outputs,). They have no meaning for classes.
    """

    def __init__(self, parts: Sequence[Part], shift: Floats, scale: Floats) -> None:
        self.parts = tuple(parts)
        self.outputs = len(shift)
        self.numeric: Bools = np.zeros(self.outputs, dtype=bool)
        """The outputs that are regression targets, (outputs,)."""
        self.shift, self.scale = np.array(shift, dtype=np.float64), np.array(scale, dtype=np.float64)
        self._floor = np.zeros(self.outputs)
        for kind, place in self.parts:
            self.numeric[place] = kind == "numbers"
            if kind != "numbers":
                count = max(place.stop - place.start, 2)
                self.shift[place], self.scale[place] = 1.0 / count, 1.0
        # Models that do not know their targets' spread take any value for a plausible one.
        known = (self.shift != 0) | (self.scale != 1)
        self._most = np.where(known, _FEATURE, _FARTHEST)

    def links(self, values: Floats) -> Floats:
        """Return links for values, (n, outputs) both."""
        links = (values - self.shift) / self.scale
        for kind, place in self.parts:
            if kind == "numbers":
                continue
            p = np.clip(values[:, place], _LEAST_PROBABILITY, 1.0)
            if kind == "binary":
                links[:, place] = np.log(p) - np.log(np.clip(1.0 - values[:, place], _LEAST_PROBABILITY, 1.0))
            else:
                logs = np.log(p)
                links[:, place] = logs - _sum(logs)[:, None] / logs.shape[1]
        return links

    def values(self, links: Floats) -> Floats:
        """Return values for links, (n, outputs) both."""
        values = links * self.scale + self.shift
        for kind, place in self.parts:
            if kind == "numbers":
                continue
            own = np.clip(links[:, place], -_MOST_LOGIT, _MOST_LOGIT)
            if kind == "binary":
                values[:, place] = 1.0 / (1.0 + np.exp(-own))
            else:
                raised = np.exp(own - own.max(axis=1, keepdims=True))
                values[:, place] = raised / _sum(raised)[:, None]
        return values

    def features(self, values: Floats) -> Floats:
        """Return values as inputs of a correction, (n, outputs), bounded."""
        return np.clip((values - self.shift) / self.scale, -self._most, self._most)

    def bounded(self, links: Floats) -> Floats:
        """Return links as inputs of a correction, (n, outputs), bounded."""
        return np.clip(links, -self._most, self._most)

    def within(self, labels: Floats) -> Floats:
        """Return labels moved to a bound if they are absurdly far out, so that sums over them stay finite."""
        reach = _FARTHEST * self.scale
        return np.clip(labels, self.shift - reach, self.shift + reach)

    def squares(self, values: Floats, labels: Floats) -> Floats:
        """Return squared errors in units of the targets' spread, (n, outputs), 0 where there is no label.

        Of classes they are the terms of the Brier score.
        """
        error = np.clip((values - labels) / self.scale, -_FARTHEST, _FARTHEST)
        return np.where(np.isnan(labels), 0.0, error * error)

    def smoothed(self, labels: Floats) -> Floats:
        """Return labels as predictions: those of classes a little less certain than 0 and 1."""
        return np.where(self.numeric, labels, 0.9 * labels + 0.1 * self.shift)


def _sum(values: Floats) -> Floats:
    """Sum over the last axis in a fixed order, so that a row's sum does not depend on the other rows."""
    total = values[:, 0].copy()
    for column in values.T[1:]:
        total += column
    return total
