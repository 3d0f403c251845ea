"""Faults that a test orders: for the next requests of a kind, or for whole clients.

Cutting a connection after a request was applied, before it was answered, leaves the client not knowing how it ended.
That is the fault that exactly-once processing has to live through.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from kafka_server.codes import Code

ACTIONS = ("error", "error_after", "cut_before", "cut_after", "silence_before", "silence_after", "delay")


@dataclass
class Fault:
    """An order.

    Args:
        action: answer with an error without applying the request (error) or after it (error_after); close the
            connection without applying it (cut_before) or after it (cut_after); never answer, applied or not
            (silence_before, silence_after); wait before all else (delay).
        api: name of the request, such as EndTxn; * is every one.
        code: name of the error.
        seconds: of the delay.
        skip: so many fitting requests pass first.
        count: so many are hit after them; None is all.
        client: part of the client's id.
        where: fields of the request, as they must be; `topic` is any of its topics.
    """

    action: str
    api: str = "*"
    code: str = "UNKNOWN_SERVER_ERROR"
    seconds: float = 0.0
    skip: int = 0
    count: int | None = 1
    client: str = ""
    where: dict[str, Any] = field(default_factory=dict)
    hits: int = 0

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"action {self.action!r}: one of {', '.join(ACTIONS)}")
        Code[self.code]

    def takes(self, api: str, client: str, request: Any) -> bool:
        """Count the request if it fits; return if the order is for it."""
        if (
            self.api not in ("*", api)
            or self.client not in client
            or (self.count is not None and self.hits >= self.count)
        ):
            return False
        for name, wanted in self.where.items():
            if name == "topic":
                topics = getattr(request, "topics", None) or ()
                if wanted not in [one if isinstance(one, str) else one.name for one in topics]:
                    return False
            elif getattr(request, name, None) != wanted:
                return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.hits += 1
        return True


class Faults:
    """The orders that stand, and the clients that are not answered."""

    def __init__(self) -> None:
        self.orders: list[Fault] = []
        self.paused: list[str] = []
        self._changed = asyncio.Event()

    def take(self, api: str, client: str, request: Any) -> Fault | None:
        """Return the first order for this request."""
        return next((one for one in self.orders if one.takes(api, client, request)), None)

    def pause(self, client: str) -> None:
        """Leave clients with this in their ids without answers."""
        self.paused.append(client)

    def resume(self) -> None:
        """Answer everybody again."""
        self.paused.clear()
        self._changed.set()
        self._changed = asyncio.Event()

    async def passed(self, client: str) -> None:
        """Wait until the client is not paused."""
        while any(one in client for one in self.paused):
            await self._changed.wait()
