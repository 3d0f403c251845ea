"""Find where answers to what was left out are wrong: by class, by pairs of classes, and by group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamrde.arrays import Floats, Indices, Ints


class OfClass(NamedTuple):
    """Answers about one class."""

    label: str
    rows: int
    """Rows that are of this class."""
    recall: float
    """Share of them that are called so. NaN if there are none."""
    precision: float
    """Share of those called so that are. NaN if none is called so."""


class Confused(NamedTuple):
    """Rows of one class that are called another."""

    true: str
    said: str
    rows: int
    of: int
    """Rows of the true class."""


class OfGroup(NamedTuple):
    """Answers to one group."""

    group: str
    rows: int
    """Its rows."""
    error: float
    """Share of them that is wrong, or the root mean squared error, of several targets in their deviations."""


def confusion(codes: Indices, probability: Floats) -> Ints:
    """Count rows by true class (rows) and most likely class (columns)."""
    classes = probability.shape[1]
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (codes, probability.argmax(axis=1)), 1)
    return table


def by_class(counts: Ints, labels: Sequence[str]) -> list[OfClass]:
    """Return each class, in their order."""
    found = []
    for i, label in enumerate(labels):
        true, said, hits = int(counts[i].sum()), int(counts[:, i].sum()), int(counts[i, i])
        found.append(OfClass(label, true, hits / true if true else np.nan, hits / said if said else np.nan))
    return found


def most_confused(counts: Ints, labels: Sequence[str], *, most: int = 3) -> list[Confused]:
    """Return the pairs of a class and another one that it is most often called, the most frequent first."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = (divmod(int(place), len(labels)) for place in order)
    return [Confused(labels[i], labels[j], int(wrong[i, j]), int(counts[i].sum())) for i, j in pairs if wrong[i, j] > 0]


def by_group(groups: Sequence[str], losses: Floats, *, root: bool) -> list[OfGroup]:
    """Return all groups, the one with the largest mean loss first.

    Args:
        groups: name of each row's group, (n,).
        losses: 1 where wrong and 0 where right, or squared errors, (n,).
        root: take the root of the mean.
    """
    names, number = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    counts = np.bincount(number)
    errors = np.bincount(number, weights=losses) / counts
    if root:
        errors = np.sqrt(errors)
    order = np.argsort(-errors, kind="stable")
    return [OfGroup(str(names[i]), int(counts[i]), float(errors[i])) for i in order]
