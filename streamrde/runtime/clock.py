"""The time it is: the machine's, or one that is advanced by hand.

Nothing below the runtime reads a clock; there, time comes in as an argument.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from typing import Protocol

from streamrde.errors import ParameterError


class Clock(Protocol):
    """Tell the time, and wait for it to pass."""

    def now(self) -> float:
        """Return seconds since 1970."""

    async def sleep(self, seconds: float) -> None:
        """Sleep for a number of seconds."""


class SystemClock:
    """The machine's clock. It can be set, so it can jump, also back."""

    def now(self) -> float:
        """Return seconds since 1970."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Sleep for a number of seconds, however the clock is set meanwhile."""
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that stands still until it is advanced.

    >>> clock = ManualClock(100.0)
    >>> clock.advance(2.5)
    >>> clock.now()
    102.5
    """

    def __init__(self, now: float = 0.0) -> None:
        self._now = now
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._turns = itertools.count()

    @property
    def sleepers(self) -> int:
        """Number of tasks that wait for the clock."""
        return sum(not sleeper.done() for _, _, sleeper in self._sleepers)

    def now(self) -> float:
        """Return the time to which the clock was advanced."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Sleep until the clock has been advanced by a number of seconds."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        sleeper = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._turns), sleeper))
        await sleeper

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake due sleepers in order. They run when the caller next awaits."""
        if not seconds >= 0:
            raise ParameterError(f"seconds={seconds}: a clock is advanced by at least 0; make another one to go back")
        self._now += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, sleeper = heapq.heappop(self._sleepers)
            if not sleeper.done():
                sleeper.set_result(None)
