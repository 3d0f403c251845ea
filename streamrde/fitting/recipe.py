"""Fit models of several families to streams with one target each, and choose one beside plain models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from streamrde.fitting.baselines import measure_baselines, measures
from streamrde.fitting.examples import as_examples
from streamrde.fitting.families import FAMILIES
from streamrde.fitting.readout import simplest_of
from streamrde.fitting.recordings import Recording
from streamrde.inference.bundle import Bundle

_NAMES = {"accuracy": {"plainest": "majority"}, "rmse": {"plainest": "mean"}}


class Fitted(NamedTuple):
    """A model, and what it and the plainest answer reach on streams that were left out in turn."""

    bundle: Bundle
    measures: dict[str, float]
    table: dict[str, dict[str, float]]
    """Measures out of fold of all candidates and baselines, by name."""
    choice: str
    """Name of the candidate that was chosen."""
    warnings: tuple[str, ...]
    """Names and figures of the baselines that are better than it."""


def fit_recordings(
    recordings: Sequence[Recording], channels: Sequence[str], *, classify: bool, seed: int = 0
) -> Fitted:
    """Fit a model to recordings with one target each. Groups stay together when they are left out in turn.

    Returns:
        the model; measures out of fold: accuracy and log_loss beside majority_accuracy, nearest_accuracy and
        summaries_accuracy, or rmse beside mean_rmse, nearest_rmse and summaries_rmse; and those of all candidates.
    Raises:
        DataError: fewer than two groups, classes or values.
    """
    examples = as_examples(recordings, channels, classify=classify, seed=seed)
    truth, classes = examples.truth, len(examples.labels)
    candidates = [candidate for family in FAMILIES for candidate in family(examples)]
    chosen = candidates[simplest_of([candidate.losses for candidate in candidates], examples.groups)]
    own = examples.recordings
    baselines = measure_baselines(
        [r.t for r in own], [r.x for r in own], truth, classes, examples.groups, examples.folds
    )
    main = "accuracy" if classify else "rmse"
    found = measures(truth, chosen.held_out, classes)
    found |= {f"{_NAMES[main].get(name, name)}_{main}": rows[main] for name, rows in baselines.items()}
    table = {candidate.name: measures(truth, candidate.held_out, classes) for candidate in candidates}
    sign = 1 if classify else -1
    better = [name for name, rows in baselines.items() if sign * rows[main] > sign * found[main]]
    warnings = tuple(
        f"warning: the plain model '{name}' has {main} {baselines[name][main]:.4g}, this model {found[main]:.4g}"
        for name in better
    )
    return Fitted(chosen.bundle(), found, {**table, **baselines}, chosen.name, warnings)
