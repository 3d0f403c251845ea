"""Measure models that need no training beside the trained one: nearest stream, summaries, and a fitted reservoir."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from streamrde.arrays import Floats
from streamrde.errors import StreamRDEError
from streamrde.fitting.baselines import BASELINES, answers_to
from streamrde.fitting.examples import as_examples
from streamrde.fitting.families.reservoir import fit_reservoirs
from streamrde.fitting.measuring import measures
from streamrde.fitting.recordings import Recording
from streamrde.fitting.serving import answers_of
from streamrde.fitting.targets import Target
from streamrde.inference.bundle import Bundle
from streamrde.models.training.config import TrainConfig
from streamrde.models.training.splits import Split

NEAREST, SUMMARIES, FITTED = "nearest", "summaries", "fitted"
"""Names of the models, as they stand in a measure's name: ``test_nearest_accuracy_end``."""
_MOST_FITTED = 500
"""Training streams up to which a reservoir is fitted: it then takes seconds."""
_MOST_STREAMS = 20_000
"""Training streams up to which plain models are fitted."""


def plain_models(config: TrainConfig, parts: Split, *, classes: Sequence[str]) -> dict[str, float]:
    """Measure plain models on validation and test, where each stream has one target.

    They learn from the training streams alone. Classification: "nearest_accuracy_end" and "nearest_log_loss_end", and
    so for "summaries" and "fitted". Regression: "nearest_rmse_end", the mean over several targets. "fitted" is the
    first candidate of `streamrde fit`, for up to 500 training streams.
    """
    where, targets = str(config.data.files), config.data.targets
    truths = {
        name: np.array([r.target.single(r.stream, targets, where).values[0] for r in own]).reshape(
            len(own), len(targets)
        )
        for name, own in parts._asdict().items()
    }
    train, truth = parts.train, truths["train"]
    if not 2 <= len(train) <= _MOST_STREAMS:
        return {}
    groups = np.unique([r.group for r in train], return_inverse=True)[1]
    fitted = _fitted(config, train, truth, classes)
    result: dict[str, float] = {}
    for part in ("validation", "test"):
        streams: list[Recording] = getattr(parts, part)
        if not streams:
            continue
        answers = {}
        for baseline in BASELINES:
            if baseline.name not in (NEAREST, SUMMARIES):
                continue
            rows, new = baseline.rows(train), baseline.rows(streams)
            answers[baseline.name] = answers_to(new, baseline.fit, rows, truth, len(classes), groups)
        if fitted is not None:
            ends = [own.value[-1:] for own in answers_of(fitted, streams)]
            missing = np.full((1, fitted.header.outputs), np.nan)
            answers[FITTED] = np.concatenate([own if len(own) else missing for own in ends])
        for name, found in answers.items():
            measured = measures(truths[part], found, len(classes), targets=targets)
            wanted = ("accuracy", "log_loss") if classes else ("rmse",)
            result |= {f"{part}_{name}_{key}_end": measured[key] for key in wanted if key in measured}
    return result


def _fitted(config: TrainConfig, train: Sequence[Recording], truth: Floats, classes: Sequence[str]) -> Bundle | None:
    """Return a reservoir fitted to the training streams, or None where they do not suit one."""
    if len(train) > _MOST_FITTED:
        return None
    labels = tuple(classes)
    single = [replace(own, target=Target(row[None], None, labels)) for own, row in zip(train, truth, strict=True)]
    channels = [channel.name for channel in config.data.channels]
    try:
        examples = as_examples(
            single, channels, classify=bool(classes), seed=config.training.seed, targets=config.data.targets
        )
        candidate = next(iter(fit_reservoirs(examples)), None)
        return None if candidate is None else candidate.bundle()
    except StreamRDEError:  # too few groups, or targets that do not vary
        return None
