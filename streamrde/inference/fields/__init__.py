"""Vector fields: one module for each kind, found by the name of its module, which is its tag in model files.

A module holds the description of a kind of field, a `VectorField`, and its evaluation on arrays, an `ArrayField`. See
streamrde.inference.vector_field for both contracts. The twin for training is the module of the same name in
streamrde.models.fields.
"""

from __future__ import annotations

import functools
import operator
import pkgutil
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from streamrde.inference.fields.external import External
from streamrde.inference.fields.linear import Linear
from streamrde.inference.fields.log_ncde import LogNCDE
from streamrde.inference.fields.mlp import MLP
from streamrde.inference.fields.reservoir import Reservoir
from streamrde.inference.vector_field import VectorField

__all__ = ["KINDS", "MLP", "External", "Field", "Linear", "LogNCDE", "Reservoir", "StoredField", "defined_in"]

T = TypeVar("T")


def defined_in(module: ModuleType, contract: type[T]) -> type[T]:
    """Return the one class of a module that fulfils a contract and is defined there."""
    (found,) = (
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, contract) and kind.__module__ == module.__name__
    )
    return found


_NAMES = sorted((module.name for module in pkgutil.iter_modules(__path__)), key=lambda name: (name != "mlp", name))
KINDS: dict[str, type[VectorField]] = {
    name: defined_in(import_module(f"{__name__}.{name}"), VectorField) for name in _NAMES
}
"""Descriptions by tag. The default comes first wherever kinds are listed."""

if TYPE_CHECKING:
    Field: TypeAlias = VectorField
    StoredField: TypeAlias = VectorField
else:
    Field = functools.reduce(operator.or_, KINDS.values())
    """Any field that a header may have."""
    StoredField = functools.reduce(operator.or_, (kind for kind in KINDS.values() if kind.stored and kind.trained))
    """Any field that training fits and whose weights are in the model file."""
