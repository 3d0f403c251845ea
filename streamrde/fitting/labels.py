"""Write into a fitted model how strongly streams should correct it by labels that come late."""

from __future__ import annotations

import msgspec
import numpy as np

from streamrde.adapting.learning import find_learned
from streamrde.adapting.targets import Targets
from streamrde.arrays import Floats
from streamrde.fitting.examples import Examples
from streamrde.inference.bundle import Bundle
from streamrde.inference.labels import parts_of


def with_learned(bundle: Bundle, examples: Examples, held_out: Floats) -> Bundle:
    """Return the model with what answers out of fold, (n, outputs), say about labels.

    A model whose targets do not change along the streams has none to learn from.
    """
    header, truth = bundle.header, examples.truth
    if not examples.along or header.emit != "every" or examples.stream is None or examples.ends is None:
        return bundle
    if header.task == "classification":
        codes = truth[:, :1]
        truth = codes if header.outputs == 1 else (codes == np.arange(header.outputs)).astype(np.float64)
        truth = np.where(np.isfinite(codes), truth, np.nan)
        held_out = held_out[:, -header.outputs :]
        shift, scale = np.zeros(header.outputs), np.ones(header.outputs)
    else:
        shift, scale = np.nanmean(truth, axis=0), np.nanstd(truth, axis=0)
        scale = np.where(scale > 0, scale, 1.0)
    targets, due = Targets(parts_of(header), shift, scale), examples.ends + examples.horizon
    learned = find_learned(targets, examples.stream, due, held_out, truth, lag=examples.horizon)
    return Bundle(msgspec.structs.replace(header, learned=learned), bundle.tensors)
