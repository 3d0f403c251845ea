"""A field that is not in the model file: a torch module, or an ONNX graph, that the stepper brings along."""

from __future__ import annotations

import msgspec

from streamrde.errors import ParameterError
from streamrde.inference.fields.motion import Driven, Shapes, Tensors


class External(
    msgspec.Struct, frozen=True, kw_only=True, tag="external", tag_field="field", forbid_unknown_fields=True
):
    """Any function z (n, hidden) -> F(z) (n, hidden, B), known here by the digest of its weights only.

    A model with it is served by handing Predictor or Fleet a stepper: TorchStepper or OnnxStepper.
    """

    name: str = ""
    digest: str = ""
    """SHA-256 of its class and weights, so that snapshots of another one are refused."""

    def check(self, hidden: int, channels: int, depth: int) -> None:
        """Every size works."""

    def shapes(self, hidden: int, channels: int, depth: int) -> Shapes:
        """No tensors."""
        return {}

    def summary(self, hidden: int) -> str:
        """A phrase for people."""
        return f"{self.name or 'a module'}, not in this file"

    def build(self, tensors: Tensors, hidden: int, channels: int, depth: int) -> Driven:
        """Raise ParameterError: there is nothing to build from."""
        raise self.elsewhere("field")

    def elsewhere(self, part: str) -> ParameterError:
        """Return the error that a part of a model is needed and not in its file."""
        return ParameterError(
            f"the {part} of this model ({self.name or 'a module'}) is not in its file: hand over a stepper, as in "
            "Predictor(bundle, stepper=TorchStepper(model)) or stepper=OnnxStepper(bundle, path)"
        )
