"""Fit a reservoir to streams with one target each: random features of tokens, and a linear readout of their pools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from streamrde.arrays import Floats, Reals
from streamrde.errors import DataError
from streamrde.features import Block, Drawn, FeatureSpec, Pool, draw, make_pooling, pool_streams
from streamrde.fitting.baselines import measure_baselines, measures
from streamrde.fitting.folds import make_folds
from streamrde.fitting.readout import MOST_LOGISTIC, Readout, logistic_readout, ridge_readout, simplest_of
from streamrde.fitting.recordings import Recording
from streamrde.inference.bundle import Bundle
from streamrde.inference.ends import Blank
from streamrde.inference.fields.reservoir import Reservoir
from streamrde.inference.header import Channel, Header
from streamrde.windowing import Every
from streamrde.windowing.policies import Windows
from streamrde.windowing.recorded import window_recordings
from streamrde.windowing.tokens import Scale, Token

_WINDOWS = (48, 24)  # base windows in the median stream, the usual first: of equals the first is chosen
_SCALES = (1, 2, 4, 8, 16, 32)  # base windows of a scale: from 1/48 of the median stream to two thirds of it
_DIRECTIONS = 400  # random ones of each scale; more hardly help
_NAMES = {"accuracy": {"plainest": "majority"}, "rmse": {"plainest": "mean"}}


class Fitted(NamedTuple):
    """A model, and what it and the plainest answer reach on streams that were left out in turn."""

    bundle: Bundle
    measures: dict[str, float]
    table: dict[str, dict[str, float]]
    """Measures out of fold of all candidates and baselines, by name."""
    choice: str
    """Name of the candidate that was chosen."""
    warnings: tuple[str, ...]
    """Names and figures of the baselines that are better than it."""


class Drawing(NamedTuple):
    """Random features of all streams."""

    header: Header
    spec: FeatureSpec
    drawn: Drawn
    pooled: Floats
    """(n, P)"""


class Candidate(NamedTuple):
    """A model that may be chosen."""

    name: str
    drawing: Drawing
    readout: Readout


def fit_recordings(
    recordings: Sequence[Recording], channels: Sequence[str], *, classify: bool, seed: int = 0
) -> Fitted:
    """Fit a model to recordings with one target each. Groups stay together when they are left out in turn.

    Returns:
        the model; measures out of fold: accuracy and log_loss beside majority_accuracy, nearest_accuracy and
        summaries_accuracy, or rmse beside mean_rmse, nearest_rmse and summaries_rmse; and those of all candidates.
    Raises:
        DataError: fewer than two groups, classes or values.
    """
    own = [recording for recording in recordings if len(recording.t) > 1]
    truth = np.array([recording.target.values[0, 0] for recording in own])
    labels = own[0].target.classes if own and classify else ()
    groups = np.unique([recording.group for recording in own], return_inverse=True)[1]
    if len(own) < 2 or groups.max() < 1 or len(np.unique(truth)) < 2:
        raise DataError("fitting needs two streams at least, of two groups, with two different targets", path="")
    folds = make_folds(groups, truth.astype(np.intp) if classify else None, seed=seed)
    # Two samples are the shortest window: several numbers of windows may then be the same model.
    made: dict[Windows, tuple[int, Header, FeatureSpec]] = {}
    for count in _WINDOWS:
        header, spec = _header(own, channels, labels, windows=count, seed=seed)
        made.setdefault(header.windows, (count, header, spec))
    counts = [count for count, _, _ in made.values()]
    drawings = [_pooled(own, header, spec) for _, header, spec in made.values()]
    candidates = [
        Candidate(f"{count} windows, ridge", drawing, ridge_readout(drawing.pooled, truth, len(labels), folds))
        for count, drawing in zip(counts, drawings, strict=True)
    ]
    best = simplest_of([candidate.readout.losses for candidate in candidates], groups)
    if classify and len(own) <= MOST_LOGISTIC:
        # Windows that suit ridge suit logistic regression too, which takes longer: it is tried on these alone.
        readout = logistic_readout(drawings[best].pooled, truth, len(labels), folds)
        candidates.append(Candidate(f"{counts[best]} windows, logistic", drawings[best], readout))
    own_losses = [candidates[i].readout.losses for i in (best, len(candidates) - 1)]
    chosen = candidates[(best, len(candidates) - 1)[simplest_of(own_losses, groups)]]
    baselines = measure_baselines([r.t for r in own], [r.x for r in own], truth, len(labels), groups, folds)
    main = "accuracy" if classify else "rmse"
    found = measures(truth, chosen.readout.held_out, len(labels))
    found |= {f"{_NAMES[main].get(name, name)}_{main}": rows[main] for name, rows in baselines.items()}
    table = {candidate.name: measures(truth, candidate.readout.held_out, len(labels)) for candidate in candidates}
    sign = 1 if classify else -1
    better = [name for name, rows in baselines.items() if sign * rows[main] > sign * found[main]]
    warnings = tuple(
        f"warning: the plain model '{name}' has {main} {baselines[name][main]:.4g}, this model {found[main]:.4g}"
        for name in better
    )
    return Fitted(_bundle(chosen), found, {**table, **baselines}, chosen.name, warnings)


def _pooled(own: Sequence[Recording], header: Header, spec: FeatureSpec) -> Drawing:
    """Return the features of all streams."""
    places = header.partition.places
    parts = window_recordings([r.t for r in own], [r.x for r in own], header.partition)
    tokens = np.concatenate([part.logsigs for part in parts])
    drawn = draw(spec, places, tokens, clip=header.clip)
    stops = np.cumsum([len(part.logsigs) for part in parts])
    return Drawing(header, spec, drawn, pool_streams(make_pooling(spec, places, drawn), tokens, stops))


def _bundle(chosen: Candidate) -> Bundle:
    header, drawn, linear = chosen.drawing.header, chosen.drawing.drawn, chosen.readout.linear
    tensors: dict[str, Reals] = {
        "x0.shift": np.zeros(header.path_channels),
        "x0.scale": np.ones(header.path_channels),
        **Reservoir(features=chosen.drawing.spec).tensors("field", drawn),
        "output.shift": np.zeros(header.outputs),
        "output.scale": np.ones(header.outputs),
        # In rows, as kernels read them and as a file would have them.
        "readout.weight": np.ascontiguousarray(linear.weight.T),
        "readout.bias": linear.bias,
    }
    return Bundle(header, tensors)


def _header(
    own: Sequence[Recording], channels: Sequence[str], labels: Sequence[str], *, windows: int, seed: int
) -> tuple[Header, FeatureSpec]:
    observed = np.concatenate([recording.x for recording in own])
    known = np.isfinite(observed)
    fills = np.where(known, observed, 0.0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
    span = float(np.median([recording.t[-1] - recording.t[0] for recording in own]))
    step = float(np.median(np.concatenate([np.diff(recording.t) for recording in own])))
    policy = Every(max(span / windows, 2 * step))
    # A longer scale than the median stream would be the whole stream once more.
    scales = tuple(Scale(m) for m in _SCALES if m == 1 or m * policy.seconds < span)
    spec = FeatureSpec(
        blocks=tuple(Block(directions=_DIRECTIONS, scales=(i,), ends=True) for i in range(len(scales))),
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
        windows=policy,
        token=Token(scales=scales, ends=True),
        interpolation="linear" if known.mean() > 0.98 else "hold",
        task="classification" if labels else "regression",
        labels=tuple(labels),
        target_at="stream",
    )
    return msgspec.structs.replace(header, hidden=spec.state_size(header.partition.places)), spec
