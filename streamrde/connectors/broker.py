"""An MQTT broker inside this process, for the demo and for tests."""

from __future__ import annotations

import asyncio
import socket
import threading
from types import TracebackType
from typing import Any

from streamrde.errors import BrokerError, MissingExtraError

# Starting takes 0.13 s; a machine under full load takes some seconds.
_START_TIMEOUT = 30.0


class EmbeddedBroker:
    """amqtt's broker on a free port of 127.0.0.1, in a thread with an event loop of its own.

    It accepts anyone on this machine, keeps nothing on disk and speaks MQTT 3.1.1.

        with EmbeddedBroker() as broker:
            ...  # broker.url

    Raises:
        MissingExtraError: amqtt is not installed.
        BrokerError: the broker does not start.
    """

    def __init__(self) -> None:
        try:
            import amqtt.broker  # noqa: F401
        except ImportError:
            raise MissingExtraError("the in-process MQTT broker", "demo") from None
        self.port = 0
        self._thread: threading.Thread
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._started = threading.Event()
        self._failure: Exception | None = None

    @property
    def url(self) -> str:
        """The broker's address."""
        return f"mqtt://127.0.0.1:{self.port}"

    def __enter__(self) -> EmbeddedBroker:
        self.port = _free_port()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),), name="mqtt-broker", daemon=True)
        self._thread.start()
        if not self._started.wait(_START_TIMEOUT) or self._failure:
            raise BrokerError(
                f"the in-process broker does not start on port {self.port} ({self._failure or 'timeout'}); try again"
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_START_TIMEOUT)

    async def _serve(self) -> None:
        from amqtt.broker import Broker
        from amqtt.errors import AMQTTError

        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        config: dict[str, Any] = {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
        try:
            broker = Broker(config)
            await broker.start()
        except (AMQTTError, OSError) as error:
            self._failure = error
            return
        finally:
            self._started.set()
        await self._stop.wait()
        await broker.shutdown()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
