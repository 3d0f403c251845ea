"""Topics with the stream's name in them: those of MQTT, subjects of NATS, routing keys of AMQP, keys of Redis."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from streamrde.errors import ParameterError

_STREAM = "{stream}"
_CHANNEL = "{channel}"
_PLACEHOLDER = re.compile(r"\{[A-Za-z]\w*\}")
# The length of an MQTT topic is two bytes on the wire. No other queue allows as much.
_MAX_TOPIC_BYTES = 65535
_ENCODED = re.compile("%[0-9A-Fa-f]{2}")


class Grammar(NamedTuple):
    """Signs of which a queue's topics are made."""

    separator: str
    """Sign between two levels."""
    one: str
    """Wildcard for any one level."""
    rest: str
    """Last level that stands for all that follow. "": there is none."""


MQTT = Grammar("/", "+", "#")
NATS = Grammar(".", "*", ">")
AMQP = Grammar(".", "*", "#")
REDIS = Grammar(":", "*", "")


class Place(NamedTuple):
    """Facts about a message from its topic."""

    stream: str
    channel: str | None = None


@dataclass(frozen=True)
class TopicTemplate:
    """Topics with the stream's name in them, such as ``sensors/{stream}/imu``.

    A name may have several levels: in ``plant/{site}/{line}/{stream}/imu`` it is that of all levels in braces, joined
    by ``/`` in their order. ``{channel}`` may be another level, and is no part of the name: each message then has one
    channel's value. In MQTT ``+`` stands for any one level, and a last ``#`` for the rest: a source takes whatever is
    there, a sink cannot use them. Other queues separate levels by other signs and have other wildcards.

    Args:
        template: levels, placeholders and wildcards.
        grammar: signs of the queue.
        named: the stream's name is in the topic. If false, messages say it themselves, and ``{stream}`` is not needed.
    Raises:
        ParameterError: not exactly one level is ``{stream}``, or a placeholder or wildcard is not a whole level.
    """

    template: str
    grammar: Grammar = MQTT
    named: bool = True

    def __post_init__(self) -> None:
        levels, (separator, one, rest) = self.levels, self.grammar
        if self.named and (levels.count(_STREAM) != 1 or self.template.count(_STREAM) != 1):
            raise ParameterError(
                f"topic {self.template!r}: exactly one whole level must be {_STREAM}, as in 'a{separator}{_STREAM}'"
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
        signs = [sign for sign in (one, rest) if sign]
        stray = [level for level in levels if any(sign in level for sign in signs) and level not in signs]
        if stray or (rest and rest in levels[:-1]) or "\0" in self.template:
            last = f", {rest} the last" if rest else ""
            raise ParameterError(f"topic {self.template!r}: {one} must be a whole level{last}; NUL may not be in it")

    @property
    def levels(self) -> list[str]:
        """Return the levels of the template."""
        return self.template.split(self.grammar.separator)

    @property
    def filter(self) -> str:
        """The subscription that matches every stream."""
        one = self.grammar.one
        return self.grammar.separator.join(one if _PLACEHOLDER.fullmatch(level) else level for level in self.levels)

    @property
    def names(self) -> tuple[str, ...]:
        """The levels that make up a stream's name, in their order."""
        return tuple(level for level in self.levels if _PLACEHOLDER.fullmatch(level) and level != _CHANNEL)

    @property
    def has_channel(self) -> bool:
        """True if each message has one channel's value."""
        return _CHANNEL in self.template

    def stream_of(self, topic: str) -> str:
        """Return the stream's name that a topic has, "" if it has none."""
        place = self.place_of(topic)
        return "" if place is None else place.stream

    def place_of(self, topic: str) -> Place | None:
        """Return what a topic says, or None if it does not fit or a level with a name is empty."""
        separator, one, rest = self.grammar
        levels, wanted = topic.split(separator), self.levels
        if rest and wanted[-1] == rest:
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
            elif want not in (level, one):
                return None
        return Place("/".join(names), channel) if all(names) and channel != "" else None

    def device_of(self, topic: str) -> str:
        """Return the topic without its channel: the same for all messages of a device."""
        if not self.has_channel:
            return topic
        separator = self.grammar.separator
        levels = topic.split(separator)
        levels[self.levels.index(_CHANNEL)] = _CHANNEL
        return separator.join(levels)

    def check_publishing(self) -> None:
        """Raise ParameterError if nothing can be published to the template."""
        self.topic_for("/".join(["level"] * len(self.names)))

    def topic_of_any(self, stream: str) -> str:
        """Return the topic of one stream, whatever its name is: a payload may name it.

        Signs that no level can have are written as in a URL, ``a/b`` as ``a%2Fb``. A name with fewer levels than the
        template leaves the last ones out, and the rest of one with more is its last level.
        """
        names = self.names
        parts = stream.split("/", len(names) - 1) if len(names) > 1 else [stream]
        written = [self._written(part) for part in parts]
        if written == parts and len(parts) == len(names):
            return self.topic_for(stream)
        filled = dict(zip(names, written, strict=False))
        levels = [filled.get(level, level) for level in self.levels if level in filled or level not in names]
        return self.grammar.separator.join(levels)

    def _written(self, part: str) -> str:
        """Return a part of a name as a level. An empty one is a lone %, which no other is."""
        if not part:
            return "%"
        signs, grammar = {*self.grammar, "\0"}, self.grammar
        odd = {
            sign
            for sign in part
            if sign in signs or (grammar is NATS and sign.isspace()) or (grammar is MQTT and _ends_connections(sign))
        }
        if not odd and part != "%" and not _ENCODED.search(part):
            return part
        return "".join(_percent(sign) if sign in odd or sign == "%" else sign for sign in part)

    def topic_for(self, stream: str) -> str:
        """Return the topic of one stream.

        Raises:
            ParameterError: the template has wildcards or a channel, or the name does not fit its levels.
        """
        separator, *wild = self.grammar
        wild = [sign for sign in wild if sign]
        if self.has_channel or any(sign in self.template for sign in wild):
            raise ParameterError(f"topic {self.template!r}: nothing can be published to wildcards or {_CHANNEL}")
        names = self.names
        parts = stream.split("/") if len(names) > 1 else [stream]
        signs = [separator, *wild, "\0"]
        unusual = not all(parts) or any(sign in part for part in parts for sign in signs)
        # White space ends a subject in the protocol of NATS.
        unusual = unusual or (self.grammar is NATS and any(sign.isspace() for sign in stream))
        topic = self.template
        if not unusual and len(parts) == len(names):
            filled = dict(zip(names, parts, strict=True))
            topic = separator.join(filled.get(level, level) for level in self.levels)
        elif len(parts) != len(names):
            raise ParameterError(
                f"stream {stream[:80]!r} has {len(parts)} levels and topic {self.template!r} has {len(names)} for its "
                f"name, {', '.join(names)}: write the topic with a level for each"
            )
        if unusual or len(topic.encode()) > _MAX_TOPIC_BYTES:
            raise ParameterError(
                f"stream {stream[:80]!r} cannot be a level of topic {self.template!r}: rename it to a short name "
                f"without {' '.join([separator, *wild])} and NUL, or write the topic with as many levels as the name "
                f"has, as {{site}}{separator}{{stream}}"
            )
        return topic


def _ends_connections(sign: str) -> bool:
    """Return True if brokers of MQTT may end the connection of a client that sends it (MQTT 5, section 1.5.4)."""
    code = ord(sign)
    return code < 0x20 or 0x7F <= code < 0xA0 or 0xFDD0 <= code < 0xFDF0 or code & 0xFFFE == 0xFFFE


def _percent(sign: str) -> str:
    return "".join(f"%{byte:02X}" for byte in sign.encode())


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
