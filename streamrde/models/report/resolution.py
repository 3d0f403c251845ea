"""Check that windows are short enough and log-signatures deep enough for a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamrde.arrays import Floats
from streamrde.fitting.recordings import Recording
from streamrde.inference.bundle import Bundle
from streamrde.inference.steppers import Stepper, make_stepper
from streamrde.models.training.examples import Example
from streamrde.pages.svg import thinned
from streamrde.signature.words import logsignature_channels
from streamrde.windowing.recorded import window_recordings

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
# Enough for a 90 % quantile, and done in a second.
_STREAMS, _WINDOWS = 16, 48


class StepError(NamedTuple):
    """The estimated error of steps over windows of one length, relative to 1 + the state's size."""

    factor: float
    """Times the length of the windows in training."""
    seconds: float
    """Median length of the windows."""
    windows: int
    median: float
    most: float
    """Bound that 90 % of the steps keep."""


def step_errors(bundle: Bundle, recordings: Sequence[Recording]) -> list[StepError]:
    """Estimate the error of each step (see `step_error`) for shorter and longer windows.

    The model and its number of substeps are as trained. At most 16 streams are stepped, each for the time of 48
    windows. The list is empty if the window policy is not a built-in one.
    """
    recordings = [recordings[i] for i in thinned(len(recordings), _STREAMS)]
    partition, stepper = bundle.header.partition, make_stepper(bundle)
    ts, xs = [recording.t for recording in recordings], [recording.x for recording in recordings]
    limits: dict[int, float] = {}
    for windowed in window_recordings(ts, xs, partition):
        if len(windowed.end):
            limits.setdefault(windowed.stream, float(windowed.end[:_WINDOWS][-1]))
    found = []
    # A field that several scales drive sees another input, not the same one more finely, if windows change.
    for factor in FACTORS if partition.token.plain else (1.0,):
        windows = partition.windows.scaled(factor)
        if windows is None:
            continue
        x0, logsigs, lengths = [], [], []
        for windowed in window_recordings(ts, xs, partition._replace(windows=windows)):
            kept = int((windowed.end <= limits.get(windowed.stream, -np.inf) + 1e-9).sum())
            if kept:
                x0.append(np.append(0.0, windowed.first))
                logsigs.append(windowed.logsigs[:kept])
                lengths.append((windowed.end - windowed.start)[:kept])
        if x0:
            errors = np.concatenate(_steps(stepper, np.stack(x0), logsigs, with_error=True)[1])
            errors = errors[np.isfinite(errors)]
            if errors.size:
                median, most = np.quantile(errors, (0.5, 0.9)).tolist()
                found.append(StepError(factor, float(np.median(np.concatenate(lengths))), errors.size, median, most))
    return found


def outputs_to_depth(bundle: Bundle, examples: Sequence[Example], depth: int) -> list[Floats]:
    """Return the model's outputs, (K, outputs) each, for log-signatures with the levels beyond `depth` set to 0.

    All log-signatures of a token are cut. The loss of quality shows the contribution of deeper levels. Outputs are
    probabilities, or values in the targets' units.
    """
    header = bundle.header
    kept = np.ones(header.logsig_channels, bool)
    for own in header.partition.places.scales:
        kept[own.start + logsignature_channels(header.path_channels, depth) : own.stop] = False
    stepper = make_stepper(bundle)
    x0 = np.stack([example.x0 for example in examples])
    cut = [np.where(kept, example.logsigs, 0.0) for example in examples]
    states = _steps(stepper, x0, cut, with_error=False)[0]
    if header.pooling == "mean":
        states = [own.cumsum(axis=0) / np.arange(1, len(own) + 1)[:, None] for own in states]
    return [np.asarray(stepper.output(own.astype(stepper.dtype)), dtype=float) for own in states]


def _steps(
    stepper: Stepper, x0: Floats, logsigs: Sequence[Floats], *, with_error: bool
) -> tuple[list[Floats], list[Floats]]:
    """Step streams together. Return the states after each window, (K, hidden), and the errors of its step, (K,)."""
    order = np.argsort([-len(own) for own in logsigs], kind="stable")
    lengths = np.array([len(logsigs[i]) for i in order])
    z = stepper.initial(x0[order])
    states: list[Floats] = [np.empty((len(own), z.shape[1])) for own in logsigs]
    errors: list[Floats] = [np.zeros(len(own)) for own in logsigs]
    for k in range(int(lengths.max(initial=0))):
        alive = int((lengths > k).sum())
        own = np.stack([logsigs[i][k] for i in order[:alive]])
        # A stream's first window has no window before.
        previous = None if not k else np.stack([logsigs[i][k - 1] for i in order[:alive]])
        error = np.zeros(alive)
        if with_error:
            z, error = stepper.step_with_error(z[:alive], own, previous)
        else:
            z = stepper.step(z[:alive], own, previous)
        for i, state, wrong in zip(order.tolist(), z, error, strict=False):
            states[i][k], errors[i][k] = state, wrong
    return states, errors
