"""Vector fields in torch, one module per family: the twins of those in streamrde.inference.fields.

A field has ``drift(logsig, mask=, precontract=)``, which gives z -> F(z) l for a solver, or
``flow(z, logsig, fading)``, which steps exactly.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import nn

from streamrde.errors import ParameterError
from streamrde.inference.fields import MLP, Linear, LogNCDE
from streamrde.inference.header import Header
from streamrde.models.fields.external import ModuleField
from streamrde.models.fields.linear import LinearField
from streamrde.models.fields.log_ncde import LogNCDEField
from streamrde.models.fields.mlp import MLPField

AnyField: TypeAlias = MLPField | LogNCDEField | LinearField | ModuleField

__all__ = ["AnyField", "LinearField", "LogNCDEField", "MLPField", "ModuleField", "make_field"]


def make_field(header: Header, *, dtype: torch.dtype, module: nn.Module | None = None) -> AnyField:
    """The field that a header asks for, or that of one member, with random weights, or the given module.

    Raises:
        ParameterError: the header's field is external, and no module is given.
    """
    spec, hidden, features = header.field, header.member_hidden, header.logsig_channels
    if module is not None:
        return ModuleField(module, hidden=hidden, features=features)
    if isinstance(spec, MLP):
        return MLPField(spec, hidden=hidden, features=features, dtype=dtype)
    if isinstance(spec, LogNCDE):
        return LogNCDEField(spec, hidden=hidden, channels=header.path_channels, depth=header.depth, dtype=dtype)
    if isinstance(spec, Linear):
        return LinearField(spec, hidden=hidden, features=features, dtype=dtype)
    raise ParameterError(f"the field of this model ({spec.summary(header)}): give field=, the torch module")
