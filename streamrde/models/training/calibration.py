"""Note in a trained model what its validation streams say about its errors: intervals, and corrections by labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from streamrde.adapting.bands import SETS
from streamrde.adapting.scores import scores_of
from streamrde.arrays import Floats
from streamrde.fitting.labels import learn_along
from streamrde.inference.bundle import Bundle
from streamrde.inference.quality import softmax
from streamrde.models.training.examples import Example
from streamrde.models.training.history import Predicted


def with_validation(bundle: Bundle, predicted: Mapping[str, Predicted], *, unseen: bool) -> Bundle:
    """Return the model with the scores of its validation streams' windows, or as it is if no window has a target.

    If targets change along streams that the model has not seen, it also gets the settings of corrections by labels.
    Streams of training would say that there is nothing to correct. Training stopped where it was best on the validation
    streams, so that intervals before the first label are a little narrow.

    Args:
        predicted: the model's answers, by part. "validation" may be missing.
        unseen: no recording, person or the like has streams of training and of validation.
    """
    validation = predicted.get("validation")
    if validation is None or not len(validation.examples):
        return bundle
    examples, outputs = validation
    value, truth = np.concatenate(outputs), _truth(examples)
    if bundle.header.task == "classification":
        value = softmax(value)
    if not np.isfinite(truth).any():
        return bundle
    streams = np.repeat([example.stream for example in examples], [len(y) for y in outputs])
    number = np.unique(streams, return_inverse=True)[1].astype(np.intp)
    units = bundle.header.thresholds
    bundle = bundle.with_calibration([scores_of(units, value, truth, sets) for sets in SETS], number)
    if bundle.header.target_at != "window" or not unseen:
        return bundle
    return learn_along(bundle, number, _ends(examples), value, truth, usual=_truth(predicted["train"].examples))


def _truth(examples: Sequence[Example]) -> Floats:
    """Return the targets of all windows, (W, outputs), or the numbers of their classes, (W, 1), NaN where unknown."""
    truth = np.concatenate([example.target for example in examples])
    return truth if truth.ndim > 1 else np.where(truth >= 0, truth, np.nan)[:, None]


def _ends(examples: Sequence[Example]) -> Floats:
    """Return the ends of all windows since their streams began, (W,): a stream's episodes follow each other."""
    latest: dict[str, float] = {}
    found = []
    for example in examples:
        found.append(latest.get(example.stream, 0.0) + example.ends)
        if len(example.ends):
            latest[example.stream] = float(found[-1][-1])
    return np.concatenate(found)
