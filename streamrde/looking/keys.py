"""Topics of Kafka, whose messages may have keys: which of them name the streams."""

from __future__ import annotations

from collections.abc import Sequence

from streamrde.connectors.kafka.topics import KAFKA
from streamrde.connectors.topics import Grammar

# More keys than this share of the messages name no streams, as their messages would be single ones.
_MOST_SHARE = 0.5
_FEW = 20


def levels_of(topic: str, grammar: Grammar) -> list[str]:
    """Return the levels of a topic. The key of a message of Kafka, behind a slash, is the last one.

    >>> levels_of("plant.imu/dev.1", KAFKA)
    ['plant', 'imu', 'dev.1']
    """
    if grammar is not KAFKA:
        return topic.split(grammar.separator)
    name, slash, key = topic.partition("/")
    return [*name.split("."), *([key] if slash else [])]


def name_streams(topics: Sequence[str]) -> bool:
    """Return True if the keys behind topics name streams, and are not one for each message.

    >>> name_streams(["imu/a", "imu/b"]), name_streams(["imu", "imu"])
    (True, False)
    """
    keys = [key for topic in topics if (key := topic.partition("/")[2])]
    return len(keys) == len(topics) and len({*keys}) <= max(_FEW, _MOST_SHARE * len(keys))
