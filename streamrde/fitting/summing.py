"""Read all rows of a data set once, and sum the normal equations of its streams' features in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from streamrde.arrays import Bools, Floats, Indices, Ints
from streamrde.connectors.files.reading import SampleReader
from streamrde.connectors.files.restarts import split_streams
from streamrde.connectors.samples import Samples
from streamrde.errors import DataError
from streamrde.fitting.calibration import fit_sharpness
from streamrde.fitting.folds import FOLDS
from streamrde.fitting.inputs import DataConfig
from streamrde.fitting.progress import Progress, Stage, ignore
from streamrde.fitting.ridge import Linear, NormalEquations
from streamrde.fitting.survey import Survey, number_names, read_places
from streamrde.inference.bundle import Bundle
from streamrde.inference.names import stream_column
from streamrde.inference.predictor import as_time_check
from streamrde.inference.quality import softmax
from streamrde.inference.states import Serving
from streamrde.inference.table import StreamTable
from streamrde.inference.vector_field import RowField
from streamrde.windowing.rows import Layout

_LEAST_ROWS = 256
"""Streams that are open at once, and rows that are read at once, however little memory there is."""
_BLOCK_ROWS = 2048
"""Streams that are added to the sums at once."""
_STAGE = "learn from all streams"


class Part(NamedTuple):
    """Sums of targets that are known in the same streams, in units of their spread, or of classes."""

    own: Indices
    """Their places among the targets."""
    equations: NormalEquations
    middle: Floats
    spread: Floats

    def add(self, features: Floats, truth: Floats, classes: int, folds: Indices, weights: Floats | None) -> None:
        """Add streams: their features (n, P), targets (n, targets), folds (n,) and weights (n,)."""
        if classes:
            self.equations.add(features, np.eye(classes)[truth[:, 0].astype(np.intp)], folds, weights=weights)
            return
        known = np.isfinite(truth[:, self.own[0]])
        wanted = (truth[known][:, self.own] - self.middle) / self.spread
        self.equations.add(features[known], wanted, folds[known])


class Sums(NamedTuple):
    """All streams' features in sums, and those of the sample as they are."""

    parts: tuple[Part, ...]
    streams: int
    """Number of streams in the sums."""
    kept: Floats
    """Features of the sample's streams, (n, P)."""
    kept_streams: Indices
    """Their numbers, (n,)."""
    kept_truth: Floats
    """(n, targets)"""
    kept_folds: Indices
    kept_weights: Floats | None


def alike(known: Survey) -> list[Indices]:
    """Return the places of targets that are known in the same streams, together."""
    masks = np.isfinite(known.target[known.usable])
    return [np.flatnonzero((masks == mask[:, None]).all(axis=0)) for mask in np.unique(masks, axis=1).T if mask.any()]


def sum_features(
    config: DataConfig,
    known: Survey,
    bundle: Bundle,
    chosen: Bools,
    *,
    memory: int,
    folds: Indices | None = None,
    weights: Floats | None = None,
    progress: Progress = ignore,
) -> Sums:
    """Read all rows, and sum the normal equations of all streams' features.

    Args:
        config, known: the data.
        bundle: a model with one linear readout of features per stream. The readout is not used.
        chosen: marks the streams whose features are kept.
        memory: bytes that may be used.
        folds: of the streams, (streams,). None: those of their groups, see `fold_of`.
        weights: of the classes, (classes,). None: all the same.
        progress: receives a stage of rows.
    """
    classes = len(known.classes)
    folds = fold_of(known.group) if folds is None else folds
    parts: tuple[Part, ...] = ()
    kept: list[tuple[Floats, Indices]] = []
    count = 0

    def weights_of(truth: Floats) -> Floats | None:
        return None if weights is None else weights[truth[:, 0].astype(np.intp)]

    for features, stream in _blocks(features_of(config, known, bundle, memory=memory, progress=progress)):
        parts = parts or _empty_parts(known, features.shape[1], int(folds.max()) + 1)
        truth = known.target[stream]
        for part in parts:
            part.add(features, truth, classes, folds[stream], weights_of(truth))
        count += len(stream)
        if (own := chosen[stream]).any():
            kept.append((features[own], stream[own]))
    if not kept:
        raise DataError("no stream closes a window: give longer streams", path=str(config.files))
    streams = np.concatenate([own for _, own in kept])
    features, truth = np.concatenate([rows for rows, _ in kept]), known.target[streams]
    return Sums(parts, count, features, streams, truth, folds[streams], weights_of(truth))


def _empty_parts(known: Survey, features: int, folds: int) -> tuple[Part, ...]:
    if classes := len(known.classes):
        nothing = np.zeros(classes)
        return (Part(np.zeros(1, np.intp), NormalEquations(features, classes, folds), nothing, nothing),)
    target = known.target[known.usable]
    middle, spread = np.nanmean(target, axis=0), np.nanstd(target, axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    return tuple(
        Part(own, NormalEquations(features, len(own), folds), middle[own], spread[own]) for own in alike(known)
    )


def solve(sums: Sums, classes: int) -> tuple[Linear, Floats]:
    """Return the ridge regression on all streams, and its answers to the kept ones by the regressions without their
    folds: probabilities (n, classes), or numbers (n, targets), NaN where the target is not known.
    """
    outputs = classes or sums.kept_truth.shape[1]
    weight, bias = np.zeros((sums.kept.shape[1], outputs)), np.zeros(outputs)
    answers = np.full((len(sums.kept), outputs), np.nan)
    for part in sums.parts:
        own = np.arange(classes) if classes else part.own
        linear, without = _solved(part, classes)
        weight[:, own], bias[own] = linear
        for fold, other in enumerate(without):
            rows = np.flatnonzero((sums.kept_folds == fold) & np.isfinite(sums.kept_truth[:, part.own[0]]))
            answers[np.ix_(rows, own)] = other(sums.kept[rows])
    if not classes:
        return Linear(weight, bias), answers
    sharp = fit_sharpness(answers, sums.kept_truth[:, 0].astype(np.intp), weights=sums.kept_weights)
    return Linear(sharp * weight, sharp * bias), softmax(sharp * answers)


def _solved(part: Part, classes: int) -> tuple[Linear, list[Linear]]:
    """Return the regression on all streams, and those without each fold, of features and in units as they are."""
    deviation = part.equations.spread()
    scale = np.where(deviation > 1e-9, 1 / np.maximum(deviation, 1e-9), 0.0)
    part.equations.rescale(scale)
    linear, _, without = part.equations.solve(each=not classes)
    spread, middle = (np.ones(classes), np.zeros(classes)) if classes else (part.spread, part.middle)
    first, *rest = (
        Linear(scale[:, None] * own.weight * spread, own.bias * spread + middle) for own in (linear, *without)
    )
    return first, rest


def fold_of(group: Ints) -> Indices:
    """Return the fold of each group by its hash. The sample takes the smallest hashes, which are in all folds."""
    return np.asarray(group % FOLDS, dtype=np.intp)


def features_of(
    config: DataConfig,
    known: Survey,
    bundle: Bundle,
    *,
    memory: int,
    progress: Progress = ignore,
) -> Iterator[tuple[Floats, Indices]]:
    """Yield the features of streams when they have ended, (n, P), and the streams' numbers, (n,).

    If more streams are open at once than memory allows, the rows are read several times, each time for other streams.
    """
    header = msgspec.structs.replace(bundle.header, emit="last")
    field = header.field.build("field", header, bundle.tensors)
    assert isinstance(field, RowField)  # noqa: S101 (as `in_rows` says)
    # A stream's row grows with its table, and is copied when the stream ends; a row of a file may close a window.
    row_bytes = 8 * (2 * Layout(header.partition).width + 5 * header.hidden)
    most = max(_LEAST_ROWS, memory // 4 // row_bytes)
    batch_rows = int(np.clip(min(most, memory // 4 // (8 * header.logsig_channels)), _LEAST_ROWS, 1 << 16))
    parts = -(-known.most_open() // most)
    total, done = parts * int(known.rows.sum()), 0
    for part in range(parts):
        reader = SampleReader(
            config.columns(),
            filters=config.filters,
            conversion=config.conversion(),
            units=config.told_units(),
            batch_rows=batch_rows,
            faults=config.faults,
        )
        streams = _OpenStreams(known, Bundle(header, bundle.tensors), np.arange(len(known.rows)) % parts == part)
        for samples in split_streams(streams.following(read_places(config, reader)), known.cuts):
            done += len(samples.t)
            progress(Stage(_STAGE, min(done, total - 1), total))
            for states, own in streams.take(samples):
                yield field.features(states), own
        for states, own in streams.end():
            yield field.features(states), own
    progress(Stage(_STAGE, total, total))


class _OpenStreams:
    """The state of streams until they end."""

    def __init__(self, known: Survey, bundle: Bundle, wanted: Bools) -> None:
        self._known, self._wanted = known, known.usable & wanted
        self._table = StreamTable(bundle, serving=Serving(time_check=as_time_check("off", "drop")))
        self._slot = np.full(len(wanted), -1, np.intp)
        self._place = 0

    def following(self, batches: Iterable[tuple[int, Samples]]) -> Iterator[Samples]:
        """Yield samples, and remember the place of the last ones."""
        for self._place, samples in batches:
            yield samples

    def take(self, samples: Samples) -> Iterator[tuple[Floats, Indices]]:
        """Take rows. Yield states and numbers of the streams that have ended with them."""
        stream = number_names(self._known.names, *samples.by_code())
        own = np.flatnonzero((stream >= 0) & self._wanted[stream])
        if not len(own):
            return
        names = stream_column(samples.streams.take(pa.array(own)))
        slots, _ = self._table.add(names)
        self._slot[stream[own]] = slots
        self._table.push(slots, samples.t[own], samples.x[own], faults="drop")
        # The place where a stream has ended may lie behind its last rows.
        yield from self._close(np.flatnonzero((self._slot >= 0) & (self._known.last <= self._place)))

    def end(self) -> Iterator[tuple[Floats, Indices]]:
        """Yield states and numbers of the streams that are left."""
        yield from self._close(np.flatnonzero(self._slot >= 0))

    def _close(self, streams: Indices) -> Iterator[tuple[Floats, Indices]]:
        for begin in range(0, len(streams), _BLOCK_ROWS):
            own = streams[begin : begin + _BLOCK_ROWS]
            slots = self._slot[own]
            self._table.flush(slots)
            states, windows = self._table.states_of(slots)
            self._table.release(slots)
            self._slot[own] = -1
            # A stream without any window has nothing to learn from.
            yield states[windows > 0], own[windows > 0]


def _blocks(parts: Iterable[tuple[Floats, Indices]]) -> Iterator[tuple[Floats, Indices]]:
    """Join features to blocks: products of large matrices are faster."""
    held: list[tuple[Floats, Indices]] = []
    count = 0
    for part in parts:
        held.append(part)
        count += len(part[1])
        if count >= _BLOCK_ROWS:
            yield np.concatenate([rows for rows, _ in held]), np.concatenate([own for _, own in held])
            held, count = [], 0
    if count:
        yield np.concatenate([rows for rows, _ in held]), np.concatenate([own for _, own in held])
