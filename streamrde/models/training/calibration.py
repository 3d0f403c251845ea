"""Note in a trained model how far it was off on its validation streams, which intervals need."""

from __future__ import annotations

import numpy as np

from streamrde.adapting.bands import SETS
from streamrde.adapting.scores import scores_of
from streamrde.inference.bundle import Bundle
from streamrde.inference.quality import softmax
from streamrde.models.training.history import Predicted


def with_validation(bundle: Bundle, validation: Predicted) -> Bundle:
    """Return the model with the scores of its validation streams' windows, or as it is if no window has a target.

    Training stopped where it was best on these streams, so that intervals before the first label are a little narrow.
    """
    examples, outputs = validation
    if not examples:
        return bundle
    value, truth = np.concatenate(outputs), np.concatenate([example.target for example in examples])
    if truth.ndim == 1:
        value, truth = softmax(value), np.where(truth >= 0, truth, np.nan)[:, None]
    if not np.isfinite(truth).any():
        return bundle
    streams = np.repeat([example.stream for example in examples], [len(y) for y in outputs])
    number = np.unique(streams, return_inverse=True)[1].astype(np.intp)
    units = bundle.header.thresholds
    return bundle.with_calibration([scores_of(units, value, truth, sets) for sets in SETS], number)
