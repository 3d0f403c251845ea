"""Sections of kind "http": a server that takes samples, or shows predictions."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec

from streamrde.connectors.access import read_secret
from streamrde.connectors.codecs.predictions import encode_prediction
from streamrde.connectors.http.options import Listening
from streamrde.connectors.http.sink import HttpSink
from streamrde.connectors.http.source import HttpSource
from streamrde.connectors.messages import MessageReader, Subscription
from streamrde.connectors.payloads import PayloadConfig, PayloadSourceConfig
from streamrde.connectors.registry import CODECS
from streamrde.connectors.samples import SourceCounts
from streamrde.connectors.sections import EndConfig, ModelOutline, RunSections, Section, SinkConfig
from streamrde.errors import ConfigError, MissingExtraError, ParameterError
from streamrde.settings import Positive, Seconds


class ListenConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Address of the server, and who may use it. A source and a sink with the same table share one server."""

    host: str = "127.0.0.1"
    """Address of this machine. Others reach it only if it is another one, which needs a token."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8080
    """TCP port. 0: any free one."""
    token_env: str | None = None
    """Environment variable with the token that clients send in the header Authorization: Bearer TOKEN."""
    token_file: str | None = None
    """File whose first line is the token."""
    certificate: str | None = None
    """Certificate for TLS, PEM. None: without TLS."""
    key: str | None = None
    """Its private key, PEM, without a password."""
    origins: tuple[str, ...] = ()
    """Web pages whose scripts may connect, such as "https://example.org". All others are refused."""
    connections: Positive = 256
    """Clients that may be connected at a time. More are answered with 503."""
    max_bytes: Positive = 1 << 20
    """Longest body of a request, or message of a WebSocket."""
    timeout: Seconds = 30.0
    """Seconds in which a client must send the head of its request, and again its body."""

    def listening(self, name: str) -> Listening:
        """Return the settings of the server, with the token from wherever it is."""
        try:
            token = read_secret("token", variable=self.token_env, file=self.token_file)
            return Listening(
                host=self.host,
                port=self.port,
                token=token,
                certificate=self.certificate,
                key=self.key,
                origins=self.origins,
                connections=self.connections,
                max_bytes=self.max_bytes,
                timeout=self.timeout,
            )
        except ParameterError as error:
            raise ConfigError(f"{name}.listen: {error}") from None


class HttpEnd(EndConfig):
    """Answer for an end that listens."""

    __slots__ = ()

    listen: ListenConfig

    def check(self, name: str, run: RunSections) -> None:
        """See `EndConfig.check`."""
        self.listen.listening(name)
        ends = {other: end for other, end in run.named().items() if isinstance(end, HttpEnd)}
        places = {other: (end.listen.host, end.listen.port) for other, end in ends.items() if end.listen.port}
        alike = [other for other, place in places.items() if place == places.get(name)]
        if len(sources := [other for other in alike if isinstance(ends[other], HttpSourceConfig)]) > 1:
            raise ConfigError(
                f"{' and '.join(sources)} have one host and port: choose another port, or use one source with several "
                "topics"
            )
        if any(ends[other].listen != self.listen for other in alike):
            raise ConfigError(
                f"{' and '.join(f'{other}.listen' for other in alike)} have one host and port, and differ in other "
                "keys: make them equal, or choose another port"
            )

    def warnings(self, name: str, run: RunSections) -> list[str]:
        """See `EndConfig.warnings`."""
        listening = self.listen.listening(name)
        if listening.certificate is None and listening.token is not None and not listening.is_local:
            return [
                f"{name}.listen: the token travels without encryption; set certificate and key, or put a proxy with "
                "TLS before it"
            ]
        return []

    async def probe(self) -> str:
        """Look if the server could start. The port is not opened: a run that is on has it."""
        listening = self.listen.listening("listen")
        try:
            listening.tls()
            import starlette
            import uvicorn
        except ParameterError as error:
            raise ConfigError(f"listen: {error}") from None
        except ImportError:
            raise MissingExtraError("kind = 'http'", "web") from None
        return f"{listening}, starlette {starlette.__version__}, uvicorn {uvicorn.__version__}"


class HttpSourceConfig(HttpEnd, PayloadSourceConfig, frozen=True, kw_only=True, tag_field="kind", tag="http"):
    """Receive samples that clients send with POST, or over a WebSocket."""

    default_topic: ClassVar[str] = "streams/{stream}"

    listen: ListenConfig = ListenConfig()
    inflight: Positive = 2
    """Requests that wait for their answer until a checkpoint is made. It is made at half of them."""

    def payloads(self) -> tuple[PayloadConfig, ...]:
        """Return all paths with their payloads."""
        if self.topic is None and not self.topics:
            return (PayloadConfig.of(self, self.default_topic),)
        return super().payloads()

    def readers(self, model: ModelOutline) -> tuple[dict[str, MessageReader], dict[str, str]]:
        """Return a reader for each codec that a Content-Type can choose, and the codec of each type.

        The reader with the name "" is that of the configured codec.
        """
        counts, quarantine = SourceCounts(), self.quarantine()

        def reader(subscriptions: Sequence[Subscription]) -> MessageReader:
            return MessageReader(
                subscriptions,
                model.channels,
                queue=f"HTTP server {self.listen.host}:{self.listen.port}",
                counts=counts,
                time_zero=self.zero,
                max_bytes=self.listen.max_bytes,
                quarantine=quarantine,
                lossy="look at the sender",
            )

        readers, types = {"": reader(self.subscriptions(model.channels, model.units, model.classes))}, dict[str, str]()
        configured = {payload.codec for payload in self.payloads()}
        for codec in CODECS.classes():
            if not codec.media_types:
                continue
            name = codec.format
            if configured == {name}:
                types |= dict.fromkeys(codec.media_types, "")
                continue
            # A codec that is not installed, or cannot read such columns, is one that no client can use.
            with contextlib.suppress(ConfigError, ParameterError, MissingExtraError):
                found = [
                    msgspec.structs.replace(payload, codec=name, layout=None).subscription(
                        template, model.channels, model.units, max_bytes=self.listen.max_bytes, classes=model.classes
                    )
                    for template, payload in zip(self.templates(), self.payloads(), strict=True)
                ]
                readers[name] = reader(found)
                types |= dict.fromkeys(codec.media_types, name)
        return readers, types

    def check(self, name: str, run: RunSections) -> None:
        """See `EndConfig.check`."""
        super().check(name, run)
        self.templates()
        if self.max_bytes != self.listen.max_bytes and self.max_bytes != 1 << 20:
            raise ConfigError(f"{name}.max_bytes: set {name}.listen.max_bytes instead, which ends a request early")

    def warnings(self, name: str, run: RunSections) -> list[str]:
        """See `EndConfig.warnings`."""
        found = super().warnings(name, run)
        if any(not payload.time for payload in self.payloads()):
            found.append(
                f'{name}: time = "" gives a sample the time of its arrival: what a client sends again, because it got '
                "no answer, counts twice; name a field with the time"
            )
        return found

    def build(self, model: ModelOutline) -> HttpSource:
        """See `SourceConfig.build`."""
        readers, types = self.readers(model)
        return HttpSource(self.listen.listening("source"), readers, "", types, queue_messages=self.queue_messages)


class HttpSinkConfig(HttpEnd, Section, SinkConfig, frozen=True, kw_only=True, tag="http"):
    """Show predictions to who is connected: server-sent events or a WebSocket at /predictions."""

    listen: ListenConfig = ListenConfig()
    queue_messages: Positive = 1000
    """Predictions that wait for each viewer. One who is slower loses the oldest, and is told how many."""

    @property
    def takes_provisional(self) -> bool:
        """See `SinkConfig.takes_provisional`."""
        return True

    def notes(self, name: str, run: RunSections) -> list[str]:
        """See `EndConfig.notes`."""
        return [f"{name}: predictions that nobody watches are gone; a sink of files or a queue keeps them"]

    def build(self, model: ModelOutline) -> HttpSink:
        """See `SinkConfig.build`."""
        return HttpSink(self.listen.listening("sink"), queue_messages=self.queue_messages, encode=encode_prediction)
