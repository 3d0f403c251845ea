"""Summaries of each channel since the stream began, for data that are sparse or irregular, or whose streams differ as
a whole: linear readouts of them, and of curves in their ranks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from streamrde.features import FeatureSpec, Pool, draw, make_pooling
from streamrde.features.expansion import Expander, Expansion, fit_ranking
from streamrde.fitting.examples import Candidate, Examples, evenly, tokens_of
from streamrde.fitting.pooled import Pooled, candidate, features_of, header_for
from streamrde.fitting.readout import ridge_readout
from streamrde.fitting.relevance import Groups, relevant_readout
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
_SAMPLE = 500
"""Streams that tokens are scaled by."""
_MOST_RIDGE = 2000
"""Most rows, or most curves and pairs, for numbers."""
_MOST_NUMBERS = 1 << 27
"""Most numbers of a table of expanded features. Above, there are no curves."""


def fit_summaries(examples: Examples) -> Iterator[Candidate]:
    """Fit a linear readout of summaries, and one of curves and pairs of their ranks."""
    if examples.along:
        return
    classes, made = len(examples.labels), _summarise(examples)
    truth, folds = examples.truth, examples.folds
    yield candidate(
        "summaries, ridge", made, ridge_readout(made.features, truth, classes, folds, weights=examples.weights)
    )
    features = made.features.shape[1]
    scores = len(truth) * (classes if classes > 2 else 1)
    # Ridge regression takes the cube of rows or features, whichever are fewer.
    most = _WORK // scores if classes or len(truth) <= _MOST_RIDGE else _MOST_RIDGE
    pairs = most - Expansion().size(features)
    spec = Expansion(pairs=min(max(pairs, 0), _PAIRS, _PAIRS_PER_ROW * len(truth)))
    long = pairs < 0 and (not classes or spec.size(features) * scores > 4 * _WORK)
    if long or spec.size(features) * len(truth) > _MOST_NUMBERS:
        return
    ranking = fit_ranking(spec, made.features, seed=examples.seed)
    curves = Expander(spec, ranking).expand(made.features)
    if classes:
        groups = [Groups(features, spec.hats)] + [Groups(spec.pairs, 1)] * (spec.pairs > 0)
        readout = relevant_readout(curves, groups, examples.codes, classes, folds, weights=examples.weights)
    else:
        readout = ridge_readout(curves, truth, classes, folds)
    name = f"curves of summaries, {'logistic' if classes else 'ridge'}"
    yield candidate(name, made, readout, expanded=(spec, ranking))


def _summarise(examples: Examples) -> Pooled:
    spec = FeatureSpec(
        pools=(Pool("last", "summaries"), *(Pool("mean", "ends", life) for life in _HALF_LIVES)), seed=examples.seed
    )
    header = header_for(
        examples,
        spec,
        windows=Every(max(examples.span / _WINDOWS, 2 * float(np.median(examples.steps)))),
        # Summaries need no log-signature, and a token has one at least: the smallest.
        token=Token(scales=(Scale(1),), ends=True, summaries=True),
        depth=1,
        linear_from=1.0,
    )
    places = header.partition.places
    sample = tokens_of(examples.of_streams(evenly(len(examples.recordings), _SAMPLE)), header.partition)
    drawn = draw(spec, places, sample.values, clip=header.clip)
    return Pooled(header, drawn, features_of(examples, make_pooling(spec, places, drawn), header.partition))
