"""The contract of a recurrence: what a block of a stack carries from token to token, on arrays.

A recurrence is one module of streamrde.inference.stacks, whose name is its tag in model files and in configurations.
The module of the same name in streamrde.models.stacks is its twin for training, in torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import msgspec
import numpy as np

from streamrde.arrays import Reals
from streamrde.inference.model_part import Shapes, Tensors


class Packed(NamedTuple):
    """Tensors of a recurrence for the compiled step, in the order that kernels/stack.hpp says."""

    part: int
    """Numbers in a row of the state."""
    layers: tuple[tuple[Reals, Reals], ...]
    """Weight and bias of each layer. One without a bias has zeros."""
    vectors: tuple[Reals, ...] = ()
    """Numbers of each component."""
    option: int = 1
    """A number that the recurrence's kernel reads: modes, rows of a block, or substeps."""


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

    def packed(self, width: int, tensors: Tensors) -> Packed | None:
        """Return the tensors as the compiled step takes them. None: NumPy steps it."""
        return None

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


def unbiased(*weights: Reals) -> tuple[tuple[Reals, Reals], ...]:
    """Return layers without biases, each with one of zeros."""
    return tuple((weight, np.zeros(len(weight), weight.dtype)) for weight in weights)


def split_layer(weight: Reals, bias: Reals, parts: int) -> tuple[tuple[Reals, Reals], ...]:
    """Return a layer's outputs in equal parts, as layers of their own."""
    return tuple(zip(np.split(weight, parts), np.split(bias, parts), strict=True))
