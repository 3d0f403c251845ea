"""The step of a stack in C++."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamrde import kernels
from streamrde.arrays import Floats, Reals
from streamrde.inference.activations import NUMBERS
from streamrde.inference.bundle import Bundle
from streamrde.inference.ends import Layers
from streamrde.inference.fields.stack import MEMORY, Stack
from streamrde.inference.header import Header
from streamrde.inference.steppers.bundle import BundleStepper
from streamrde.inference.steppers.compiled import with_threads
from streamrde.kernels.layout import check_numbers

_RECURRENCES = "rg_lru", "min_gru", "lru", "gru", "lstm", "s4d", "slice", "rde"
_PERCEPTRONS = "swiglu", "glu", "gelu"
CELLS = {name: number for number, name in enumerate((*_RECURRENCES, *_PERCEPTRONS))}
"""Numbers of the recurrences and perceptrons in the compiled kernels."""
check_numbers("Cell", CELLS)


def runs_compiled(header: Header) -> bool:
    """Return True if the kernels run the model's field."""
    field = header.field
    return kernels.Stack is not None and isinstance(field, Stack) and field.recurrence.tag in CELLS


class CompiledStack(BundleStepper):
    """Step stacks in C++, a block of streams at a time. Each stream's bits are the same as alone.

    Args:
        bundle: the model, a stack of a recurrence that the kernels have; no ensemble.
        threads: how many to split large batches over.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        super().__init__(bundle)
        header, field = bundle.header, bundle.header.field
        assert isinstance(field, Stack)  # noqa: S101 (see `runs_compiled`)
        assert kernels.Stack is not None  # noqa: S101
        self._threads, self._linear = threads, header.readout == Layers()
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in bundle.tensors.items()}

        def layer(weight: Reals, bias: Reals) -> tuple[Reals, Reals, int]:
            return np.ascontiguousarray(weight), np.ascontiguousarray(bias), NUMBERS["identity"]

        def named(name: str) -> tuple[Reals, Reals, int]:
            return layer(tensors[f"{name}.weight"], tensors[f"{name}.bias"])

        blocks, part, option = [], 0, 1
        for block in range(field.blocks):
            name = f"field.blocks.{block}"
            own = {key: tensors[f"{name}.recurrence.{key}"] for key in field.recurrence.shapes(field.width)}
            packed = field.recurrence.packed(field.width, own)
            assert packed is not None  # noqa: S101
            part, option = packed.part, packed.option
            parts = 2 if field.gated else 1
            up = zip(*(np.split(tensors[f"{name}.up.{key}"], parts) for key in ("weight", "bias")), strict=True)
            inner, *gate = (layer(*own_layer) for own_layer in up)
            blocks.append(
                (
                    tensors[f"{name}.before.weight"],
                    tensors[f"{name}.between.weight"],
                    tuple(layer(*pair) for pair in packed.layers),
                    tuple(np.ascontiguousarray(own_vector) for own_vector in packed.vectors),
                    inner,
                    gate[0] if gate else None,
                    named(f"{name}.down"),
                )
            )
        inputs, outputs = header.sizes("readout")
        # A perceptron is run in NumPy. The compiled step is then given a layer of zeros.
        zeros = layer(np.zeros((outputs, inputs), self.dtype), np.zeros(outputs, self.dtype))
        scaling = self._scaling
        self._native = kernels.Stack(
            self.dtype == np.float64,
            CELLS[field.recurrence.tag],
            (part, option, CELLS[field.perceptron]),
            field.pool != "last",
            field.pool != "mean",
            float(MEMORY),
            field.unit(header),
            (
                np.ascontiguousarray(scaling.scale),
                None if scaling.shift is None else np.ascontiguousarray(scaling.shift),
                scaling.clip,
                scaling.summaries,
                header.logsig_channels**0.5,
            ),
            (named("field.input"), named("readout") if self._linear else zeros),
            tensors.get("field.last.weight"),
            blocks,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return with_threads, (type(self), self._bundle, self._threads)

    def step(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> Reals:
        """See Stepper."""
        return self._native.step(np.ascontiguousarray(z), np.ascontiguousarray(logsigs), self._threads)

    def step_with_error(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> tuple[Reals, Floats]:
        """See Stepper. The step is exact."""
        return self.step(z, logsigs), np.zeros(len(z))

    def output(self, z: Reals) -> Reals:
        """See Stepper."""
        if self._one_classifier and self._linear:
            return self._native.output(np.ascontiguousarray(z[:, self._read]), True)
        return self.predicted(self.readout(z))

    def readout(self, z: Reals) -> Reals:
        """See BundleStepper."""
        if not self._linear:
            return super().readout(z)
        return self._native.output(np.ascontiguousarray(z[:, self._read]), False)
