"""Follow a fit: events of what is done, and a budget of time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from streamrde.errors import ParameterError


@dataclass(frozen=True)
class Stage:
    """A part of the work has begun or moved on. It has ended when `done` reaches `total`."""

    name: str
    """Its name, a verb and an object, such as "read files"."""
    done: int
    total: int | None = None
    """None: it is not known yet."""


@dataclass(frozen=True)
class Tried:
    """A candidate was fitted and measured on what was left out."""

    name: str
    measures: Mapping[str, float]
    """Accuracy and more, or rmse and more."""
    best: bool
    """True if its loss is the least so far."""


@dataclass(frozen=True)
class Said:
    """Something was understood, guessed or left out, or is to be warned of."""

    text: str


Event: TypeAlias = Stage | Tried | Said
Progress: TypeAlias = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Take an event and do nothing."""


class Budget:
    """Count the time that a fit may take.

    Raises:
        ParameterError: `minutes` is not a finite number above 0.
    """

    def __init__(self, minutes: float | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        if minutes is not None and not 0 < minutes < math.inf:
            raise ParameterError(f"minutes={minutes:g}: give a number above 0, such as 0.5, or leave it out")
        self._clock, self._begin = clock, clock()
        self._seconds = None if minutes is None else 60 * minutes

    @property
    def passed(self) -> float:
        """Return the seconds since the budget was made."""
        return self._clock() - self._begin

    @property
    def left(self) -> float:
        """Return the seconds that are left, at least 0. Infinite without a limit."""
        return math.inf if self._seconds is None else max(0.0, self._seconds - self.passed)

    @property
    def spent(self) -> bool:
        """Return True if no time is left."""
        return self.left <= 0
