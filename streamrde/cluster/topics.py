"""Topics of a shared run: their partitions, their settings, and what must not be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamrde.errors import BrokerError, StateError

DEFAULT_CHANGELOG = "{group}.{topic}.state"
"""Name of the topic with the state, by the consumer group and the input's topic."""
_MOVING = ".moving"
# Records of deleted streams have to outlast a restore and the copies that workers keep.
_TOMBSTONES_MS = 3600 * 1000


def changelog_of(template: str | None, *, group: str, topic: str) -> str:
    """Return the changelog of a group's state for a topic.

    Args:
        template: its name, in which {group} and {topic} stand for theirs. None: `DEFAULT_CHANGELOG`.
    """
    return (template or DEFAULT_CHANGELOG).replace("{group}", group).replace("{topic}", topic)


def marker_of(changelog: str) -> str:
    """Return the topic that is there while `streamrde state` works on a changelog, or once it has moved it away."""
    return changelog + _MOVING


def counts_of(client: Any, *, timeout: float) -> dict[str, int]:
    """Return the number of partitions of each topic of the cluster."""
    return {name: len(topic.partitions) for name, topic in client.list_topics(timeout=timeout).topics.items()}


def check_topics(counts: Mapping[str, int], *, changelog: str, source: str, config: str = "RUN.toml") -> None:
    """Check that a changelog fits its input, before a worker begins with it.

    Args:
        counts: partitions of each topic, see `counts_of`.
        changelog: topic with the state.
        source: topic of the input.
        config: the run's file, for the remedy.
    Raises:
        StateError: their partitions differ, or `streamrde state` is at work or was broken off.
    """
    if marker_of(changelog) in counts:
        raise StateError(
            f"changelog {changelog!r}: `streamrde state` works on it, was broken off, or has moved its streams away "
            f"(topic {marker_of(changelog)!r} is there); let it end, run the same command again, or move them back"
        )
    kept, wanted = counts.get(changelog), counts.get(source)
    if kept is None or wanted is None or kept == wanted:
        return
    raise StateError(
        f"changelog {changelog!r} has {kept} partitions, and its input {source!r} has {wanted}: a stream's state would "
        f"be in another partition than its samples; stop all workers and run  streamrde state rehash {config}"
    )


def create_changelog(
    admin: Any, changelog: str, partitions: int, *, replication: int | None = None, timeout: float = 10.0
) -> None:
    """Create a changelog: compacted, never deleted by age or size.

    Args:
        admin: the AdminClient of confluent-kafka.
        partitions: as many as the input has.
        replication: copies of each partition. None: as the cluster does.
    Raises:
        BrokerError: it cannot be created.
    """
    _create(admin, changelog, partitions, replication or -1, {"cleanup.policy": "compact"}, timeout)


def create_marker(admin: Any, changelog: str, *, timeout: float = 10.0) -> None:
    """Create the topic that keeps workers out of a changelog, unless it is there.

    Raises:
        BrokerError: it cannot be created.
    """
    _create(admin, marker_of(changelog), 1, -1, {}, timeout)


def delete_topic(admin: Any, topic: str, *, timeout: float = 10.0) -> None:
    """Delete a topic.

    Raises:
        BrokerError: it cannot be deleted.
    """
    from confluent_kafka import KafkaException

    try:
        admin.delete_topics([topic], request_timeout=timeout)[topic].result(timeout)
    except KafkaException as error:
        if error.args[0].name() != "UNKNOWN_TOPIC_OR_PART":
            raise BrokerError(f"topic {topic!r} cannot be deleted: {error.args[0].str()}; check the rights") from None


def _create(
    admin: Any, topic: str, partitions: int, replication: int, settings: dict[str, str], timeout: float
) -> None:
    from confluent_kafka import KafkaException
    from confluent_kafka.cimpl import NewTopic

    new = NewTopic(topic, partitions, replication_factor=replication, config=settings)
    try:
        admin.create_topics([new], request_timeout=timeout)[topic].result(timeout)
    except KafkaException as error:
        if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
            raise BrokerError(f"topic {topic!r} cannot be created: {error.args[0].str()}; check the rights") from None


def settings_of(admin: Any, topic: str, *, timeout: float = 10.0) -> dict[str, str]:
    """Return the settings of a topic, as far as the cluster tells them."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin._config import ConfigResource
    from confluent_kafka.admin._resource import ResourceType

    wanted = ConfigResource(ResourceType.TOPIC, topic)
    try:
        found = admin.describe_configs([wanted], request_timeout=timeout)[wanted].result(timeout)
    except KafkaException:
        return {}
    return {name: f"{entry.value}" for name, entry in found.items()}


def warnings_of(settings: Mapping[str, str], changelog: str, *, broker: str) -> list[str]:
    """Return what is dangerous in a changelog's settings, with the commands that mend it."""
    command = f"kafka-configs.sh --bootstrap-server {broker} --alter --entity-type topics --entity-name {changelog}"
    found = []
    policy = settings.get("cleanup.policy", "compact")
    if "delete" in policy:
        found.append(
            f"changelog {changelog!r} has cleanup.policy = {policy}: states that are older than its retention are "
            f"deleted; run  {command} --add-config cleanup.policy=compact"
        )
    kept = int(settings.get("delete.retention.ms", _TOMBSTONES_MS))
    if kept < _TOMBSTONES_MS:
        found.append(
            f"changelog {changelog!r} has delete.retention.ms = {kept}: a restore that takes longer brings deleted "
            f"streams back; run  {command} --add-config delete.retention.ms=86400000"
        )
    return found


def input_warnings(settings: Mapping[str, str], topic: str, *, broker: str) -> list[str]:
    """Return what is dangerous in the settings of an input, with the commands that mend it."""
    if "compact" not in settings.get("cleanup.policy", "delete"):
        return []
    return [
        f"topic {topic!r} has cleanup.policy = {settings['cleanup.policy']}: of messages with one key the older are "
        f"deleted, which are samples here; run  kafka-configs.sh --bootstrap-server {broker} --alter "
        f"--entity-type topics --entity-name {topic} --add-config cleanup.policy=delete"
    ]


def retention_text(settings: Mapping[str, str]) -> str:
    """Describe for how long an input keeps messages: a run that is away longer loses some."""
    limits = []
    if (kept := int(settings.get("retention.ms", -1))) >= 0:
        limits.append(f"{kept / 86_400_000:,.3g} days" if kept >= 86_400_000 else f"{kept / 3_600_000:,.3g} hours")
    if (size := int(settings.get("retention.bytes", -1))) >= 0:
        limits.append(f"{size / 1e6:,.3g} MB of each partition")
    if not limits:
        return "messages are kept for ever" if "retention.ms" in settings else "not told by the cluster"
    return f"messages are kept for {' or '.join(limits)}; what a run does not read meanwhile is lost"
