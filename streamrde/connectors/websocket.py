"""WebSocket: samples from a server that sends them, and predictions to a server that takes them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, unquote, urlsplit

import msgspec
import pyarrow as pa

from streamrde.connectors.access import Address, Scheme, read_secret
from streamrde.connectors.clients import Intake, Outgoing, Patience, QueueClient, certificate_refused
from streamrde.connectors.codecs.predictions import encode_prediction
from streamrde.connectors.columns import Columns
from streamrde.connectors.ends import MAX_BYTES
from streamrde.connectors.payloads import PayloadConfig
from streamrde.connectors.publishing import QueuePublisher
from streamrde.connectors.queue_sections import QueueAccess, QueueKeys, QueueSourceConfig
from streamrde.connectors.queues import QueueSink, QueueSource
from streamrde.connectors.sections import ModelOutline, RunSections, SinkConfig
from streamrde.connectors.topics import TopicTemplate
from streamrde.errors import BrokerError, ConfigError, MissingExtraError

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

_SCHEME = Scheme("ws", "wss", (80, 443), "/path")
# Seconds of silence after which the server is asked if it is there, and for its answer.
_PING = 20.0
# Seconds between two looks if there is room again. The socket is not read meanwhile.
_LOOK = 0.01
# Answers that come again however often one tries.
_FINAL = {400, 401, 403, 404, 405, 410, 426}
_ALL = TopicTemplate("{stream}")
# Connections that a client with one for each topic keeps.
_MOST_SOCKETS = 100


class WebSocketClient(QueueClient):
    """A client of a WebSocket server.

    Messages are not acknowledged: those that come while the connection is lost, or before they are processed, are lost.
    The socket is not read while the intake is full, so that TCP slows the server down. A message that was sent is
    confirmed by the answer to a ping: the server's end of the connection has read it.

    Args:
        address: the server, with the path and query of the request.
        tls: TLS context; None: without TLS.
        headers: further headers of the request.
        subprotocols: names of which the server chooses one.
        subscribe: messages to send after connecting.
        key: topic of all messages.
        max_bytes: longest message that is received.
    """

    def __init__(
        self,
        address: Address,
        *,
        tls: ssl.SSLContext | None = None,
        patience: Patience | None = None,
        intake: Intake | None = None,
        headers: Mapping[str, str] | None = None,
        subprotocols: Sequence[str] = (),
        subscribe: Sequence[str] = (),
        key: str = "",
        max_bytes: int = MAX_BYTES,
    ) -> None:
        super().__init__(f"WebSocket server {address}", patience=patience, intake=intake)
        self._address = address
        self._tls = tls
        self._headers = dict(headers or {})
        self._subprotocols = list(subprotocols)
        self._subscribe = tuple(subscribe)
        self._key = key.encode()
        self._max_bytes = max_bytes
        self._socket: ClientConnection | None = None
        self._reading: asyncio.Task[None] | None = None

    async def _connect(self) -> None:
        self._socket = socket = await self._open(self._address.path or "/")
        with _mapped():
            for message in self._subscribe:
                await socket.send(message)
        self._reading = asyncio.create_task(self._read(socket))

    async def _open(self, path: str) -> ClientConnection:
        """Connect to a path of the server."""
        try:
            from websockets.asyncio.client import connect
        except ImportError:
            raise MissingExtraError("kind = 'websocket'", "web") from None
        scheme = "ws" if self._tls is None else "wss"
        with _mapped():
            return await connect(
                f"{scheme}://{self._address}{path}",
                ssl=self._tls,
                additional_headers=self._headers,
                subprotocols=self._subprotocols or None,  # type: ignore[arg-type]
                open_timeout=None,
                close_timeout=1.0,
                ping_interval=_PING,
                ping_timeout=_PING,
                max_size=self._max_bytes,
            )

    async def _read(self, socket: ClientConnection) -> None:
        reason = "it closed the connection"
        try:
            async for message in socket:
                if (intake := self.intake) is None:
                    continue
                while len(intake.messages) >= intake.limit:
                    await asyncio.sleep(_LOOK)
                payload = message.encode() if isinstance(message, str) else message
                intake.put(self._key, payload, None, None)
                self.changed.set()
        except Exception as error:
            reason = f"{error}"
        if socket.close_code is not None and socket.close_code != 1000:
            reason = f"closed with code {socket.close_code} {socket.close_reason or ''}".rstrip()
        self.lost(reason)

    async def _publish(self, messages: Sequence[Outgoing]) -> None:
        if (socket := self._socket) is None:
            raise BrokerError("the connection was closed")
        with _mapped():
            for message in messages:
                await socket.send(message.payload.decode())
            await (await socket.ping())

    async def _disconnect(self) -> None:
        socket, self._socket = self._socket, None
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        if socket is not None:
            with contextlib.suppress(Exception):
                await socket.close()


class _Line:
    """A connection of a `PathsClient`, and how many of its messages are sent and confirmed."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.sent = self.confirmed = 0
        self.changed = asyncio.Event()
        self.listening: asyncio.Task[None] | None = None


class PathsClient(WebSocketClient):
    """A client with a connection of its own for each topic, which is the path behind that of the address.

    An answer with an ``error`` ends it for good. At most 100 connections are open at a time.

    Args:
        confirms: the server counts the messages that are safe, as a source of kind "http" does. Else they are confirmed
            by the answer to a ping.
        address, options: as for `WebSocketClient`.
    """

    def __init__(self, address: Address, *, confirms: bool = False, **options: Any) -> None:
        super().__init__(address, **options)
        self._confirms = confirms
        self._refused = ""
        self._lines: dict[str, _Line] = {}

    async def _connect(self) -> None:
        """Connect to nothing yet: the paths are in the messages."""

    async def _publish(self, messages: Sequence[Outgoing]) -> None:
        for message in messages:
            if (line := self._lines.pop(message.topic, None)) is None:
                while len(self._lines) >= _MOST_SOCKETS:
                    await self._leave(next(iter(self._lines)))
                line = _Line(await self._open(self._path(message.topic)))
                line.listening = asyncio.create_task(self._listen(line))
            self._lines[message.topic] = line  # the latest used stand last
            with _mapped():
                await line.socket.send(message.payload.decode())
            line.sent += 1
        for topic in dict.fromkeys(message.topic for message in messages):
            if (used := self._lines.get(topic)) is not None:
                await self._confirm(used)

    async def _confirm(self, line: _Line) -> None:
        """Wait until the messages of a connection are confirmed."""
        with _mapped():
            await (await line.socket.ping())
        while self._confirms and line.confirmed < line.sent and not self._refused:
            if line.listening is None or line.listening.done():
                raise BrokerError("the connection was closed")
            line.changed.clear()
            await line.changed.wait()
        if self._refused:
            raise BrokerError(f"it refuses a message: {self._refused}", final=True)

    async def _leave(self, topic: str) -> None:
        await self._confirm(self._lines[topic])
        await self._close(self._lines.pop(topic))

    async def _listen(self, line: _Line) -> None:
        """Look at what the server answers."""
        try:
            with contextlib.suppress(Exception):
                async for text in line.socket:
                    with contextlib.suppress(msgspec.DecodeError, msgspec.ValidationError):
                        answer = msgspec.json.decode(text, type=_Answer)
                        line.confirmed = max(line.confirmed, answer.confirmed)
                        self._refused = self._refused or answer.error
                    line.changed.set()
        finally:
            line.changed.set()

    def _path(self, topic: str) -> str:
        base, _, query = self._address.path.partition("?")
        levels = [base.rstrip("/"), *(quote(level, safe="") for level in topic.split("/"))]
        asked = [part for part in (query, "confirm=1" if self._confirms else "") if part]
        return "/".join(levels) + ("?" + "&".join(asked) if asked else "")

    async def _close(self, line: _Line) -> None:
        with contextlib.suppress(Exception):
            await line.socket.close()
        if line.listening is not None:
            await asyncio.gather(line.listening, return_exceptions=True)

    async def _disconnect(self) -> None:
        lines, self._lines = self._lines, {}
        await asyncio.gather(*map(self._close, lines.values()))


class _Answer(msgspec.Struct):
    """An answer of a server to messages."""

    error: str = ""
    confirmed: int = 0


class WebSocketSink(QueueSink):
    """Predictions to a WebSocket server, one message of JSON per prediction.

    Args:
        client: client of the server.
    """

    def __init__(self, client: WebSocketClient) -> None:
        super().__init__(client, _ALL)

    async def write(self, batch: pa.RecordBatch) -> None:
        """Send every prediction of a record batch. Return when the server's end has read all."""
        await self.client.publish([Outgoing("", encode_prediction(row)) for row in batch.to_pylist()])


class WebSocketAccess(QueueAccess):
    """Answer for a client of a WebSocket server."""

    __slots__ = ()

    scheme: ClassVar[Scheme] = _SCHEME
    system: ClassVar[str] = "WebSocket server"

    token_env: Any
    token_file: Any
    subprotocols: Any

    @property
    def place(self) -> str:
        """See `QueueAccess.place`."""
        return urlsplit(self.url).path or "/"

    @property
    def queue(self) -> str:
        """See `QueueAccess.queue`."""
        return f"{self.system} {Address.parse(self.url.partition('?')[0], self.scheme)}"

    def address(self) -> Address:
        """Return the server, with the query of the URL behind the path."""
        url, mark, query = self.url.partition("?")
        address = msgspec.structs.replace(self, url=url)._plain_address()  # type: ignore[type-var]
        return dataclasses.replace(address, path=(address.path or "/") + mark + query)

    def _plain_address(self) -> Address:
        return super().address()

    def headers(self) -> dict[str, str]:
        """Return the header with user and password, or the token."""
        address = self.address()
        token = read_secret("token", variable=self.token_env, file=self.token_file)
        if token is not None and (address.user or address.password):
            raise ConfigError("a token and a user or password are given: use one of them")
        if token is not None:
            return {"Authorization": f"Bearer {token}"}
        if address.user is None:
            return {}
        secret = base64.b64encode(f"{address.user}:{address.password or ''}".encode()).decode()
        return {"Authorization": f"Basic {secret}"}

    def client(
        self, intake: Intake | None = None, *, kind: type[WebSocketClient] = WebSocketClient, **options: Any
    ) -> WebSocketClient:
        """Return a client with the section's keys."""
        return kind(
            dataclasses.replace(self.address(), user=None, password=None),
            tls=self.context(),
            patience=self.patience(),
            intake=intake,
            headers=self.headers(),
            subprotocols=self.subprotocols,
            **options,
        )

    def look(self) -> WebSocketClient:
        """See `QueueAccess.look`."""
        return self.client()

    def check(self, name: str, run: RunSections) -> None:
        """See `EndConfig.check`."""
        super().check(name, run)
        self.headers()


class WebSocketSourceConfig(
    WebSocketAccess, QueueSourceConfig, frozen=True, kw_only=True, tag_field="kind", tag="websocket"
):
    """Receive samples from a WebSocket server, each message a payload. What comes while this is away is lost."""

    subscribe: tuple[str, ...] = ()
    """Messages to send after connecting, such as '{"subscribe": "imu"}'."""
    token_env: str | None = None
    """Environment variable with a token for the header Authorization: Bearer TOKEN."""
    token_file: str | None = None
    """File whose first line is the token."""
    subprotocols: tuple[str, ...] = ()
    """Subprotocols, of which the server chooses one."""

    @property
    def keeps(self) -> bool:
        """See `QueueSourceConfig.keeps`."""
        return False

    def payloads(self) -> tuple[PayloadConfig, ...]:
        """Return the payloads. Without a topic, the stream has the name of the path's last level."""
        if self.topic is None and not self.topics:
            return (PayloadConfig.of(self, "{stream}"),)
        return super().payloads()

    @property
    def key(self) -> str:
        """Return the topic of all messages: the URL's path, or its last level, or the host if it has no path."""
        parts = urlsplit(self.url)
        path = unquote(parts.path).strip("/")
        if self.topic is None and not self.topics:
            path = path.rpartition("/")[2]
        return path or parts.hostname or ""

    def build(self, model: ModelOutline) -> QueueSource:
        """See `SourceConfig.build`."""
        intake = Intake(limit=self.queue_messages)
        client = self.client(intake, subscribe=self.subscribe, key=self.key, max_bytes=self.max_bytes)
        return QueueSource(client, intake, self.reader(model))


class WebSocketSinkConfig(WebSocketAccess, QueueKeys, SinkConfig, frozen=True, kw_only=True, tag="websocket"):
    """Predictions to a WebSocket server, as messages of JSON."""

    schemes: ClassVar[tuple[str, ...]] = ("ws", "wss")
    sensors: ClassVar[str] = "streams/{stream}"

    topic: str | None = None
    """Path behind that of the url, with {stream} as one level: each stream has its own connection. None: all share
    one."""
    confirms: bool = False
    """With topic: the server counts the messages that are safe, as a source of kind = "http" does. If false, messages
    are confirmed when the server's end of the connection has read them."""
    token_env: str | None = None
    """Environment variable with a token for the header Authorization: Bearer TOKEN."""
    token_file: str | None = None
    """File whose first line is the token."""
    subprotocols: tuple[str, ...] = ()
    """Subprotocols, of which the server chooses one."""

    @property
    def takes_provisional(self) -> bool:
        """See `SinkConfig.takes_provisional`."""
        return True

    def check(self, name: str, run: RunSections) -> None:
        """See `EndConfig.check`."""
        super().check(name, run)
        if self.confirms and self.topic is None:
            raise ConfigError(f"{name}.confirms is for {name}.topic: without it no server counts messages")

    def build(self, model: ModelOutline) -> QueueSink:
        """See `SinkConfig.build`."""
        if self.topic is None:
            return WebSocketSink(self.client())
        return QueueSink(self.client(kind=PathsClient, confirms=self.confirms), TopicTemplate(self.topic))

    def publisher(self, columns: Columns, batch: int) -> QueuePublisher:
        """See `SinkConfig.publisher`."""
        client = self.client(kind=PathsClient, confirms=self.confirms)
        client.patience = Patience(timeout=self.timeout, reconnect=False)
        return QueuePublisher(client, TopicTemplate(self.topic or self.sensors), columns, batch)


@contextlib.contextmanager
def _mapped() -> Iterator[None]:
    """Raise what the client library and the network raise as BrokerError, with a remedy."""
    from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

    try:
        yield
    except InvalidStatus as error:
        status = error.response.status_code
        remedy = "check user, password or token" if status in (401, 403) else "check the path of the url"
        raise BrokerError(f"it refuses with status {status}; {remedy}", final=status in _FINAL) from None
    except (InvalidURI, InvalidHandshake) as error:
        raise BrokerError(f"it is no WebSocket server ({error}); check the url", final=False) from None
    except ConnectionClosed as error:
        raise BrokerError(f"the connection was closed ({error})") from None
    except ssl.SSLCertVerificationError as error:
        raise certificate_refused(error) from None
    except OSError as error:
        raise BrokerError(f"{error}; start the server or check host, port and ws:// or wss://") from None
