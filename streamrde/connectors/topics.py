"""Where MQTT messages go: a broker's address, and topics with the stream's name in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from streamrde.errors import ParameterError

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_PLACEHOLDER = "{stream}"
# The length of a topic is two bytes on the wire.
_MAX_TOPIC_BYTES = 65535


@dataclass(frozen=True)
class MqttAddress:
    """A broker's address. The password appears in no repr, error or log.

    Args:
        host: name or IP address.
        port: TCP port.
        tls: encrypt, and check the certificate and its host name against the system's authorities.
    """

    host: str
    port: int = 1883
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def parse(cls, url: str) -> MqttAddress:
        """``mqtt://user:password@host:port``; ``mqtts://`` for TLS; the port is 1883, or 8883 with TLS.

        Raises:
            ParameterError: the URL has another form. The message never repeats what could be a password.
        """
        form = "a broker's address looks like mqtt://host:1883 or mqtts://user:password@host:8883"
        hint = "percent-encode / ? # @ : in a user or password"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ParameterError(f"its port or host cannot be read: {form}; {hint}") from None
        if parts.scheme not in _PORTS:
            raise ParameterError(f"it does not begin with mqtt:// or mqtts://: {form}")
        if not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
            raise ParameterError(f"no host in it, or something after the host: {form}; {hint}")
        if parts.password and not parts.username:
            raise ParameterError(f"it has a password without a user: {form}")
        return cls(
            parts.hostname,
            port or _PORTS[parts.scheme],
            unquote(parts.username) if parts.username else None,
            unquote(parts.password) if parts.password else None,
            parts.scheme == "mqtts",
        )


@dataclass(frozen=True)
class TopicTemplate:
    """Topics with the stream's name as one level, such as ``sensors/{stream}/imu``.

    Raises:
        ParameterError: not exactly one level is ``{stream}``, or the template has a wildcard.
    """

    template: str

    def __post_init__(self) -> None:
        levels = self.template.split("/")
        if levels.count(_PLACEHOLDER) != 1 or self.template.count(_PLACEHOLDER) != 1:
            raise ParameterError(
                f"topic {self.template!r}: exactly one whole level must be {_PLACEHOLDER}, as in 'a/{_PLACEHOLDER}'"
            )
        if any(sign in self.template for sign in "+#\0"):
            raise ParameterError(
                f"topic {self.template!r}: wildcards are not allowed; {_PLACEHOLDER} stands for the stream's level"
            )

    @property
    def filter(self) -> str:
        """The subscription that matches every stream."""
        return self.template.replace(_PLACEHOLDER, "+")

    def stream_of(self, topic: str) -> str | None:
        """The stream's name in a topic, or None where the topic does not fit."""
        prefix, _, suffix = self.template.partition(_PLACEHOLDER)
        if len(topic) <= len(prefix) + len(suffix) or not (topic.startswith(prefix) and topic.endswith(suffix)):
            return None
        stream = topic[len(prefix) : len(topic) - len(suffix)]
        return None if "/" in stream else stream

    def topic_for(self, stream: str) -> str:
        """The topic of one stream.

        Raises:
            ParameterError: the name cannot be a level of a topic.
        """
        topic = self.template.replace(_PLACEHOLDER, stream)
        if not stream or any(sign in stream for sign in "/+#\0") or len(topic.encode()) > _MAX_TOPIC_BYTES:
            raise ParameterError(
                f"stream {stream[:80]!r} cannot be a level of topic {self.template!r}: "
                "rename it to a short name without / + # and NUL"
            )
        return topic
