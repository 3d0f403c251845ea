"""Topics of Kafka, and the key of a message behind a slash: ``sensors.imu/{stream}``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from streamrde.connectors.topics import Grammar, Place, TopicTemplate
from streamrde.errors import ParameterError

KAFKA = Grammar(".", "*", "")
KEY = "/{stream}"
"""End of a template whose streams are named by the messages' keys. No topic of Kafka has a slash."""
_LEGAL = re.compile(r"[A-Za-z0-9._-]{1,249}")


@dataclass(frozen=True)
class KafkaTopic(TopicTemplate):
    """Topics whose messages have the stream's name in their key, or that have it in a level themselves.

    ``sensors`` is ``sensors/{stream}``: the name is the key of a message. With ``sensors.{stream}.imu`` it is a level
    of the topic, and keys mean nothing. In what is matched, a topic and a key are written as ``topic/key``.
    """

    grammar: Grammar = KAFKA

    def __post_init__(self) -> None:
        name, slash, key = self.template.partition("/")
        if slash and f"/{key}" != KEY:
            raise ParameterError(f"topic {self.template!r}: only {KEY}, for the key of a message, may follow a topic")
        if self.named and not slash and "{stream}" not in name:
            object.__setattr__(self, "template", name + KEY)
        super().__post_init__()
        if stray := [level for level in name.split(".") if level[:1] not in ("{", "*") and not _LEGAL.fullmatch(level)]:
            raise ParameterError(
                f"topic {self.template!r}: {stray[0]!r} cannot be in a topic of Kafka, which has letters, digits, '.', "
                "'_' and '-'"
            )

    @property
    def keyed(self) -> bool:
        """Return True if the key of a message is its stream's name."""
        return self.template.endswith(KEY)

    @property
    def topic(self) -> str:
        """Return the template without the key."""
        return self.template.partition("/")[0]

    @property
    def pattern(self) -> str:
        """Return what a consumer subscribes to: the topic, or a regular expression for those that fit."""
        if re.fullmatch(_LEGAL, self.topic):
            return self.topic
        levels = self.topic.split(".")
        return "^" + "[.]".join("[^.]+" if level[:1] in ("{", "*") else level for level in levels) + "$"

    @property
    def levels(self) -> list[str]:
        """See `TopicTemplate.levels`."""
        return [*self.topic.split("."), *(["{stream}"] if self.keyed else [])]

    def place_of(self, topic: str) -> Place | None:
        """See `TopicTemplate.place_of`. The key may have any signs."""
        name, _, key = topic.partition("/")
        if not self.keyed:
            return super().place_of(name)
        if not key:
            return None
        # The key is one level, whatever is in it, so it is put in afterwards.
        place = super().place_of(f"{name}.-")
        return None if place is None else Place("/".join([*place.stream.split("/")[:-1], key]), place.channel)

    def device_of(self, topic: str) -> str:
        """See `TopicTemplate.device_of`."""
        name, slash, key = topic.partition("/")
        return super().device_of(name) + slash + key

    def topic_of_any(self, stream: str) -> str:
        """See `TopicTemplate.topic_of_any`. A key may have any signs."""
        return self.topic_for(stream)

    def topic_for(self, stream: str) -> str:
        """See `TopicTemplate.topic_for`.

        Raises:
            ParameterError: the template is not one topic.
        """
        if not self.keyed or not _LEGAL.fullmatch(self.topic):
            raise ParameterError(
                f"topic {self.template!r}: messages of all streams go to one topic, with the stream as their key; "
                "write it without placeholders and wildcards, as 'predictions'"
            )
        return f"{self.topic}/{stream}"
