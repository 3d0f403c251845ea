"""Serving a model by torch: any module as a field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamrde.arrays import Floats, Reals
from streamrde.floats import as_size
from streamrde.inference.steppers.bundle import BundleStepper
from streamrde.models.neural_rde import NeuralRDE
from streamrde.models.saving import to_bundle


class TorchStepper(BundleStepper):
    """Step states with a model's own torch code, in inference mode, in micro-batches.

    For models with a module of your own as field, initial layer or readout:
    ``Predictor(bundle, stepper=TorchStepper(model))`` with the bundle of `to_bundle(model)`. A stream's result may
    depend on its batch mates in the last place, as torch's products do.

    Args:
        model: the model; it is put into evaluation mode.
        batch: streams that are stepped at once, at most.
        compile: run the step through torch.compile; batches are then filled up to `batch`, so that it compiles once.
    Raises:
        ParameterError: `batch` is no whole number of at least 1.
    """

    def __init__(self, model: NeuralRDE, *, batch: int = 256, compile: bool = False) -> None:
        batch = as_size("batch", batch)
        self.bundle = to_bundle(model.eval())
        super().__init__(self.bundle)
        self._batch, self._fills = batch, compile
        self._model, self._device = model, model.device
        self._step: Callable[..., Tensor] = torch.compile(model.step) if compile else model.step
        self._with_error = model.step_with_error
        self._carries = model.header.first_stage == "previous"

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (type(self), self._model, self._batch, self._fills)

    def initial(self, x0: Floats) -> Reals:
        """See streamrde.inference.steppers.Stepper."""
        if not self.header.initial.stored:
            return self._rows(self._model.initial, self.scaled_x0(x0), self.header.hidden)
        return super().initial(x0)

    def readout(self, z: Reals) -> Reals:
        """See streamrde.inference.steppers.bundle.BundleStepper."""
        if not self.header.readout.stored:
            return self._rows(self._model.readout, z, self.header.outputs)
        return super().readout(z)

    def _rows(self, module: Callable[[Tensor], Tensor], rows: Reals, size: int) -> Reals:
        """Return a module's results for rows, in micro-batches, (n, size)."""
        with torch.inference_mode():
            parts = [
                module(torch.from_numpy(np.ascontiguousarray(rows[i : i + self._batch])).to(self._device)).cpu().numpy()
                for i in range(0, len(rows), self._batch)
            ]
        return np.concatenate(parts) if parts else np.empty((0, size), self.dtype)

    def step(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> Reals:
        """See streamrde.inference.steppers.Stepper."""
        parts = [self._step(*part)[:count].cpu().numpy() for count, part in self._parts(z, logsigs, previous)]
        return np.concatenate(parts) if parts else z.copy()

    def step_with_error(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> tuple[Reals, Floats]:
        """See streamrde.inference.steppers.Stepper."""
        moved, errors = [], []
        for count, part in self._parts(z, logsigs, previous):
            state, error = self._with_error(*part)
            moved.append(state[:count].cpu().numpy())
            errors.append(error[:count].double().cpu().numpy())
        return (np.concatenate(moved), np.concatenate(errors)) if moved else (z.copy(), np.zeros(0))

    def _parts(self, z: Reals, logsigs: Floats, previous: Floats | None) -> Any:
        """Yield micro-batches: the number of their real rows, and the arguments of a step."""
        own, seconds = self.scaled(logsigs), logsigs[:, :1].astype(self.dtype)
        before = self.scaled(previous) if previous is not None and self._carries else None
        with torch.inference_mode():
            for begin in range(0, len(z), self._batch):
                rows = np.arange(begin, min(begin + self._batch, len(z)))
                count = len(rows)
                if self._fills:
                    rows = np.append(rows, np.full(self._batch - count, rows[-1]))
                arrays = (z, own, before, seconds)
                yield count, [a if a is None else torch.from_numpy(a[rows]).to(self._device) for a in arrays]


def _made_again(cls: type[TorchStepper], model: NeuralRDE, batch: int, compile: bool) -> TorchStepper:
    """Make a stepper from what it was made of, which pickles where a compiled step does not."""
    return cls(model, batch=batch, compile=compile)
