"""The log-ODE step of an ensemble."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from streamrde.arrays import Floats, Reals
from streamrde.inference.bundle import Bundle
from streamrde.inference.ensemble import split
from streamrde.inference.steppers.bundle import BundleStepper
from streamrde.inference.steppers.compiled import with_threads
from streamrde.inference.steppers.single import single_stepper

T = TypeVar("T")


class EnsembleStepper(BundleStepper):
    """Step each member of an ensemble by itself.

    Args:
        bundle: the model, of several members.
        threads: how many to split large batches over.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        super().__init__(bundle)
        self._threads = threads
        self._members = [single_stepper(member, threads=threads) for member in split(bundle)]

    def __reduce__(self) -> tuple[Any, ...]:
        return with_threads, (type(self), self._bundle, self._threads)

    def initial(self, x0: Floats) -> Reals:
        """See Stepper."""
        return np.concatenate([member.initial(x0) for member in self._members], axis=1)

    def step(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> Reals:
        """See Stepper."""
        return np.concatenate(self.each(z, lambda member, own: member.step(own, logsigs, previous)), axis=1)

    def step_with_error(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> tuple[Reals, Floats]:
        """See Stepper."""
        steps = self.each(z, lambda member, own: member.step_with_error(own, logsigs, previous))
        moved, errors = zip(*steps, strict=True)
        # Each is a root mean square over as many components.
        return np.concatenate(moved, axis=1), np.sqrt(np.mean(np.square(errors), axis=0))

    def readout(self, z: Reals) -> Reals:
        """See BundleStepper."""
        total, *others = self.each(z, lambda member, own: member.readout(own))
        return sum(others, start=total)

    def each(self, z: Reals, do: Callable[[BundleStepper, Reals], T]) -> list[T]:
        """Call `do` with every member and its part of the states z (n, hidden)."""
        size = self.header.member_hidden
        return [do(member, z[:, i * size : (i + 1) * size]) for i, member in enumerate(self._members)]
