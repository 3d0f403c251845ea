"""Find the changelog that a run's file or a URL names."""

from __future__ import annotations

from typing import Any

from streamrde.cluster.contents import ChangelogPlace
from streamrde.cluster.topics import changelog_of
from streamrde.connectors.access import Address, Scheme
from streamrde.connectors.kafka.cluster import KafkaCluster
from streamrde.connectors.kafka.config import KafkaSourceConfig
from streamrde.connectors.kafka.topics import KafkaTopic
from streamrde.errors import ConfigError, ParameterError

_SCHEME = Scheme("kafka", "kafka+ssl", (9092, 9093), "/changelog")


def place_of_url(url: str, *, source: str | None = None, group: str | None = None) -> ChangelogPlace:
    """Return the changelog of a URL such as kafka://host:9092/changelog.

    Args:
        source, group: topic of the input, and consumer group.
    Raises:
        ConfigError: it has another form.
    """
    try:
        address = Address.parse(url, _SCHEME)
    except ParameterError as error:
        raise ConfigError(f"the store's address cannot be read: {error}") from None
    topic = address.path.strip("/")
    if not topic or "/" in topic:
        raise ConfigError(f"the store's address names no changelog: {_SCHEME}")
    return ChangelogPlace(topic, KafkaCluster(address).settings(), source, group)


def place_of_run(source: Any, state: Any, *, config: str) -> ChangelogPlace:
    """Return the changelog of a run.

    Args:
        source: its section [source].
        state: its section [state], of kind "kafka".
        config: its file, for remedies.
    Raises:
        ConfigError: the source is not of Kafka, or reads more topics than one.
    """
    if not isinstance(source, KafkaSourceConfig):
        raise ConfigError(f'{config}: [state] kind = "kafka" needs a source of kind "kafka"')
    if (template := only_topic(source)) is None:
        raise ConfigError(
            f"{config}: [source] reads several topics, each with a changelog of its own; name one as "
            "kafka://host:port/changelog, with --input and --group"
        )
    named = source.payloads()[0].stream
    return ChangelogPlace(
        changelog_of(state.topic, group=source.group, topic=template.topic),
        source.cluster().settings(),
        template.topic,
        source.group,
        keyed=template.keyed and named in (None, "@topic"),
        replication=getattr(state, "replication", None),
        config=config,
    )


def only_topic(source: Any) -> KafkaTopic | None:
    """Return the template of a source that reads one topic of Kafka, or None if it may read several."""
    if not isinstance(source, KafkaSourceConfig):
        return None
    found = [template for template in source.templates() if isinstance(template, KafkaTopic)]
    return found[0] if len(found) == 1 and found[0].pattern == found[0].topic else None
