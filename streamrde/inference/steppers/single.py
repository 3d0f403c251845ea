"""Choose the stepper of a model that is no ensemble."""

from __future__ import annotations

from streamrde import kernels
from streamrde.inference.bundle import Bundle
from streamrde.inference.model_part import PARTS
from streamrde.inference.steppers.arrays import ArrayStepper
from streamrde.inference.steppers.bundle import BundleStepper
from streamrde.inference.steppers.compiled import CompiledStepper
from streamrde.inference.steppers.stack import CompiledStack, runs_compiled


def single_stepper(bundle: Bundle, *, threads: int) -> BundleStepper:
    """Return the stepper of a model that is no ensemble: compiled if the kernels run its field.

    Raises:
        ParameterError: a part of the model is not in its file.
    """
    for name in PARTS:
        if not (part := bundle.header.part(name)).stored:
            part.build(name, bundle.header, bundle.tensors)
    if runs_compiled(bundle.header):
        return CompiledStack(bundle, threads=threads)
    if kernels.Stepper is None or bundle.header.field.plain_activations is None:
        return ArrayStepper(bundle)
    return CompiledStepper(bundle, threads=threads)
