"""A connection to an MQTT broker that outlives its sockets: pipelined, acknowledged by hand, made again when lost.

Each socket is a `Wire`. This module makes a new one when one is lost, and carries over what is not confirmed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from paho.mqtt.client import MQTTMessage
from paho.mqtt.properties import Properties

from streamrde.connectors.ends import ConnectionCounts
from streamrde.connectors.mqtt.link import MqttLink, Tls, Will
from streamrde.connectors.mqtt.messages import Outgoing, Receipt
from streamrde.connectors.mqtt.outbox import Outbox
from streamrde.connectors.mqtt.reasons import check_granted, is_final, mapped_errors, named
from streamrde.connectors.mqtt.topics import MqttAddress
from streamrde.connectors.mqtt.wire import Wire
from streamrde.errors import BrokerError, ParameterError

logger = logging.getLogger(__name__)
# A connection that a broker closes sooner than this does not reset the pause before the next, in seconds: two clients
# with one client_id would otherwise throw each other out as fast as they can.
_SHORT_LIVED = 5.0
# So many of them in a row, and the log names what is likely.
_SUSPICIOUS = 3
# The first pause before something is tried again, in seconds; each next one is twice as long.
_FIRST_PAUSE = 0.25


class MqttConnection:
    """A client of a broker.

    A message of QoS 1 that a broker sends again after a reconnection, while the first copy is still held here, is
    passed on once: its receipt moves to the new socket. A receipt whose message did not come again is void.

    A message that a broker of MQTT 5 refuses is not confirmed. Where the refusal passes (quota exceeded, server busy)
    it is published again after a pause; any other ends the connection for good, as does a refusal of the connection or
    of a subscription that would come again: `check`, `wait` and what waits for confirmations raise BrokerError.

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
            raise ParameterError(f"tls is set and the address of {address} is without TLS: use mqtts:// or mqtt+wss://")
        self._tls_context = (link.tls or Tls()).context() if address.tls else None
        self._client_id = client_id
        self._session = session
        self._inflight = inflight
        self._receive = receive
        self._subscriptions = tuple(subscriptions)
        self._on_message = on_message
        self.counts = ConnectionCounts()
        self._wire: Wire
        self._supervisor: asyncio.Task[None] | None = None
        self._failure: BrokerError | None = None
        self._connected_at = 0.0
        self._session_present = False
        self._socket = 0
        self._held: dict[int, Receipt] = {}
        self._orphans: dict[int, Receipt] = {}
        self._outbox = Outbox(self.link, inflight=inflight, counts=self.counts, fail=self._fail_with)
        # Set whenever something has changed that a waiting task may want to look at: wait, then look again.
        self.changed = asyncio.Event()

    async def __aenter__(self) -> MqttConnection:
        if self.link.wait:
            self.counts.waiting = True
            await self._await_broker()
            self.counts.waiting = False
        else:
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
        self._outbox.close()
        # The work is done or has failed already. A broker that does not answer a farewell changes neither.
        if self.link.will is not None and self.counts.connected:
            await self._say_offline(self.link.will)
        await self._wire.close()
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
        with mapped_errors(self.address, "cannot subscribe"):
            granted = await self._wire.subscribe(topic_filter, qos)
        check_granted(self.address, topic_filter, qos, granted)

    async def publish(
        self, topic: str, payload: bytes, qos: int, *, retain: bool = False, properties: Properties | None = None
    ) -> None:
        """Send a message, waiting while `inflight` are unconfirmed. `drain` waits for the confirmations."""
        self.check()
        while not self.counts.connected or self._outbox.is_full:
            await self._await_confirmation()
        self._outbox.send(Outgoing(topic, payload, qos, retain, properties))

    async def drain(self) -> None:
        """Wait until every message is confirmed: QoS 1 by the broker, QoS 0 by the socket."""
        while self._outbox:
            await self._await_confirmation()
        self.check()

    def acknowledge(self, receipt: Receipt) -> None:
        """Acknowledge a message of QoS 1. If its socket is gone, acknowledge it when it comes again."""
        receipt.done = True
        # A broker may send what it kept together with its acceptance: `counts.connected` comes later than that.
        accepted = receipt.socket == self._socket and self._wire.is_open
        # A socket that has just broken is met by its reader, which ends the connection.
        if accepted and self._wire.acknowledge(receipt.message.mid):
            self._held.pop(receipt.message.mid, None)

    def pause(self) -> None:
        """Leave what the broker sends in the socket. When that is full, TCP slows the broker down."""
        self._wire.pause()

    def resume(self) -> None:
        """Receive again after `pause`."""
        self._wire.resume()

    def read_ahead(self, messages: int) -> None:
        """Receive up to `messages` more from the socket."""
        if self.counts.connected:
            self._wire.read_ahead(messages)

    async def settle(self) -> None:
        """Wait until the broker has read all that was sent, acknowledgements too.

        A socket closed with messages unread resets the connection, and the broker loses acknowledgements it had not
        read yet: it would send those messages again. MQTT is read in order, so the answer to one more request proves
        the rest.
        """
        self.resume()
        if self.counts.connected:
            await self._wire.settle()

    async def _connect(self) -> None:
        """Try once to connect, subscribe, and send unconfirmed messages again."""
        self._wire = wire = Wire(
            self.address,
            self.link,
            tls=self._tls_context,
            client_id=self._client_id,
            session=self._session,
            inflight=self._inflight,
            receive=self._receive,
            on_accepted=self._accepted,
            on_message=None if self._on_message is None else self._received,
            on_confirmed=self._confirmed,
            on_lost=self._unplugged,
        )
        self._outbox.paho = wire.paho
        self._orphans |= self._held
        self._held = {}
        self._socket += 1
        with mapped_errors(self.address, "cannot connect"):
            await wire.open()
        self.counts.connected = True
        self._connected_at = self._outbox.heard = time.monotonic()
        try:
            await self._begin()
        except BaseException:
            self.counts.connected = False
            wire.abort()
            raise

    async def _begin(self) -> None:
        """Set up every new connection."""
        if self.counts.connects > 1 and self._session and not self._session_present:
            self.counts.sessions_lost += 1
            logger.error(
                "MQTT broker %s has forgotten the session of %r: what it held for this client is lost",
                self.address, self._client_id,
            )  # fmt: skip
        for topic_filter, qos in self._subscriptions:
            await self.subscribe(topic_filter, qos)
        if (will := self.link.will) is not None:
            self._outbox.send(Outgoing(will.topic, will.online.encode(), will.qos, True, None))
        self._outbox.send_again()
        self.changed.set()

    async def _await_broker(self) -> None:
        """Connect, and try again after pauses while the broker is not there. Raise a refusal for good."""
        pause, said = _FIRST_PAUSE, ""
        while True:
            try:
                return await self._connect()
            except BrokerError as error:
                if error.final:
                    raise
                if said != (said := f"{error}"):
                    logger.warning("waiting for MQTT broker %s: %s", self.address, error)
            # Jitter, so that the clients of a broker that returns do not all come at once.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(2 * pause, self.link.longest_pause)

    async def _supervise(self) -> None:
        """Connect again whenever the connection is lost."""
        pause, short = 0.0, 0
        while True:
            await self._wire.lost.wait()
            self._lost()
            if self._failure is not None:
                return
            if time.monotonic() - self._connected_at < _SHORT_LIVED:
                pause, short = min(max(2 * pause, _FIRST_PAUSE), self.link.longest_pause), short + 1
                if short == _SUSPICIOUS and self._client_id:
                    logger.error(
                        "MQTT broker %s has closed %d connections shortly after it accepted them: is another client "
                        "connected with client_id %r? give each its own",
                        self.address, short, self._client_id,
                    )  # fmt: skip
                await asyncio.sleep(pause)
            else:
                pause, short = 0.0, 0
            await self._await_broker()
            logger.warning("connected to MQTT broker %s again", self.address)

    def _on_supervised(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        text = f"MQTT broker {self.address} cannot be connected to again ({error!r})"
        self._failure = error if isinstance(error, BrokerError) else BrokerError(text)
        self.changed.set()

    def _lost(self) -> None:
        farewell, reason = self._wire.farewell, self._wire.reason
        if farewell is not None:
            reason = f"it says: {named(farewell)}"
        self.counts.connected = False
        self._outbox.lost()
        if farewell is not None and is_final(farewell):
            self._fail(f"MQTT broker {self.address} ended the connection ({named(farewell)})")
        elif self.link.reconnect:
            logger.warning("MQTT broker %s went away (%s); connecting again", self.address, reason)
        else:
            self._fail(f"MQTT broker {self.address} went away ({reason}); start it again, then this", final=False)
        self.changed.set()

    def _fail(self, text: str, *, final: bool = True) -> None:
        """End for good. The first failure is the one that is raised."""
        self._failure = self._failure or BrokerError(text, final=final)
        self.changed.set()

    def _fail_with(self, text: str, final: bool) -> None:
        self._fail(f"MQTT broker {self.address} {text}", final=final)

    async def _say_offline(self, will: Will) -> None:
        """Publish that this client ends, and wait until the broker has confirmed it."""
        self._outbox.send(Outgoing(will.topic, will.offline.encode(), will.qos, True, None))
        deadline = time.monotonic() + self.link.timeout
        while (
            self._outbox.is_waiting and self.counts.connected and self._failure is None and time.monotonic() < deadline
        ):
            self.changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.link.timeout):
                    await self.changed.wait()

    async def _await_confirmation(self) -> None:
        """Sleep until a confirmation or a connection comes. Leave a broker that is connected but silent."""
        await self.wait(timeout=self.link.timeout)
        silence = time.monotonic() - self._outbox.heard
        if not (self.counts.connected and self._outbox.is_waiting and silence >= self.link.timeout):
            return
        text = f"MQTT broker {self.address} confirmed nothing for {self.link.timeout:g} s; look at its log and its disk"
        if not self.link.reconnect:
            raise BrokerError(text)
        logger.error("%s; connecting again", text)
        self._abort()

    def _abort(self) -> None:
        """Close a connection that stands but does not answer."""
        self.counts.connected = False
        self._wire.abort()

    def _accepted(self, flags: Any, properties: Any) -> None:
        self._session_present = flags.session_present
        self.counts.connects += 1
        self._outbox.limit = min(self._inflight, getattr(properties, "ReceiveMaximum", self._inflight))
        kept = getattr(properties, "SessionExpiryInterval", None)
        if self._session and kept is not None and kept < self.link.session_expiry:
            logger.warning(
                "MQTT broker %s keeps the session of %r for %d s and not %d: away for longer, what came is lost",
                self.address, self._client_id, kept, self.link.session_expiry,
            )  # fmt: skip

    def _received(self, message: MQTTMessage) -> None:
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
                    self._wire.acknowledge(message.mid)
                return
        if self._on_message is not None:
            self._on_message(message, receipt)

    def _confirmed(self, mid: int, code: Any) -> None:
        self._outbox.answered(mid, code)
        self.changed.set()

    def _unplugged(self) -> None:
        self.counts.connected = False
        self.changed.set()


def _same(one: MQTTMessage, other: MQTTMessage) -> bool:
    return bool(one._topic == other._topic and one.payload == other.payload)
