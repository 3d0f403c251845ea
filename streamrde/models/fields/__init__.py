"""Vector fields in torch: the twin of streamrde.inference.fields.X is the `TorchField` of the module X here."""

from __future__ import annotations

from importlib import import_module

from torch import nn

from streamrde.inference.header import Header
from streamrde.inference.kinds import defined_in
from streamrde.models.fields.external import ModuleField
from streamrde.models.torch_field import TorchField


def make_field(header: Header, module: nn.Module | None = None) -> TorchField:
    """Make the field of a header, or of one member, with random weights, or from the given module."""
    if module is not None:
        return ModuleField(module, header)
    twin = defined_in(import_module(f"{__name__}.{header.field.tag}"), TorchField)
    return twin(header.field, header)
