"""MQTT addresses and topics: a broker's address, and topics with the stream's name in them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from streamrde.errors import ParameterError

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_STREAM = "{stream}"
_CHANNEL = "{channel}"
_PLACEHOLDER = re.compile(r"\{[A-Za-z]\w*\}")
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
    def parsed(cls, address: MqttAddress | str) -> MqttAddress:
        """Return an address, parsed or not, as an address."""
        return cls.parse(address) if isinstance(address, str) else address

    @classmethod
    def parse(cls, url: str) -> MqttAddress:
        """Parse ``mqtt://user:password@host:port``, or ``mqtts://`` for TLS. The port is 1883, or 8883 with TLS.

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
    """Facts about a message from its topic."""

    stream: str
    channel: str | None = None


@dataclass(frozen=True)
class TopicTemplate:
    """Topics with the stream's name in them, such as ``sensors/{stream}/imu``.

    A name may have several levels: in ``plant/{site}/{line}/{stream}/imu`` it is that of all levels in braces, joined
    by ``/`` in their order. ``{channel}`` may be another level, and is no part of the name: each message then has one
    channel's value. ``+`` stands for any one level, and a last ``#`` for the rest: a source takes whatever is there, a
    sink cannot use them.

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
        braces = [level for level in levels if "{" in level or "}" in level]
        if stray := [level for level in braces if not _PLACEHOLDER.fullmatch(level)]:
            raise ParameterError(
                f"topic {self.template!r}: {stray[0]!r} must be a whole level in braces, as {{site}}, which is then "
                "part of the stream's name, or have no braces"
            )
        if twice := [level for level in braces if braces.count(level) > 1]:
            raise ParameterError(f"topic {self.template!r}: {twice[0]} must be one level; give the other another name")
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
        return "/".join("+" if _PLACEHOLDER.fullmatch(level) else level for level in self.template.split("/"))

    @property
    def names(self) -> tuple[str, ...]:
        """The levels that make up a stream's name, in their order."""
        return tuple(level for level in self.template.split("/") if _PLACEHOLDER.fullmatch(level) and level != _CHANNEL)

    @property
    def has_channel(self) -> bool:
        """True if each message has one channel's value."""
        return _CHANNEL in self.template

    def place_of(self, topic: str) -> Place | None:
        """Return what a topic says, or None if it does not fit or a level with a name is empty."""
        levels, wanted = topic.split("/"), self.template.split("/")
        if wanted[-1] == "#":
            del wanted[-1]
            if len(levels) < len(wanted):
                return None
            del levels[len(wanted) :]
        if len(levels) != len(wanted):
            return None
        names, channel = list[str](), None
        for level, want in zip(levels, wanted, strict=True):
            if want == _CHANNEL:
                channel = level
            elif want[:1] == "{":
                names.append(level)
            elif want not in (level, "+"):
                return None
        return Place("/".join(names), channel) if all(names) and channel != "" else None

    def device_of(self, topic: str) -> str:
        """Return the topic without its channel: the same for all messages of a device."""
        if not self.has_channel:
            return topic
        levels = topic.split("/")
        levels[self.template.split("/").index(_CHANNEL)] = _CHANNEL
        return "/".join(levels)

    def topic_for(self, stream: str) -> str:
        """Return the topic of one stream.

        Raises:
            ParameterError: the template has wildcards or a channel, or the name does not fit its levels.
        """
        if self.has_channel or any(sign in self.template for sign in "+#"):
            raise ParameterError(f"topic {self.template!r}: nothing can be published to wildcards or {_CHANNEL}")
        names = self.names
        parts = stream.split("/") if len(names) > 1 else [stream]
        unusual = not all(parts) or any(sign in part for part in parts for sign in "/+#\0")
        topic = self.template
        if not unusual and len(parts) == len(names):
            filled = dict(zip(names, parts, strict=True))
            topic = "/".join(filled.get(level, level) for level in self.template.split("/"))
        elif len(parts) != len(names):
            raise ParameterError(
                f"stream {stream[:80]!r} has {len(parts)} levels and topic {self.template!r} has {len(names)} for its "
                f"name, {', '.join(names)}: write the topic with a level for each"
            )
        if unusual or len(topic.encode()) > _MAX_TOPIC_BYTES:
            raise ParameterError(
                f"stream {stream[:80]!r} cannot be a level of topic {self.template!r}: rename it to a short name "
                "without / + # and NUL, or write the topic with as many levels as the name has, as {site}/{stream}"
            )
        return topic


def check_names(templates: Iterable[TopicTemplate]) -> None:
    """Raise ParameterError where the topics of one source make up streams' names in different ways."""
    first: TopicTemplate | None = None
    for template in templates:
        first = first or template
        if template.names != first.names:
            raise ParameterError(
                f"topics {first.template!r} and {template.template!r} name a stream by {'/'.join(first.names)} and by "
                f"{'/'.join(template.names)}: use the same levels in braces, in the same order, in all topics"
            )


def checked_qos(qos: int) -> int:
    """Return the quality of service, or raise an error if it is not supported."""
    if qos not in (0, 1):
        raise ParameterError(f"qos={qos}: use 0 (at most once) or 1 (at least once)")
    return qos
