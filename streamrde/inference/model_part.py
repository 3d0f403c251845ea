"""The contract of a model's parts: what the model file says of its field, its initial layer and its readout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

import msgspec

from streamrde.arrays import Reals

if TYPE_CHECKING:
    from streamrde.inference.header import Header

Tensors: TypeAlias = Mapping[str, Reals]
Shapes: TypeAlias = dict[str, tuple[int, ...]]
Positive: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]

PARTS = ("field", "initial", "readout")
"""Names of the parts, in the header and in front of their tensors' names."""


class ModelPart(msgspec.Struct, frozen=True, kw_only=True, tag_field="field", forbid_unknown_fields=True):
    """A part of a model, described in its header under one of the names in PARTS.

    Sizes come from the header. A part of an ensemble has the size of one member.
    """

    stored: ClassVar[bool] = True
    """True if the weights are in the model file. False: a stepper brings the part along."""

    def check(self, name: str, header: Header) -> None:
        """Raise ParameterError if the part cannot be built for this header."""

    def shapes(self, name: str, header: Header) -> Shapes:
        """Return name and shape of the part's tensors in the model file."""
        raise NotImplementedError

    def summary(self, header: Header) -> str:
        """Describe the part in a phrase for people."""
        raise NotImplementedError

    def build(self, name: str, header: Header, tensors: Tensors) -> Any:
        """Make the part on arrays: an `ArrayField`, or a function from row to row."""
        raise NotImplementedError

    @property
    def tag(self) -> str:
        """Name of the kind of part, in model files and configurations."""
        return str(self.__struct_config__.tag)
