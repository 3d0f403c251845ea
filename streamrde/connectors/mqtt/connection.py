"""A connection to an MQTT broker that outlives its sockets: pipelined, acknowledged by hand, made again when lost.

aiomqtt acknowledges a message before it is processed, keeps it in a queue of its own, takes a round trip per `publish`
and does not reconnect. What it lacks is done on the paho client inside it, here and nowhere else: no other module
touches `aiomqtt.Client._client` and `._disconnected`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple

import aiomqtt
import stamina
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.client import MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from streamrde.connectors.mqtt.link import MqttLink, Tls
from streamrde.connectors.mqtt.topics import MqttAddress
from streamrde.errors import BrokerError, ParameterError

logger = logging.getLogger(__name__)
# What aiomqtt and paho warn of is raised or logged by this module.
_client_logger = logging.getLogger(f"{__name__}.client")
_client_logger.setLevel(logging.CRITICAL)
# A connection that a broker closes sooner than this does not reset the pause before the next, in seconds: two clients
# with one client_id would otherwise throw each other out as fast as they can.
_SHORT_LIVED = 5.0


class Receipt:
    """A message of QoS 1 that waits for its acknowledgement."""

    __slots__ = ("done", "message", "socket")

    def __init__(self, message: MQTTMessage, socket: int) -> None:
        self.message = message
        self.socket = socket
        """Number of the socket on which it came; a packet id means nothing on another."""
        self.done = False


class Outgoing(NamedTuple):
    """A message that the broker has not confirmed yet."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Properties | None


@dataclass
class ConnectionCounts:
    """What has happened to the connection."""

    connected: bool = False
    connects: int = 0
    """How often it was made; the first time counts."""
    sessions_lost: int = 0
    """How often the broker had forgotten the session: what it held for this client is lost."""
    redelivered: int = 0
    """Messages that came again while they were still held here; passed on once."""
    resent: int = 0
    """Messages published again because a lost connection left them unconfirmed."""
    lost: int = 0
    """Messages of QoS 0 that were under way when a connection was lost."""


class MqttConnection:
    """A client of a broker.

    A message of QoS 1 that a broker sends again after a reconnection, while the first copy is still held here, is
    passed on once: its receipt moves to the new socket. A receipt whose message did not come again is void.

    Args:
        address: the broker.
        link: protocol version, TLS, will, patience.
        client_id: None lets the broker choose one.
        session: ask the broker to keep subscriptions and unacknowledged messages while the client is away.
        inflight: messages sent and not yet confirmed, at most.
        receive: messages that a broker of MQTT 5 may send before the first is acknowledged.
        subscriptions: topic filters and their QoS, subscribed to on every connection.
        on_message: called in the event loop with every message received, and its receipt at QoS 1.
    """

    def __init__(
        self,
        address: MqttAddress,
        *,
        link: MqttLink | None = None,
        client_id: str | None = None,
        session: bool = False,
        inflight: int = 100,
        receive: int = 65535,
        subscriptions: Sequence[tuple[str, int]] = (),
        on_message: Callable[[MQTTMessage, Receipt | None], None] | None = None,
    ) -> None:
        self.address = address
        self.link = link = link or MqttLink()
        if link.tls is not None and not address.tls:
            raise ParameterError(f"tls is set and the address of {address} begins with mqtt://: use mqtts://")
        self._tls_context = (link.tls or Tls()).context() if address.tls else None
        self._client_id = client_id
        self._session = session
        self._inflight = inflight
        self._receive = receive
        self._subscriptions = tuple(subscriptions)
        self._on_message = on_message
        self.counts = ConnectionCounts()
        self._client: aiomqtt.Client
        self._paho: Any
        self._supervisor: asyncio.Task[None] | None = None
        self._failure: BrokerError | None = None
        self._connected_at = 0.0
        self._paused = False
        self._received_messages = 0
        self._session_present = False
        self._socket = 0
        self._held: dict[int, Receipt] = {}
        self._orphans: dict[int, Receipt] = {}
        self._unconfirmed: dict[int, Outgoing] = {}
        self._resend: list[Outgoing] = []
        # The packet id that paho last reported as sent: one of QoS 0 often before its publish has returned.
        self._sent_early: int | None = None
        # When the broker last gave a sign, or was first asked for one, `time.monotonic()`.
        self._heard = 0.0
        # Set whenever something has changed that a waiting task may want to look at: wait, then look again.
        self.changed = asyncio.Event()

    async def __aenter__(self) -> MqttConnection:
        await self._connect()
        self._supervisor = asyncio.create_task(self._supervise())
        self._supervisor.add_done_callback(self._on_supervised)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        try:
            if self.link.will is not None and self.counts.connected:
                will = self.link.will
                self._paho.publish(will.topic, will.offline, will.qos, retain=True)
            await self._client.__aexit__(None, None, None)
        except (aiomqtt.MqttError, OSError) as failure:
            # The work is done or has failed already; a broker that does not answer a farewell changes neither.
            logger.debug("%s did not answer the disconnect: %s", self.address, failure)
        self.counts.connected = False

    def check(self) -> None:
        """Raise BrokerError if the connection is lost for good."""
        if self._failure is not None:
            raise self._failure

    async def wait(self, *, timeout: float | None = None) -> None:
        """Sleep until something has changed, at most `timeout` seconds."""
        self.check()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self.changed.wait()
        self.changed.clear()
        self.check()

    async def subscribe(self, topic_filter: str, qos: int) -> None:
        """Subscribe on this connection only, and raise BrokerError if the broker refuses or grants less than `qos`."""
        with self._mapped_errors("cannot subscribe"):
            granted = await self._client.subscribe(topic_filter, qos)
        codes = [code if isinstance(code, int) else code.value for code in granted]
        if codes != [qos]:
            raise BrokerError(
                f"MQTT broker {self.address} grants {codes}, not QoS {qos}, on {topic_filter!r}; check its access rules"
            )

    async def publish(
        self, topic: str, payload: bytes, qos: int, *, retain: bool = False, properties: Properties | None = None
    ) -> None:
        """Send a message, waiting while `inflight` are unconfirmed; `drain` waits for the confirmations."""
        while not self.counts.connected or len(self._unconfirmed) + len(self._resend) >= self._inflight:
            await self._await_confirmation()
        self._send(Outgoing(topic, payload, qos, retain, properties))

    async def drain(self) -> None:
        """Wait until every message is confirmed: QoS 1 by the broker, QoS 0 by the socket."""
        while self._unconfirmed or self._resend:
            await self._await_confirmation()

    def acknowledge(self, receipt: Receipt) -> None:
        """Acknowledge a message of QoS 1; one whose socket is gone when it comes again."""
        receipt.done = True
        # A socket that has just broken is met by its reader, which ends the connection.
        if receipt.socket == self._socket and self.counts.connected and not self._paho.ack(receipt.message.mid, 1):
            self._held.pop(receipt.message.mid, None)

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
                asyncio.get_running_loop().add_reader(socket.fileno(), self._read)
                self._read()  # TLS may hold decrypted bytes, of which the socket says nothing

    def read_ahead(self, messages: int) -> None:
        """Receive up to `messages` more of what lies in the socket; aiomqtt reads one each time the loop turns."""
        if self._paused or not self.counts.connected:
            return
        with contextlib.suppress(OSError):  # The loop's own reader meets the same and ends the connection.
            for _ in range(messages):
                before = self._received_messages
                if self._paho.loop_read() or self._received_messages == before or self._paused:
                    return

    async def settle(self) -> None:
        """Wait until the broker has read all that was sent, acknowledgements too.

        A socket closed with messages unread resets the connection, and the broker loses acknowledgements it had not
        read yet: it would send those messages again. MQTT is read in order, so the answer to a ping proves the rest.
        """
        self.resume()
        if not self.counts.connected or self._paho._send_pingreq():
            return
        deadline = asyncio.get_running_loop().time() + self.link.timeout
        # paho keeps the time of an unanswered ping and puts 0 in its place when the answer comes.
        while self._paho._ping_t and not self._client._disconnected.done():
            if asyncio.get_running_loop().time() > deadline:
                return
            await asyncio.sleep(0.001)

    async def _connect(self) -> None:
        """One attempt: connect, subscribe, send again what was unconfirmed."""
        link, address = self.link, self.address
        self._client = client = aiomqtt.Client(
            address.host,
            address.port,
            username=address.user,
            password=address.password,
            identifier=self._client_id,
            timeout=link.timeout,
            keepalive=link.keepalive,
            max_inflight_messages=self._inflight,
            tls_context=self._tls_context,
            will=None if link.will is None else aiomqtt.Will(link.will.topic, link.will.offline, link.will.qos, True),
            logger=_client_logger,
            **self._session_arguments(),
        )
        self._paho = paho = client._client
        paho.connect_timeout = link.timeout
        paho.on_publish = self._on_publish
        paho.on_connect = self._on_connect
        paho.on_disconnect = self._on_disconnect
        if self._on_message is not None:
            paho.manual_ack_set(True)
            paho.on_message = self._received
        self._paused = False
        self._orphans |= self._held
        self._held = {}
        self._socket += 1
        with self._mapped_errors("cannot connect"):
            try:
                await client.__aenter__()
            except BaseException:
                # A broker that is silent or refuses leaves the socket open.
                paho.disconnect()
                paho.loop_misc()
                paho._sock_close()
                if self._tls_context is not None:
                    self._tls_context.close()
                raise
        client._disconnected.add_done_callback(self._on_disconnected)
        self.counts.connected = True
        self.counts.connects += 1
        self._connected_at = self._heard = time.monotonic()
        try:
            await self._begin()
        except BaseException:
            self.counts.connected = False
            paho._sock_close()
            raise

    def _session_arguments(self) -> dict[str, Any]:
        if self.link.version == "3.1.1":
            return {"clean_session": not self._session}
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.ReceiveMaximum = min(self._receive, 65535)
        if self._session:
            properties.SessionExpiryInterval = self.link.session_expiry
        return {
            "protocol": aiomqtt.ProtocolVersion.V5,
            "clean_start": not self._session,
            "properties": properties,
        }

    async def _begin(self) -> None:
        """What every connection begins with."""
        if self.counts.connects > 1 and self._session and not self._session_present:
            self.counts.sessions_lost += 1
            logger.error(
                "MQTT broker %s has forgotten the session of %r: what it held for this client is lost",
                self.address, self._client_id,
            )  # fmt: skip
        for topic_filter, qos in self._subscriptions:
            await self.subscribe(topic_filter, qos)
        if (will := self.link.will) is not None:
            self._send(Outgoing(will.topic, will.online.encode(), will.qos, True, None))
        resend, self._resend = self._resend, []
        for message in resend:
            self._send(message)
        self.counts.resent += len(resend)
        self.changed.set()

    async def _supervise(self) -> None:
        """Connect again whenever the connection is lost."""
        pause = 0.0
        while True:
            await asyncio.wait([self._client._disconnected])
            self._lost()
            if not self.link.reconnect:
                return
            if time.monotonic() - self._connected_at < _SHORT_LIVED:
                pause = min(max(2 * pause, 0.25), self.link.longest_pause)
                await asyncio.sleep(pause)
            else:
                pause = 0.0
            async for attempt in stamina.retry_context(
                on=BrokerError, attempts=None, timeout=None, wait_initial=0.1, wait_max=self.link.longest_pause
            ):
                with attempt:
                    await self._connect()
            logger.warning("connected to MQTT broker %s again", self.address)

    def _on_supervised(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = BrokerError(f"MQTT broker {self.address} cannot be connected to again ({error!r})")
            self.changed.set()

    def _lost(self) -> None:
        reason = self._client._disconnected.exception() or "the connection was closed"
        self.counts.connected = False
        for message in self._unconfirmed.values():
            if message.qos and not (self.link.will and message.topic == self.link.will.topic):
                self._resend.append(message)
            elif not message.qos:
                self.counts.lost += 1
        self._unconfirmed.clear()
        if self.link.reconnect:
            logger.warning("MQTT broker %s went away (%s); connecting again", self.address, reason)
        else:
            self._failure = BrokerError(f"MQTT broker {self.address} went away ({reason}); start it again, then this")
        self.changed.set()

    async def _await_confirmation(self) -> None:
        """Sleep until a confirmation or a connection comes; a broker that stands and is silent is left."""
        await self.wait(timeout=self.link.timeout)
        silence = time.monotonic() - self._heard
        if not (self.counts.connected and self._unconfirmed and silence >= self.link.timeout):
            return
        text = f"MQTT broker {self.address} confirmed nothing for {self.link.timeout:g} s; look at its log and its disk"
        if not self.link.reconnect:
            raise BrokerError(text)
        logger.error("%s; connecting again", text)
        self._abort()

    def _abort(self) -> None:
        """Leave a connection that stands and does not answer."""
        self.counts.connected = False
        self._paho._sock_close()
        if not self._client._disconnected.done():
            self._client._disconnected.set_exception(aiomqtt.MqttError("it does not answer"))

    def _send(self, message: Outgoing) -> None:
        if not self._unconfirmed:
            self._heard = time.monotonic()
        self._sent_early = None
        info = self._paho.publish(
            message.topic, message.payload, message.qos, retain=message.retain, properties=message.properties
        )
        if info.rc:
            # The socket broke; its reader ends the connection, and the message goes out on the next.
            self._resend.append(message)
        elif info.mid != self._sent_early:
            self._unconfirmed[info.mid] = message

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any) -> None:
        self._session_present = flags.session_present
        self._client._on_connect(client, userdata, flags, reason_code, properties)

    def _received(self, client: Any, userdata: Any, message: MQTTMessage) -> None:
        self._received_messages += 1
        self.changed.set()
        receipt = None
        if message.qos:
            receipt = self._orphans.pop(message.mid, None) if message.dup else None
            again = receipt is not None and _same(receipt.message, message)
            if receipt is None or not again:
                receipt = Receipt(message, self._socket)
            receipt.socket = self._socket
            self._held[message.mid] = receipt
            if again:
                self.counts.redelivered += 1
                if receipt.done:
                    self._held.pop(message.mid)
                    self._paho.ack(message.mid, 1)
                return
        if self._on_message is not None:
            self._on_message(message, receipt)

    def _on_publish(self, client: Any, userdata: Any, mid: int, *_: Any) -> None:
        self._heard = time.monotonic()
        self._unconfirmed.pop(mid, None)
        self._sent_early = mid
        self.changed.set()

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any) -> None:
        # aiomqtt would wait for its timeout where a broker closes instead of accepting.
        if not self._client._connected.done():
            self._client._connected.set_exception(aiomqtt.MqttError(f"closed before it was accepted: {reason_code}"))
        self._client._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_disconnected(self, disconnected: asyncio.Future[None]) -> None:
        if not disconnected.cancelled():
            disconnected.exception()  # Retrieved here, or asyncio complains that nobody did.
        self.counts.connected = False
        self.changed.set()

    def _read(self) -> None:
        """What aiomqtt's own reader does."""
        try:
            self._paho.loop_read()
            while (socket := self._paho.socket()) is not None and getattr(socket, "pending", int)() > 0:
                self._paho.loop_read()
        except OSError as error:
            if not self._client._disconnected.done():
                self._client._disconnected.set_exception(error)

    @contextlib.contextmanager
    def _mapped_errors(self, failure: str) -> Iterator[None]:
        try:
            yield
        except MqttConnectError as error:
            remedy = "check user and password, and the broker's access rules"
            raise BrokerError(f"MQTT broker {self.address} refuses the connection ({error}); {remedy}") from None
        except (aiomqtt.MqttError, OSError) as error:
            remedy = "start the broker or check host, port and mqtt:// or mqtts://"
            if self.address.tls:
                remedy += ", and that a certificate for this host, signed by an authority in `ca`, is there"
            raise BrokerError(f"{failure} to MQTT broker {self.address} ({error}); {remedy}") from None


def _same(one: MQTTMessage, other: MQTTMessage) -> bool:
    return bool(one._topic == other._topic and one.payload == other.payload)
