"""Guess which levels of topics name the stream and the channel."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from streamrde.connectors.kafka.topics import KAFKA, KafkaTopic
from streamrde.connectors.topics import Grammar, TopicTemplate
from streamrde.looking.guesses import Guess, Other
from streamrde.looking.keys import levels_of, name_streams

# Layouts of topics that devices and programs use. {channel} only fits payloads that are one value.
KNOWN = (
    ("zigbee2mqtt/{stream}", "Zigbee2MQTT"),
    ("tele/{stream}/SENSOR", "Tasmota"),
    ("shellies/{stream}/sensor/{channel}", "Shelly"),
    ("shellies/{stream}/emeter/+/{channel}", "Shelly"),
    ("{stream}/events/rpc", "Shelly"),
    ("{stream}/sensor/{channel}/state", "ESPHome"),
    ("homie/{stream}/+/{channel}", "Homie"),
    ("v1/devices/{stream}/telemetry", "ThingsBoard"),
    ("v1/gateway/telemetry", "ThingsBoard's gateways"),
    ("v3/{application}/devices/{stream}/up", "The Things Network"),
    ("application/{application}/device/{stream}/event/up", "ChirpStack"),
    ("owntracks/{user}/{stream}", "OwnTracks"),
    ("$aws/things/{stream}/shadow/update/accepted", "AWS IoT"),
    ("home/{gateway}/BTtoMQTT/{stream}", "Theengs and OpenMQTTGateway"),
    ("N/{stream}/+/+/{channel}", "Victron"),
    ("rtl_433/{stream}/events", "rtl_433"),
    ("msh/+/2/json/+/{stream}", "Meshtastic"),
    ("{stream}/out/{channel}/state", "openHAB"),
    ("/v1.6/devices/{stream}", "Ubidots"),
)
# Words in topics that name no device.
PLAIN = frozenset(
    """tele stat cmnd sensor sensors state status data telemetry event events up rx tx v1 v2 v3 device devices thing
    things home imu value values json out in raw reading readings measurement measurements metric metrics stream
    streams live all loop message messages uplink application applications gateway site sites mqtt iot test
    """.split()  # noqa: SIM905
)
_ID = re.compile(r"(?=.*\d)(?=.*[A-Za-z@_!-]).{4,}|[0-9A-Fa-f]{6,}|.*[@!].*")


class Address(NamedTuple):
    """Describe the topics of one kind of message."""

    template: Guess
    streams: list[str]
    """Stream of each message, by its topic."""
    channels: list[str] | None
    """Channel of each message, or None if the topic has none."""
    told: bool
    """True if the topics tell streams apart, or are those of a known layout."""


def address_of(topics: Sequence[str], grammar: Grammar, *, one_value: bool, given: str | None = None) -> Address:
    """Guess the template of topics that have the same number of levels.

    Args:
        one_value: payloads hold one value each, whose channel the topic may name.
        given: template that was given. None: there is none.
    """
    separator = grammar.separator
    split = [levels_of(topic, grammar) for topic in topics]
    if grammar is KAFKA:
        return _of_kafka(split, topics, one_value=one_value, given=given)
    if given is not None and "{stream}" in given:
        own_template = TopicTemplate(given, grammar)
        if all(own_template.place_of(topic) is not None for topic in topics):
            return _address(given, split, separator, "as it was given", told=True)
    for template, name in KNOWN:
        wanted = template.split("/")
        if one_value == ("{channel}" in template) and all(_fits(own, wanted) for own in split):
            filled = [split[0][i] if level == "+" and _constant(split, i) else level for i, level in enumerate(wanted)]
            why = f"the topics are laid out as those of {name}, such as {topics[0]}"
            return _address(separator.join(filled), split, separator, why, told=True)
    return _by_levels(split, topics, separator, one_value=one_value)


def _of_kafka(split: list[list[str]], topics: Sequence[str], *, one_value: bool, given: str | None) -> Address:
    """Guess the topics of messages whose keys are the last levels, if they have some."""
    if given is not None and "{stream}" in given:
        places = [KafkaTopic(given).place_of(topic) for topic in topics]
        if (streams := [place.stream for place in places if place is not None]) and len(streams) == len(topics):
            return Address(Guess(given, "as it was given"), streams, None, told=True)
    if not name_streams(topics):
        names = [topic.partition("/")[0] for topic in topics]
        return _by_levels([name.split(".") for name in names], names, ".", one_value=one_value)
    varied = [i for i in range(len(split[0]) - 1) if not _constant(split, i)]
    levels = split[0][:-1]
    for i in varied:
        levels[i] = f"{{{_placeholder(split[0], i)}}}"
    why = f"the keys of messages name the streams, such as '{split[0][-1]}'"
    streams = ["/".join([*(own[i] for i in varied), own[-1]]) for own in split]
    return Address(Guess(".".join(levels), why), streams, None, told=True)


def _by_levels(split: list[list[str]], topics: Sequence[str], separator: str, *, one_value: bool) -> Address:
    count = len(split[0])
    varied = [i for i in range(count) if not _constant(split, i)]
    names = [i for i in range(count) if _constant(split, i) and split[0][i].lower() not in PLAIN]
    channel = _channel_level(split, varied, names, one_value=one_value)
    streams = [i for i in varied if i != channel]
    why, unsure = "", ""
    if streams:
        # Levels above that look like ids are part of a name that is unique.
        why = f"level {streams[-1] + 1} differs from message to message"
    else:
        ids = [
            i
            for i in names
            if i != channel and _ID.fullmatch(split[0][i]) and not re.fullmatch(r"\w+:\d+", split[0][i])
        ]
        streams = ids if ids and channel is None else ids[:1]
        if streams:
            why = f"'{split[0][streams[-1]]}' looks like the name of a device"
        else:
            words = [i for i in names if i != channel and i > 0] or [i for i in names if i != channel]
            streams = (words[:1] if channel is not None else words[-1:]) or [0 if channel != 0 else count - 1]
            why = f"'{split[0][streams[-1]]}' is taken for the name of the stream"
            unsure = "only one topic was seen, so that another level may name the stream"
    levels = list(split[0])
    for i in streams:
        levels[i] = "{stream}" if i == streams[-1] else f"{{{_placeholder(split[0], i)}}}"
    if channel is not None:
        levels[channel] = "{channel}"
        why += f"; level {channel + 1} names the channel, as each message has one value"
    found = _address(
        separator.join(levels), split, separator, f"{why}, as in {topics[0]}", told=not unsure and bool(varied)
    )
    if unsure and len(names) > 1:
        others = [i for i in reversed(names) if i not in streams and i != channel][:2]
        alternatives = tuple(
            Other(
                "topic",
                separator.join(
                    "{stream}" if i == own else "{channel}" if i == channel else level
                    for i, level in enumerate(split[0])
                ),
                f"'{split[0][own]}' is the stream",
            )
            for own in others
        )
        found = found._replace(template=found.template._replace(others=alternatives))
    return found._replace(template=found.template._replace(unsure=unsure))


def _channel_level(split: list[list[str]], varied: list[int], names: list[int], *, one_value: bool) -> int | None:
    """Return the level that names the channel: the last that differs, or the last name if there is one topic."""
    if not one_value:
        return None
    if varied:
        return varied[-1]
    return names[-1] if len(names) > 1 else None


def _placeholder(levels: Sequence[str], i: int) -> str:
    """Name a level by the word above it: application for application/7."""
    word = re.sub(r"\W", "", levels[i - 1]).lower().removesuffix("s") if i else ""
    return word if word.isidentifier() and word not in ("stream", "channel") else f"level{i + 1}"


def _address(template: str, split: list[list[str]], separator: str, why: str, *, told: bool) -> Address:
    levels = template.split(separator)
    parts = [i for i, level in enumerate(levels) if level.startswith("{") and level != "{channel}"]
    streams = ["/".join(own[i] for i in parts) for own in split]
    at = levels.index("{channel}") if "{channel}" in levels else None
    channels = None if at is None else [own[at] for own in split]
    return Address(Guess(template, why), streams, channels, told)


def _fits(levels: Sequence[str], wanted: Sequence[str]) -> bool:
    return len(levels) == len(wanted) and all(
        own == level or level[:1] in ("{", "+") for own, level in zip(levels, wanted, strict=True)
    )


def _constant(split: Sequence[Sequence[str]], i: int) -> bool:
    return len({own[i] for own in split}) == 1
