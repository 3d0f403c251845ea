"""Predictions compared with the truth: the task's measures, in constant memory per stream.

What needs all predictions, as an area under a curve, is measured at the streams' ends only: one prediction per stream.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamrde.arrays import Bools, Ints, Reals
from streamrde.errors import ConfigError
from streamrde.inference.header import Head, Header
from streamrde.inference.predictions import most_probable
from streamrde.inference.quality import classification_measures, regression_measures

QUANTILES = (0.5, 0.9, 0.95, 0.99)
# Buckets 1 % wide from 1e-9 to 1e9 in the target's unit.
_RATIO, _SMALLEST = 1.01, 1e-9
_BUCKETS = math.ceil(math.log(1e18) / math.log(_RATIO)) + 1


class ClassificationEvaluation:
    """Measure classes: accuracy, mean log loss, F1 per class and confusion matrix over all windows, and by stream.

    At the streams' ends, meaning the last of their windows that have a class, the measures are those of
    `inference.quality.classification_measures`.

    Args:
        head: of the model.
        outputs: where its outputs stand in `value`.
        truth: the one column that holds the class; it is compared with the model's labels as text. Windows whose class
            the model does not know, or that have none, are counted apart, and so are those whose value is not finite.
    """

    def __init__(self, head: Head, outputs: slice, truth: tuple[str, ...]) -> None:
        self._outputs = outputs
        self._column = f"true_{truth[0]}"
        self.labels = head.classes
        self.confusion: Ints = np.zeros((len(self.labels),) * 2, dtype=np.int64)
        """Windows by true class (rows) and predicted class (columns)."""
        self.unknown = self.not_finite = 0
        self._loss = 0.0
        self._at_end: dict[str, tuple[int, list[float]]] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """Take predictions with their truth."""
        places = pc.index_in(batch[self._column], pa.array(self.labels))
        value = _values(batch)[:, self._outputs]
        has_class, finite = places.is_valid().to_numpy(zero_copy_only=False), np.isfinite(value).all(axis=1)
        known = has_class & finite
        true = places.fill_null(0).to_numpy()[known]
        value = value[known]
        predicted = most_probable(value)
        if value.shape[1] == 1:
            value = np.concatenate([1 - value, value], axis=1)
        np.add.at(self.confusion, (true, predicted), 1)
        self.unknown += int((~has_class).sum())
        self.not_finite += int((has_class & ~finite).sum())
        smallest = np.finfo(value.dtype).tiny
        self._loss -= float(np.log(np.maximum(value[np.arange(len(true)), true], smallest)).sum(dtype=np.float64))
        last = _last_rows(batch, known)
        rows = list(last.values())
        self._at_end |= dict(zip(last, zip(true[rows].tolist(), value[rows].tolist(), strict=True), strict=True))

    def summary(self) -> dict[str, Any]:
        """Return the measures as plain numbers."""
        right, windows = int(np.trace(self.confusion)), int(self.confusion.sum())
        hits = np.diag(self.confusion)
        with np.errstate(invalid="ignore"):
            f1 = 2 * hits / (self.confusion.sum(axis=0) + self.confusion.sum(axis=1))
        ends = dict.fromkeys(("accuracy", "auc", "average_precision", "f1", "log_loss", "calibration"))
        if self._at_end:
            true, probability = zip(*self._at_end.values(), strict=True)
            ends |= classification_measures(np.array(true), np.array(probability))
        return {
            "windows": windows,
            "unknown": self.unknown,
            "not_finite": self.not_finite,
            "accuracy": right / windows if windows else None,
            "majority": self.labels[int(self.confusion.sum(axis=1).argmax())] if windows else None,
            "majority_accuracy": float(self.confusion.sum(axis=1).max()) / windows if windows else None,
            **{f"{name}_at_end": value for name, value in ends.items()},
            "log_loss": self._loss / windows if windows else None,
            "f1": {label: None if math.isnan(v) else float(v) for label, v in zip(self.labels, f1, strict=True)},
            "labels": list(self.labels),
            "confusion": self.confusion.tolist(),
        }


class RegressionEvaluation:
    """Measure numbers: root mean square, mean absolute and mean error of each output, and error quantiles.

    The quantiles are exact to 1 %. At the streams' ends, meaning the last of their windows that have a target, the
    measures are those of `inference.quality.regression_measures`.

    Args:
        head: of the model.
        outputs: where its outputs stand in `value`.
        truth: the columns with the targets, one per output, in their order. A window without a target is not counted.
    """

    def __init__(self, head: Head, outputs: slice, truth: tuple[str, ...]) -> None:
        self._outputs = outputs
        self._columns = [f"true_{name}" for name in truth]
        self.names = head.labels or truth
        self._units = head.units or ("",) * head.outputs
        self._sums = np.zeros((4, head.outputs))
        self._buckets = np.zeros((head.outputs, _BUCKETS), np.int64)
        self._spread = [(0, 0.0, 0.0)] * head.outputs
        """Count and mean of each output's true values, and the sum of their squared distances from the mean."""
        self._at_end: list[dict[str, tuple[float, float]]] = [{} for _ in range(head.outputs)]

    def add(self, batch: pa.RecordBatch) -> None:
        """Take predictions with their truth."""
        value = _values(batch)[:, self._outputs]
        for i, column in enumerate(self._columns):
            true, predicted = batch[column].to_numpy(zero_copy_only=False), value[:, i].astype(np.float64)
            known = np.isfinite(predicted - true)
            true, predicted = true[known], predicted[known]
            last = _last_rows(batch, known)
            rows = list(last.values())
            self._at_end[i] |= dict(
                zip(last, zip(true[rows].tolist(), predicted[rows].tolist(), strict=True), strict=True)
            )
            self._spread[i] = _joined(self._spread[i], true)
            error = predicted - true
            size = np.abs(error)
            self._sums[:, i] += len(error), error.sum(), size.sum(), (error**2).sum()
            places = np.log(np.maximum(size, _SMALLEST) / _SMALLEST) / math.log(_RATIO)
            self._buckets[i] += np.bincount(np.minimum(places.astype(int), _BUCKETS - 1), minlength=_BUCKETS)

    def summary(self) -> dict[str, Any]:
        """Return the measures as plain numbers, by output."""
        result: dict[str, Any] = {}
        for i, name in enumerate(self.names):
            count, total, absolute, squares = self._sums[:, i].tolist()
            deviation = math.sqrt(self._spread[i][2] / count) if count else 0.0
            seen = self._buckets[i].cumsum()
            result[name] = {"windows": int(count), "unit": self._units[i]} | (
                {
                    "rmse": math.sqrt(squares / count),
                    "mae": absolute / count,
                    "bias": total / count,
                    **({"r2": 1 - squares / count / deviation**2} if deviation > 0 else {}),
                    "mean_rmse": deviation,
                    **{
                        f"q{100 * q:g}": float(_SMALLEST * _RATIO ** (np.searchsorted(seen, q * count) + 0.5))
                        for q in QUANTILES
                    },
                }
                if count
                else {}
            )
            if self._at_end[i]:
                true, predicted = (np.array(column) for column in zip(*self._at_end[i].values(), strict=True))
                result[name] |= {f"{m}_at_end": v for m, v in regression_measures(true, predicted).items()}
        return result


class Evaluation:
    """Measure a model: its one task, or each of its heads by name.

    Args:
        header: of the model.
        truth: for each head in turn one column for a classification, one per output for a regression.
    Raises:
        ConfigError: other columns than that.
    """

    def __init__(self, header: Header, truth: tuple[str, ...]) -> None:
        truth_schema(header, truth)
        self._heads: dict[str, ClassificationEvaluation | RegressionEvaluation] = {}
        column = output = 0
        for head in header.parts:
            kind = ClassificationEvaluation if head.task == "classification" else RegressionEvaluation
            width = 1 if head.task == "classification" else head.outputs
            outputs = slice(output, output + head.outputs)
            self._heads[head.name] = kind(head, outputs, truth[column : column + width])
            column, output = column + width, output + head.outputs

    def add(self, batch: pa.RecordBatch) -> None:
        """Take predictions with their truth."""
        for head in self._heads.values():
            head.add(batch)

    def summary(self) -> dict[str, Any]:
        """Return the measures as plain numbers, by head if the model has heads."""
        summaries = {name: head.summary() for name, head in self._heads.items()}
        return summaries.get("", summaries)


def truth_schema(header: Header, truth: tuple[str, ...]) -> pa.Schema:
    """Return the columns of truth as they are read: text for classes, float64 for numbers.

    Raises:
        ConfigError: not one column for each classification and for each output of a regression.
    """
    kinds = [
        kind
        for head in header.parts
        for kind in ([pa.string()] if head.task == "classification" else [pa.float64()] * head.outputs)
    ]
    if len(truth) != len(kinds):
        raise ConfigError(
            f"truth {list(truth)} has {len(truth)} columns, and the model needs {len(kinds)}: one with the class of "
            f"a classification, one per output of a regression"
        )
    return pa.schema([pa.field(name, kind) for name, kind in zip(truth, kinds, strict=True)])


def _joined(before: tuple[int, float, float], values: Reals) -> tuple[int, float, float]:
    """Count, mean and sum of squared distances of values joined with more of them (Chan, Golub & LeVeque 1979)."""
    count, mean, squares = before
    if not len(values):
        return before
    own = float(values.mean())
    total, distance = count + len(values), own - mean
    squares += float(((values - own) ** 2).sum()) + distance**2 * count * len(values) / total
    return total, mean + distance * len(values) / total, squares


def _last_rows(batch: pa.RecordBatch, known: Bools) -> dict[str, int]:
    """Return each stream's last row, counted among the `known` ones."""
    streams = batch["stream"].filter(pa.array(known)).to_pylist()
    return dict(zip(streams, range(len(streams)), strict=True))


def _values(batch: pa.RecordBatch) -> Reals:
    values: Reals = batch["value"].flatten().to_numpy().reshape(batch.num_rows, -1)
    return values
