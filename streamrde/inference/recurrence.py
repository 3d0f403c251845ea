"""The contract of a recurrence: what a block of a stack carries from token to token, on arrays.

A recurrence is one module of streamrde.inference.stacks, whose name is its tag in model files and in configurations.
The module of the same name in streamrde.models.stacks is its twin for training, in torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import msgspec

from streamrde.arrays import Reals
from streamrde.inference.model_part import Shapes, Tensors


class Recurrence(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    """Describe a recurrence. Its width is the block's."""

    def state_size(self, width: int) -> int:
        """Return how many numbers it carries."""
        raise NotImplementedError

    def shapes(self, width: int) -> Shapes:
        """Return name and shape of its tensors, by their names within the block."""
        raise NotImplementedError

    def summary(self, width: int) -> str:
        """Describe it in a phrase for people."""
        raise NotImplementedError

    def build(self, width: int, tensors: Tensors) -> ArrayRecurrence:
        """Make it on arrays from its tensors, by their names within the block."""
        raise NotImplementedError

    @property
    def tag(self) -> str:
        """Name of the kind of recurrence, in model files and configurations."""
        return str(self.__struct_config__.tag)


class Moved(NamedTuple):
    """Results of a recurrence's step."""

    state: Reals
    """(state,)."""
    output: Reals
    """(width,)."""


class ArrayRecurrence(ABC):
    """A recurrence on arrays, for one stream at a time. States begin with zeros."""

    @abstractmethod
    def advance(self, state: Reals, u: Reals, time: Reals) -> Moved:
        """Return the state after a token, and the output.

        Args:
            state: (state,).
            u: what the block gives of the token, (width,).
            time: duration of the token's window in usual windows, (), in the model's dtype.
        """
