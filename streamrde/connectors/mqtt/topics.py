"""Where MQTT messages go: a broker's address, and topics with the stream's name in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from streamrde.errors import ParameterError

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_STREAM = "{stream}"
_CHANNEL = "{channel}"
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
    def of(cls, address: MqttAddress | str) -> MqttAddress:
        """An address, parsed or not, as an address."""
        return cls.parse(address) if isinstance(address, str) else address

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


class Place(NamedTuple):
    """What a topic says about the message in it."""

    stream: str
    channel: str | None = None


@dataclass(frozen=True)
class TopicTemplate:
    """Topics with the stream's name as one level, such as ``sensors/{stream}/imu``.

    ``{channel}`` may be another level: each message then has one channel's value. ``+`` stands for any one level, and a
    last ``#`` for the rest: a source takes whatever is there, a sink cannot use them.

    Raises:
        ParameterError: not exactly one level is ``{stream}``, or a placeholder or wildcard is not a whole level.
    """

    template: str

    def __post_init__(self) -> None:
        levels = self.template.split("/")
        if levels.count(_STREAM) != 1 or self.template.count(_STREAM) != 1:
            raise ParameterError(
                f"topic {self.template!r}: exactly one whole level must be {_STREAM}, as in 'a/{_STREAM}'"
            )
        if levels.count(_CHANNEL) != self.template.count(_CHANNEL) or levels.count(_CHANNEL) > 1:
            raise ParameterError(f"topic {self.template!r}: {_CHANNEL} must be one whole level, or none")
        if levels[0] == "$share":
            raise ParameterError(
                f"topic {self.template!r}: a shared subscription deals a stream's messages to several clients, and its "
                "state lives in one; give each run topics of its own, such as 'a/{stream}' and 'b/{stream}'"
            )
        stray = [level for level in levels if ("+" in level or "#" in level) and level not in ("+", "#")]
        if stray or "#" in levels[:-1] or "\0" in self.template:
            raise ParameterError(f"topic {self.template!r}: + must be a whole level, # the last; NUL may not be in it")

    @property
    def filter(self) -> str:
        """The subscription that matches every stream."""
        return self.template.replace(_STREAM, "+").replace(_CHANNEL, "+")

    @property
    def has_channel(self) -> bool:
        """Whether each message has one channel's value."""
        return _CHANNEL in self.template

    def place_of(self, topic: str) -> Place | None:
        """What a topic says, or None where it does not fit or the stream's or channel's level is empty."""
        levels, wanted = topic.split("/"), self.template.split("/")
        if wanted[-1] == "#":
            del wanted[-1]
            if len(levels) < len(wanted):
                return None
            del levels[len(wanted) :]
        if len(levels) != len(wanted):
            return None
        stream, channel = "", None
        for level, want in zip(levels, wanted, strict=True):
            if want == _STREAM:
                stream = level
            elif want == _CHANNEL:
                channel = level
            elif want not in (level, "+"):
                return None
        return Place(stream, channel) if stream and channel != "" else None

    def topic_for(self, stream: str) -> str:
        """The topic of one stream.

        Raises:
            ParameterError: the template has wildcards or a channel, or the name cannot be a level of a topic.
        """
        if self.has_channel or any(sign in self.template for sign in "+#"):
            raise ParameterError(f"topic {self.template!r}: nothing can be published to wildcards or {_CHANNEL}")
        topic = self.template.replace(_STREAM, stream)
        if not stream or any(sign in stream for sign in "/+#\0") or len(topic.encode()) > _MAX_TOPIC_BYTES:
            raise ParameterError(
                f"stream {stream[:80]!r} cannot be a level of topic {self.template!r}: "
                "rename it to a short name without / + # and NUL"
            )
        return topic


def checked_qos(qos: int) -> int:
    """The quality of service, where it is one that is supported."""
    if qos not in (0, 1):
        raise ParameterError(f"qos={qos}: use 0 (at most once) or 1 (at least once)")
    return qos
