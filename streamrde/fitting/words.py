"""Say in plain words how good a fitted model is, beside plain models, and what to be careful with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from streamrde.arrays import Floats
from streamrde.fitting.examples import Candidate, Examples
from streamrde.fitting.intervals import Interval, of_area, of_mean, wilson
from streamrde.nearest import listed
from streamrde.pages.svg import number

FEW_GROUPS = 10
"""Groups below which an interval is rough: it rests on how much they differ."""
_SHOWN = 5  # names in one sentence

_BASELINES = {
    "nearest": "nearest neighbour",
    "summaries": "linear model on summaries",
    "persistence": "last known value",
    "mean": "always the mean",
}


_SEEN = {
    "above": "'above' counts how often random features of the path are above thresholds",
    "best": "'best' counts how often each of eight random features is the largest of them",
    "bands": "'bands' follows how fast each channel oscillates: the rate in each frequency band, and each band's share",
    "pulses": "'pulses' counts how often the activity of the channels peaks, and has quantiles of all counts",
    "summaries": "'summaries' has each channel's mean, spread, ends and slope so far",
    "curves": "'curves' has curves in the ranks of summaries, and pairs of ranks",
    "along": "'along' has the latest windows and fading means of those before",
    "turned": "'sensors turned' has learned from turned copies of the recordings too",
    "stack": "'stack' is trained: recurrences of a kind, in so many blocks of a width, for so many epochs",
    "RDE": "'Neural RDE' is trained: a state of so many numbers, moved by log-signatures, for so many epochs",
}


def explain_names(names: Iterable[str]) -> str:
    """Say what the names of candidates mean, in one sentence. "" if there is nothing to explain."""
    used = {word.strip(",") for name in names for word in name.split()}
    found = [text for word, text in _SEEN.items() if word in used]
    return f"In the names, {'; '.join(found)}." if found else ""


def intervals_of(examples: Examples, chosen: Candidate) -> dict[str, Interval]:
    """Return the 95 % intervals of the chosen model's measures out of fold."""
    answers, groups = chosen.held_out, examples.groups
    known = np.isfinite(answers).all(axis=1)
    if examples.labels:
        codes = examples.codes
        right = (answers.argmax(axis=1) == codes).astype(float)
        found = {
            "accuracy": wilson(right[known], groups[known]),
            "log_loss": of_mean(chosen.losses[known], groups[known]),
        }
        if len(examples.labels) == 2:
            area = of_area(codes[known], answers[known, 1], groups[known])
            # Where all draws agree, as with classes that are apart, the bootstrap says nothing of others to come.
            found |= {"auc": area} if area is not None and area.low < area.high else {}
        return found
    found = {}
    several = examples.truth.shape[1] > 1
    for j, name in enumerate(examples.targets or ("",) * examples.truth.shape[1]):
        prefix = f"{name}_" if several else ""
        error = answers[:, j] - examples.truth[:, j]
        own = np.isfinite(error)
        if own.any():
            found[f"{prefix}rmse"] = of_mean(error[own] ** 2, groups[own], of=np.sqrt)
            found[f"{prefix}mae"] = of_mean(np.abs(error[own]), groups[own])
    return found


def baseline_name(name: str, examples: Examples) -> str:
    """Return a plain model's name in words."""
    if name in ("plainest", "majority"):
        if not examples.labels:
            return _BASELINES["mean"]
        return f"always '{examples.labels[int(np.bincount(examples.codes).argmax())]}'"
    return _BASELINES.get(name, name)


def rows_of(examples: Examples) -> str:
    """Return what is counted: "streams", or "windows" along them."""
    return "windows" if examples.along else "streams"


def percent(share: float) -> str:
    """Return a share in per cent with three digits, and never "100 %" for less than all."""
    text = f"{100 * share:.1f}"
    return f"{100 * share:.2f} %" if text == "100.0" and share < 1 else f"{text} %"


def figure(value: float) -> str:
    """Return a number with four digits."""
    return number(float(f"{value:.4g}"))


def sentences(
    examples: Examples,
    found: Mapping[str, float],
    intervals: Mapping[str, Interval],
    baselines: Mapping[str, Mapping[str, float]],
) -> list[str]:
    """Say how often the model was right, or how far off, on what it had not seen, and plain models beside it.

    Args:
        found: its measures out of fold.
        baselines: measures of the plain models on the same rows, by name.
    """
    rows, n = rows_of(examples), len(examples.truth)
    if examples.labels:
        low, high = intervals["accuracy"]
        right = round(found["accuracy"] * n)
        said = [
            f"right on {right:,} of {n:,} {rows} that it had not seen: {percent(found['accuracy'])} "
            f"(95 % interval {100 * low:.1f} to {100 * high:.1f} %)"
        ]
        if len(examples.labels) == 2 and "auc" in found:
            area = intervals.get("auc")
            limits = f", 95 % interval {area.low:.3f} to {area.high:.3f}" if area is not None else ""
            said.append(
                f"ranks a '{examples.labels[1]}' above a '{examples.labels[0]}' {percent(found['auc'])} of the time "
                f"(AUC {found['auc']:.3f}{limits})"
            )
        beside = {baseline_name(name, examples): percent(own["accuracy"]) for name, own in baselines.items()}
    else:
        said = []
        several = examples.truth.shape[1] > 1
        for name in examples.targets if several else ("",):
            prefix = f"{name}_" if name else ""
            low, high = intervals[f"{prefix}rmse"]
            r2 = found.get(f"{prefix}r2")
            share = "" if r2 is None else f"; explains {100 * r2:.1f} % of the variance"
            if r2 is not None and r2 <= 0:
                share = "; explains none of the variance"
            said.append(
                (f"{name}: " if name else "")
                + f"off by {figure(found[f'{prefix}rmse'])} (root mean squared error) on {n:,} {rows} that it had not "
                f"seen (95 % interval {figure(low)} to {figure(high)}){share}"
            )
        beside = {baseline_name(name, examples): figure(own["rmse"]) for name, own in baselines.items()}
    if beside:
        said.append("plain models on the same: " + ", ".join(f"{name} {value}" for name, value in beside.items()))
    return [*said, *_test_part(examples, found, baselines)]


def _test_part(
    examples: Examples, found: Mapping[str, float], baselines: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """Say the measures of a part that the data itself keeps for a test, if there is one."""
    main = "accuracy" if examples.labels else "rmse"
    if f"test_{main}" not in found:
        return []
    show = percent if main == "accuracy" else figure
    usual = {"plainest": "majority" if main == "accuracy" else "mean"}
    keys = {name: f"test_{usual.get(name, name)}_{main}" for name in baselines}
    beside = [f"{baseline_name(name, examples)} {show(found[key])}" for name, key in keys.items() if key in found]
    what = "right on" if main == "accuracy" else "off by"
    plain = f"; plain models: {', '.join(beside)}" if beside else ""
    if silent := round(found.get("test_silent", 0)):
        plain += f"; the plainest answer stands for {silent:,} stream{'s' * (silent > 1)} without a window"
    if unknown := round(found.get("test_unknown", 0)):
        plain += f"; {unknown:,} stream{'s' * (unknown > 1)} of classes that it does not know are left out"
    return [f"on the test part, which was read once: {what} {show(found[f'test_{main}'])}{plain}"]


def cautions(
    examples: Examples,
    found: Mapping[str, float],
    intervals: Mapping[str, Interval],
    baselines: Mapping[str, Mapping[str, float]],
    stopped: str = "",
) -> list[str]:
    """Say what a reader of the measures has to know: plain models that are as good, few groups, rare classes."""
    main = "accuracy" if examples.labels else "rmse"
    # Weights of classes ask for something else than what is measured here.
    said = _rivals(examples, found, intervals, baselines, main) if examples.weights is None else []
    groups = len(np.unique(examples.groups))
    together = groups < len(np.unique(examples.stream)) if len(examples.stream) else groups < len(examples.truth)
    if groups < FEW_GROUPS:
        what = "groups" if together else "streams"
        said.append(f"there are only {groups} {what}: the figures and their intervals are rough; record more of them")
    if examples.labels:
        said += _rare(examples, "groups" if together else "streams")
    if stopped == "interrupt":
        said.append("stopped by Ctrl-C: the best candidate so far was kept")
    elif stopped == "time":
        said.append("the time was up before all candidates were tried; give more minutes")
    return said


def _rivals(
    examples: Examples,
    found: Mapping[str, float],
    intervals: Mapping[str, Interval],
    baselines: Mapping[str, Mapping[str, float]],
    main: str,
) -> list[str]:
    def shown(value: float) -> str:
        return percent(value) if main == "accuracy" else figure(value)

    sign, said = 1 if main == "accuracy" else -1, []
    what = "is right on" if main == "accuracy" else "is off by"
    for name, own in baselines.items():
        plain = f"'{name}' ({baseline_name(name, examples)})"
        # What is the same in the figures that are shown is not called better.
        if shown(own[main]) == shown(found[main]):
            text = f"a plain model is as good: {plain} {what} {shown(own[main])} too"
        elif sign * own[main] > sign * found[main]:
            text = (
                f"a plain model is better: {plain} {what} {shown(own[main])}, this model "
                f"{'on' if main == 'accuracy' else 'by'} {shown(found[main])}"
            )
        elif main in intervals and intervals[main].low <= own[main] <= intervals[main].high:
            text = f"the plain model {plain} {what} {shown(own[main])}, which is within this model's interval"
        else:
            text = ""
        if "log_loss" in own and "log_loss" in found:
            losses = f"log loss {own['log_loss']:.4g}, and {found['log_loss']:.4g} of this model"
            if own["log_loss"] < found["log_loss"]:
                worse = f"{'its' if text else f'the plain model {plain} has better'} probabilities"
                text = f"{text}; {worse} are better too: {losses}" if text else f"{worse}: {losses}"
            elif text:
                text += f"; its probabilities are worse: {losses}"
        if text:
            said.append(text)
    return said


def _rare(examples: Examples, what: str) -> list[str]:
    """Name the classes that some folds or all of training miss."""
    counts = [len(np.unique(examples.groups[examples.codes == i])) for i in range(len(examples.labels))]
    single = [label for label, count in zip(examples.labels, counts, strict=True) if count == 1]
    missing = [label for label, count in zip(examples.labels, counts, strict=True) if not count]
    said = []
    if single:
        said.append(
            f"in one of the {what} alone: class {listed(single, most=_SHOWN)}; while that one is left out the class "
            "is not learned, and all its answers count as wrong; record more of it"
        )
    if missing:
        said.append(f"in no stream: class {listed(missing, most=_SHOWN)}")
    return said


def wrong_of(examples: Examples, chosen: Candidate) -> Floats:
    """Return 1 for each row that is answered wrongly and 0 for others, or its squared error, (n,)."""
    if examples.labels:
        return np.asarray(chosen.held_out.argmax(axis=1) != examples.codes, dtype=float)
    if examples.truth.shape[1] > 1:
        return chosen.losses
    return np.asarray((chosen.held_out[:, 0] - examples.truth[:, 0]) ** 2)


def divided(examples: Examples) -> bool:
    """Return True if streams are divided among folds, in blocks of time."""
    pairs = np.unique(np.stack([examples.stream, examples.folds]), axis=1) if len(examples.stream) else np.zeros((1, 0))
    return bool(len(np.unique(pairs[0])) < pairs.shape[1])


def group_names(examples: Examples) -> list[str]:
    """Return the name of each row's group."""
    stream: Sequence[int] = (
        examples.stream.tolist() if len(examples.stream) else np.arange(len(examples.truth)).tolist()
    )
    return [examples.recordings[i].group for i in stream]
