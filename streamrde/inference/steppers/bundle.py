"""The contract of steppers, and what all steppers of a bundle have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from streamrde.arrays import Floats, Reals
from streamrde.inference.bundle import Bundle
from streamrde.inference.header import Header
from streamrde.inference.token_scaling import TokenScaling


class Stepper(Protocol):
    """A model's step on arrays with a row per stream. Each row's result is independent of the others."""

    dtype: np.dtype[Any]

    @abstractmethod
    def initial(self, x0: Floats) -> Reals:
        """Return the hidden states (n, hidden) of streams whose paths begin at x0, (n, C)."""

    @abstractmethod
    def step(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> Reals:
        """Advance z (n, hidden) over a window with tokens (n, B), such as its log-signatures, unscaled.

        Args:
            previous: tokens of the windows before, (n, B), which drive the first stage of a model with
                ``first_stage="previous"``. A stream's first window has its own. None: all are first windows.
        """

    @abstractmethod
    def step_with_error(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> tuple[Reals, Floats]:
        """Return what `step` does, bit for bit, and an estimate of its error, (n,): see `step_error`."""

    @abstractmethod
    def output(self, z: Reals) -> Reals:
        """Return the predictions in states z (n, hidden): probabilities of the classes, or targets, (n, outputs)."""


class BundleStepper(Stepper):
    """Scale inputs, make first states and read states out, as a bundle says.

    Subclasses step states. Those that bring a part of the model along, or run one compiled, make its rows.
    """

    def __init__(self, bundle: Bundle) -> None:
        header, tensors = bundle.header, bundle.tensors
        self._bundle = bundle
        self.header: Header = header
        self.dtype = np.dtype(header.dtype)
        self._heads = header.parts
        first = self._heads[0]
        self._read = header.field.read_part(header)
        self._one_classifier = len(self._heads) == 1 and first.task == "classification" and not first.is_binary
        self._built: dict[str, Callable[[Reals], Reals]] = {}
        self._x0 = tensors["x0.shift"], tensors["x0.scale"]
        self._scaling = TokenScaling(bundle)
        self._output = (
            tensors["output.shift"].astype(header.output_dtype),
            tensors["output.scale"].astype(header.output_dtype),
        )

    def scaled(self, logsigs: Floats) -> Reals:
        """Return tokens, such as log-signatures, as they enter the field, (n, B)."""
        return np.ascontiguousarray(self._scaling(logsigs).astype(self.dtype))

    def scaled_x0(self, x0: Floats) -> Reals:
        """Return first samples as they enter the initial layer, (n, C)."""
        shift, scale = self._x0
        return np.ascontiguousarray(((x0 - shift) * scale).astype(self.dtype))

    def initial(self, x0: Floats) -> Reals:
        """See Stepper."""
        return self._rows_of("initial", self.scaled_x0(x0))

    def output(self, z: Reals) -> Reals:
        """See Stepper."""
        return self.predicted(self.readout(z))

    def readout(self, z: Reals) -> Reals:
        """Read states out before softmax and scaling, (n, hidden) -> (n, outputs)."""
        if self._read != slice(0, self.header.member_hidden):
            members = self.header.members, self.header.member_hidden
            z = z.reshape(len(z), *members)[:, :, self._read].reshape(len(z), self.header.sizes("readout")[0])
        return self._rows_of("readout", z)

    def predicted(self, value: Reals) -> Reals:
        """Return readouts (n, outputs) as probabilities, or in the targets' units."""
        shift, scale = self._output
        value = value.astype(shift.dtype, copy=False)
        parts: list[Reals] = []
        begin = 0
        if self._one_classifier:
            return _probabilities(value)
        for head in self._heads:
            own = slice(begin, begin := begin + head.outputs)
            part = value[:, own]
            if head.is_binary:
                with np.errstate(over="ignore"):
                    parts.append(1 / (1 + np.exp(-part)))
            elif head.task == "classification":
                parts.append(_probabilities(part))
            else:
                parts.append(part * scale[own] + shift[own])
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def _rows_of(self, name: str, rows: Reals) -> Reals:
        if name not in self._built:
            self._built[name] = self.header.part(name).build(name, self.header, self._bundle.tensors)
        end = self._built[name]
        return self.rows(len(rows), self.header.sizes(name)[1], [end(row) for row in rows])

    def rows(self, count: int, size: int, rows: list[Reals]) -> Reals:
        """Join rows to one array, (count, size)."""
        return np.array(rows, dtype=self.dtype).reshape(count, size)


def _probabilities(logits: Reals) -> Reals:
    """Return the softmax of each row, (n, classes)."""
    # The ufuncs themselves: for a row, the methods `max` and `sum` cost as much again, and an axis half of that.
    if len(logits) == 1:
        row = logits[0]
        exponentials = np.exp(row - np.maximum.reduce(row))
        return np.asarray((exponentials / np.add.reduce(exponentials))[None])
    exponentials = np.exp(logits - np.maximum.reduce(logits, axis=1, keepdims=True))
    return np.asarray(exponentials / np.add.reduce(exponentials, axis=1, keepdims=True))
