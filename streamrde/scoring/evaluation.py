"""Predictions compared with the truth: the task's measures, in constant memory per stream."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamrde.errors import ConfigError
from streamrde.inference.bundle import Header
from streamrde.inference.predictions import class_labels

QUANTILES = (0.5, 0.9, 0.95, 0.99)
# Buckets 1 % wide from 1e-9 to 1e9 in the target's unit.
_RATIO, _SMALLEST = 1.01, 1e-9
_BUCKETS = math.ceil(math.log(1e18) / math.log(_RATIO)) + 1


class ClassificationEvaluation:
    """Accuracy over all windows and at the streams' ends, mean log loss, F1 per class, confusion matrix.

    Args:
        header: of the model.
        truth: the one column that holds the class; it is compared with the model's labels as text. Windows whose class
            the model does not know, or that have none, are counted apart.
    """

    def __init__(self, header: Header, truth: tuple[str, ...]) -> None:
        if len(truth) != 1:
            raise ConfigError(f"truth {list(truth)}: a classification has one column with the class")
        self._column = f"true_{truth[0]}"
        self.labels = class_labels(header.parts[0])
        self.confusion: NDArray[np.int64] = np.zeros((len(self.labels),) * 2, dtype=np.int64)
        """Windows by true class (rows) and predicted class (columns)."""
        self.unknown = 0
        self._loss = 0.0
        self._at_end: dict[str, bool] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """Take predictions with their truth."""
        import pyarrow.compute as pc

        places = pc.index_in(batch[self._column], pa.array(self.labels))
        known = places.is_valid().to_numpy(zero_copy_only=False)
        true = places.fill_null(0).to_numpy()[known]
        value = batch["value"].flatten().to_numpy().reshape(batch.num_rows, -1)[known]
        predicted = value.argmax(axis=1)
        np.add.at(self.confusion, (true, predicted), 1)
        self.unknown += int((~known).sum())
        smallest = np.finfo(value.dtype).tiny
        self._loss -= float(np.log(np.maximum(value[np.arange(len(true)), true], smallest)).sum(dtype=np.float64))
        streams = batch["stream"].filter(pa.array(known)).to_pylist()
        self._at_end |= dict(zip(streams, (true == predicted).tolist(), strict=True))

    def summary(self) -> dict[str, Any]:
        """The measures as plain numbers."""
        right, windows = int(np.trace(self.confusion)), int(self.confusion.sum())
        hits = np.diag(self.confusion)
        with np.errstate(invalid="ignore"):
            f1 = 2 * hits / (self.confusion.sum(axis=0) + self.confusion.sum(axis=1))
        return {
            "windows": windows,
            "unknown": self.unknown,
            "accuracy": right / windows if windows else None,
            "accuracy_at_end": sum(self._at_end.values()) / len(self._at_end) if self._at_end else None,
            "log_loss": self._loss / windows if windows else None,
            "f1": {label: None if math.isnan(v) else float(v) for label, v in zip(self.labels, f1, strict=True)},
            "labels": list(self.labels),
            "confusion": self.confusion.tolist(),
        }


class RegressionEvaluation:
    """Root mean square, mean absolute and mean error of each output, and quantiles of the absolute error to 1 %.

    Args:
        header: of the model.
        truth: the columns with the targets, one per output, in their order. A window without a target is not counted.
    """

    def __init__(self, header: Header, truth: tuple[str, ...]) -> None:
        if len(truth) != header.outputs:
            raise ConfigError(
                f"truth {list(truth)} has {len(truth)} columns, and the model {header.outputs} outputs: "
                f"give one per output"
            )
        self._columns = [f"true_{name}" for name in truth]
        self.names = header.labels or truth
        self._units = header.units or ("",) * header.outputs
        self._sums = np.zeros((4, header.outputs))
        self._buckets = np.zeros((header.outputs, _BUCKETS), np.int64)

    def add(self, batch: pa.RecordBatch) -> None:
        """Take predictions with their truth."""
        value = batch["value"].flatten().to_numpy().reshape(batch.num_rows, -1)
        for i, column in enumerate(self._columns):
            error = value[:, i].astype(np.float64) - batch[column].to_numpy(zero_copy_only=False)
            error = error[np.isfinite(error)]
            size = np.abs(error)
            self._sums[:, i] += len(error), error.sum(), size.sum(), (error**2).sum()
            places = np.log(np.maximum(size, _SMALLEST) / _SMALLEST) / math.log(_RATIO)
            self._buckets[i] += np.bincount(np.minimum(places.astype(int), _BUCKETS - 1), minlength=_BUCKETS)

    def summary(self) -> dict[str, Any]:
        """The measures as plain numbers, by output."""
        result: dict[str, Any] = {}
        for i, name in enumerate(self.names):
            count, total, absolute, squares = self._sums[:, i]
            seen = self._buckets[i].cumsum()
            result[name] = {"windows": int(count), "unit": self._units[i]} | (
                {
                    "rmse": math.sqrt(squares / count),
                    "mae": absolute / count,
                    "bias": total / count,
                    **{
                        f"q{100 * q:g}": float(_SMALLEST * _RATIO ** (np.searchsorted(seen, q * count) + 0.5))
                        for q in QUANTILES
                    },
                }
                if count
                else {}
            )
        return result


def make_evaluation(header: Header, truth: tuple[str, ...]) -> ClassificationEvaluation | RegressionEvaluation:
    """What compares this model's predictions with the truth.

    Raises:
        ConfigError: the model has several heads.
    """
    if header.heads:
        raise ConfigError("truth: a model with several heads is scored without; compare its columns yourself")
    kind = ClassificationEvaluation if header.task == "classification" else RegressionEvaluation
    return kind(header, truth)
