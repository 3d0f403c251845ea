"""How a field moves one state over one window: by slopes for a solver, or exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Protocol, TypeAlias

import msgspec

from streamrde.arrays import Reals

Tensors: TypeAlias = Mapping[str, Reals]
Shapes: TypeAlias = dict[str, tuple[int, ...]]
Positive: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]


class Driven(Protocol):
    """A field that a solver steps."""

    def drift(self, logsig: Reals) -> Callable[[Reals], Reals]:
        """z (hidden,) -> F(z) l (hidden,), for one window's scaled log-signature l (B,)."""


class Flow(Protocol):
    """A field whose flow over a window is known in closed form."""

    def flow(self, z: Reals, logsig: Reals, fading: Reals | None) -> Reals:
        """z (hidden,) after a window with scaled log-signature (B,); `fading`: decay times duration, (hidden,)."""
