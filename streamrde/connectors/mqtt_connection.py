"""One connection to an MQTT broker: aiomqtt with confirmed pipelining and acknowledgement by hand.

aiomqtt acknowledges a message before it is processed, keeps it in a queue of its own, and takes a round trip per
`publish`. What it lacks is done on the paho client inside it, here and nowhere else: no other module touches
`aiomqtt.Client._client` and `._disconnected`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any, TypeVar

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.client import MQTTMessage

from streamrde.connectors.topics import MqttAddress
from streamrde.errors import BrokerError

T = TypeVar("T")

logger = logging.getLogger(__name__)
# What aiomqtt and paho warn of is raised by this module.
_client_logger = logging.getLogger(f"{__name__}.client")
_client_logger.setLevel(logging.ERROR)


class MqttConnection:
    """A connected client.

    Args:
        address: the broker.
        client_id: None lets the broker choose one.
        session: ask the broker to keep subscriptions and unacknowledged messages while the client is away.
        timeout: seconds for the broker to accept a connection, and to answer any request.
        inflight: messages sent and not yet confirmed, at most.
        on_message: called in the event loop with every message received; it must acknowledge each by `acknowledge`.
    """

    def __init__(
        self,
        address: MqttAddress,
        *,
        client_id: str | None = None,
        session: bool = False,
        timeout: float = 10.0,
        inflight: int = 100,
        on_message: Callable[[MQTTMessage], None] | None = None,
    ) -> None:
        self.address = address
        self._client_id = client_id
        self._session = session
        self._timeout = timeout
        self._inflight = inflight
        self._on_message = on_message
        self._client: aiomqtt.Client
        self._paho: Any
        self._paused = False
        self._sent = 0
        self._confirmed = 0
        self._received_messages = 0
        # Set whenever something has changed that a waiting task may want to look at: wait, then look again.
        self.changed = asyncio.Event()

    async def __aenter__(self) -> MqttConnection:
        address = self.address
        with self._mapped_errors("cannot connect"):
            self._client = aiomqtt.Client(
                address.host,
                address.port,
                username=address.user,
                password=address.password,
                identifier=self._client_id,
                clean_session=not self._session,
                timeout=self._timeout,
                max_inflight_messages=self._inflight,
                tls_context=ssl.create_default_context() if address.tls else None,
                logger=_client_logger,
            )
            self._paho = self._client._client
            self._paho.connect_timeout = self._timeout
            self._paho.on_publish = self._on_publish
            if self._on_message is not None:
                self._paho.manual_ack_set(True)
                self._paho.on_message = self._received
            try:
                await self._client.__aenter__()
            except BaseException:
                # A broker that is silent or refuses leaves the socket open.
                self._paho.disconnect()
                self._paho.loop_misc()
                self._paho._sock_close()
                raise
        self._client._disconnected.add_done_callback(self._on_disconnect)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._client.__aexit__(None, None, None)
        except (aiomqtt.MqttError, OSError) as failure:
            # The work is done or has failed already; a broker that does not answer a farewell changes neither.
            logger.debug("%s did not answer the disconnect: %s", self.address, failure)

    def check(self) -> None:
        """Raise BrokerError if the connection is lost."""
        disconnected = self._client._disconnected
        if disconnected.done():
            reason = disconnected.exception() or "the connection was closed"
            raise BrokerError(f"MQTT broker {self.address} went away ({reason}); start it again, then this")

    async def wait(self, *, timeout: float | None = None) -> None:
        """Sleep until something has changed; a broker that takes longer than `timeout` seconds is an error."""
        self.check()
        try:
            await asyncio.wait_for(self.changed.wait(), timeout)
        except TimeoutError:
            raise BrokerError(
                f"MQTT broker {self.address} confirmed nothing for {timeout:g} s; look at its log and its disk"
            ) from None
        self.changed.clear()
        self.check()

    async def subscribe(self, topic_filter: str, qos: int) -> None:
        """Subscribe, and raise BrokerError if the broker refuses or grants less than `qos`."""
        granted = await self._call("cannot subscribe", self._client.subscribe(topic_filter, qos))
        codes = [code if isinstance(code, int) else code.value for code in granted]
        if codes != [qos]:
            raise BrokerError(
                f"MQTT broker {self.address} grants {codes}, not QoS {qos}, on {topic_filter!r}; check its access rules"
            )

    async def publish(self, topic: str, payload: bytes, qos: int) -> None:
        """Send a message, waiting while `inflight` are unconfirmed; `drain` waits for the confirmations."""
        while self._sent - self._confirmed >= self._inflight:
            await self.wait(timeout=self._timeout)
        # Counted first: paho may confirm a message of QoS 0 before publish returns.
        self._sent += 1
        if code := self._paho.publish(topic, payload, qos).rc:
            self._sent -= 1
            self.check()
            raise BrokerError(
                f"MQTT broker {self.address} cannot be written to ({aiomqtt.MqttCodeError(code)}); start it again"
            )

    async def drain(self) -> None:
        """Wait until every message is confirmed: QoS 1 by the broker, QoS 0 by the socket."""
        while self._sent > self._confirmed:
            await self.wait(timeout=self._timeout)

    def acknowledge(self, message_id: int) -> None:
        """Acknowledge a message of QoS 1."""
        if code := self._paho.ack(message_id, 1):
            self.check()
            raise BrokerError(
                f"MQTT broker {self.address} takes no acknowledgement ({aiomqtt.MqttCodeError(code)}); "
                "it will send the message again"
            )

    def pause(self) -> None:
        """Leave what the broker sends in the socket; when that is full, TCP slows the broker down."""
        if not self._paused and (socket := self._paho.socket()) is not None:
            self._paused = True
            asyncio.get_running_loop().remove_reader(socket.fileno())

    def resume(self) -> None:
        """Receive again after `pause`."""
        if self._paused:
            self._paused = False
            if (socket := self._paho.socket()) is not None:
                asyncio.get_running_loop().add_reader(socket.fileno(), self._paho.loop_read)

    def read_ahead(self, messages: int) -> None:
        """Receive up to `messages` more of what lies in the socket; aiomqtt reads one each time the loop turns."""
        with contextlib.suppress(OSError):  # The loop's own reader meets the same and ends the connection.
            for _ in range(messages):
                before = self._received_messages
                if self._paho.loop_read() or self._received_messages == before:
                    return

    async def settle(self) -> None:
        """Wait until the broker has read all that was sent, acknowledgements too.

        A socket closed with messages unread resets the connection, and the broker loses acknowledgements it had not
        read yet: it would send those messages again. MQTT is read in order, so the answer to a ping proves the rest.
        """
        self.resume()
        if self._paho._send_pingreq():
            return
        deadline = asyncio.get_running_loop().time() + self._timeout
        # paho keeps the time of an unanswered ping and puts 0 in its place when the answer comes.
        while self._paho._ping_t and not self._client._disconnected.done():
            if asyncio.get_running_loop().time() > deadline:
                return
            await asyncio.sleep(0.001)

    def _received(self, client: Any, userdata: Any, message: MQTTMessage) -> None:
        self._received_messages += 1
        if self._on_message is not None:
            self._on_message(message)
        self.changed.set()

    def _on_publish(self, *_: Any) -> None:
        self._confirmed += 1
        self.changed.set()

    def _on_disconnect(self, disconnected: asyncio.Future[None]) -> None:
        disconnected.exception()  # Retrieved here, or asyncio complains that nobody did.
        self.changed.set()

    async def _call(self, failure: str, call: Awaitable[T]) -> T:
        with self._mapped_errors(failure):
            return await call

    @contextlib.contextmanager
    def _mapped_errors(self, failure: str) -> Iterator[None]:
        try:
            yield
        except MqttConnectError as error:
            remedy = "check user and password, and the broker's access rules"
            raise BrokerError(f"MQTT broker {self.address} refuses the connection ({error}); {remedy}") from None
        except (aiomqtt.MqttError, OSError) as error:
            remedy = "start the broker or check host, port and mqtt:// or mqtts://"
            raise BrokerError(f"{failure} to MQTT broker {self.address} ({error}); {remedy}") from None
