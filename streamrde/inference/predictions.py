"""A model's output at the end of a window: a prediction, or a record batch of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamrde.adapting.scores import Sets
from streamrde.arrays import Floats, Indices, Ints, Reals
from streamrde.inference.header import Head, Header
from streamrde.inference.intervals import interval_columns, interval_fields, limits_of
from streamrde.inference.names import StreamNames
from streamrde.inference.states import Feature


class Prediction(msgspec.Struct, frozen=True, eq=False):
    """The model's output after one window of one stream. The pair (stream, window) is unique.

    Attributes:
        stream: name of the stream.
        window: number of the window in its stream, from 0.
        t_start, t_end: the window's edges, in the time of the samples, seconds.
        value: class probabilities or regression targets, (outputs,), in the model's dtype, or float64 where targets far
            from 0 need its digits. A classification with one
            output has the probability of its second class.
        labels: names of the outputs; empty where the model has none.
        label: the most probable class; None for regression, for a model with several heads, and where a value is not
            finite.
        flag: "out_of_range" where the state left the range it had in training, "not_finite" where it is not finite;
            None where it is as it should be.
        step_error: estimate of the solver's error in this window, relative to 1 + the state's size; None where it was
            not asked for.
        lower, upper: limits of the intervals of numbers, (outputs,), float64, NaN for classes. None where they were not
            asked for, or no output is a number.
        set: classes that the right one is probably among, with the coverage asked for. None where it was not asked for,
            for regression, and for a model with several heads.
        novelty: p-value of the window: how rare windows so far out were among those that the model was trained on; None
            where it was not asked for, and for a window that was cut short or has no sample.
        heads: for a model with several heads, each one's share of `value` and its label, by name.
        provisional: True of what `peek` gives: the window is still open.
    """

    stream: str
    window: int
    t_start: float
    t_end: float
    value: Reals
    labels: tuple[str, ...] = ()
    label: str | None = None
    flag: str | None = None
    step_error: float | None = None
    novelty: float | None = None
    heads: Mapping[str, HeadPrediction] = msgspec.field(default_factory=dict)
    provisional: bool = False
    lower: Floats | None = None
    upper: Floats | None = None
    set: tuple[str, ...] | None = None


class HeadPrediction(NamedTuple):
    """The output of one of several heads."""

    value: Reals
    """Class probabilities or targets, (outputs of this head,)."""
    label: str | None
    """The most probable class. None for regression, and if a value is not finite."""
    set: tuple[str, ...] | None = None
    """Classes that the right one is probably among. None for regression, and where it was not asked for."""


FLAGS = (None, "out_of_range", "not_finite")
"""What may be said of a state, by number."""
NOT_FINITE = FLAGS.index("not_finite")


class Predictions(NamedTuple):
    """Hold the predictions of windows as arrays, in the order in which the windows closed."""

    slot: Indices
    window: Ints
    t_start: Floats
    t_end: Floats
    value: Reals
    """(windows, outputs)"""
    flag: NDArray[np.uint8]
    """Places in FLAGS."""
    error: Floats
    """Estimates of the step's error; NaN: not asked for."""
    novelty: Floats
    """P-values of the windows. NaN if not asked for, cut short, or without a sample."""
    state: Floats
    """Hidden states after the windows, (windows, hidden); (windows, 0): not asked for."""
    logsignature: Floats
    """Log-signatures of the windows, (windows, B); (windows, 0): not asked for; NaN: of no single window."""
    threshold: Floats
    """Thresholds of intervals and sets, (windows, units), see adapting.scores. (windows, 0): not asked for."""

    def select(self, places: Indices) -> Predictions:
        """Return the predictions at the given places."""
        return Predictions._make(column[places] for column in self)

    @classmethod
    def join(cls, parts: Sequence[Predictions], nothing: Predictions) -> Predictions:
        """Join the windows of all parts in order. Without parts, return `nothing`."""
        columns = zip(nothing, *parts, strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    def predictions(
        self, names: StreamNames, header: Header, *, provisional: bool = False, sets: Sets | None = None
    ) -> list[Prediction]:
        """Return one Prediction per window.

        Args:
            sets: kind of the sets of classes; None: neither intervals nor sets are asked for.
        """
        if not len(self.slot):
            return []
        lower, upper, found = limits_of(self.value, self.threshold, header, sets)
        classes, names_of_outputs = () if header.heads else header.parts[0].classes, header.output_names
        labels = _labels(classes, self.value) if classes else [None] * len(self.value)
        return [
            Prediction(
                name,
                int(window),
                float(t_start),
                float(t_end),
                value,
                names_of_outputs,
                label,
                FLAGS[flag],
                None if np.isnan(error) else float(error),
                None if np.isnan(novelty) else float(novelty),
                _by_head(value, header, found, row) if header.heads else {},
                provisional,
                None if lower is None else lower[row],
                None if upper is None else upper[row],
                found[""][row] if "" in found else None,
            )
            for row, (name, label, window, t_start, t_end, value, flag, error, novelty) in enumerate(
                zip(names.names_of(self.slot).to_pylist(), labels, *self[1:8], strict=True)
            )
        ]

    def record_batch(
        self,
        names: StreamNames,
        header: Header,
        *,
        provisional: bool = False,
        features: Sequence[Feature] = (),
        novelty: bool = False,
        sets: Sets | None = None,
    ) -> pa.RecordBatch:
        """Return the predictions as rows of `prediction_schema`."""
        schema = prediction_schema(header, provisional=provisional, features=features, novelty=novelty, sets=sets)
        columns = [
            names.names_of(self.slot),
            pa.array(self.window),
            pa.array(self.t_start),
            pa.array(self.t_end),
            pa.FixedSizeListArray.from_arrays(pa.array(self.value.ravel()), header.outputs),
        ]
        for head, own in _slices(header):
            labels = head.classes
            if labels:
                columns.append(pa.array(_labels(labels, self.value[:, own]), pa.string()))
        columns += [
            pa.array([FLAGS[flag] for flag in self.flag], pa.string()),
            pa.array(self.error, pa.float64(), from_pandas=True),
        ]
        columns += interval_columns(self.value, self.threshold, header, sets)
        if novelty:
            columns.append(pa.array(self.novelty, pa.float64(), from_pandas=True))
        for name in features:
            values = np.asarray(getattr(self, name))
            flat = pa.array(values.ravel()).cast(schema.field(name).type.value_type)
            columns.append(pa.FixedSizeListArray.from_arrays(flat, values.shape[1]))
        if provisional:
            columns.append(pa.array(np.ones(len(self.slot), dtype=bool)))
        return pa.record_batch(columns, schema=schema)


def _slices(header: Header) -> Iterator[tuple[Head, slice]]:
    """Yield each head with the slice of its outputs."""
    begin = 0
    for head in header.parts:
        yield head, slice(begin, begin := begin + head.outputs)


def _by_head(
    value: Reals, header: Header, sets: Mapping[str, list[tuple[str, ...]]], row: int
) -> dict[str, HeadPrediction]:
    found = {}
    for head, own in _slices(header):
        labels, part = head.classes, value[own]
        members_of = sets[head.name][row] if head.name in sets else None
        found[head.name] = HeadPrediction(part, _labels(labels, part[None])[0] if labels else None, members_of)
    return found


def _labels(labels: Sequence[str], value: Reals) -> list[str | None]:
    """Return the most probable class of each row, (n, outputs). If a value of the row is not finite, it is None."""
    best: list[str | None] = [labels[i] for i in most_probable(value).tolist()]
    finite = np.isfinite(value)
    if finite.all():
        return best
    return [label if good else None for label, good in zip(best, np.all(finite, axis=1), strict=True)]


def most_probable(value: Reals) -> Indices:
    """Return the number of the most probable class, (..., outputs) -> (...).

    One output is the probability of the second of two classes.
    """
    return np.asarray(value[..., 0] > 0.5 if value.shape[-1] == 1 else value.argmax(axis=-1), dtype=np.intp)


def prediction_schema(
    header: Header,
    *,
    provisional: bool = False,
    features: Sequence[Feature] = (),
    novelty: bool = False,
    sets: Sets | None = None,
) -> pa.Schema:
    """Return the columns of predictions.

    stream, window, t_start, t_end (seconds), value (one number per output); for a classification also label, and with
    several heads label_NAME for each that classifies, null where the value is not finite; then flag and step_error,
    null where there is nothing to say (see Prediction); where intervals are asked for, by the kind of their sets, lower
    and upper, if an output is a number (NaN for classes), and set, or with several heads set_NAME, the classes of each
    that classifies; novelty, where it is asked for, null for windows that were cut
    short; the features asked for: state, in the dtype of the model's states, logsignature, float64, unscaled; and, of
    what is not committed, provisional. The metadata of the field `value` name the outputs and their units, as JSON
    lists under "outputs" and "units", and the heads under "heads".
    """
    dtype, output_dtype = pa.from_numpy_dtype(np.dtype(header.dtype)), pa.from_numpy_dtype(header.output_dtype)
    metadata = {"outputs": msgspec.json.encode(header.output_names), "units": msgspec.json.encode(header.units)}
    if header.heads:
        metadata["heads"] = msgspec.json.encode(header.heads)
    fields = [
        pa.field("stream", pa.string(), nullable=False),
        pa.field("window", pa.int64(), nullable=False),
        pa.field("t_start", pa.float64(), nullable=False, metadata={"unit": "s"}),
        pa.field("t_end", pa.float64(), nullable=False, metadata={"unit": "s"}),
        pa.field("value", pa.list_(pa.field("item", output_dtype), header.outputs), nullable=False, metadata=metadata),
    ]
    for head in header.parts:
        if head.task == "classification":
            name = f"label_{head.name}" if head.name else "label"
            fields.append(pa.field(name, pa.string()))
    fields += [pa.field("flag", pa.string()), pa.field("step_error", pa.float64())]
    fields += interval_fields(header, sets)
    if novelty:
        fields.append(pa.field("novelty", pa.float64()))
    for name in features:
        size, kind = (header.hidden, dtype) if name == "state" else (header.logsig_channels, pa.float64())
        kind = pa.float64() if header.field.in_rows else kind
        fields.append(pa.field(name, pa.list_(pa.field("item", kind), size), nullable=False))
    if provisional:
        fields.append(pa.field("provisional", pa.bool_(), nullable=False))
    return pa.schema(fields)
