"""Connections: frames in, the handler's answers out, one request of a connection after the other as in Kafka.

References: https://kafka.apache.org/protocol#protocol_messages (headers), KIP-35 and KIP-511 (ApiVersions: a version
that is not known is answered in version 0), KIP-152 (SASL in requests).
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
import ssl
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kafka_server import access, messages
from kafka_server.admin import Admin
from kafka_server.codes import Code
from kafka_server.commits import Commits
from kafka_server.consumer_groups import ConsumerGroups
from kafka_server.data import Data
from kafka_server.faults import Faults
from kafka_server.groups import Groups
from kafka_server.topics import Topics
from kafka_server.transactions import Transactions
from kafka_server.wire import Frame, plain, skip_tags

_TICK = 0.02  # seconds between two looks at timeouts
_LARGEST = 128 << 20
_BEFORE_LOGIN = ("ApiVersions", "SaslHandshake", "SaslAuthenticate")
_read_name = plain("?str", flexible=False)[0]


@dataclass
class Listener:
    """A port, and the address that its clients are told."""

    host_told: str
    port_told: int
    users: dict[str, str] | None = None
    mechanisms: tuple[str, ...] = access.MECHANISMS


@dataclass(eq=False)
class Connection:
    """A client's connection; also the context that handlers get."""

    listener: Listener
    writer: asyncio.StreamWriter
    host: str
    client_id: str = ""
    version: int = 0
    user: str | None = None
    login: access.Exchange | None = None

    @property
    def host_told(self) -> str:
        """The host that this client is to connect to."""
        return self.listener.host_told

    @property
    def port_told(self) -> int:
        """The port that this client is to connect to."""
        return self.listener.port_told


@dataclass
class Server:
    """The broker."""

    topics: Topics
    groups: Groups
    check_crc: bool = False
    faults: Faults = field(default_factory=Faults)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.transactions = Transactions(self.topics, self.groups)
        self.consumer_groups = ConsumerGroups(self.topics, self.groups)
        self.connections: set[Connection] = set()
        self.handlers: dict[str, Callable[[Any, Any], Any]] = {
            "ApiVersions": _api_versions,
            "SaslHandshake": _sasl_handshake,
            "SaslAuthenticate": _sasl_authenticate,
        }
        parts = (
            Admin(self.topics, self.groups),
            Data(self.topics, self.transactions, check_crc=self.check_crc),
            self.groups,
            self.consumer_groups,
            self.transactions,
            Commits(self.topics, self.groups, self.transactions),
        )
        for name in messages.BY_NAME.keys() - self.handlers.keys():
            method = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
            (self.handlers[name],) = [getattr(part, method) for part in parts if hasattr(part, method)]
        self._listeners: list[asyncio.Server] = []

    async def listen(
        self,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        advertised: str | None = None,
        users: dict[str, str] | None = None,
        mechanisms: list[str] | None = None,
        certificate: tuple[str, str] | None = None,
        clients: str | None = None,
    ) -> int:
        """Open a port and return its number.

        Args:
            port: its number; 0 is any free one.
            host: the address that it is opened on.
            advertised: host:port that clients are told, where a proxy is in front of this port.
            users: names and passwords; clients have to log in by SASL.
            mechanisms: those of SASL that are offered.
            certificate: files of certificate and key; the port has TLS.
            clients: file of the authority that clients' certificates must be of.
        """
        context = None
        if certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients)
            context.load_cert_chain(*certificate)
            context.verify_mode = ssl.CERT_REQUIRED if clients else ssl.CERT_NONE
        listener = Listener(host, 0, users, tuple(mechanisms or access.MECHANISMS))

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(reader, writer, listener)

        server = await asyncio.start_server(serve, host, port, ssl=context, limit=1 << 20)
        self._listeners.append(server)
        port = server.sockets[0].getsockname()[1]
        listener.port_told = port
        if advertised:
            listener.host_told, _, number = advertised.rpartition(":")
            listener.port_told = int(number)
        return port

    async def tick(self) -> None:
        """Let time pass for groups and transactions."""
        while True:
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            self.groups.expire(now)
            self.consumer_groups.expire(now)
            self.transactions.expire(now)

    def close_connections(self, client: str) -> int:
        """Cut the connections of clients with this in their ids, and return how many they were."""
        chosen = [one for one in self.connections if client in one.client_id]
        for one in chosen:
            one.writer.transport.abort()
        return len(chosen)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener: Listener) -> None:
        connection = Connection(listener, writer, *writer.get_extra_info("peername")[:1])
        self.connections.add(connection)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    size = int.from_bytes(await reader.readexactly(4), "big")
                    if size > _LARGEST:
                        raise ValueError(f"a frame of {size} bytes from {connection.client_id!r}")
                    answer = await self._answer(await reader.readexactly(size), connection)
                    if answer is None:
                        continue
                    writer.write(struct.pack(">i", len(answer)) + answer)
                    await writer.drain()
        except _Cut:
            writer.transport.abort()
        finally:
            self.connections.discard(connection)
            writer.close()

    async def _answer(self, data: bytes, connection: Connection) -> bytes | None:
        """Handle a frame; None wants no answer."""
        key, version, correlation = struct.unpack_from(">hhi", data)
        frame = Frame(data)
        frame.at = 8
        connection.client_id = _read_name(frame) or ""
        out = bytearray(struct.pack(">i", correlation))
        api = messages.APIS.get(key)
        if api is None or not api.first <= version <= api.last:
            if key != messages.BY_NAME["ApiVersions"].key:
                raise ValueError(f"request {key} of version {version} from {connection.client_id!r} is not known here")
            messages.writer(key, 0)(out, _api_versions(None, connection) | {"error_code": Code.UNSUPPORTED_VERSION})
            return bytes(out)
        flexible = version >= api.flexible
        if flexible:
            skip_tags(frame)
        request = messages.reader(key, version)(frame)
        if frame.at != len(data) and api.name != "Metadata":  # librdkafka #5049: too long where it wants all topics
            raise ValueError(f"{api.name} of version {version} has {len(data) - frame.at} bytes too many")
        if connection.listener.users is not None and connection.user is None and api.name not in _BEFORE_LOGIN:
            raise _Cut
        connection.version = version
        self.counts[api.name] += 1
        answer = await self._handle(api, request, connection)
        if answer is None:
            return None
        if flexible and api.name != "ApiVersions":
            out.append(0)
        messages.writer(key, version)(out, answer)
        return bytes(out)

    async def _handle(self, api: messages.Api, request: Any, connection: Connection) -> dict[str, Any] | None:
        await self.faults.passed(connection.client_id)
        fault = self.faults.take(api.name, connection.client_id, request)
        action = fault.action if fault else ""
        if fault and action == "delay":
            await asyncio.sleep(fault.seconds)
        if action == "cut_before":
            raise _Cut
        if action == "silence_before":
            await asyncio.Event().wait()
        refusal = messages.refusal(api.answer, request, Code[fault.code]) if fault and "error" in action else None
        if action == "error":
            return refusal
        answer = self.handlers[api.name](request, connection)
        if inspect.isawaitable(answer):
            answer = await answer
        if action == "cut_after":
            raise _Cut
        if action == "silence_after":
            await asyncio.Event().wait()
        await self.faults.passed(connection.client_id)
        return refusal or answer


class _Cut(Exception):
    """The connection is to be closed without an answer."""


def _api_versions(request: Any, context: Connection) -> dict[str, Any]:
    keys = [{"api_key": one.key, "min_version": one.first, "max_version": one.last} for one in messages.APIS.values()]
    return {"error_code": 0, "api_keys": keys, "throttle_time_ms": 0}


def _sasl_handshake(request: Any, context: Connection) -> dict[str, Any]:
    listener = context.listener
    known = request.mechanism in listener.mechanisms and listener.users is not None
    if known:
        context.login = access.exchange(request.mechanism, listener.users or {})
    code = Code.NONE if known else Code.UNSUPPORTED_SASL_MECHANISM
    return {"error_code": code, "mechanisms": list(listener.mechanisms)}


def _sasl_authenticate(request: Any, context: Connection) -> dict[str, Any]:
    answer = {"error_code": Code.NONE, "error_message": None, "auth_bytes": b"", "session_lifetime_ms": 0}
    if context.login is None:
        return answer | {"error_code": Code.ILLEGAL_SASL_STATE, "error_message": "no handshake came before"}
    try:
        return answer | {"auth_bytes": context.login.send(request.auth_bytes)}
    except StopIteration as end:
        context.user, answer["auth_bytes"] = end.value
        return answer
    except (access.Denied, ValueError, KeyError, IndexError) as error:
        context.login = None
        return answer | {"error_code": Code.SASL_AUTHENTICATION_FAILED, "error_message": f"{error}"}
