"""Measure a finished model on streams that it was not fitted to, as it is served, beside plain models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from streamrde.arrays import Floats
from streamrde.fitting.along import rows_along
from streamrde.fitting.baselines import BASELINES, Fit, answers_to
from streamrde.fitting.examples import Examples
from streamrde.fitting.lags import FITS, persisting, rows_of
from streamrde.fitting.measuring import measures
from streamrde.fitting.recordings import Recording
from streamrde.fitting.serving import answers_of
from streamrde.inference.bundle import Bundle

PLAIN_NAMES = {"accuracy": {"plainest": "majority"}, "rmse": {"plainest": "mean"}}
"""Names of plain models in a report's measures, where they differ, by the main measure."""


def measures_of_test(examples: Examples, bundle: Bundle, test: Sequence[Recording]) -> dict[str, float]:
    """Return the measures of a test part as a report has them: "test_accuracy", "test_majority_accuracy" and so on.

    Arguments are as of `measure_test`.
    """
    main = "accuracy" if examples.labels else "rmse"
    found: dict[str, float] = {}
    for name, rows in measure_test(examples, bundle, test).items():
        if not name:
            found |= {f"test_{measure}": value for measure, value in rows.items()}
        elif main in rows:
            found[f"test_{PLAIN_NAMES[main].get(name, name)}_{main}"] = rows[main]
    return found


def measure_test(examples: Examples, bundle: Bundle, test: Sequence[Recording]) -> dict[str, dict[str, float]]:
    """Measure the model's answers and those of plain models, fitted to all examples.

    Args:
        examples: what the model was fitted to.
        test: other streams, with targets of the same columns.
    Returns:
        `measures` by name, the model's with "". Streams of classes that the examples do not have are left out, and the
        plainest answer stands for streams without a window, such as those of a single sample. Their numbers, "unknown"
        and "silent", stand beside the model's measures. Empty if no stream has a target.
    """
    labels, outputs = examples.labels, examples.truth.shape[1]
    own = [_relabelled(r, labels) if labels else r for r in test]
    if examples.along:
        rows = rows_along([recording for recording in own if len(recording.t) > 1], examples)
    else:
        own = [recording for recording in own if np.isfinite(recording.target.values).any()]
        truth = np.array([recording.target.values[0] for recording in own]).reshape(-1, outputs)
        rows = examples._replace(recordings=own, truth=truth, stream=np.arange(len(own), dtype=np.intp))
    if not len(rows.truth):
        return {}
    plain = _plain_answers(examples, rows)
    served, silent = _served(rows, bundle, plain["plainest"])
    found = {
        name: measures(rows.truth, answers, len(labels), targets=examples.targets)
        for name, answers in {"": served, **plain}.items()
    }
    found[""]["silent"] = float(silent)
    found[""]["unknown"] = float(sum(_is_unknown(recording, labels) for recording in test))
    return found


def _is_unknown(recording: Recording, labels: Sequence[str]) -> bool:
    """Return True for a stream with a class, if it is in none of `labels`."""
    target = recording.target
    named = (
        {target.classes[int(code)] for code in np.unique(target.values[np.isfinite(target.values)])}
        if labels
        else set()
    )
    return bool(named) and named.isdisjoint(labels)


def _relabelled(recording: Recording, labels: Sequence[str]) -> Recording:
    """Return the recording with numbers of the classes in `labels`. Others are not known."""
    target = recording.target
    number = np.array([float(labels.index(name)) if name in labels else np.nan for name in (*target.classes, "")])
    codes = np.where(np.isfinite(target.values), target.values, -1).astype(np.intp)
    return replace(recording, target=replace(target, values=number[codes], classes=tuple(labels)))


def _served(rows: Examples, bundle: Bundle, plainest: Floats) -> tuple[Floats, int]:
    """Return the model's answers to rows, the plainest for streams that closed no window, and their number."""
    found, silent = plainest.copy(), 0
    for i, answers in enumerate(answers_of(bundle, rows.recordings)):
        own = np.flatnonzero(rows.stream == i)
        if not len(answers.end):
            silent += 1
            continue
        if not rows.along:
            found[own] = answers.value[-1]
            continue
        # Edges are the same numbers, but for the time that was subtracted and added on the way.
        place = np.minimum(np.searchsorted(answers.end, rows.ends[own] - 1e-6), len(answers.end) - 1)
        found[own] = answers.value[place]
    return found, silent


def _plain_answers(examples: Examples, rows: Examples) -> dict[str, Floats]:
    def answers(fit: Fit, learned: Floats, asked: Floats) -> Floats:
        return answers_to(asked, fit, learned, examples.truth, len(examples.labels), examples.groups)

    if examples.along:
        found = {name: answers(fit, rows_of(name, examples), rows_of(name, rows)) for name, fit in FITS.items()}
        if examples.horizon:
            found["persistence"] = persisting(rows, found["plainest"])
        return found
    return {own.name: answers(own.fit, own.rows(examples.recordings), own.rows(rows.recordings)) for own in BASELINES}
