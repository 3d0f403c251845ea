"""Check that the MQTT clients of a run, and its source's topics, fit together.

What cannot work is refused before anything is connected. The rest is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from streamrde.connectors.mqtt.topics import MqttAddress
from streamrde.connectors.topics import TopicTemplate, check_names
from streamrde.errors import ConfigError

if TYPE_CHECKING:
    from streamrde.connectors.mqtt.config import MqttClient, MqttSourceConfig

    Clients = Mapping[str, MqttClient]

# Names of this machine; two sections that use different ones mean the same broker.
_HERE = {"localhost", "127.0.0.1", "::1", "ip6-localhost"}


def check_client(name: str, clients: Clients) -> None:
    """Raise ConfigError where a client cannot work, alone or beside those before it."""
    client = clients[name]
    if any(sign in (client.client_id or "") for sign in "{}"):
        raise ConfigError(
            f"{name}.client_id = {client.client_id!r}: there are no placeholders in it; write the name itself"
        )
    if client.will is not None and any(sign in client.will.topic for sign in "+#{}"):
        raise ConfigError(f"{name}.will.topic = {client.will.topic!r}: give one topic, without wildcards and braces")
    for other, before in _before(name, clients):
        if client.client_id and client.client_id == before.client_id and _same_broker(client, before):
            raise ConfigError(
                f"{other}.client_id and {name}.client_id are both {client.client_id!r}: a broker ends the connection "
                "of a client when another of its name comes, so that neither would stay; give each its own"
            )


def client_warnings(name: str, clients: Clients) -> list[str]:
    """Return what may go wrong with a client beside those before it."""
    client, found = clients[name], []
    for other, before in _before(name, clients):
        same = _same_broker(client, before)
        if client.client_id and client.client_id == before.client_id and not same and _same_host(client, before):
            found.append(
                f"{other}.client_id and {name}.client_id are both {client.client_id!r}, at two ports of one host: if "
                "it is one broker, it ends the connection of one when the other comes; give each its own"
            )
        if client.will is not None and before.will is not None and client.will.topic == before.will.topic and same:
            found.append(
                f"{other}.will and {name}.will have one topic, {client.will.topic!r}: it says what either does"
            )
    return found


def client_notes(name: str, clients: Clients) -> list[str]:
    """Return what a broker may do with what is published, said once for all clients."""
    old = [other for other, client in clients.items() if client.output is not None and client.version == "3.1.1"]
    if name not in old[:1]:
        return []
    return [
        f"{' and '.join(old)}: MQTT 3.1.1 has no word for a refused message, and mosquitto confirms what its "
        'access rules forbid; with version = "5" a refusal is an error'
    ]


def check_source(source: MqttSourceConfig, clients: Clients) -> None:
    """Raise ConfigError or ParameterError where a source cannot work, alone or beside the other clients."""
    if source.session and source.qos and any(not payload.time for payload in source.payloads()):
        raise ConfigError(
            'source: time = "" with session = true: after a pause the broker sends what it kept all at once, and it '
            "would get the time of its arrival; name a field with the time, or set session = false or qos = 0"
        )
    templates = source.templates()
    check_names(templates)
    if templates[0].named and (sink := clients.get("sink")) is not None:
        _check_levels(templates[0], sink.output or "")
    for name, topic, is_template in _outputs(clients, source):
        if is_template and _match(source, topic) == "":
            raise ConfigError(
                f"{name} = {topic!r} is matched by the source's topic: what the run publishes would come back to it as "
                "input; choose a topic beside those of the source"
            )


def source_warnings(source: MqttSourceConfig, clients: Clients) -> list[str]:
    """Return what may go wrong with a source's topics."""
    found = _merged(source)
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
    return found


def source_notes(source: MqttSourceConfig) -> list[str]:
    """Return what a broker may lose while the source is away."""
    if not (source.session and source.qos):
        return []
    kept = "as long as the broker is configured to"
    if source.version == "5":
        kept = f"for {source.session_expiry / 86400:g} days at most (session_expiry, and the broker's own limit)"
    noticed = "" if any(p.sequence for p in source.payloads()) else "; set source.sequence to notice what is missing"
    return [
        f"session {source.client_id!r}: while this is away the broker keeps what is published with QoS 1, {kept}, "
        "and only up to the limits of its queue (mosquitto: max_queued_messages, 1000 messages by default, beyond "
        f"which it drops without a word; max_queued_bytes; message_expiry){noticed}"
    ]


def _before(name: str, clients: Clients) -> list[tuple[str, MqttClient]]:
    names = list(clients)
    return [(other, clients[other]) for other in names[: names.index(name)]]


def _check_levels(source: TopicTemplate, sink: str) -> None:
    wanted, found = source.names, TopicTemplate(sink).names
    if wanted != found:
        raise ConfigError(
            f"sink.topic = {sink!r} has {', '.join(found)} and the source's streams are named by "
            f"{'/'.join(wanted)}: write the same levels in the same order, such as 'predictions/{'/'.join(wanted)}'"
        )


def _outputs(clients: Clients, source: MqttSourceConfig) -> Iterator[tuple[str, str, bool]]:
    """Return topics published to on the source's broker: key, topic, and True for predictions or dead letters."""
    for name, section in clients.items():
        if not _same_broker(section, source):
            continue
        if section.output is not None:
            yield f"{name}.topic", section.output, True
        if section.will is not None:
            yield f"{name}.will.topic", section.will.topic, False


def _match(source: MqttSourceConfig, topic: str) -> str | None:
    """Return None if no topic of the source matches, "" if one does, else the names of levels with which one does."""
    found = [_overlap(template, topic) for template in source.templates()]
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
    found, filters = [], dict[str, str]()
    for payload, template in zip(source.payloads(), source.templates(), strict=True):
        if not template.named:
            continue
        levels = payload.topic.split("/")
        if "+" in levels or "#" in levels:
            wild = "+" if "+" in levels else "#"
            found.append(
                f"source topic {payload.topic!r}: topics that differ only in {wild} become one stream; if they are "
                "different devices, give the level a name, such as {site}, which is then part of the stream's name"
            )
        filters[payload.topic] = template.filter
    if len(filters) > 1:
        found.append(
            f"source topics {', '.join(map(repr, filters))}: a name that occurs in several is one stream; if they are "
            "different devices, run them apart, or give a level a name that tells them apart"
        )
    return found


def _same_broker(one: MqttClient, two: MqttClient) -> bool:
    return MqttAddress.parse(one.url).port == MqttAddress.parse(two.url).port and _same_host(one, two)


def _same_host(one: MqttClient, two: MqttClient) -> bool:
    hosts = {MqttAddress.parse(one.url).host.lower(), MqttAddress.parse(two.url).host.lower()}
    return len(hosts) == 1 or hosts <= _HERE
