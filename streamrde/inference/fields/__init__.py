"""Families of vector fields, one module each: what a model file says of one, and what it does on arrays.

A family is a frozen struct with a tag of its own, and this interface; its twin for training is the module of the same
name in streamrde.models.fields.

    check(hidden, channels, depth)      raises ParameterError where it cannot be built with these sizes
    shapes(hidden, channels, depth)     name and shape of its tensors in the model file
    summary(hidden)                     a phrase for people
    build(tensors, hidden, ...)         what moves a state: `Driven` by a solver, or with an exact `Flow`
"""

from __future__ import annotations

from typing import TypeAlias

from streamrde.inference.fields.external import External
from streamrde.inference.fields.linear import Linear
from streamrde.inference.fields.log_ncde import LogNCDE
from streamrde.inference.fields.mlp import MLP

Field: TypeAlias = MLP | LogNCDE | Linear | External

__all__ = ["MLP", "External", "Field", "Linear", "LogNCDE"]
