"""Random features of tokens at several scales, and linear readouts of their pools."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np

from streamrde.arrays import Floats, Reals
from streamrde.features import Block, Drawn, FeatureSpec, Pool, draw, make_pooling, pool_streams
from streamrde.fitting.examples import Candidate, Examples, tokens_of
from streamrde.fitting.readout import MOST_LOGISTIC, Readout, logistic_readout, ridge_readout, simplest_of
from streamrde.fitting.ridge import Linear
from streamrde.inference.bundle import Bundle
from streamrde.inference.ends import Blank
from streamrde.inference.fields.reservoir import Reservoir
from streamrde.inference.header import Channel, Header
from streamrde.windowing import Every
from streamrde.windowing.policies import Windows
from streamrde.windowing.tokens import Scale, Token

_WINDOWS = (48, 24)  # base windows in the median stream, the usual first: of equals the first is chosen
_SCALES = (1, 2, 4, 8, 16, 32)  # base windows of a scale: from 1/48 of the median stream to two thirds of it
_DIRECTIONS = 400  # random ones of each scale; more hardly help


class Drawing(NamedTuple):
    """Random features of all streams."""

    header: Header
    spec: FeatureSpec
    drawn: Drawn
    pooled: Floats
    """(n, P)"""


def fit_reservoirs(examples: Examples) -> list[Candidate]:
    """Fit readouts of random features, with windows of several lengths."""
    if examples.along:
        return []
    classes = len(examples.labels)
    # Two samples are the shortest window: several numbers of windows may then be the same model.
    made: dict[Windows, tuple[int, Header, FeatureSpec]] = {}
    for count in _WINDOWS:
        header, spec = _header(examples, windows=count)
        made.setdefault(header.windows, (count, header, spec))
    counts = [count for count, _, _ in made.values()]
    drawings = [_pooled(examples, header, spec) for _, header, spec in made.values()]
    candidates = [
        _candidate(
            f"{count} windows, ridge", drawing, ridge_readout(drawing.pooled, examples.truth, classes, examples.folds)
        )
        for count, drawing in zip(counts, drawings, strict=True)
    ]
    if classes and len(examples.recordings) <= MOST_LOGISTIC:
        # Windows that suit ridge suit logistic regression too, which takes longer: it is tried on these alone.
        best = simplest_of([candidate.losses for candidate in candidates], examples.groups)
        readout = logistic_readout(drawings[best].pooled, examples.truth, classes, examples.folds)
        logistic = _candidate(f"{counts[best]} windows, logistic", drawings[best], readout)
        # Windows that lost do not stand between the two.
        candidates = [candidates[best], logistic]
    return candidates


def _candidate(name: str, drawing: Drawing, readout: Readout) -> Candidate:
    return Candidate(
        name,
        readout.held_out,
        readout.losses,
        partial(_bundle, drawing, readout.linear),
        lambda fold: _bundle(drawing, readout.without(fold)),
    )


def _pooled(examples: Examples, header: Header, spec: FeatureSpec) -> Drawing:
    """Return the features of all streams."""
    places, tokens = header.partition.places, tokens_of(examples, header.partition)
    drawn = draw(spec, places, tokens.values, clip=header.clip)
    pooled = pool_streams(make_pooling(spec, places, drawn), tokens.values, tokens.stops, at=tokens.at)
    return Drawing(header, spec, drawn, pooled)


def _bundle(drawing: Drawing, linear: Linear) -> Bundle:
    header, drawn = drawing.header, drawing.drawn
    tensors: dict[str, Reals] = {
        "x0.shift": np.zeros(header.path_channels),
        "x0.scale": np.ones(header.path_channels),
        **Reservoir(features=drawing.spec).tensors("field", drawn),
        "output.shift": np.zeros(header.outputs),
        "output.scale": np.ones(header.outputs),
        # In rows, as kernels read them and as a file would have them.
        "readout.weight": np.ascontiguousarray(linear.weight.T),
        "readout.bias": linear.bias,
    }
    return Bundle(header, tensors)


def _header(examples: Examples, *, windows: int) -> tuple[Header, FeatureSpec]:
    own, channels, labels = examples.recordings, examples.channels, examples.labels
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
        seed=examples.seed,
    )
    header = Header(
        channels=tuple(Channel(name=n, fill=float(f)) for n, f in zip(channels, fills, strict=True)),
        depth=3 if len(channels) <= 3 else 2,
        hidden=1,
        outputs=len(labels) or examples.truth.shape[1],
        field=Reservoir(features=spec),
        initial=Blank(),
        clip=8.0,
        windows=policy,
        token=Token(scales=scales, ends=True),
        interpolation="linear" if known.mean() > 0.98 else "hold",
        task="classification" if labels else "regression",
        labels=labels or examples.targets,
        target_at="stream",
    )
    return msgspec.structs.replace(header, hidden=spec.state_size(header.partition.places)), spec
