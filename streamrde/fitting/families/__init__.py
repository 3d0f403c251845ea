"""Families of models that are fitted, a module each: from examples to candidates."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from typing import Protocol

from streamrde.errors import MissingExtraError
from streamrde.fitting.examples import Candidate, Examples, Family
from streamrde.fitting.families.along import fit_along
from streamrde.fitting.families.bands import fit_bands
from streamrde.fitting.families.reservoir import fit_reservoirs
from streamrde.fitting.families.summaries import fit_summaries
from streamrde.fitting.progress import Budget, Progress
from streamrde.windowing.policies import Every

FAMILIES: tuple[Family, ...] = (fit_bands, fit_reservoirs, fit_summaries, fit_along)
"""All families that need no torch, in the order in which they are fitted."""
TRAINED_KINDS = ("stack, ", "Neural RDE, ")
"""Beginnings of the names of candidates that torch trains."""
_TRAINED = "streamrde.models.choosing.family:train_candidates"


class TrainedFamily(Protocol):
    """Train candidates with torch, those that are yielded first the smaller ones, until the time is up."""

    def __call__(
        self, examples: Examples, *, budget: Budget, choice: str, windows: Every | None, progress: Progress
    ) -> Iterator[Candidate]:
        """See `streamrde.models.choosing.family.train_candidates`."""


def trained_family() -> TrainedFamily:
    """Return the family that torch trains. It stands above this package, and is found by its name.

    Raises:
        MissingExtraError: torch is not installed.
    """
    try:
        found: TrainedFamily = pkgutil.resolve_name(_TRAINED)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError("training stacks", "train") from None
    return found
