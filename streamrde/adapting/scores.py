"""Say how far an output is from the truth, and which values are no farther than a threshold.

A *unit* is what has one threshold: an output that is a number, or a head with all its classes. Its score is

    number       |y - output|                                        interval  output - q, output + q
    class, lac   1 - p_y                                             set       {k: 1 - p_k <= q}
    class, aps   sum of the p_j ranked before p_y                    set       {k: sum of those ranked before p_k <= q}

lac has the smallest sets on average (Sadinle, Lei & Wasserman 2019, "Least ambiguous set-valued classifiers"). Some may
be empty: no class is as likely as is usual for the right one. aps has larger sets where the classes are hard to tell
apart (Romano, Sesia & Candès 2020, "Classification with valid and adaptive coverage", without randomization), and
the most likely class, whose score is 0, in each that is not empty. With p_y itself in the sum, as in the paper, the
scores of a confident model are all about 1, and whether one lies below the threshold is chance.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from streamrde.arrays import Bools, Floats, Indices, Reals

Sets: TypeAlias = Literal["lac", "aps"]


class Unit(NamedTuple):
    """Outputs with one threshold."""

    outputs: slice
    classes: int = 0
    """Number of classes, or 0 for a number. Two classes may share one output, the probability of the second."""


def units_of(parts: Iterable[tuple[int, bool]]) -> tuple[Unit, ...]:
    """Return the units of a model.

    Args:
        parts: of each head, the number of its outputs and whether they are classes.
    """
    found, begin = [], 0
    for outputs, classes in parts:
        if classes:
            found.append(Unit(slice(begin, begin + outputs), max(2, outputs)))
        else:
            found += [Unit(slice(i, i + 1)) for i in range(begin, begin + outputs)]
        begin += outputs
    return tuple(found)


def scores_of(units: tuple[Unit, ...], value: Reals, truth: Floats, sets: Sets = "lac") -> Floats:
    """Return the scores of outputs, (n, units). NaN where the truth is not known or an output is not finite.

    Args:
        value: outputs, (n, outputs).
        truth: numbers, and numbers of the classes, (n, units); NaN: not known.
    """
    found = np.empty(truth.shape)
    for i, unit in enumerate(units):
        if not unit.classes:
            found[:, i] = np.abs(truth[:, i] - value[:, unit.outputs.start])
            continue
        known = np.isfinite(truth[:, i])
        code = np.where(known, truth[:, i], 0).astype(np.intp)
        own = _class_scores(value[:, unit.outputs], sets)[np.arange(len(truth)), code]
        found[:, i] = np.where(known, own, np.nan)
    return found


def limits(units: tuple[Unit, ...], value: Reals, threshold: Floats) -> tuple[Floats, Floats]:
    """Return lower and upper limits of the numbers, (n, outputs) each. NaN for the outputs of classes.

    Args:
        threshold: (n, units). One below 0 counts as 0.
    """
    lower = np.full(value.shape, np.nan)
    upper = lower.copy()
    for i, unit in enumerate(units):
        if not unit.classes:
            middle, radius = value[:, unit.outputs.start], np.maximum(threshold[:, i], 0.0)
            lower[:, unit.outputs.start], upper[:, unit.outputs.start] = middle - radius, middle + radius
    return lower, upper


def members(unit: Unit, value: Reals, threshold: Floats, sets: Sets = "lac") -> Bools:
    """Return which classes are in the sets, (n, classes).

    Args:
        value: outputs of all units, (n, outputs).
        threshold: of this unit, (n,).
    """
    return np.asarray(_class_scores(value[:, unit.outputs], sets) <= threshold[:, None])


def _class_scores(value: Reals, sets: Sets) -> Floats:
    """Return the score of each class if it were the right one, (n, classes)."""
    p = value.astype(np.float64)
    if p.shape[1] == 1:
        p = np.concatenate([1.0 - p, p], axis=1)
    if sets == "lac":
        return 1.0 - p
    order: Indices = np.argsort(-p, axis=1, kind="stable")
    total = np.zeros_like(p)
    np.cumsum(np.take_along_axis(p, order, axis=1)[:, :-1], axis=1, out=total[:, 1:])
    found = np.empty_like(p)
    np.put_along_axis(found, order, total, axis=1)
    return found
