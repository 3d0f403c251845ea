"""Summaries of each channel since the stream began, for data that are sparse or irregular, or whose streams differ as
a whole: linear readouts of them, and of curves in their ranks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np

from streamrde.arrays import Floats, Reals
from streamrde.features import Drawn, FeatureSpec, Pool, draw, make_pooling, pool_streams
from streamrde.features.expansion import Expander, Expansion, Ranking, fit_ranking
from streamrde.fitting.examples import Candidate, Examples, tokens_of
from streamrde.fitting.readout import Readout, ridge_readout
from streamrde.fitting.relevance import Groups, relevant_readout
from streamrde.fitting.ridge import Linear
from streamrde.inference.bundle import Bundle
from streamrde.inference.ends import Blank
from streamrde.inference.fields.reservoir import Reservoir
from streamrde.inference.header import Channel, Header
from streamrde.windowing import Every
from streamrde.windowing.tokens import Scale, Token

_WINDOWS = 24
"""Windows in the median stream. They decide when the model answers, and how long what fades is remembered."""
_HALF_LIVES = (1.5, 6.0)
"""Windows after which a held value counts half: a sixteenth and a quarter of the median stream."""
_PAIRS = 4000
"""Most pairs. Half as many are hardly worse, and twice as many hardly better."""
_PAIRS_PER_ROW = 16
"""Most pairs per row of truth: more say nothing new of few rows."""
_WORK = 25_000_000
"""Most numbers in a table of curves and pairs, times the classes' scores. Above, there are fewer pairs, and above four
times as many no curves: they would take minutes."""
_CHUNK = 500
"""Streams whose tokens are held at once."""
_SAMPLE = 500
"""Streams that tokens are scaled by."""
_MOST_RIDGE = 2000
"""Most rows, or most curves and pairs, for numbers."""
_MOST_NUMBERS = 1 << 27
"""Most numbers of a table of expanded features. Above, there are no curves."""


class _Summaries(NamedTuple):
    """Pooled summaries of all rows of truth."""

    header: Header
    """Without an expansion."""
    drawn: Drawn
    pooled: Floats
    """(n, P)"""


def fit_summaries(examples: Examples) -> Iterator[Candidate]:
    """Fit a linear readout of summaries, and one of curves and pairs of their ranks."""
    if examples.along:
        return
    classes, made = len(examples.labels), _summarise(examples)
    truth, folds = examples.truth, examples.folds
    yield _candidate("summaries, ridge", made, None, None, ridge_readout(made.pooled, truth, classes, folds))
    features = made.pooled.shape[1]
    scores = len(truth) * (classes if classes > 2 else 1)
    # Ridge regression takes the cube of rows or features, whichever are fewer.
    most = _WORK // scores if classes or len(truth) <= _MOST_RIDGE else _MOST_RIDGE
    pairs = most - Expansion().size(features)
    spec = Expansion(pairs=min(max(pairs, 0), _PAIRS, _PAIRS_PER_ROW * len(truth)))
    long = pairs < 0 and (not classes or spec.size(features) * scores > 4 * _WORK)
    if long or spec.size(features) * len(truth) > _MOST_NUMBERS:
        return
    ranking = fit_ranking(spec, made.pooled, seed=examples.seed)
    curves = Expander(spec, ranking).expand(made.pooled)
    if classes:
        groups = [Groups(features, spec.hats)] + [Groups(spec.pairs, 1)] * (spec.pairs > 0)
        readout = relevant_readout(curves, groups, examples.codes, classes, folds)
        yield _candidate("curves of summaries, logistic", made, spec, ranking, readout)
    else:
        yield _candidate(
            "curves of summaries, ridge", made, spec, ranking, ridge_readout(curves, truth, classes, folds)
        )


def _candidate(
    name: str, made: _Summaries, expansion: Expansion | None, ranking: Ranking | None, readout: Readout
) -> Candidate:
    build = partial(_bundle, made, expansion, ranking)
    return Candidate(
        name, readout.held_out, readout.losses, lambda: build(readout.linear), lambda fold: build(readout.without(fold))
    )


def _summarise(examples: Examples) -> _Summaries:
    header, spec = _header(examples)
    places, streams = header.partition.places, examples.recordings
    some = np.unique(np.linspace(0, len(streams) - 1, _SAMPLE).astype(np.intp))
    sample = of_streams(examples, some)
    drawn = draw(spec, places, tokens_of(sample, header.partition).values, clip=header.clip)
    pooling, pooled = make_pooling(spec, places, drawn), []
    for begin in range(0, len(streams), _CHUNK):
        part = of_streams(examples, np.arange(begin, min(begin + _CHUNK, len(streams))))
        tokens = tokens_of(part, header.partition)
        pooled.append(pool_streams(pooling, tokens.values, tokens.stops, at=tokens.at))
    return _Summaries(header, drawn, np.concatenate(pooled))


def of_streams(examples: Examples, streams: np.ndarray) -> Examples:
    """Return some streams and their rows."""
    own = np.isin(examples.stream, streams)
    return examples._replace(
        recordings=[examples.recordings[i] for i in streams],
        truth=examples.truth[own],
        groups=examples.groups[own],
        folds=examples.folds[own],
        stream=np.searchsorted(streams, examples.stream[own]),
        ends=examples.ends[own] if examples.along else examples.ends,
    )


def _bundle(made: _Summaries, expansion: Expansion | None, ranking: Ranking | None, linear: Linear) -> Bundle:
    field = made.header.field
    assert isinstance(field, Reservoir)  # noqa: S101 (see `_header`)
    field = msgspec.structs.replace(field, expansion=expansion)
    header = msgspec.structs.replace(made.header, field=field)
    tensors: dict[str, Reals] = {
        "x0.shift": np.zeros(header.path_channels),
        "x0.scale": np.ones(header.path_channels),
        **field.tensors("field", made.drawn, ranking),
        "output.shift": np.zeros(header.outputs),
        "output.scale": np.ones(header.outputs),
        "readout.weight": np.ascontiguousarray(linear.weight.T),
        "readout.bias": linear.bias,
    }
    return Bundle(header, tensors)


def _header(examples: Examples) -> tuple[Header, FeatureSpec]:
    own, labels = examples.recordings, examples.labels
    observed = np.concatenate([recording.x for recording in own])
    known = np.isfinite(observed)
    fills = np.where(known, observed, 0.0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
    span = float(np.median([recording.t[-1] - recording.t[0] for recording in own]))
    step = float(np.median(np.concatenate([np.diff(recording.t) for recording in own])))
    spec = FeatureSpec(
        pools=(Pool("last", "summaries"), *(Pool("mean", "ends", life) for life in _HALF_LIVES)), seed=examples.seed
    )
    header = Header(
        channels=tuple(Channel(name=n, fill=float(f)) for n, f in zip(examples.channels, fills, strict=True)),
        # Summaries need no log-signature, and a token has one at least: the smallest.
        depth=1,
        hidden=1,
        outputs=len(labels) or examples.truth.shape[1],
        field=Reservoir(features=spec),
        initial=Blank(),
        clip=8.0,
        windows=examples.windows or Every(max(span / _WINDOWS, 2 * step)),
        token=Token(scales=(Scale(1),), ends=True, summaries=True),
        interpolation="hold",
        task="classification" if labels else "regression",
        labels=labels or examples.targets,
        target_at="stream",
    )
    return msgspec.structs.replace(header, hidden=spec.state_size(header.partition.places)), spec
