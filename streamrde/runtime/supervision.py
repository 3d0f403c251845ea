"""Tell systemd how a run is, over the socket that it names."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

# How often the status is looked at where no watchdog asks for more.
_LOOK_EVERY = 1.0


class Supervision:
    """Notify the supervisor that started this process, as sd_notify(3) does. Do nothing where none did.

    READY=1 when it is entered, STOPPING=1 when it is left. In between, STATUS= when it changes, and WATCHDOG=1 twice as
    often as `WatchdogSec=` wants it: from the event loop, so that one which is stuck is noticed.

    Args:
        obstacles: what keeps the run from working now; empty where nothing does.
    """

    def __init__(self, obstacles: Callable[[], list[str]]) -> None:
        self._obstacles = obstacles
        self._socket: socket.socket | None = None
        self._telling: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Supervision:
        address = os.environ.get("NOTIFY_SOCKET", "")
        if address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            with suppress(OSError):
                self._socket.connect(address.replace("@", "\0", 1))
            self._tell("READY=1")
            self._telling = asyncio.create_task(self._go_on_telling())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
        if self._socket is not None:
            self._tell("STOPPING=1")
            self._socket.close()

    async def _go_on_telling(self) -> None:
        watchdog = _watchdog_seconds()
        said = None
        while True:
            status = "; ".join(self._obstacles()) or "samples become predictions"
            if status != said:
                self._tell(f"STATUS={status}")
                said = status
            if watchdog is not None:
                self._tell("WATCHDOG=1")
            await asyncio.sleep(min(_LOOK_EVERY, (watchdog or _LOOK_EVERY) / 2))

    def _tell(self, message: str) -> None:
        assert self._socket is not None  # noqa: S101 (for mypy)
        with suppress(OSError):  # a supervisor that is gone or busy does not stop the run
            self._socket.send(message.encode())


def _watchdog_seconds() -> float | None:
    """Return the longest silence that the watchdog allows to this process, or None."""
    try:
        microseconds = int(os.environ["WATCHDOG_USEC"])
        meant = int(os.environ.get("WATCHDOG_PID", os.getpid()))
    except (KeyError, ValueError):
        return None
    return microseconds / 1e6 if microseconds > 0 and meant == os.getpid() else None
