"""Recurrences of stacks: one module for each kind, found by the name of its module, which is its tag.

See streamrde.inference.recurrence for the contract, and streamrde.inference.fields.stack for what a stack is.
"""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, TypeAlias

from streamrde.inference.kinds import kinds_in
from streamrde.inference.recurrence import Recurrence
from streamrde.inference.stacks.rg_lru import RGLRU

__all__ = ["RECURRENCES", "RGLRU", "AnyRecurrence"]

RECURRENCES: dict[str, type[Recurrence]] = kinds_in(__name__, __path__, Recurrence, default="rg_lru")
"""Descriptions by tag. The default comes first wherever kinds are listed."""

if TYPE_CHECKING:
    AnyRecurrence: TypeAlias = Recurrence
else:
    AnyRecurrence = functools.reduce(operator.or_, RECURRENCES.values())
    """Any recurrence that a stack may have."""
