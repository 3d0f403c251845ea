"""Weigh classes, so that rare ones count more in a fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np

from streamrde.arrays import Floats, Indices
from streamrde.errors import DataError, ParameterError
from streamrde.nearest import did_you_mean, listed

ClassWeights: TypeAlias = Literal["equal", "balanced"] | Mapping[str, float]
"""Factors on what an error costs: the same for all classes, inverse to their number of rows, or by class, 1 for those
not named."""


def check_weights(given: ClassWeights, *, classify: bool) -> None:
    """Refuse what names no weights, and weights of classes where the target is a number.

    Raises:
        ParameterError: it is another word, a factor is not above 0, or the target is a number.
    """
    if isinstance(given, str):
        if given not in ("equal", "balanced"):
            raise ParameterError(
                f"class_weights={given!r}: give 'equal', 'balanced', or a factor for each class, such as {{'open': 3}}"
            )
    else:
        for label, factor in given.items():
            if not 0 < factor < math.inf:
                raise ParameterError(f"class_weights: class '{label}' has the factor {factor}; give a number above 0")
    if given != "equal" and not classify:
        raise ParameterError(
            "class_weights is for classes, and the target is a number; leave it out, or set task = 'classification'"
        )


def factors(given: ClassWeights, labels: Sequence[str], counts: Indices) -> Floats | None:
    """Return a factor for each class, (classes,), with mean 1 over the rows. None: all are the same.

    Args:
        given: the factors as they were asked for.
        labels: names of the classes.
        counts: number of rows of each, (classes,).
    Raises:
        DataError: there is no class of a name.
    """
    if given == "equal":
        return None
    if isinstance(given, str):
        found = 1 / np.maximum(counts, 1)
    else:
        for label in given:
            if label not in labels:
                raise DataError(
                    f"class_weights names '{label}', which is no class{did_you_mean(label, labels)}; there are "
                    f"{listed(labels)}",
                    path="",
                )
        found = np.array([given.get(label, 1.0) for label in labels], float)
    return np.asarray(found * (counts.sum() / (found * counts).sum()))


def weighted(losses: Floats, weights: Floats | None) -> Floats:
    """Return losses of rows times the rows' weights, (n,). None: all the same."""
    return losses if weights is None else losses * weights


def describe(labels: Sequence[str], found: Floats) -> str:
    """Say how classes are weighed."""
    names = [f"{factor:.3g} for '{label}'" for label, factor in zip(labels, found, strict=True)]
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return (
        f"class weights: {shown}. Probabilities and answers are those of data in which classes are as common as their "
        "weights make them, so fewer may be right than of a plain model: compare what is found of each class"
    )
