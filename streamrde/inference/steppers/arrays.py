"""The log-ODE step in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamrde.arrays import Floats, Reals
from streamrde.inference.bundle import Bundle
from streamrde.inference.steppers.bundle import BundleStepper
from streamrde.inference.vector_field import ArrayField, Window


class ArrayStepper(BundleStepper):
    """Step in NumPy: the specification of the compiled step, which also serves every other kind of field.

    One stream at a time, because a matrix product's rounding depends on its shape, and a stream's result must not
    depend on how many others are stepped with it.

    Args:
        bundle: the model; no ensemble.
    """

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        header = bundle.header
        field = header.field.build("field", header, bundle.tensors)
        assert isinstance(field, ArrayField)  # noqa: S101 (other families have a stepper of their own)
        self._field = field
        self._decay = bundle.tensors["decay"] if header.decay else None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._bundle,)

    def step(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> Reals:
        """See Stepper."""
        return self._steps(z, logsigs, previous, estimate=False)[0]

    def step_with_error(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> tuple[Reals, Floats]:
        """See Stepper."""
        return self._steps(z, logsigs, previous, estimate=True)

    def _steps(self, z: Reals, logsigs: Floats, previous: Floats | None, *, estimate: bool) -> tuple[Reals, Floats]:
        own = self.scaled(logsigs)
        before = self.scaled(previous) if previous is not None and self.header.first_stage == "previous" else None
        moved, errors = [], np.zeros(len(z))
        for i, state in enumerate(z):
            previous = None if before is None else before[i]
            window = Window(own[i], previous, float(logsigs[i, 0]), self._decay, estimate)
            state, errors[i] = self._field.advance(state, window)
            moved.append(state)
        return self.rows(len(z), self.header.hidden, moved), errors
