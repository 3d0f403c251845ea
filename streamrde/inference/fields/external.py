"""A part of a model that is not in the model file: a torch module, or an ONNX graph, that the stepper brings along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from streamrde.errors import ParameterError
from streamrde.inference.model_part import Shapes, Tensors
from streamrde.inference.vector_field import VectorField

if TYPE_CHECKING:
    from streamrde.inference.header import Header


class External(VectorField, frozen=True, kw_only=True, tag="external"):
    """Any function in the place of a field, z (n, hidden) -> F(z) (n, hidden, B), or of an initial layer or a readout.

    A model with it is served by handing Predictor or Fleet a stepper: TorchStepper or OnnxStepper.
    """

    stored: ClassVar[bool] = False
    name: str = ""
    """Its class."""
    digest: str = ""
    """SHA-256 of its class and weights, so that snapshots of another one are refused."""

    def shapes(self, name: str, header: Header) -> Shapes:
        """Return no tensors."""
        return {}

    def summary(self, header: Header) -> str:
        """Name the module's class."""
        return f"{self.name or 'a module'}, not in this file"

    def build(self, name: str, header: Header, tensors: Tensors) -> Any:
        """Raise ParameterError: there is nothing to build from."""
        raise ParameterError(
            f"the {name} of this model ({self.name or 'a module'}) is not in its file: hand over a stepper, as in "
            "Predictor(bundle, stepper=TorchStepper(model)) or stepper=OnnxStepper(bundle, path)"
        )
