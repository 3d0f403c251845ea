"""Open a report: how good the model is, beside models that are plain, and what to try next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from streamrde.fitting.intervals import wilson
from streamrde.fitting.words import percent
from streamrde.models.report.quality import Answers
from streamrde.models.training.config import TrainConfig
from streamrde.models.training.history import Fitted
from streamrde.models.training.verdict import NAMES, PLAIN
from streamrde.nearest import listed
from streamrde.pages.svg import number

# The kept epoch is among the last if it is behind this share of them.
_LATE = 0.95
# Loss of quality from training to other streams from which on a model knows its training by heart.
_BY_HEART, _BY_HEART_R2 = 0.1, 0.2
# Streams of a part below which its figures are rough.
_ROUGH = 50


def sentences(fitted: Fitted, part: str, answered: Answers, groups: Mapping[str, str]) -> list[str]:
    """Say how good the model is on a part, with counts, and how good plain models are on the same streams.

    Args:
        fitted: the model with its measures.
        part: name of the part.
        answered: its answers.
        groups: group of each stream, whose answers may be right or wrong together. Empty: each is its own.
    """
    own = _of_part(fitted.bundle.header.metrics, part)
    if fitted.bundle.header.task == "classification":
        found = _of_classes(own, NAMES[part], answered, groups)
    else:
        found = _of_numbers(own, NAMES[part], answered, fitted.bundle.header.units)
    beside = _beside(own, classify=fitted.bundle.header.task == "classification", streams=len(answered.at_end))
    return [text.replace("`", "") for text in (found, *beside)]


def _of_part(metrics: Mapping[str, float], part: str) -> dict[str, float]:
    return {name.removeprefix(f"{part}_"): value for name, value in metrics.items() if name.startswith(f"{part}_")}


def _of_classes(own: Mapping[str, float], part: str, answered: Answers, groups: Mapping[str, str]) -> str:
    ends = answered.at_end
    if not len(ends):
        return f"No {part} stream has a known class at its end"
    right = answered.right[ends]
    names = [answered.streams[i] for i in answered.example[ends]]
    number_of = np.unique([groups.get(name, name) for name in names], return_inverse=True)[1]
    low, high = wilson(right, number_of)
    windows = answered.right[np.isfinite(answered.right)]
    text = (
        f"Right at the end of {int(right.sum()):,} of {len(ends):,} {part} streams: {percent(float(right.mean()))} "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f} %), and in {int(windows.sum()):,} of {len(windows):,} "
        "windows"
    )
    area = own.get("auc_end", math.nan)
    return text + (f". The area under the ROC curve is {area:.3f}" if math.isfinite(area) else "")


def _of_numbers(own: Mapping[str, float], part: str, answered: Answers, units: Sequence[str]) -> str:
    unit = f" {units[0]}" if len(units) == 1 and units[0] else ""
    known = int(np.isfinite(answered.target).reshape(len(answered.target), -1).any(axis=1).sum())
    r2 = own.get("r2", math.nan)
    share = f", which explains {100 * r2:.1f} % of the variance" if r2 > 0 else ", which explains none of the variance"
    return (
        f"Off by {number(own.get('rmse', math.nan))}{unit} (root mean square) in {known:,} windows of "
        f"{len(answered.streams):,} {part} streams" + (share if math.isfinite(r2) else "")
    )


def _beside(own: Mapping[str, float], *, classify: bool, streams: int) -> list[str]:
    """Return a sentence with the plain models' figures, the best first."""
    if classify:
        names = {"majority": "always the most common class", **PLAIN}
        ends = {text: own.get(f"{name}_accuracy_end", math.nan) for name, text in names.items()}
        known = sorted(((value, text) for text, value in ends.items() if math.isfinite(value)), reverse=True)
        told = [f"{text} {round(value * streams):,} ({percent(value)})" for value, text in known]
        last = own.get("last_accuracy_windows", math.nan)
        told += [f"the last class known {percent(last)} of the windows"] if math.isfinite(last) else []
        return [f"Right on the same streams: {', '.join(told)}"] if told else []
    whole = {"the mean of training": own.get("mean_rmse"), "the last value known": own.get("last_rmse")}
    told = [f"{text} {number(value)}" for text, value in whole.items() if value is not None and math.isfinite(value)]
    found = [f"Off by, on the same windows: {', '.join(told)}"] if told else []
    ends = {text: own.get(f"{name}_rmse_end", math.nan) for name, text in PLAIN.items()}
    known = sorted((value, text) for text, value in ends.items() if math.isfinite(value))
    if known and math.isfinite(at_end := own.get("rmse_end", math.nan)):
        listed_ = ", ".join(f"{text} {number(value)}" for value, text in known)
        found.append(f"At the streams' ends the model is off by {number(at_end)}, and {listed_}")
    return found


def next_steps(fitted: Fitted, part: str, config: TrainConfig) -> list[str]:
    """Return what may make the model better, or its figures surer, by what the training shows."""
    metrics, training = fitted.bundle.header.metrics, config.training
    own, before = _of_part(metrics, part), _of_part(metrics, "train")
    classify = fitted.bundle.header.task == "classification"
    found = []
    main = "accuracy_end" if classify else "r2"
    drop = before.get(main, math.nan) - own.get(main, math.nan)
    better = [
        text
        for name, text in PLAIN.items()
        if (classify and own.get(f"{name}_accuracy_end", -1.0) > own.get("accuracy_end", math.inf))
        or (not classify and own.get(f"{name}_rmse_end", math.inf) < own.get("rmse_end", -math.inf))
    ]
    if better:
        found.append(f"Try streamrde fit, or other windows and channels: {listed(better)} does better on these streams")
    late = [history.best > _LATE * training.epochs and not history.interrupted for history in fitted.histories]
    if any(late):
        found.append(f"Train for longer (training.epochs = {2 * training.epochs}): one of the last epochs was the best")
    if part != "train" and drop > (_BY_HEART if classify else _BY_HEART_R2):
        dropout = min(0.5, 2 * training.dropout) or 0.1
        found.append(
            f"The model knows its training streams by heart ({_main(before[main], classify)} there, "
            f"{_main(own[main], classify)} here): streams of further "
            f"{config.split.undivided or 'groups'} help most, then training.dropout = {dropout:g}, [augment], or a "
            "smaller model.hidden"
        )
    elif not better and before.get(main, math.nan) < 0.9 and not any(late):
        found.append(
            f"Even training streams are answered wrongly ({_main(before[main], classify)}): try a larger model.hidden, "
            "shorter windows or more of them in a token (token.scales), or more channels"
        )
    if training.members == 1:
        found.append("Train several members (training.members = 5): their mean is usually better")
    if (streams := own.get("streams", math.nan)) < _ROUGH and part != "train":
        found.append(f"Figures of {int(streams)} {NAMES[part]} streams are rough: more of them make surer ones")
    return [text.replace("`", "") for text in found]


def _main(value: float, classify: bool) -> str:
    return f"{percent(value)} right" if classify else f"r2 {value:.2f}"
