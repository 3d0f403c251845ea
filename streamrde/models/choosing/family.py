"""Train stacks and a Neural RDE as candidates of a fit: out of fold, small first, and the better ones for longer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from streamrde.arrays import Bools, Floats, Reals
from streamrde.errors import DataError, ParameterError
from streamrde.fitting.calibration import fit_sharpness
from streamrde.fitting.examples import Candidate, Examples
from streamrde.fitting.progress import Budget, Progress, Stage
from streamrde.fitting.readout import losses_of
from streamrde.fitting.weights import weighted
from streamrde.inference.bundle import Bundle
from streamrde.inference.quality import softmax
from streamrde.models.choosing.contenders import Contender, contenders
from streamrde.models.choosing.training import Learned, Material, gather, learn
from streamrde.models.training.shrinkage import factors
from streamrde.nearest import did_you_mean, listed
from streamrde.windowing.policies import Every

RATIO = 3
"""Each rung trains so many times as long as the one below, with a share of the contenders smaller by this factor."""
_FEWEST = 2  # contenders that are trained on all folds
_JUDGED = 2  # folds that judge the first rung
_SCREENING = 0.25  # of the time, at most, if that is enough for one
_LEAST = 1e-6  # share of what is learned that an answer has at least: a scale of 0 is none
_STAGE = "train stacks"


class _Answers(NamedTuple):
    """Calibrated answers, and what makes a model give such ones."""

    held_out: Floats
    calibrate: Callable[[Bundle], Bundle]


def train_candidates(
    examples: Examples,
    *,
    budget: Budget,
    choice: str = "",
    windows: Every | None = None,
    progress: Progress,
) -> Iterator[Candidate]:
    """Train contenders by successive halving, and yield those that were trained on all folds.

    First, contenders are trained for a third of their epochs and answer two of the folds, in a quarter of the time at
    most. The better third of them is then trained for all epochs, once without each fold, and the best of these for
    three times as long. Epochs are fewer where the time left does not suffice, as far as the trainings before tell, and
    stand in the candidate's name: the name alone makes the same model again.

    Args:
        examples: what is learned and judged.
        budget: time that may be used.
        choice: name of the contender to train, without a choice and whatever the time. "": the best ones.
        windows: base windows of whole streams. None: they follow from the examples.
        progress: receives a stage.
    Raises:
        DataError: no contender has the name `choice`.
        KeyboardInterrupt: Ctrl-C.
    Reference: Jamieson & Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization".
    """
    known = examples.windows if isinstance(examples.windows, Every) else windows
    found = contenders(examples, known)
    race = _Race(examples, budget, progress)
    if choice:
        yield race.candidate(_named(choice, found))
        return
    ranked = race.screen(found)
    best: tuple[float, Contender] | None = None
    for contender in ranked[: max(_FEWEST, math.ceil(len(found) / RATIO))]:
        if (candidate := race.candidate_in_time(contender, contender.epochs)) is not None:
            yield candidate
            loss = float(weighted(candidate.losses, examples.weights).mean())
            best = min(best or (loss, contender), (loss, contender), key=lambda own: own[0])
    if best is not None:
        candidate = race.candidate_in_time(best[1], RATIO * best[1].epochs)
        if candidate is not None:
            yield candidate


def _named(choice: str, found: Sequence[Contender]) -> Contender:
    """Return the contender of a name, with the epochs in it."""
    model, _, lasting = choice.rpartition(", ")
    epochs = lasting.removesuffix(" epochs")
    chosen = next((own for own in found if own.model == model), None)
    if chosen is None or not epochs.isdecimal() or not int(epochs):
        names = [own.name for own in found]
        raise DataError(
            f"choice = '{choice}': no candidate has this name{did_you_mean(choice, names)}; there are {listed(names)}",
            path="",
        )
    return chosen.lasting(int(epochs))


class _Race:
    """Train contenders one after the other, and count what they cost."""

    def __init__(self, examples: Examples, budget: Budget, progress: Progress) -> None:
        self._examples, self._budget, self._progress = examples, budget, progress
        self._folds = np.unique(examples.folds)
        self._cost: dict[str, float] = {}
        """Seconds of an epoch of each contender's training, by the name of its model."""
        self._reserved = 0.0
        """Seconds of the training of the best candidate so far on all rows, which is still to come."""
        self._material: dict[bytes, Material] = {}
        self._trained = 0

    def screen(self, found: Sequence[Contender]) -> list[Contender]:
        """Return the contenders by their loss after a short training, the best first.

        It takes a quarter of the time left at most, if that suffices for one contender.
        """
        scored: list[tuple[float, Contender]] = []
        judged, stop = self._folds[:_JUDGED], self._budget.left * (1 - _SCREENING)
        out = np.isin(self._examples.folds, judged)
        for contender in found:
            if (scored and self._budget.left < stop) or self._budget.spent:
                break
            short, scores = contender.lasting(max(1, contender.epochs // RATIO)), np.full(self._shape, np.nan)
            try:
                for fold in judged.tolist():
                    own = self._examples.folds == fold
                    scores[own] = self._learn(short, fold).scores[own]
            except ParameterError:  # it diverged: others may not
                continue
            scored.append((self._loss(scores, out), contender))
        return [contender for _, contender in sorted(scored, key=lambda own: own[0])]

    def candidate_in_time(self, contender: Contender, epochs: int) -> Candidate | None:
        """Return the contender trained on all folds for so many epochs, or as many as there is time for.

        None: the time left does not suffice for the `RATIO`th part of them, or it diverged.
        """
        cost = self._cost[contender.model] * (len(self._folds) + 1)
        if math.isfinite(self._budget.left):
            enough, epochs = math.ceil(epochs / RATIO), min(epochs, int((self._budget.left - self._reserved) / cost))
            if epochs < enough:
                return None
        try:
            candidate = self.candidate(contender.lasting(epochs))
        except ParameterError:
            return None
        self._reserved = max(self._reserved, self._cost[contender.model] * epochs)
        return candidate

    def candidate(self, contender: Contender) -> Candidate:
        """Return the contender trained once without each fold."""
        examples, scores = self._examples, np.full(self._shape, np.nan)
        without: dict[int, Bundle] = {}
        for fold in self._folds.tolist():
            learned = self._learn(contender, fold)
            own = examples.folds == fold
            scores[own], without[fold] = learned.scores[own], learned.bundle
        answers = _calibrated(examples, scores)
        losses = losses_of(examples.truth, answers.held_out, len(examples.labels))
        return Candidate(
            contender.name,
            answers.held_out,
            losses,
            lambda: answers.calibrate(self._learn(contender, None).bundle),
            lambda fold: answers.calibrate(without[fold]),
            contender.kind,
        )

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self._examples.truth), len(self._examples.labels) or self._examples.truth.shape[1]

    def _learn(self, contender: Contender, fold: int | None) -> Learned:
        """Train without a fold, or on all rows."""
        began = self._budget.passed
        self._progress(Stage(_STAGE, self._trained))
        folds = self._examples.folds
        out = np.zeros(len(folds), bool) if fold is None else folds == fold
        learned = learn(contender, self._material_of(contender), out)
        self._trained += 1
        self._progress(Stage(_STAGE, self._trained))
        self._cost[contender.model] = (self._budget.passed - began) / contender.epochs
        return learned

    def _material_of(self, contender: Contender) -> Material:
        config = contender.config
        key = msgspec.json.encode((config.windows, config.token, config.model.depth, config.model.interpolation))
        if key not in self._material:
            self._material = {key: gather(self._examples, config)}
        return self._material[key]

    def _loss(self, scores: Floats, out: Bools) -> float:
        """Return the mean loss of the rows that were left out."""
        examples = self._examples
        some = examples._replace(
            truth=examples.truth[out],
            groups=examples.groups[out],
            folds=examples.folds[out],
            weights=None if examples.weights is None else examples.weights[out],
        )
        answers = _calibrated(some, scores[out]).held_out
        return float(weighted(losses_of(some.truth, answers, len(some.labels)), some.weights).mean())


def _calibrated(examples: Examples, scores: Floats) -> _Answers:
    """Turn scores of what was left out into answers. The plainest answer stands for rows without a score.

    Scores of classes are multiplied by one factor. Numbers are drawn towards the mean as those of any training are: see
    `streamrde.models.training.shrinkage`.
    """
    heard: Bools = np.asarray(np.isfinite(scores).all(axis=1))
    if examples.labels:
        counts = np.bincount(examples.codes, minlength=len(examples.labels))
        sharp = fit_sharpness(scores[heard], examples.codes[heard], weights=_some(examples.weights, heard))
        held_out = softmax(sharp * np.where(heard[:, None], scores, 0.0))
        held_out[~heard] = (counts + 1 / len(counts)) / (counts.sum() + 1)

        def sharpened(bundle: Bundle) -> Bundle:
            changed = {name: sharp * bundle.tensors[name] for name in ("readout.weight", "readout.bias")}
            return _with(bundle, changed)

        return _Answers(held_out, sharpened)
    truth, weights = examples.truth, examples.weights
    mean = np.nanmean(truth, axis=0)
    away, wanted = scores - mean, truth - mean
    known = np.isfinite(away) & np.isfinite(wanted)
    away, wanted = np.where(known, away, 0.0), np.where(known, wanted, 0.0)
    counts = known * (1.0 if weights is None else weights[:, None])
    groups = examples.groups if len(np.unique(examples.groups)) > 1 else examples.folds
    share = np.maximum(factors(wanted, away, counts, groups), _LEAST)
    held_out = np.where(heard[:, None], mean + share * (scores - mean), mean)

    def shrunk(bundle: Bundle) -> Bundle:
        shift, scale = bundle.tensors["output.shift"], bundle.tensors["output.scale"]
        return _with(bundle, {"output.shift": mean + share * (shift - mean), "output.scale": share * scale})

    return _Answers(held_out, shrunk)


def _with(bundle: Bundle, changed: Mapping[str, Reals]) -> Bundle:
    tensors = dict(bundle.tensors)
    for name, value in changed.items():
        tensors[name] = np.asarray(value, tensors[name].dtype)
    return Bundle(bundle.header, tensors)


def _some(weights: Floats | None, own: Bools) -> Floats | None:
    return None if weights is None else weights[own]
