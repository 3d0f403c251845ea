"""Checks that the ends of a run fit together.

What cannot work is refused before anything is connected. The rest is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from streamrde.config.mqtt import MqttClientConfig, MqttDeadLettersConfig, MqttSinkConfig, MqttSourceConfig
from streamrde.errors import ConfigError

if TYPE_CHECKING:
    from streamrde.connectors.mqtt import TopicTemplate

# Names of this machine; two sections that use different ones mean the same broker.
_HERE = {"localhost", "127.0.0.1", "::1", "ip6-localhost"}


def check_ends(source: object, sink: object, dead_letters: object) -> None:
    """Raise ConfigError or ParameterError where the ends cannot work together.

    Args:
        source, sink, dead_letters: sections of a run; those that are no clients of a broker are left alone.
    """
    clients = _clients(source, sink, dead_letters)
    for name, section in clients.items():
        if any(sign in (section.client_id or "") for sign in "{}"):
            raise ConfigError(
                f"{name}.client_id = {section.client_id!r}: there are no placeholders in it; write the name itself"
            )
        if isinstance(section, MqttDeadLettersConfig) and any(sign in section.topic for sign in "+#{}"):
            raise ConfigError(f"{name}.topic = {section.topic!r}: give one topic, without placeholders and wildcards")
        if section.will is not None and any(sign in section.will.topic for sign in "+#{}"):
            raise ConfigError(
                f"{name}.will.topic = {section.will.topic!r}: give one topic, without wildcards and braces"
            )
    _check_client_ids(clients)
    if isinstance(source, MqttSourceConfig):
        _check_times(source)
        _check_names(source, sink)
        _check_loops(source, clients)


def warnings_of(source: object, sink: object, dead_letters: object) -> list[str]:
    """Return what may go wrong with these ends, in sentences. The list is empty if nothing is known to."""
    found = []
    clients = _clients(source, sink, dead_letters)
    if isinstance(source, MqttSourceConfig):
        found += _merged(source)
        if source.retained == "use" and any(not payload.time for payload in source.payloads()):
            found.append(
                'source: time = "" gives a message the time of its arrival, also an old one that the broker had kept; '
                'set retained = "skip" to leave those out'
            )
        for name, topic, is_template in _outputs(clients, source):
            match = _match(source, topic)
            if match is not None and (match or not is_template):
                found.append(
                    f"{name} = {topic!r} is read by the source too where {match or 'it is used'}: such messages are "
                    f"counted as malformed"
                )
    found += _doubtful_client_ids(clients)
    wills = [(name, section.will.topic) for name, section in clients.items() if section.will is not None]
    for i, (name, topic) in enumerate(wills):
        for other, same in wills[:i]:
            if topic == same and _same_broker(clients[name], clients[other]):
                found.append(f"{other}.will and {name}.will have one topic, {topic!r}: it says what either does")
    return found


def notes_of(source: object, sink: object, dead_letters: object) -> list[str]:
    """Return what a broker may do that nobody here can see, in sentences."""
    found = []
    if isinstance(source, MqttSourceConfig) and source.session and source.qos:
        kept = "as long as the broker is configured to"
        if source.version == "5":
            kept = f"for {source.session_expiry / 86400:g} days at most (session_expiry, and the broker's own limit)"
        noticed = (
            "" if any(p.sequence for p in source.payloads()) else "; set source.sequence to notice what is missing"
        )
        found.append(
            f"session {source.client_id!r}: while this is away the broker keeps what is published with QoS 1, {kept}, "
            "and only up to the limits of its queue (mosquitto: max_queued_messages, 1000 messages by default, beyond "
            f"which it drops without a word; max_queued_bytes; message_expiry){noticed}"
        )
    clients = _clients(source, sink, dead_letters)
    old = [name for name, section in clients.items() if name != "source" and section.version == "3.1.1"]
    if old:
        found.append(
            f"{' and '.join(old)}: MQTT 3.1.1 has no word for a refused message, and mosquitto confirms what its "
            'access rules forbid; with version = "5" a refusal is an error'
        )
    return found


def _clients(source: object, sink: object, dead_letters: object) -> dict[str, MqttClientConfig]:
    sections = {"source": source, "sink": sink, "dead_letters": dead_letters}
    return {name: section for name, section in sections.items() if isinstance(section, MqttClientConfig)}


def _check_client_ids(clients: dict[str, MqttClientConfig]) -> None:
    names = list(clients)
    for i, name in enumerate(names):
        for other in names[:i]:
            one, two = clients[other], clients[name]
            if one.client_id and one.client_id == two.client_id and _same_broker(one, two):
                raise ConfigError(
                    f"{other}.client_id and {name}.client_id are both {one.client_id!r}: a broker ends the connection "
                    "of a client when another of its name comes, so that neither would stay; give each its own"
                )


def _doubtful_client_ids(clients: dict[str, MqttClientConfig]) -> list[str]:
    """One name at two ports of one host, which may be two doors of one broker."""
    names = list(clients)
    return [
        f"{other}.client_id and {name}.client_id are both {clients[name].client_id!r}, at two ports of one host: if it "
        "is one broker, it ends the connection of one when the other comes; give each its own"
        for i, name in enumerate(names)
        for other in names[:i]
        if clients[name].client_id
        and clients[name].client_id == clients[other].client_id
        and _same_host(clients[name], clients[other])
        and not _same_broker(clients[name], clients[other])
    ]


def _check_times(source: MqttSourceConfig) -> None:
    if source.session and source.qos and any(not payload.time for payload in source.payloads()):
        raise ConfigError(
            'source: time = "" with session = true: after a pause the broker sends what it kept all at once, and it '
            "would get the time of its arrival; name a field with the time, or set session = false or qos = 0"
        )


def _check_names(source: MqttSourceConfig, sink: object) -> None:
    from streamrde.connectors.mqtt import TopicTemplate
    from streamrde.connectors.mqtt.topics import check_names

    templates = [TopicTemplate(payload.topic) for payload in source.payloads()]
    check_names(templates)
    if not isinstance(sink, MqttSinkConfig):
        return
    wanted, found = templates[0].names, TopicTemplate(sink.topic).names
    if wanted != found:
        raise ConfigError(
            f"sink.topic = {sink.topic!r} has {', '.join(found)} and the source's streams are named by "
            f"{'/'.join(wanted)}: write the same levels in the same order, such as 'predictions/{'/'.join(wanted)}'"
        )


def _check_loops(source: MqttSourceConfig, clients: dict[str, MqttClientConfig]) -> None:
    for name, topic, is_template in _outputs(clients, source):
        if is_template and _match(source, topic) == "":
            raise ConfigError(
                f"{name} = {topic!r} is matched by the source's topic: what the run publishes would come back to it as "
                "input; choose a topic beside those of the source"
            )


def _outputs(clients: dict[str, MqttClientConfig], source: MqttSourceConfig) -> Iterator[tuple[str, str, bool]]:
    """Topics published to on the source's broker: key, topic, and if it is that of predictions or dead letters."""
    for name, section in clients.items():
        if not _same_broker(section, source):
            continue
        if isinstance(section, (MqttSinkConfig, MqttDeadLettersConfig)):
            yield f"{name}.topic", section.topic, True
        if section.will is not None:
            yield f"{name}.will.topic", section.will.topic, False


def _match(source: MqttSourceConfig, topic: str) -> str | None:
    """Return None if no topic of the source matches, "" if one does, else the names of levels with which one does."""
    from streamrde.connectors.mqtt import TopicTemplate

    found = [_overlap(TopicTemplate(payload.topic), topic) for payload in source.payloads()]
    certain = [match for match in found if match is not None]
    return min(certain, key=len) if certain else None


def _overlap(source: TopicTemplate, topic: str) -> str | None:
    wanted, levels, names = source.filter.split("/"), topic.split("/"), list[str]()
    # Wildcards at the beginning do not match the broker's own topics.
    if levels[0].startswith("$") and wanted[0] in ("+", "#"):
        return None
    if wanted[-1] == "#":
        wanted = wanted[:-1]
        if len(levels) < len(wanted):
            return None
        levels = levels[: len(wanted)]
    if len(wanted) != len(levels):
        return None
    for want, level in zip(wanted, levels, strict=True):
        if want in ("+", level):
            continue
        if not level.startswith("{"):
            return None
        names.append(f"{level} is {want!r}")
    return " and ".join(names)


def _merged(source: MqttSourceConfig) -> list[str]:
    from streamrde.connectors.mqtt import TopicTemplate

    found, filters = [], dict[str, str]()
    for payload in source.payloads():
        levels = payload.topic.split("/")
        if "+" in levels or "#" in levels:
            wild = "+" if "+" in levels else "#"
            found.append(
                f"source topic {payload.topic!r}: topics that differ only in {wild} become one stream; if they are "
                "different devices, give the level a name, such as {site}, which is then part of the stream's name"
            )
        filters[payload.topic] = TopicTemplate(payload.topic).filter
    if len(filters) > 1:
        found.append(
            f"source topics {', '.join(map(repr, filters))}: a name that occurs in several is one stream; if they are "
            "different devices, run them apart, or give a level a name that tells them apart"
        )
    return found


def _same_broker(one: MqttClientConfig, two: MqttClientConfig) -> bool:
    from streamrde.connectors.mqtt import MqttAddress

    return MqttAddress.parse(one.url).port == MqttAddress.parse(two.url).port and _same_host(one, two)


def _same_host(one: MqttClientConfig, two: MqttClientConfig) -> bool:
    from streamrde.connectors.mqtt import MqttAddress

    hosts = {MqttAddress.parse(one.url).host.lower(), MqttAddress.parse(two.url).host.lower()}
    return len(hosts) == 1 or hosts <= _HERE
