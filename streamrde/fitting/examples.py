"""Hold what families of models learn from: streams, the truth about each, and the folds that leave them out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from streamrde.arrays import Floats, Indices
from streamrde.errors import DataError
from streamrde.fitting.folds import make_folds
from streamrde.fitting.recordings import Recording
from streamrde.inference.bundle import Bundle


class Examples(NamedTuple):
    """Streams with one target each, divided into folds."""

    recordings: Sequence[Recording]
    channels: tuple[str, ...]
    truth: Floats
    """Numbers of the classes, or targets, (n,)."""
    labels: tuple[str, ...]
    """All classes in order; () for numbers."""
    groups: Indices
    """What must not be divided between training and test, (n,)."""
    folds: Indices
    """Number of the fold in which each is left out, (n,)."""
    seed: int

    @property
    def codes(self) -> Indices:
        """Return the numbers of the classes, (n,)."""
        return self.truth.astype(np.intp)


class Candidate(NamedTuple):
    """A model that may be chosen, and its answers to streams that were left out in turn."""

    name: str
    held_out: Floats
    """Probabilities (n, classes), or numbers (n, 1)."""
    losses: Floats
    """Log loss, or squared error, of each row of `held_out`, (n,)."""
    bundle: Callable[[], Bundle]
    """Make the model, fitted to all examples."""
    without: Callable[[int], Bundle] | None = None
    """Make the model that was fitted without a fold, which `held_out` has the answers of. None: it is not kept."""


Family: TypeAlias = Callable[[Examples], Iterable[Candidate]]
"""Fit the models of one family, the simplest first, and yield each as soon as it is fitted. A family that does not suit
the examples yields none."""


def as_examples(recordings: Sequence[Recording], channels: Sequence[str], *, classify: bool, seed: int) -> Examples:
    """Return the recordings that have two samples or more as examples.

    Raises:
        DataError: fewer than two groups, classes or values.
    """
    own = [recording for recording in recordings if len(recording.t) > 1]
    truth = np.array([recording.target.values[0, 0] for recording in own])
    labels = own[0].target.classes if own and classify else ()
    groups = np.unique([recording.group for recording in own], return_inverse=True)[1]
    if len(own) < 2 or groups.max() < 1 or len(np.unique(truth)) < 2:
        raise DataError("fitting needs two streams at least, of two groups, with two different targets", path="")
    folds = make_folds(groups, truth.astype(np.intp) if classify else None, seed=seed)
    return Examples(own, tuple(channels), truth, labels, groups, folds, seed)
