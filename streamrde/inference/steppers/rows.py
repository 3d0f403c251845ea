"""The step of a family that moves its states where they are, in the rows of a table."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamrde.arrays import Bools, Floats, Indices, Reals
from streamrde.inference.bundle import Bundle
from streamrde.inference.steppers.bundle import BundleStepper
from streamrde.inference.vector_field import RowField


class RowStepper(BundleStepper):
    """Move and read out states in place. States are float64.

    Args:
        bundle: a model whose family has `VectorField.in_rows`.
    """

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.dtype = np.dtype(np.float64)
        field = bundle.header.field.build("field", bundle.header, bundle.tensors)
        assert isinstance(field, RowField)  # noqa: S101 (as `in_rows` says)
        self._field = field

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._bundle,)

    def initial(self, x0: Floats) -> Reals:
        """See Stepper."""
        return np.zeros((len(x0), self.header.hidden))

    def advance(self, rows: Floats, slots: Indices, tokens: Floats, *, read: bool) -> tuple[Bools, Reals | None]:
        """Move states as `RowField.advance` does, and return predictions in the place of readouts."""
        unusual, value = self._field.advance(rows, slots, tokens, read=read)
        return unusual, None if value is None else self.predicted(value)

    def read(self, rows: Floats, slots: Indices) -> Reals:
        """Return the predictions of streams in their present states, (n, outputs)."""
        return self.predicted(self._field.read(rows, slots))

    def features(self, states: Floats) -> Floats:
        """Return what the readout takes in states (n, hidden), (n, P)."""
        return self._field.features(states)

    def step(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> Reals:
        """See Stepper."""
        moved = np.array(z, np.float64)
        self._field.advance(moved, np.arange(len(z)), logsigs, read=False)
        return moved

    def step_with_error(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> tuple[Reals, Floats]:
        """See Stepper. The step is exact."""
        return self.step(z, logsigs, previous), np.zeros(len(z))

    def output(self, z: Reals) -> Reals:
        """See Stepper."""
        return self.read(np.asarray(z, np.float64), np.arange(len(z)))
