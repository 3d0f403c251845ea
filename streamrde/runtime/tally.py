"""Count labels by what became of them, and judge what was predicted for them."""

from __future__ import annotations

import copy
from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow as pa

from streamrde.adapting.baselines import METHODS
from streamrde.adapting.pending import OUTCOMES
from streamrde.arrays import Bools, Floats
from streamrde.inference.header import Header

_JUDGED = ("served", *METHODS)


class LabelTally:
    """Sum up the labels that a run has learned, since it began.

    Errors are progressive: each label was predicted before it was learned. There is one for each output that is a
    number, the root mean squared error, and one for each head of classes, the share of wrong answers.

    Args:
        header: the model's.
    """

    def __init__(self, header: Header) -> None:
        self._units = header.thresholds
        self._binary = [unit.classes == 2 and unit.outputs.stop - unit.outputs.start == 1 for unit in self._units]
        self.names = unit_names(header)
        """Names of the outputs that are numbers, and of the heads of classes."""
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        """Labels by outcome."""
        self.never = 0
        """Predictions that no longer wait and never had a label. Streams keep this count with their states."""
        self.drifts: list[int] = []
        """Alarms that errors are larger than on held-out streams, by output or head. [] without intervals. Streams keep
        these counts with their states."""
        self.waiting = 0
        """Labels that wait for their predictions now."""
        self._errors = np.zeros((len(_JUDGED), len(self.names)))
        self._labels = np.zeros(len(self.names))
        self._inside = np.zeros(len(self.names))
        self._issued = np.zeros(len(self.names))

    def add(self, batch: pa.RecordBatch) -> None:
        """Count labelled predictions. See `inference.labels.label_schema`."""
        outcomes = batch["outcome"].to_pylist()
        for outcome in outcomes:
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        joined = batch.filter(pa.array([outcome == "joined" for outcome in outcomes]))
        if not joined.num_rows:
            return
        label, predicted = _rows(joined, "label"), [_rows(joined, name) for name in _JUDGED]
        for i, unit in enumerate(self._units):
            known = ~np.isnan(label[:, unit.outputs]).any(axis=1)
            truth = label[known, unit.outputs]
            self._labels[i] += len(truth)
            for method, values in enumerate(predicted):
                own = values[known, unit.outputs]
                if unit.classes:
                    self._errors[method, i] += _wrong(own, truth, binary=self._binary[i]).sum()
                else:
                    self._errors[method, i] += np.square(own - truth).sum()
        if "covered" in joined.schema.names:
            covered = _rows(joined, "covered")
            self._issued += (~np.isnan(covered)).sum(axis=0)
            self._inside += np.nansum(covered, axis=0)

    def joined(self, other: LabelTally) -> LabelTally:
        """Return the counts of both, of runs of the same outputs."""
        found = copy.copy(self)
        found.outcomes = {
            outcome: self.outcomes.get(outcome, 0) + other.outcomes.get(outcome, 0)
            for outcome in {**self.outcomes, **other.outcomes}
        }
        found.drifts = [sum(pair) for pair in zip_longest(self.drifts, other.drifts, fillvalue=0)]
        for name in ("never", "waiting", "_errors", "_labels", "_inside", "_issued"):
            setattr(found, name, getattr(self, name) + getattr(other, name))
        return found

    @property
    def errors(self) -> dict[str, dict[str, float | None]]:
        """Progressive errors, of what was served and of each method, by output or head. None without a label."""
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = self._errors / self._labels
        numbers = np.array([not unit.classes for unit in self._units])
        found = np.where(numbers, np.sqrt(mean), mean)
        return {name: self._named(row) for name, row in zip(_JUDGED, found, strict=True)}

    @property
    def coverage(self) -> dict[str, float | None]:
        """Shares of labels within their intervals or sets, by output or head. Empty without intervals."""
        if not self._issued.any():
            return {}
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._named(self._inside / self._issued)

    @property
    def alarms(self) -> dict[str, int]:
        """Alarms of drift by output or head."""
        return dict(zip(self.names, self.drifts, strict=False))

    def status(self) -> dict[str, Any]:
        """Return all counts and errors as plain values."""
        return {
            **self.outcomes,
            "never": self.never,
            "waiting": self.waiting,
            "errors": self.errors,
            "coverage": self.coverage,
            "drifts": self.alarms,
        }

    def summary(self) -> dict[str, float | int]:
        """Return the counts and errors under names of their own."""
        found: dict[str, float | int] = {f"labels_{name}": count for name, count in self.outcomes.items()}
        found["labels_never"] = self.never
        for method, errors in self.errors.items():
            found |= {f"error_{method}_{name}": error for name, error in errors.items() if error is not None}
        found |= {f"coverage_{name}": share for name, share in self.coverage.items() if share is not None}
        return found | {"label_drifts": sum(self.drifts)}

    def _named(self, values: Floats) -> dict[str, float | None]:
        plain = [float(value) if np.isfinite(value) else None for value in values]
        return dict(zip(self.names, plain, strict=True))


def unit_names(header: Header) -> tuple[str, ...]:
    """Return the names of outputs that are numbers, and of heads of classes. What has none is numbered."""
    names: list[str] = []
    for head in header.parts:
        if head.classes:
            names.append(head.name or "class")
        else:
            own = head.output_names or tuple(map(str, range(head.outputs)))
            names += [f"{head.name}.{one}" if head.name else one for one in own]
    return tuple(names)


def _rows(batch: pa.RecordBatch, name: str) -> Floats:
    """Return a column of lists without nulls as (rows, entries), NaN for entries that are null."""
    column = batch[name]
    flat = column.flatten().cast(pa.float64()).to_numpy(zero_copy_only=False)
    return np.asarray(flat.reshape(batch.num_rows, -1), dtype=np.float64)


def _wrong(values: Floats, truth: Floats, *, binary: bool) -> Bools:
    if binary:
        return np.asarray((values[:, 0] > 0.5) != (truth[:, 0] > 0.5))
    return np.asarray(values.argmax(axis=1) != truth.argmax(axis=1))
