"""Fit a reservoir to streams with one target each: random features of tokens, and ridge regression on their pools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from streamrde.arrays import Floats, Indices
from streamrde.errors import DataError
from streamrde.features import Block, FeatureSpec, Pool, draw, make_pooling, pool_streams
from streamrde.fitting.recordings import Recording
from streamrde.inference.bundle import Bundle
from streamrde.inference.ends import Blank
from streamrde.inference.fields.reservoir import Reservoir
from streamrde.inference.header import Channel, Header
from streamrde.inference.quality import softmax
from streamrde.windowing import Every
from streamrde.windowing.recorded import window_recordings

_WINDOWS = 48  # base windows in the median stream
_STRENGTHS = np.logspace(-3, 5, 17)  # of ridge, times the mean eigenvalue; a wider range was never chosen
_SHARPNESS = np.geomspace(0.5, 64, 29)  # factors of the scores before softmax
_FOLDS = 5


class Fitted(NamedTuple):
    """A model, and what it and the plainest answer reach on streams that were left out in turn."""

    bundle: Bundle
    measures: dict[str, float]


def fit_recordings(
    recordings: Sequence[Recording], channels: Sequence[str], *, classify: bool, seed: int = 0
) -> Fitted:
    """Fit a model to recordings with one target each. Groups stay together when they are left out in turn.

    Returns:
        the model, and measures out of fold: accuracy and log_loss beside majority_accuracy, or rmse beside mean_rmse.
    Raises:
        DataError: fewer than two groups, classes or values.
    """
    own = [recording for recording in recordings if len(recording.t) > 1]
    truth = np.array([recording.target.values[0, 0] for recording in own])
    labels = own[0].target.classes if own and classify else ()
    groups = np.unique([recording.group for recording in own], return_inverse=True)[1]
    if len(own) < 2 or groups.max() < 1 or len(np.unique(truth)) < 2:
        raise DataError("fitting needs two streams at least, of two groups, with two different targets", path="")
    header, spec = _header(own, channels, labels, seed)
    places = header.partition.places
    windows = window_recordings([r.t for r in own], [r.x for r in own], header.partition)
    tokens = np.concatenate([part.logsigs for part in windows])
    drawn = draw(spec, places, tokens, clip=header.clip)
    stops = np.cumsum([len(part.logsigs) for part in windows])
    pooled = pool_streams(make_pooling(spec, places, drawn), tokens, stops)
    mean, deviation = pooled.mean(axis=0), pooled.std(axis=0)
    scale = np.where(deviation > 1e-9, 1 / np.maximum(deviation, 1e-9), 0.0)
    z = (pooled - mean) * scale
    centre = 0.0 if classify else float(truth.mean())
    spread = 1.0 if classify else float(truth.std())
    wanted = np.eye(len(labels))[truth.astype(int)] if classify else ((truth - centre) / spread)[:, None]
    strength, held_out, plain = _choose(z, wanted, groups, seed)
    weight, bias = _ridge(z, wanted, strength)
    sharp = 1.0
    if classify:
        code = truth.astype(int)
        # One more answer that is right by chance: streams that are all right say nothing of the errors to come.
        soft = (len(own) * wanted + 1 / len(labels)) / (len(own) + 1)
        losses = [-np.sum(soft * np.log(softmax(s * held_out) + 1e-300), axis=1).mean() for s in _SHARPNESS]
        sharp = float(_SHARPNESS[int(np.argmin(losses))])
        measures = {
            "accuracy": float((held_out.argmax(axis=1) == code).mean()),
            "log_loss": float(-np.log(softmax(sharp * held_out)[np.arange(len(own)), code] + 1e-300).mean()),
            "majority_accuracy": float(wanted.mean(axis=0).max()),
        }
    else:
        rmse = [float(np.sqrt(np.mean((own - wanted) ** 2))) * spread for own in (held_out, plain)]
        measures = {"rmse": rmse[0], "mean_rmse": rmse[1]}
    tensors = {
        "x0.shift": np.zeros(header.path_channels),
        "x0.scale": np.ones(header.path_channels),
        "token.shift": drawn.shift,
        "logsig.scale": drawn.scale,
        "output.shift": np.full(header.outputs, centre),
        "output.scale": np.full(header.outputs, spread),
        "readout.weight": sharp * weight.T * scale,
        "readout.bias": sharp * (bias - (mean * scale) @ weight),
    }
    for i, (directions, biases) in enumerate(zip(drawn.weights, drawn.biases, strict=True)):
        tensors |= {f"field.{i}.weight": directions, f"field.{i}.bias": biases}
    return Fitted(Bundle(header, tensors), measures)


def _header(
    own: Sequence[Recording], channels: Sequence[str], labels: Sequence[str], seed: int
) -> tuple[Header, FeatureSpec]:
    observed = np.concatenate([recording.x for recording in own])
    known = np.isfinite(observed)
    fills = np.where(known, observed, 0.0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
    span = float(np.median([recording.t[-1] - recording.t[0] for recording in own]))
    step = float(np.median(np.concatenate([np.diff(recording.t) for recording in own])))
    spec = FeatureSpec(
        blocks=(Block(directions=1000, scales=(0,)),),
        pools=(Pool("share"), Pool("mean"), Pool("max"), Pool("mean", "token")),
        seed=seed,
    )
    header = Header(
        channels=tuple(Channel(name=n, fill=float(f)) for n, f in zip(channels, fills, strict=True)),
        depth=3 if len(channels) <= 3 else 2,
        hidden=1,
        outputs=max(1, len(labels)),
        field=Reservoir(features=spec),
        initial=Blank(),
        clip=8.0,
        windows=Every(max(span / _WINDOWS, 2 * step)),
        interpolation="linear" if known.mean() > 0.98 else "hold",
        task="classification" if labels else "regression",
        labels=tuple(labels),
        target_at="stream",
    )
    return msgspec.structs.replace(header, hidden=spec.state_size(header.partition.places)), spec


def _choose(z: Floats, wanted: Floats, groups: Indices, seed: int) -> tuple[float, Floats, Floats]:
    """Return the strength with the least squared error out of fold, its answers, and those of the training mean."""
    count = int(groups.max()) + 1
    fold = np.random.default_rng(seed).permutation(count)[groups] % min(_FOLDS, count)
    answers = np.empty((len(_STRENGTHS), *wanted.shape))
    plain = np.empty_like(wanted)
    for i in range(int(fold.max()) + 1):
        train, test = fold != i, fold == i
        plain[test] = wanted[train].mean(axis=0)
        centre = z[train].mean(axis=0)
        values, vectors = np.linalg.eigh((z[train] - centre) @ (z[train] - centre).T)
        turned = vectors.T @ (wanted[train] - plain[test][:1])
        cross = ((z[test] - centre) @ (z[train] - centre).T) @ vectors
        for j, strength in enumerate(_STRENGTHS):
            answers[j, test] = plain[test] + cross @ (turned / (values + strength * len(z))[:, None])
    best = int(((answers - wanted) ** 2).mean(axis=(1, 2)).argmin())
    return float(_STRENGTHS[best]), answers[best], plain


def _ridge(z: Floats, wanted: Floats, strength: float) -> tuple[Floats, Floats]:
    """Return weight (P, outputs) and bias of ridge regression on centred features, by its dual."""
    bias = wanted.mean(axis=0)
    kernel = z @ z.T
    kernel[np.diag_indices_from(kernel)] += strength * len(z)
    return z.T @ np.linalg.solve(kernel, wanted - bias), bias
