"""Write into a model how strongly streams should correct it by labels that come late."""

from __future__ import annotations

import msgspec
import numpy as np

from streamrde.adapting.learning import find_learned
from streamrde.adapting.targets import Targets
from streamrde.arrays import Floats, Indices
from streamrde.fitting.examples import Examples
from streamrde.inference.bundle import Bundle
from streamrde.inference.labels import parts_of


def with_learned(bundle: Bundle, examples: Examples, held_out: Floats) -> Bundle:
    """Return the model with what answers out of fold, (n, outputs), say about labels.

    A model whose targets do not change along the streams has none to learn from.
    """
    if not examples.along or examples.stream is None or examples.ends is None:
        return bundle
    return learn_along(bundle, examples.stream, examples.ends, held_out, examples.truth)


def learn_along(
    bundle: Bundle, stream: Indices, ends: Floats, answers: Floats, truth: Floats, *, usual: Floats | None = None
) -> Bundle:
    """Return the model with what answers to streams that it had not seen say about labels.

    Args:
        bundle: it predicts after every window.
        stream: number of each window's stream, (n,).
        ends: of the windows, seconds, (n,), ascending in each stream.
        answers: numbers, or probabilities of classes, (n, outputs).
        truth: numbers, (n, outputs), or the numbers of classes, (n, 1). NaN: unknown.
        usual: targets that say their mean and spread, (m, outputs). None: `truth`.
    """
    header = bundle.header
    if header.emit != "every":
        return bundle
    if header.task == "classification":
        codes = truth[:, :1]
        truth = codes if header.outputs == 1 else (codes == np.arange(header.outputs)).astype(np.float64)
        truth = np.where(np.isfinite(codes), truth, np.nan)
        answers = answers[:, -header.outputs :]
        shift, scale = np.zeros(header.outputs), np.ones(header.outputs)
    else:
        usual = truth if usual is None else usual
        shift, scale = np.nanmean(usual, axis=0), np.nanstd(usual, axis=0)
        scale = np.where(scale > 0, scale, 1.0)
    targets, due = Targets(parts_of(header), shift, scale), ends + header.horizon
    learned = find_learned(targets, stream, due, answers, truth, lag=header.horizon)
    return Bundle(msgspec.structs.replace(header, learned=learned), bundle.tensors)
