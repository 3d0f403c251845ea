"""Sum up a training in a line, and warn if the model loses to answers that need no model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

PLAIN = {
    "nearest": "the answer of the most similar training stream",
    "summaries": "a linear model of summaries of each channel",
    "fitted": "a reservoir that `streamrde fit` fits in seconds",
}
"""Models that a trained one is compared with where streams have one target, see `plain.plain_models`."""
NAMES = {"train": "training", "validation": "validation", "test": "test"}

# From this area under the curve on, a model distinguishes classes, even if a common class has better accuracy.
_RANKS = 0.6
# A smaller loss of quality on streams outside training is normal if streams are few.
_LOST, _LOST_R2 = 0.15, 0.3
# A difference of fewer standard errors is chance.
_ERRORS = 2.0


class Verdict(NamedTuple):
    """Result of a training."""

    line: str
    """The most important figure, beside an answer that needs no model."""
    alarms: tuple[str, ...]
    """Reasons not to use the model as it is."""


def verdict(metrics: Mapping[str, float], *, majority: str, targets: Sequence[str], weighted: bool = False) -> Verdict:
    """Judge a training by its measures on the test streams, or without any, on the validation streams.

    Args:
        metrics: as `Header.metrics`, baselines included.
        majority: the most common class, or "" for a regression.
        targets: names of the targets of a regression.
        weighted: classes have weights, so that served odds are not those of the data.
    """
    part = next((name for name in ("test", "validation", "train") if f"{name}_streams" in metrics), "train")
    own = {name.removeprefix(f"{part}_"): value for name, value in metrics.items() if name.startswith(f"{part}_")}
    where = f"on the {NAMES[part]} streams"
    if majority:
        return _class_verdict(metrics, part, own, where, majority, weighted)
    return _number_verdict(metrics, part, own, where, targets)


def _class_verdict(
    metrics: Mapping[str, float], part: str, own: Mapping[str, float], where: str, majority: str, weighted: bool
) -> Verdict:
    found, alarms = own.get("accuracy_end", math.nan), []
    line = (
        f"{where} {found:.1%} right at their ends; always '{majority}' is right in "
        f"{own.get('majority_accuracy_end', math.nan):.1%}"
    )
    for at, text in (("end", "at the streams' ends"), ("windows", "over all windows")):
        accuracy, loss = own.get(f"accuracy_{at}", math.nan), own.get(f"log_loss_{at}", math.nan)
        common, prior = own.get(f"majority_accuracy_{at}", math.nan), own.get(f"prior_log_loss_{at}", math.nan)
        ranks = own.get(f"auc_{at}", 0.0) >= _RANKS
        if accuracy < common and not (ranks and loss < prior) and not (ranks and weighted):
            alarms.append(
                f"{where} the model is worse than always saying '{majority}': {accuracy:.1%} right {text}, and that is "
                f"right in {common:.1%}"
            )
            break
        if loss > prior and not weighted:
            alarms.append(
                f"{where} the model is sure of wrong answers: its log loss {text} is {loss:.3g}, and {prior:.3g} where "
                "each class is given the share that it has in training"
            )
            break
    for name, text in PLAIN.items():
        beside, loss = own.get(f"{name}_accuracy_end", math.nan), own.get(f"{name}_log_loss_end", math.nan)
        if found < beside and not own.get("log_loss_end", math.nan) < loss:
            alarms.append(
                f"{where} the model is worse than {text}: {found:.1%} right at their ends, and that is right in "
                f"{beside:.1%}"
            )
    last = own.get("last_accuracy_windows", math.nan)
    if own.get("accuracy_windows", math.nan) < last:
        alarms.append(
            f"{where} the model is worse than the last class known: {own['accuracy_windows']:.1%} of the windows are "
            f"right, and {last:.1%} of those"
        )
    if part != "train":
        before, count = max(_others(metrics, part, "accuracy_end"), default=(math.nan, "")), own.get("streams", 1.0)
        chance = _ERRORS * math.sqrt(max(found * (1 - found), 1e-12) / max(count, 1.0))
        if before[0] - found > max(_LOST, chance):
            alarms.append(
                f"what was learned does not carry over: {before[0]:.1%} of the {before[1]} streams are right at their "
                f"ends, and {found:.1%} of the {NAMES[part]} streams"
            )
    return Verdict(line, tuple(alarms))


def _number_verdict(
    metrics: Mapping[str, float], part: str, own: Mapping[str, float], where: str, targets: Sequence[str]
) -> Verdict:
    alarms, r2 = [], own.get("r2", math.nan)
    line = f"{where} rmse {own.get('rmse', math.nan):.4g}, r2 {r2:.3g}; the training mean has rmse " + (
        f"{own.get('mean_rmse', math.nan):.4g}"
    )
    if "last_rmse" in own:
        line += f", the last value known {own['last_rmse']:.4g}"
    for name, text in (("mean", "always answering the mean of training"), ("last", "the last value known")):
        for target in targets:
            prefix = f"{target}_" if len(targets) > 1 else ""
            found, beside = own.get(f"{prefix}rmse", math.nan), own.get(f"{prefix}{name}_rmse", math.nan)
            # An error that is not finite is the worst.
            if found >= beside or (math.isfinite(beside) and not math.isfinite(found)):
                alarms.append(
                    f"{where} the model of '{target}' is worse than {text}: rmse {found:.4g}, and {beside:.4g} so"
                )
    for name, text in PLAIN.items():
        found, beside = own.get("rmse_end", math.nan), own.get(f"{name}_rmse_end", math.nan)
        if found > beside:
            alarms.append(
                f"{where} the model is worse than {text}: rmse {found:.4g} at their ends, and {beside:.4g} so"
            )
    before = max(_others(metrics, part, "r2"), default=(math.nan, ""))
    if part != "train" and before[0] > _LOST_R2 and before[0] - r2 > _LOST_R2:
        alarms.append(
            f"what was learned does not carry over: r2 is {before[0]:.3g} on the {before[1]} streams and {r2:.3g} on "
            f"the {NAMES[part]} streams"
        )
    return Verdict(line, tuple(alarms))


def _others(metrics: Mapping[str, float], part: str, measure: str) -> list[tuple[float, str]]:
    """Return a measure on the parts that were seen before, with their names."""
    seen = {"test": ("train", "validation"), "validation": ("train",)}.get(part, ())
    return [(metrics[f"{name}_{measure}"], NAMES[name]) for name in seen if f"{name}_{measure}" in metrics]
