"""Fit models of several families to streams with one target each, and choose one beside plain models."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamrde.arrays import Floats, Indices
from streamrde.errors import DataError, MissingExtraError
from streamrde.fitting.along import examples_along
from streamrde.fitting.baselines import measure_whole
from streamrde.fitting.card import with_card
from streamrde.fitting.examples import Candidate, Examples, Family, as_examples
from streamrde.fitting.families import FAMILIES, TRAINED_KINDS, trained_family
from streamrde.fitting.labels import with_learned
from streamrde.fitting.lags import measure_along
from streamrde.fitting.measuring import measures
from streamrde.fitting.progress import Budget, Progress, Stage, Tried, ignore
from streamrde.fitting.readout import simplest_of
from streamrde.fitting.recordings import Recording
from streamrde.fitting.trial import PLAIN_NAMES, measures_of_test
from streamrde.fitting.weights import ClassWeights, describe, factors, weighted
from streamrde.inference.bundle import Bundle
from streamrde.nearest import did_you_mean, listed
from streamrde.windowing.policies import Every


class Fitted(NamedTuple):
    """A model, and what it and the plainest answer reach on streams that were left out in turn."""

    bundle: Bundle
    measures: dict[str, float]
    table: dict[str, dict[str, float]]
    """Measures out of fold of all candidates and baselines, by name."""
    choice: str
    """Name of the candidate that was chosen."""
    warnings: tuple[str, ...]
    """Sentences on what to be careful with, beyond what the measures say."""
    examples: Examples
    chosen: Candidate
    stopped: str
    """Reason why not all candidates were tried: "time" or "interrupt". "": all were."""


def fit_recordings(
    recordings: Sequence[Recording],
    channels: Sequence[str],
    *,
    classify: bool,
    seed: int = 0,
    progress: Progress = ignore,
    budget: Budget | None = None,
    choice: str = "",
    targets: Sequence[str] = (),
    along: bool = False,
    horizon: float = 0.0,
    grouped: bool = False,
    folds: Indices | None = None,
    test: Sequence[Recording] = (),
    class_weights: ClassWeights = "equal",
    trained: bool = False,
    windows: Every | None = None,
) -> Fitted:
    """Fit a model to recordings with one target each. Groups stay together when they are left out in turn.

    Args:
        progress: receives stages, and each candidate.
        budget: time after which no further candidate is tried. Ctrl-C ends the search in the same way, and a second
            one the fit.
        choice: name of the candidate to take, without a choice. "": the best one.
        targets: names of the target columns.
        along: targets change along the streams, or lie `horizon` seconds ahead, see `examples_along`.
        grouped: groups were named, and not every recording is its own.
        folds: number of the fold of each recording, (recordings,). None: they are made.
        test: recordings that only measure the finished model: measures "test_accuracy" or "test_rmse" and so on, and
            those of the plain models beside them.
        class_weights: what an error costs by class, in what is fitted and in the choice. Measures do not use them.
        trained: go on with candidates that torch trains, while there is time.
        windows: base windows of these, and of all candidates for targets along the streams. None: they follow from the
            data.
    Returns:
        the model; measures out of fold: accuracy and log_loss beside majority_accuracy, nearest_accuracy and
        summaries_accuracy, or rmse beside mean_rmse, nearest_rmse and summaries_rmse; and those of all candidates.
    Raises:
        DataError: fewer than two groups, classes or values, or no candidate has the name `choice`.
        MissingExtraError: `choice` is a candidate that torch trains, and torch is not installed.
        KeyboardInterrupt: Ctrl-C before a candidate was fitted.
    """
    if along:
        examples = examples_along(
            recordings, channels, classify=classify, seed=seed, targets=targets, horizon=horizon, grouped=grouped,
            folds=folds, windows=windows,
        )  # fmt: skip
    else:
        examples = as_examples(recordings, channels, classify=classify, seed=seed, targets=targets, folds=folds)
    truth, classes = examples.truth, len(examples.labels)
    warnings: tuple[str, ...] = ()
    if classify:
        factor = factors(class_weights, examples.labels, np.bincount(examples.codes, minlength=classes))
        if factor is not None:
            examples = examples._replace(weights=factor[examples.codes])
            warnings = (describe(examples.labels, factor),)
    budget = budget or Budget()
    families = [] if choice.startswith(TRAINED_KINDS) else [*FAMILIES]
    if trained or choice.startswith(TRAINED_KINDS):
        try:
            found_family = trained_family()
            families.append(
                functools.partial(found_family, budget=budget, choice=choice, windows=windows, progress=progress)
            )
        except MissingExtraError as error:
            if choice:
                raise
            warnings = (*warnings, f"warning: stacks were not tried: {error}")
    candidates, stopped = _search(examples, families, progress, budget, choice)
    if len(families) > len(FAMILIES) and not candidates[-1].name.startswith(TRAINED_KINDS):
        stopped = stopped or "time"
    if choice:
        chosen = candidates[-1]
    else:
        finalists = _best_of_kinds(candidates, examples.weights)
        losses = [weighted(candidate.losses, examples.weights) for candidate in finalists]
        chosen = finalists[simplest_of(losses, examples.groups)]
    progress(Stage("measure plain models", 0, 1))
    baselines = measure_along(examples) if examples.along else measure_whole(examples)
    progress(Stage("measure plain models", 1, 1))
    main = "accuracy" if classify else "rmse"
    found = measures(truth, chosen.held_out, classes, targets=targets)
    found |= {f"{PLAIN_NAMES[main].get(name, name)}_{main}": rows[main] for name, rows in baselines.items()}
    table = {candidate.name: measures(truth, candidate.held_out, classes, targets=targets) for candidate in candidates}
    bundle = chosen.bundle()
    if test:
        progress(Stage("measure the test part", 0, 1))
        found |= measures_of_test(examples, bundle, test)
        progress(Stage("measure the test part", 1, 1))
    bundle = with_learned(with_card(bundle, examples, found), examples, chosen.held_out)
    return Fitted(bundle, found, {**table, **baselines}, chosen.name, warnings, examples, chosen, stopped)


def _best_of_kinds(candidates: Sequence[Candidate], weights: Floats | None) -> list[Candidate]:
    """Return the candidates without those that are worse than another of their kind, in their order."""
    best: dict[str, Candidate] = {}
    for candidate in candidates:
        name = candidate.kind or candidate.name
        if name not in best or _mean_loss(candidate, weights) < _mean_loss(best[name], weights):
            best[name] = candidate
    return list(best.values())


def _mean_loss(candidate: Candidate, weights: Floats | None) -> float:
    return float(weighted(candidate.losses, weights).mean())


def _search(
    examples: Examples, families: Sequence[Family], progress: Progress, budget: Budget, choice: str
) -> tuple[list[Candidate], str]:
    """Return the candidates of all families, or those until time is up, and why they are not all."""
    found: list[Candidate] = []
    stage = "fit candidates"
    progress(Stage(stage, 0))
    try:
        for family in families:
            for candidate in family(examples):
                own_loss = _mean_loss(candidate, examples.weights)
                best = all(own_loss < _mean_loss(other, examples.weights) for other in found)
                found.append(candidate)
                progress(Stage(stage, len(found)))
                answers, classes = candidate.held_out, len(examples.labels)
                own = measures(examples.truth, answers, classes, targets=examples.targets)
                progress(Tried(candidate.name, own, best))
                if candidate.name == choice:
                    return found, ""
                if budget.spent:
                    return found, "time"
    except KeyboardInterrupt:
        if not found or choice:
            raise
        progress(Stage("stop and keep the best candidate (Ctrl-C again: without a model)", 1, 1))
        return found, "interrupt"
    if choice:
        names = [candidate.name for candidate in found]
        raise DataError(
            f"choice = '{choice}': no candidate has this name{did_you_mean(choice, names)}; there are {listed(names)}",
            path="",
        )
    progress(Stage(stage, len(found), len(found)))
    return found, ""
