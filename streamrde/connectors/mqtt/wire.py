"""One socket to an MQTT broker: a paho client that asyncio's loop drives.

paho has an interface for the loops of others: `loop_read`, `loop_write`, `loop_misc`, and callbacks that ask for
writes. This module is all that knows it. It connects once. `MqttConnection` makes a new wire when one is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from streamrde.connectors.access import ClosingContext
from streamrde.connectors.mqtt.link import MqttLink
from streamrde.connectors.mqtt.reasons import LinkError, RefusedError, is_refusal
from streamrde.connectors.mqtt.topics import MqttAddress

# Seconds between two looks at keepalive.
_MISC_EVERY = 1.0
# Unsubscribing from it changes nothing, and the broker must answer.
_NOBODYS_TOPIC = "streamrde/nothing"


class _Paho(Client):
    """A client that remembers the socket under TLS and WebSocket, which paho leaves open if a handshake fails."""

    opened: socket.socket | None = None

    def _create_socket_connection(self) -> socket.socket:
        self.opened = super()._create_socket_connection()
        return self.opened


class Wire:
    """Connect to a broker once, and carry messages until the socket is lost.

    Args:
        address: the broker.
        link: protocol version, last will, patience.
        tls: TLS context; None: without TLS.
        client_id: None lets the broker choose one.
        session: ask the broker to keep the session.
        inflight: messages sent and not yet confirmed, at most.
        receive: messages that a broker of MQTT 5 may send before the first is acknowledged.
        on_accepted: called with the flags and properties of the broker's acceptance.
        on_message: called with every message received. None: paho acknowledges by itself.
        on_confirmed: called with the packet id and reason code of every message that was sent.
        on_lost: called once when the socket is lost.
    """

    def __init__(
        self,
        address: MqttAddress,
        link: MqttLink,
        *,
        tls: ClosingContext | None,
        client_id: str | None,
        session: bool,
        inflight: int,
        receive: int,
        on_accepted: Callable[[Any, Any], None],
        on_message: Callable[[MQTTMessage], None] | None,
        on_confirmed: Callable[[int, Any], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._address = address
        self._link = link
        self._tls = tls
        self._on_accepted = on_accepted
        self._on_message = on_message
        self._on_confirmed = on_confirmed
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._accepted: asyncio.Future[None] = self._loop.create_future()
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._number: int | None = None
        self._abandoned = False
        self._timer: asyncio.TimerHandle | None = None
        self.lost = asyncio.Event()
        self.reason = ""
        """Why the socket was lost."""
        self.farewell: Any = None
        """The reason with which the broker ended the connection, where it gave one."""
        self.paused = False
        self.received = 0
        """Messages received."""
        five = link.version == "5"
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        self._options: dict[str, Any] = {"clean_start": not session, "properties": properties}
        if five:
            properties.ReceiveMaximum = min(receive, 65535)
            if session:
                properties.SessionExpiryInterval = link.session_expiry
        self.paho = paho = _Paho(
            CallbackAPIVersion.VERSION2,
            client_id,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            clean_session=None if five else not session,
            transport="tcp" if address.path is None else "websockets",
            reconnect_on_failure=False,
            manual_ack=on_message is not None,
        )
        paho.connect_timeout = link.timeout
        paho.max_inflight_messages_set(inflight)
        if address.path is not None:
            paho.ws_set_options(address.path)
        if address.user is not None:
            paho.username_pw_set(address.user, address.password)
        if tls is not None:
            paho.tls_set_context(tls)
        if link.will is not None:
            paho.will_set(link.will.topic, link.will.offline, link.will.qos, True)

    @property
    def is_open(self) -> bool:
        """Return whether the broker has accepted the connection and the socket stands."""
        return self.paho.is_connected() and self._number is not None

    async def open(self) -> None:
        """Connect, and wait until the broker has accepted.

        Raises:
            LinkError, OSError: the broker is not there, refuses, or does not answer in time.
        """
        try:
            # It blocks on names, sockets and handshakes.
            await self._loop.run_in_executor(None, self._connect)
            self._drive()
            async with asyncio.timeout(self._link.timeout):
                await self._accepted
        except TimeoutError:
            self._abandon()
            raise LinkError("it does not answer") from None
        except BaseException:
            self._abandon()
            raise

    def _connect(self) -> None:
        """Make the socket and send CONNECT. Runs in another thread: no callback is set yet."""
        options = self._options if self._link.version == "5" else {}
        try:
            self.paho.connect(self._address.host, self._address.port, self._link.keepalive, **options)
        except BaseException:
            self._close_opened()
            raise
        if self._abandoned:
            self._close_opened()

    def _drive(self) -> None:
        """Let the event loop read, write and keep the connection alive."""
        paho = self.paho
        paho.on_connect = self._connected
        paho.on_disconnect = self._disconnected
        paho.on_publish = lambda _client, _data, mid, code, _properties: self._on_confirmed(mid, code)
        paho.on_subscribe = paho.on_unsubscribe = self._answered
        if self._on_message is not None:
            paho.on_message = self._took
        paho.on_socket_close = lambda _client, _data, _socket: self._forget()
        paho.on_socket_register_write = lambda _client, _data, _socket: self._want_to_write()
        paho.on_socket_unregister_write = lambda _client, _data, _socket: self._write_no_more()
        if (sock := paho.socket()) is None:
            raise LinkError("closed before it was accepted")
        self._number = sock.fileno()
        self._loop.add_reader(self._number, self.read)
        if paho.want_write():
            self._want_to_write()
        self._timer = self._loop.call_later(_MISC_EVERY, self._keep_alive)

    async def subscribe(self, topic_filter: str, qos: int) -> Any:
        """Subscribe, and return the reason codes of the broker's answer."""
        return await self._answer(*self.paho.subscribe(topic_filter, qos))

    async def settle(self) -> None:
        """Wait until the broker has read all that was sent.

        MQTT is read in order, so the answer to one more request proves the rest. A ping would do, which paho sends only
        by itself: the request ends a subscription that does not exist.
        """
        with contextlib.suppress(LinkError):
            await self._answer(*self.paho.unsubscribe(_NOBODYS_TOPIC))

    async def close(self) -> None:
        """Say farewell and close the socket."""
        if self.lost.is_set():
            return
        self.resume()
        if not self.paho.disconnect():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._link.timeout):
                    await self.lost.wait()
        self.abort()

    def abort(self, reason: str = "it does not answer") -> None:
        """Close the socket without a farewell."""
        self._forget()
        if (sock := self.paho.socket()) is not None:
            sock.close()
            with contextlib.suppress(OSError):
                self.paho.loop_read()  # which finds the socket closed
        self._lose(reason)

    def pause(self) -> None:
        """Leave what the broker sends in the socket. When that is full, TCP slows the broker down."""
        if not self.paused and self._number is not None:
            self.paused = True
            self._loop.remove_reader(self._number)

    def resume(self) -> None:
        """Receive again after `pause`."""
        if self.paused:
            self.paused = False
            if self._number is not None:
                self._loop.add_reader(self._number, self.read)
                self.read()  # TLS may hold decrypted bytes, of which the socket says nothing

    def read(self) -> None:
        """Read a message from the socket, and what TLS has decrypted already."""
        try:
            self.paho.loop_read()
            while (sock := self.paho.socket()) is not None and getattr(sock, "pending", int)() > 0:
                self.paho.loop_read()
        except OSError as error:
            self.abort(f"{error}")

    def read_ahead(self, messages: int) -> None:
        """Receive up to `messages` more. The loop reads only one each time it turns."""
        try:
            for _ in range(messages):
                before = self.received
                if self.paused or self.paho.loop_read() or self.received == before:
                    return
        except OSError as error:
            self.abort(f"{error}")

    def acknowledge(self, mid: int) -> bool:
        """Acknowledge a message of QoS 1. Return False if the socket does not take it."""
        return not self.paho.ack(mid, 1)

    async def _answer(self, code: int, mid: int | None) -> Any:
        if code or mid is None or self.lost.is_set():
            raise LinkError(self.reason or "the connection was closed")
        answer = self._answers[mid] = self._loop.create_future()
        try:
            async with asyncio.timeout(self._link.timeout):
                return await answer
        except TimeoutError:
            raise LinkError("it does not answer") from None
        finally:
            self._answers.pop(mid, None)

    def _connected(self, _client: Any, _data: Any, flags: Any, code: Any, properties: Any) -> None:
        if code.is_failure:
            self._fail(RefusedError(code))
            return
        self._on_accepted(flags, properties)
        if not self._accepted.done():
            self._accepted.set_result(None)

    def _disconnected(self, _client: Any, _data: Any, flags: Any, code: Any, _properties: Any) -> None:
        if flags.is_disconnect_packet_from_server and is_refusal(code):
            self.farewell = code
        self._lose(f"{code}")

    def _took(self, _client: Any, _data: Any, message: MQTTMessage) -> None:
        self.received += 1
        if self._on_message is not None:
            self._on_message(message)

    def _answered(self, _client: Any, _data: Any, mid: int, codes: Any, _properties: Any) -> None:
        answer = self._answers.get(mid)
        if answer is not None and not answer.done():
            answer.set_result(codes)

    def _fail(self, error: LinkError) -> None:
        """End what waits for the broker's acceptance or answer."""
        for future in (self._accepted, *self._answers.values()):
            if not future.done():
                future.set_exception(error)
                future.exception()  # Retrieved here, or asyncio complains where nobody waits.

    def _lose(self, reason: str) -> None:
        if self.lost.is_set():
            return
        self.lost.set()
        self.reason = reason
        self._forget()
        self._fail(LinkError(f"closed before it was accepted: {reason}" if not self._accepted.done() else reason))
        self._on_lost()

    def _abandon(self) -> None:
        """Give up a connection that is not accepted."""
        self._abandoned = True
        self._forget()
        self._close_opened()
        self.lost.set()

    def _close_opened(self) -> None:
        if (sock := self.paho.socket()) is not None:
            sock.close()
        if self._tls is not None:
            self._tls.close()
        if self.paho.opened is not None:
            self.paho.opened.close()

    def _keep_alive(self) -> None:
        if not self.paho.loop_misc() and not self.lost.is_set():
            self._timer = self._loop.call_later(_MISC_EVERY, self._keep_alive)

    def _want_to_write(self) -> None:
        if self._number is not None:
            self._loop.add_writer(self._number, self._write)

    def _write_no_more(self) -> None:
        if self._number is not None:
            self._loop.remove_writer(self._number)

    def _write(self) -> None:
        try:
            self.paho.loop_write()
        except OSError as error:
            self.abort(f"{error}")

    def _forget(self) -> None:
        """Let the loop forget the socket before its number is another's."""
        if self._timer is not None:
            self._timer.cancel()
        if self._number is not None:
            self._loop.remove_reader(self._number)
            self._loop.remove_writer(self._number)
            self._number = None
