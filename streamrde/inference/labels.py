"""Labels that come after their predictions: from what users hand in to rows, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from streamrde.adapting.bands import Bands
from streamrde.adapting.baselines import METHODS, Method
from streamrde.adapting.pending import OUTCOMES, Outcome
from streamrde.adapting.scores import Sets
from streamrde.adapting.section import Adapting, Labelled, Times
from streamrde.adapting.settings import Learned
from streamrde.adapting.targets import Kind, Part, Targets
from streamrde.arrays import Floats, Indices, Ints
from streamrde.errors import ParameterError, ShapeError
from streamrde.floats import as_floats
from streamrde.inference.bundle import Bundle
from streamrde.inference.header import Head, Header
from streamrde.inference.intervals import interval_columns, interval_fields
from streamrde.inference.names import StreamNames, stream_column
from streamrde.inference.states import Serving
from streamrde.inference.turns import rounds, stretches
from streamrde.times import as_times


class Adaptation(NamedTuple):
    """Fates of the labels so far, and the errors with which each method would have predicted them."""

    joined: int
    """Labels that met their predictions."""
    expired: int
    """Labels that came when their predictions no longer waited."""
    duplicate: int
    """Labels of predictions that had one already."""
    unknown: int
    """Labels of predictions, or streams, that there are not, and early ones whose predictions never came."""
    skipped: int
    """Labels without a finite number."""
    never: int
    """Predictions that no longer wait and never had a label."""
    waiting: int
    """Predictions that wait."""
    errors: dict[str, tuple[float, ...]]
    """Root mean squared error of each method on the labels, per output, in the targets' units, NaN without a label. The
    errors are progressive: every label was predicted before it was learned."""
    served: dict[str, int]
    """Number of streams in whose first output each method has the most weight now."""
    held: int = 0
    """Labels that came before their predictions and wait for them."""
    coverage: tuple[float, ...] = ()
    """Share of the labels within their intervals or sets, per output that is a number and per head of classes, NaN
    without a label. Empty without intervals."""
    drifts: tuple[int, ...] = ()
    """Alarms that errors are larger than on held-out streams, per output that is a number and per head of classes (see
    `adapting.drift`). Empty without intervals."""


def adapting_of(bundle: Bundle, serving: Serving, start: int) -> Adapting | None:
    """Return the section of rows for labels, from a column on, or None if labels are not asked for.

    Raises:
        ParameterError: the model predicts only when a stream ends.
    """
    header, adapt = bundle.header, serving.adapt
    if adapt.serve == "off":
        return None
    if header.emit != "every":
        raise ParameterError(
            f"adapt={adapt.serve!r}: this model predicts only when a stream ends, and learns nothing after; use 'off'"
        )
    learned = header.learned or Learned()
    shift = np.array(learned.shift) if learned.shift else np.array(bundle.tensors["output.shift"], dtype=np.float64)
    scale = np.array(learned.scale) if learned.scale else np.array(bundle.tensors["output.scale"], dtype=np.float64)
    scale = np.where(scale > 0, scale, 1.0)
    # A reservoir's features are of order one.
    spread = np.ones(header.sizes("readout")[0] if header.field.in_rows else header.hidden)
    if header.hidden_range:
        spread = np.asarray(bundle.tensors["range.high"] - bundle.tensors["range.low"], dtype=np.float64)
    length = header.windows.length if header.windows.fixed_length else 0.0
    targets = Targets(parts_of(header), shift, scale)
    times = Times(header.horizon, length)
    return Adapting(targets, times, adapt, learned, spread, start, bands_of(bundle, serving))


def bands_of(bundle: Bundle, serving: Serving) -> Bands | None:
    """Return the model's intervals, or None if they are not asked for.

    Raises:
        ParameterError: the model's file has no scores of held-out streams.
    """
    if serving.intervals is None:
        return None
    header = bundle.header
    if header.calibration is None:
        raise ParameterError(
            f"intervals={serving.intervals.coverage:g}: this model's file does not say how far it was off on streams "
            "that it was not fitted to; fit or train it again, or add that to it with Bundle.with_calibration"
        )
    scores = np.asarray(bundle.tensors["calibration.scores"], dtype=np.float64)
    ratios = bundle.tensors.get("calibration.ratios")
    return Bands(
        header.thresholds,
        serving.intervals,
        header.calibration,
        scores,
        None if ratios is None else np.asarray(ratios, dtype=np.float64),
    )


def parts_of(header: Header) -> Sequence[Part]:
    """Return the kinds of the model's outputs, with their places."""
    parts, begin = [], 0
    for head in header.parts:
        kind: Kind = "numbers" if head.task == "regression" else "binary" if head.is_binary else "classes"
        parts.append(Part(kind, slice(begin, begin := begin + head.outputs)))
    return parts


def as_labels(header: Header, values: Any, count: int) -> Floats:
    """Return labels as numbers, (count, outputs), NaN where there is none.

    Args:
        values: of a regression, numbers (count, outputs), or (count,) for one output. Of a classification, the names or
            numbers of the classes, (count,). Of a model with several heads, a mapping from their names to these.
    Raises:
        ShapeError: they are of another shape.
        ParameterError: a class is not the model's.
    """
    if not header.heads:
        return _part(header.parts[0], values, count)
    if not isinstance(values, Mapping):
        raise ShapeError(f"values: this model has the heads {[h.name for h in header.heads]}; give a dict by head")
    if unknown := set(values) - {head.name for head in header.heads}:
        raise ParameterError(
            f"values has {sorted(map(str, unknown))}: the model's heads are {[h.name for h in header.heads]}"
        )
    missing = np.full(count, np.nan)
    return np.concatenate(
        [
            np.full((count, head.outputs), np.nan)
            if head.name not in values
            else _part(head, values.get(head.name, missing), count)
            for head in header.heads
        ],
        axis=1,
    )


def _part(head: Head, values: Any, count: int) -> Floats:
    if head.task == "classification":
        return _one_hot(head, values, count)
    numbers = as_floats("values", values)
    if numbers.ndim == 1 and head.outputs == 1:
        numbers = numbers[:, None]
    if numbers.shape != (count, head.outputs):
        raise ShapeError(f"values has shape {numbers.shape}: give one label per row, ({count}, {head.outputs})")
    return numbers


def _one_hot(head: Head, values: Any, count: int) -> Floats:
    classes = head.classes
    try:
        array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, from_pandas=True)
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        known = array.is_valid().to_numpy(zero_copy_only=False)
        if pa.types.is_dictionary(array.type):
            array = array.cast(array.type.value_type)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ShapeError(f"values are not classes ({error}): give one name or number per row") from None
    if len(array) != count:
        raise ShapeError(f"values has {len(array)} rows: give one label per row, ({count},)")
    found, places = np.full(count, -1, dtype=np.intp), {name: i for i, name in enumerate(classes)}
    for row, value in enumerate(array.to_pylist()):
        if value is None or (isinstance(value, float) and np.isnan(value)):
            known[row] = False
            continue
        place = places.get(value) if isinstance(value, str) else value if value in range(len(classes)) else None
        if place is None:
            raise ParameterError(f"values[{row}]={value!r}: the classes are {', '.join(map(repr, classes))}")
        found[row] = int(place)
    labels = np.full((count, head.outputs), np.nan)
    if head.is_binary:
        labels[known, 0] = found[known]
    else:
        labels[known] = found[known, None] == np.arange(head.outputs)
    return labels


def class_numbers(classes: Sequence[str]) -> dict[float, int]:
    """Return the places of classes by the numbers that stand for them: their names if all are numbers, else places."""
    named = are_numbers(classes)
    return {float(name) if named else float(place): place for place, name in enumerate(classes)}


def are_numbers(classes: Sequence[str]) -> bool:
    """Return True if the names of classes are numbers, so that a number is a name."""
    try:
        return len({float(name) for name in classes}) == len(classes)
    except ValueError:
        return False


def label_schema(header: Header, sets: Sets | None = None) -> pa.Schema:
    """Return the columns of labelled predictions.

    stream, window, t_end (seconds), outcome ("joined", "expired", "duplicate", "unknown", "nan", "held"), label,
    served, and what each method had predicted: frozen, online, last, mean, blend. They have one number per output, for
    classes their probabilities, and are null unless the outcome is "joined". With intervals of the kind `sets` also
    those that were issued, see `inference.intervals`, and covered: whether the label was within, per output that is a
    number and per head of classes, null where there is no label.
    """
    values = pa.list_(pa.float64(), header.outputs)
    return pa.schema(
        [
            pa.field("stream", pa.string(), nullable=False),
            pa.field("window", pa.int64()),
            pa.field("t_end", pa.float64(), metadata={"unit": "s"}),
            pa.field("outcome", pa.string(), nullable=False),
            *(pa.field(name, values) for name in ("label", "served", *METHODS)),
            *(field.with_nullable(True) for field in interval_fields(header, sets)),
            *([] if sets is None else [pa.field("covered", pa.list_(pa.bool_(), len(header.thresholds)))]),
        ]
    )


class Asked(msgspec.Struct, frozen=True):
    """Labels as they were handed in, checked."""

    streams: pa.Array
    labels: Floats
    t: Floats | None
    window: Ints | None


def asked(header: Header, streams: Any, values: Any, t: ArrayLike | None, window: ArrayLike | None) -> Asked:
    """Check the arguments of `Fleet.label`."""
    names = stream_column(streams)
    if (t is None) == (window is None):
        raise ParameterError("label: give t, the times that the labels are for, or window, the windows' numbers")
    labels = as_labels(header, values, len(names))
    times = windows = None
    if t is not None:
        times = as_times("t", t)
    else:
        windows = np.asarray(window)
        if windows.dtype.kind not in "iu" and windows.size:
            raise ParameterError(f"window has dtype {windows.dtype}: give whole numbers, as in the predictions")
        windows = windows.astype(np.int64)
    for name, given in (("t", times), ("window", windows)):
        if given is not None and given.shape != (len(names),):
            raise ShapeError(f"{name} has shape {given.shape} and streams {len(names)} rows: give one per row")
    return Asked(names, labels, times, windows)


def take_labels(section: Adapting, rows: Floats, slots: Indices, given: Asked) -> Labelled:
    """Learn from labels in order. Slots below 0 are streams that there are not."""
    count = len(given.labels)
    window = np.full(count, -1) if given.window is None else given.window.copy()
    joined = section.unlearned(np.full(count, int(Outcome.UNKNOWN)), window)
    live = np.flatnonzero(slots >= 0)
    # What streams share depends on the order of their labels.
    for places in (rounds if section.shared is None else stretches)(slots[live]):
        own = live[places]
        number = None if given.window is None else given.window[own]
        t = None if given.t is None else given.t[own]
        part = section.label(rows, slots[own], given.labels[own], number, t)
        for whole, some in zip(joined, part, strict=True):
            whole[own] = some
    return joined


def labelled_batch(header: Header, given: Asked, joined: Labelled, bands: Bands | None = None) -> pa.RecordBatch:
    """Return rows of `label_schema`."""
    absent = joined.outcome != Outcome.JOINED
    columns: list[NDArray[Any]] = [given.labels, joined.served]
    columns += [joined.predicted[:, method] for method in Method]
    names = given.streams
    return pa.record_batch(
        [
            names.dictionary_decode() if pa.types.is_dictionary(names.type) else names,
            pa.array(joined.window, mask=joined.window < 0),
            pa.array(joined.t_end, mask=absent),
            pa.array([OUTCOMES[outcome] for outcome in joined.outcome.tolist()], pa.string()),
            *(_lists(values, absent) for values in columns),
            *(_interval_lists(header, given, joined, bands) if bands is not None else ()),
        ],
        schema=label_schema(header, None if bands is None else bands.tracking.sets),
    )


def _interval_lists(header: Header, given: Asked, joined: Labelled, bands: Bands) -> list[pa.Array]:
    """Return the columns of the intervals that were issued, and which of them the labels were in."""
    known = joined.outcome == Outcome.JOINED
    places = pa.array(np.where(known, np.cumsum(known) - 1, 0), mask=~known)
    served, threshold = joined.served[known], joined.threshold[known]
    score = bands.scores(served, given.labels[known])
    inside = pa.array((score <= threshold).ravel(), mask=np.isnan(score).ravel())
    columns = interval_columns(served, threshold, header, bands.tracking.sets)
    columns.append(pa.FixedSizeListArray.from_arrays(inside, bands.units))
    return [column.take(places) for column in columns]


def _lists(values: Floats, absent: NDArray[np.bool_]) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=pa.array(absent))


def adaptation(section: Adapting, rows: Floats, slots: Indices, unknown: int) -> Adaptation:
    """Sum up over streams.

    Args:
        unknown: labels of streams that there were not.
    """
    counts = section.pending.counts(rows, slots)
    errors, labels = section.baselines.errors(rows, slots)
    by_method = {
        name: tuple(errors[method].tolist() if labels.any() else [np.nan] * len(labels))
        for method, name in enumerate(METHODS)
    }
    served = np.bincount(section.serving(rows, slots)[:, 0], minlength=len(METHODS)).tolist()
    joined, expired, duplicate, unplaced, skipped, never = counts.tolist()
    return Adaptation(
        joined,
        expired,
        duplicate,
        unplaced + unknown,
        skipped,
        never,
        int(section.pending.waiting(rows, slots).sum()),
        by_method,
        {name: number for name, number in zip(METHODS, served, strict=True) if number},
        int(section.held.number(rows, slots).sum()),
        () if section.bands is None else tuple(section.bands.coverage(rows, slots).tolist()),
        () if section.bands is None else tuple(section.bands.alarms(rows, slots).sum(axis=0).tolist()),
    )


def find_streams(names: StreamNames, streams: pa.Array) -> Indices:
    """Return the slot of each row's stream, or -1 if it is not live."""
    if pa.types.is_dictionary(streams.type):
        streams = streams.dictionary_decode()
    return names.look_up(streams)
