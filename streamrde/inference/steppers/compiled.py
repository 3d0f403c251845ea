"""The log-ODE step in C++."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from streamrde import kernels
from streamrde.arrays import Floats, Indices, Reals
from streamrde.inference.activations import NUMBERS
from streamrde.inference.bundle import Bundle
from streamrde.inference.ends import Layers
from streamrde.inference.solvers import MOST_SUBSTEPS, TABLEAUX
from streamrde.inference.steppers.bundle import BundleStepper

T = TypeVar("T")


def with_threads(cls: type[T], bundle: Bundle, threads: int) -> T:
    """Make a stepper again from its arguments, since a compiled one cannot be pickled."""
    return cls(bundle, threads=threads)  # type: ignore[call-arg]


class CompiledStepper(BundleStepper):
    """Step a block of streams at a time in C++. Each stream's bits are the same as alone.

    Args:
        bundle: the model; no ensemble, and the kernels run its field (see `VectorField.plain_activations`).
        threads: how many to split large batches over.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        super().__init__(bundle)
        header, activations = bundle.header, bundle.header.field.plain_activations
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in bundle.tensors.items()}
        self._threads = threads
        self._carries = header.first_stage == "previous"

        def layer(name: str) -> tuple[Reals, Reals]:
            return tensors[f"{name}.weight"], tensors[f"{name}.bias"]

        # Other ends than one linear layer are run in NumPy. The compiled step is then given layers of zeros.
        self._linear = {name: header.part(name) == Layers() for name in ("initial", "readout")}
        for name, linear in self._linear.items():
            if not linear:
                inputs, outputs = header.sizes(name)
                tensors[f"{name}.weight"] = np.zeros((outputs, inputs), self.dtype)
                tensors[f"{name}.bias"] = np.zeros(outputs, self.dtype)
        tableau = TABLEAUX[header.solver]
        assert kernels.Stepper is not None  # noqa: S101 (see `steppers.single`)
        assert activations is not None  # noqa: S101
        self._native = kernels.Stepper(
            self.dtype == np.float64,
            (*layer("initial"), NUMBERS["identity"]),
            (*layer("readout"), NUMBERS["identity"]),
            [(*layer(f"field.{i}"), NUMBERS[name]) for i, name in enumerate(activations)],
            layer(f"field.{len(activations)}"),
            np.ascontiguousarray(self._scaling.scale),
            tensors["decay"] if header.decay else None,
            (tableau.order, tableau.parts, tableau.nodes, tableau.stages, tableau.weights),
            0 if header.substeps == "auto" else header.substeps,
            header.tolerance,
            MOST_SUBSTEPS,
            None if self._scaling.shift is None else np.ascontiguousarray(self._scaling.shift),
            self._scaling.clip,
            self._scaling.summaries,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return with_threads, (type(self), self._bundle, self._threads)

    def initial(self, x0: Floats) -> Reals:
        """See Stepper."""
        if not self._linear["initial"]:
            return super().initial(x0)
        return np.asarray(self._native.initial(self.scaled_x0(x0)))

    def step(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> Reals:
        """See Stepper."""
        before = np.ascontiguousarray(previous) if self._carries and previous is not None else None
        own = np.ascontiguousarray(logsigs)
        return self._native.step(np.ascontiguousarray(z), own, before, False, self._threads)

    def step_with_error(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> tuple[Reals, Floats]:
        """See Stepper."""
        before = np.ascontiguousarray(previous) if self._carries and previous is not None else None
        own = np.ascontiguousarray(logsigs)
        return self._native.step(np.ascontiguousarray(z), own, before, True, self._threads)

    def step_in_rounds(
        self,
        z: Reals,
        logsigs: Floats,
        previous: Floats | None,
        rounds: Sequence[Indices],
        before: Indices,
    ) -> Reals:
        """See `streamrde.inference.steppers.step_in_rounds`."""
        order = np.concatenate(rounds)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        own, before = logsigs[order], place[before[order]]
        own_previous = previous[order] if self._carries and previous is not None else None
        after = np.empty((len(order), self.header.hidden), dtype=self.dtype)
        step, begin = self._native.step, 0
        for end in np.cumsum([len(places) for places in rounds]).tolist():
            after[begin:end] = z = step(
                np.ascontiguousarray(z) if not begin else after[before[begin:end]],
                own[begin:end],
                None if own_previous is None else own_previous[begin:end],
                False,
                self._threads,
            )
            begin = end
        return after[place]

    def output(self, z: Reals) -> Reals:
        """See Stepper."""
        if self._one_classifier and self._linear["readout"]:
            return np.asarray(self._native.output(np.ascontiguousarray(z), True))
        return self.predicted(self.readout(z))

    def readout(self, z: Reals) -> Reals:
        """See BundleStepper."""
        if not self._linear["readout"]:
            return super().readout(z)
        return np.asarray(self._native.output(np.ascontiguousarray(z), False))
