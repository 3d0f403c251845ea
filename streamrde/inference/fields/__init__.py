"""Vector fields: one module for each kind, found by the name of its module, which is its tag in model files.

A module holds the description of a kind of field, a `VectorField`, and its evaluation on arrays, an `ArrayField`. See
streamrde.inference.vector_field for both contracts. The twin for training is the module of the same name in
streamrde.models.fields.
"""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, TypeAlias

from streamrde.inference.fields.external import External
from streamrde.inference.fields.linear import Linear
from streamrde.inference.fields.log_ncde import LogNCDE
from streamrde.inference.fields.mlp import MLP
from streamrde.inference.fields.reservoir import Reservoir
from streamrde.inference.fields.stack import Stack
from streamrde.inference.kinds import kinds_in
from streamrde.inference.vector_field import VectorField

__all__ = ["KINDS", "MLP", "External", "Field", "Linear", "LogNCDE", "Reservoir", "Stack", "StoredField"]

KINDS: dict[str, type[VectorField]] = kinds_in(__name__, __path__, VectorField, default="mlp")
"""Descriptions by tag. The default comes first wherever kinds are listed."""

if TYPE_CHECKING:
    Field: TypeAlias = VectorField
    StoredField: TypeAlias = VectorField
else:
    Field = functools.reduce(operator.or_, KINDS.values())
    """Any field that a header may have."""
    StoredField = functools.reduce(operator.or_, (kind for kind in KINDS.values() if kind.stored and kind.trained))
    """Any field that training fits and whose weights are in the model file."""
