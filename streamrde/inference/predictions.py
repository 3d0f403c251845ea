"""What a model says when a window closes: one prediction, or a record batch of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamrde.inference.bundle import Header


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The model's output after one window of one stream; (stream, window) is unique.

    Attributes:
        stream: name of the stream.
        window: number of the window in its stream, from 0.
        t_start, t_end: the window's edges, in the time of the samples, seconds.
        value: class probabilities or regression targets, (outputs,), in the model's dtype.
        labels: names of the outputs; empty where the model has none.
        label: the most probable class; None for regression.
    """

    stream: str
    window: int
    t_start: float
    t_end: float
    value: NDArray[np.floating]
    labels: tuple[str, ...] = ()
    label: str | None = None


class Closed(NamedTuple):
    """Windows that closed, as arrays, in the order in which they did."""

    slot: NDArray[np.intp]
    window: NDArray[np.int64]
    t_start: NDArray[np.float64]
    t_end: NDArray[np.float64]
    value: NDArray[np.floating]
    """(windows, outputs)"""

    def take(self, order: NDArray[np.intp]) -> Closed:
        """The windows at the given places."""
        return Closed(self.slot[order], self.window[order], self.t_start[order], self.t_end[order], self.value[order])

    @classmethod
    def join(cls, parts: Sequence[Closed], nothing: Closed) -> Closed:
        """The windows of all parts, in order; `nothing` where there are none."""
        columns = zip(nothing, *parts, strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    def predictions(self, names: Sequence[str], header: Header) -> list[Prediction]:
        """One Prediction per window; `names` maps slots to streams."""
        labels = class_labels(header)
        return [
            Prediction(
                names[slot],
                int(window),
                float(t_start),
                float(t_end),
                value,
                header.labels,
                labels[int(value.argmax())] if labels else None,
            )
            for slot, window, t_start, t_end, value in zip(*self, strict=True)
        ]

    def record_batch(self, names: Sequence[str], header: Header) -> pa.RecordBatch:
        """The same as rows of `prediction_schema`."""
        schema = prediction_schema(header)
        columns = [
            pa.array([names[slot] for slot in self.slot], pa.string()),
            pa.array(self.window),
            pa.array(self.t_start),
            pa.array(self.t_end),
            pa.FixedSizeListArray.from_arrays(pa.array(self.value.ravel()), header.outputs),
        ]
        labels = class_labels(header)
        if labels:
            columns.append(pa.array([labels[i] for i in self.value.argmax(axis=1)], pa.string()))
        return pa.record_batch(columns, schema=schema)


def class_labels(header: Header) -> tuple[str, ...]:
    """Names of the classes, "0", "1", ... where the model gives none; empty for regression."""
    if header.task != "classification":
        return ()
    return header.labels or tuple(str(i) for i in range(header.outputs))


def prediction_schema(header: Header) -> pa.Schema:
    """Columns stream, window, t_start, t_end (seconds), value (one number per output); for classification also label.

    The metadata of the field `value` names the outputs and their units, as JSON lists under "outputs" and "units".
    """
    dtype = pa.float32() if header.dtype == "float32" else pa.float64()
    metadata = {"outputs": msgspec.json.encode(header.labels), "units": msgspec.json.encode(header.units)}
    fields = [
        pa.field("stream", pa.string(), nullable=False),
        pa.field("window", pa.int64(), nullable=False),
        pa.field("t_start", pa.float64(), nullable=False, metadata={"unit": "s"}),
        pa.field("t_end", pa.float64(), nullable=False, metadata={"unit": "s"}),
        pa.field("value", pa.list_(pa.field("item", dtype), header.outputs), nullable=False, metadata=metadata),
    ]
    if header.task == "classification":
        fields.append(pa.field("label", pa.string(), nullable=False))
    return pa.schema(fields)
