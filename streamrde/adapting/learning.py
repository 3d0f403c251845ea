"""Settings of corrections by labels, chosen on streams that the model has not seen.

Residuals on streams of training would say that there is nothing to correct. So the answers must be out of fold.
"""

from __future__ import annotations

import numpy as np

from streamrde.adapting.baselines import Baselines, Method
from streamrde.adapting.readout import Readout
from streamrde.adapting.settings import Learned
from streamrde.adapting.targets import Targets
from streamrde.arrays import Floats, Indices

MOST_STREAMS, MOST_LABELS = 100, 120
"""Streams, and first labels of each, that are gone through for every setting."""
# What is tried. Only the ratio of P0 to R changes a correction; tau is in labels.
_RATIOS = (0.01, 0.1, 1.0, 10.0)
_MEMORIES = (10.0, 100.0, 1000.0)
_BLENDS = (0.0, 0.25, 0.5, 0.75, 1.0)
_SHRINKS = (0.3, 1.0, 3.0, 10.0)
_LEAST_NOISE = 1e-4
_FEATURES = 3


def find_learned(
    targets: Targets, stream: Indices, t: Floats, frozen: Floats, labels: Floats, *, lag: float = 0.0
) -> Learned | None:
    """Choose the settings of corrections and baselines by their progressive errors.

    Args:
        targets: the outputs, with the mean and spread of the labels.
        stream: stream of each row, (n,).
        t: times that the rows are for, (n,), ascending in each stream.
        frozen: answers of models that have not seen the rows' streams, (n, outputs).
        labels: (n, outputs), NaN where there is none.
        lag: seconds from the time of an answer to the time that it is for, when its label comes.
    Returns:
        the settings, or None if no stream has two labels.
    """
    known = np.isfinite(frozen).all(axis=1) & np.isfinite(labels).any(axis=1)
    streams = [own for name in np.unique(stream[known]) if len(own := np.flatnonzero(known & (stream == name))) > 1]
    streams = streams[:: max(1, -(-len(streams) // MOST_STREAMS))]
    if not streams:
        return None
    # Neighbours, not every tenth: a last label is as old as it will be.
    spread = [own[:MOST_LABELS] for own in streams]
    most = max(len(own) for own in spread)
    rows = np.full((len(spread), most), -1)
    for place, own in enumerate(spread):
        rows[place, : len(own)] = own
    spacing = float(np.median(np.concatenate([np.diff(t[own]) for own in spread]))) or 1.0
    behind = min(max(1, int(np.ceil(lag / spacing - 1e-9))), most - 1)
    there = rows >= 0
    f, y = frozen[rows], np.where(there[:, :, None], labels[rows], np.nan)
    y = np.where(np.isfinite(y), y, np.nan)
    last, mean, count = _baselines(targets, y, behind)
    judged = np.isfinite(y)
    noise = np.ones(targets.outputs)
    number = np.maximum(judged.sum(axis=(0, 1)), 1)
    for output in np.flatnonzero(targets.numeric):
        error = (f - y)[:, :, output] / targets.scale[output]
        own = judged[:, :, output]
        centre = np.where(own, error, 0.0).sum(axis=1) / np.maximum(own.sum(axis=1), 1)
        rest = np.where(own, error - centre[:, None], 0.0)
        noise[output] = max(float((rest * rest).sum() / number[output]), _LEAST_NOISE)

    def squares(predicted: Floats) -> Floats:
        flat = targets.squares(predicted.reshape(-1, targets.outputs), y.reshape(-1, targets.outputs))
        return flat.reshape(y.shape)

    def mse(predicted: Floats) -> Floats:
        return np.asarray(squares(predicted).sum(axis=(0, 1)) / number)

    found: list[tuple[float, Floats, Floats, Floats]] = []
    for labels_long in _MEMORIES:
        memory = labels_long * spacing
        corrected = [
            _corrected(targets, f, y, last, t[rows], behind, prior=noise * ratio, noise=noise, memory=memory)
            for ratio in _RATIOS
        ]
        errors = np.array([mse(predicted) for predicted in corrected])
        chosen = errors.argmin(axis=0)
        online = np.take_along_axis(np.array(corrected), chosen[None, None, None], axis=0)[0]
        found.append((memory, np.array(_RATIOS)[chosen], errors.min(axis=0), online))
    memory, ratio, _, online = min(found, key=lambda one: float(one[2].sum()))
    best = np.full(targets.outputs, np.inf)
    blend, shrink = np.zeros((2, targets.outputs))
    for weight in _BLENDS:
        for labels_of_prior in _SHRINKS:
            error = mse(_mixed(targets, last, mean, count, weight, labels_of_prior))
            better = error < best
            best[better], blend[better], shrink[better] = error[better], weight, labels_of_prior
    by_method = (
        f,
        online,
        last,
        _mixed(targets, last, mean, count, 0.0, shrink),
        _mixed(targets, last, mean, count, blend, shrink),
    )
    after, before = (
        np.stack(
            [
                np.where(some, squares(own), 0.0).sum(axis=(0, 1)) / np.maximum(some.sum(axis=(0, 1)), 1)
                for own in by_method
            ]
        )
        for some in (judged & (count > 0), judged & (count == 0))
    )
    each = (targets.shift, targets.scale, noise, noise * ratio, blend, shrink)
    shift, scale, noises, priors, blends, shrinks = (tuple(float(value) for value in part) for part in each)
    return Learned(
        streams=len(spread),
        labels=int(judged.any(axis=2).sum()),
        shift=shift,
        scale=scale,
        noise=noises,
        prior=priors,
        memory=memory,
        blend=blends,
        shrink=shrinks,
        errors=tuple(tuple(row) for row in after.tolist()),
        errors_before=tuple(tuple(row) for row in before.tolist()),
    )


def _baselines(targets: Targets, y: Floats, behind: int) -> tuple[Floats, Floats, Floats]:
    """Return last labels, plain means and numbers of labels, (streams, labels, outputs), as known when predicting."""
    n = targets.outputs
    none = np.zeros(n)
    plain = Baselines(targets, 0, blend=none, shrink=none, errors=np.ones((len(Method), n)))
    rows, slots = np.tile(plain.blank, (len(y), 1)), np.arange(len(y))
    last, mean, count = np.empty_like(y), np.empty_like(y), np.zeros_like(y)
    seen = np.zeros((len(y), n))
    for k in range(y.shape[1]):
        if k >= behind:
            plain.learn(rows, slots, y[:, k - behind], np.full(len(y), float(k)))
            seen += np.isfinite(y[:, k - behind])
        last[:, k], mean[:, k], _ = plain.predict(rows, slots)
        count[:, k] = seen
    return last, mean, count


def _mixed(
    targets: Targets, last: Floats, mean: Floats, count: Floats, blend: float | Floats, shrink: float | Floats
) -> Floats:
    shrunk = targets.shift + count / (count + shrink) * (mean - targets.shift)
    return np.asarray(blend * last + (1.0 - blend) * shrunk)


def _corrected(
    targets: Targets,
    f: Floats,
    y: Floats,
    last: Floats,
    t: Floats,
    behind: int,
    *,
    prior: Floats,
    noise: Floats,
    memory: float,
) -> Floats:
    """Return what a correction predicts for each label, (streams, labels, outputs), before it learns it."""
    readout = Readout(targets, 0, prior=np.tile(prior[:, None], (1, _FEATURES)), noise=noise, memory=memory)
    rows, slots, none = np.tile(readout.blank, (len(y), 1)), np.arange(len(y)), np.empty((len(y), 0))
    predicted = np.empty_like(y)
    inputs = [readout.inputs(f[:, k], last[:, k], none) for k in range(y.shape[1])]
    for k in range(y.shape[1]):
        if k >= behind:
            at = k - behind
            readout.learn(rows, slots, f[:, at], inputs[at], y[:, at], t[:, at])
        predicted[:, k] = readout.predict(rows, slots, f[:, k], inputs[k])
    return predicted
