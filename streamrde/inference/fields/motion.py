"""How a field moves one state over one window: by slopes for a solver, or exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Protocol, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Tensors: TypeAlias = Mapping[str, NDArray[np.floating]]
Shapes: TypeAlias = dict[str, tuple[int, ...]]
Positive: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]


class Driven(Protocol):
    """A field that a solver steps."""

    def drift(self, logsig: Array) -> Callable[[Array], Array]:
        """z (hidden,) -> F(z) l (hidden,), for one window's scaled log-signature l (B,)."""


class Flow(Protocol):
    """A field whose flow over a window is known in closed form."""

    def flow(self, z: Array, logsig: Array, fading: Array | None) -> Array:
        """z (hidden,) after a window with scaled log-signature (B,); `fading`: decay times duration, (hidden,)."""
