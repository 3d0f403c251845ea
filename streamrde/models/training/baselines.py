"""Measure simple answers that a model has to beat: the most common class, the mean, the last known value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from streamrde.arrays import Floats
from streamrde.fitting.recordings import Recording
from streamrde.inference.quality import regression_measures
from streamrde.models.training.config import TrainConfig
from streamrde.models.training.examples import Example, prepare
from streamrde.models.training.splits import Split

MAJORITY, PRIOR, MEAN, LAST = "majority", "prior", "mean", "last"
"""Names of the baselines, as they stand in a measure's name: ``test_majority_accuracy_end``."""


def baselines(
    config: TrainConfig,
    parts: Split,
    examples: Mapping[str, Sequence[Example]],
    *,
    fills: Floats,
    classes: Sequence[str],
) -> dict[str, float]:
    """Measure, on each part, answers that need no model.

    Classification: "majority_accuracy" for always answering the most common class of training, and "prior_log_loss" for
    giving each class its share there, both over "_windows" and at the streams' "_end". Regression: "mean_rmse" for the
    mean of the training targets. With a horizon, "last_rmse" (for classes "last_accuracy_windows") for the value last
    known when the window ends. Several targets have their mean, and each one with its name in front.
    """
    result: dict[str, float] = {}
    for part, own in examples.items():
        if not len(own):
            continue
        measured = (
            _class_baselines(examples["train"], own, classes)
            if classes
            else _number_baselines(config, examples["train"], own)
        )
        if config.data.horizon and part != "train":
            measured |= _last_baselines(config, getattr(parts, part), own, fills=fills, classes=classes)
        result |= {f"{part}_{name}": value for name, value in measured.items()}
    return result


def _class_baselines(train: Sequence[Example], examples: Sequence[Example], classes: Sequence[str]) -> dict[str, float]:
    result: dict[str, float] = {}
    for at, windows in (("windows", slice(None)), ("end", slice(-1, None))):
        learned, judged = (
            np.concatenate([example.target[example.target >= 0][windows] for example in some])
            for some in (train, examples)
        )
        share = np.bincount(learned, minlength=len(classes)) / max(1, len(learned))
        if len(judged):
            result[f"{MAJORITY}_accuracy_{at}"] = float((judged == share.argmax()).mean())
            result[f"{PRIOR}_log_loss_{at}"] = float(
                -np.log(np.maximum(share, np.finfo(np.float32).tiny))[judged].mean()
            )
    return result


def majority(train: Sequence[Example], classes: Sequence[str]) -> str:
    """Return the most common class of the training windows."""
    known = np.concatenate([example.target[example.target >= 0] for example in train])
    return classes[int(np.bincount(known, minlength=len(classes)).argmax())]


def _number_baselines(config: TrainConfig, train: Sequence[Example], examples: Sequence[Example]) -> dict[str, float]:
    learned, judged = (np.concatenate([example.target for example in some]) for some in (train, examples))
    known = np.isfinite(learned)
    means = np.where(known, learned, 0.0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
    return _errors(judged, np.broadcast_to(means, judged.shape), config.data.targets, MEAN)


def _last_baselines(
    config: TrainConfig,
    recordings: Sequence[Recording],
    examples: Sequence[Example],
    *,
    fills: Floats,
    classes: Sequence[str],
) -> dict[str, float]:
    """Measure the last known values at the windows' ends. Windows before the first one are left out."""
    now_config = msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, horizon=0.0))
    now = prepare(recordings, now_config, fills=fills, classes=classes)
    known = [_carried(example.target.astype(np.float64), missing=bool(classes)) for example in now]
    judged = np.concatenate([example.target for example in examples]).astype(np.float64)
    last = np.concatenate(known)
    if classes:
        both = (judged >= 0) & np.isfinite(last)
        return {f"{LAST}_accuracy_windows": float((judged == last)[both].mean())} if both.any() else {}
    judged[~np.isfinite(last)] = np.nan
    return _errors(judged, last, config.data.targets, LAST)


def _carried(target: Floats, *, missing: bool) -> Floats:
    """Carry targets forward into windows without one. Windows before the first target get NaN."""
    columns = target.reshape(len(target), -1)
    known = columns >= 0 if missing else np.isfinite(columns)
    place = np.maximum.accumulate(np.where(known, np.arange(len(columns))[:, None], -1), axis=0)
    carried = np.take_along_axis(columns, np.maximum(place, 0), axis=0)
    return np.where(place >= 0, carried, np.nan).reshape(target.shape)


def _errors(true: Floats, predicted: Floats, targets: Sequence[str], name: str) -> dict[str, float]:
    each = [regression_measures(true[:, j], predicted[:, j]).get("rmse", np.nan) for j in range(true.shape[1])]
    if np.isnan(each).all():
        return {}
    result = {f"{name}_rmse": float(np.nanmean(each))}
    if len(targets) > 1:
        result |= {f"{target}_{name}_rmse": float(value) for target, value in zip(targets, each, strict=True)}
    return result
