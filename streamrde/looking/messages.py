"""Look at messages of a live source: codec, topics, shape of the payloads, times and channels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from streamrde.arrays import Ints
from streamrde.connectors.kafka.topics import KAFKA
from streamrde.connectors.registry import SINKS
from streamrde.connectors.topics import MQTT, Grammar
from streamrde.errors import DataError
from streamrde.looking.addresses import PLAIN, Address, address_of
from streamrde.looking.clocks import find_time
from streamrde.looking.guesses import Findings, Guess, Other
from streamrde.looking.keys import levels_of
from streamrde.looking.long_form import Long, find_long, find_value, last, widened
from streamrde.looking.payloads import Decoded, decode
from streamrde.looking.rates import measure
from streamrde.looking.roles import Given, columns_of, find_channels
from streamrde.looking.shapes import Shape, shape_of
from streamrde.looking.table import Table, split_by
from streamrde.nearest import listed

_CHANNEL = "@channel"
# Codecs whose messages have a time of their own, with the keys that it does not need.
_TIMED = {"lines": ("time",), "sparkplug": ("time", "time_unit")}
# Names of the fields of a payload that name a device, in lower case without signs. Those of the second kind are taken
# only if they tell messages apart that the topics do not.
_DEVICES = frozenset(
    """deviceid devid coreid did publisherid host hostname sensorid nodeid deveui serial serialnumber mac macaddress
    imei stationid thingid assetid machineid topic""".split()  # noqa: SIM905
)
_PERHAPS = (
    "device",
    "id",
    "name",
    "sensor",
    "node",
    "machine",
    "asset",
    "station",
    "unit",
    "model",
    "location",
)
_MOST_STREAMS_SHARE = 0.8
# What to look at if no message came.
_SILENT = {
    "amqp": "check the routing keys, name another exchange than amq.topic with --source exchange=NAME",
    "kafka": "check the topic",
    "redis": "check the number of the database, and the keys, which must be those of streams",
}


class Captured(NamedTuple):
    """Hold a message as it came."""

    topic: str
    payload: bytes
    arrival: float
    """Seconds, of any clock."""


class _Kind(NamedTuple):
    """Messages whose topics are alike."""

    messages: list[Captured]
    decoded: Decoded
    shape: Shape


def look_at_messages(
    captured: Sequence[Captured],
    source: str,
    *,
    kind: str = "mqtt",
    url: str = "",
    grammar: Grammar = MQTT,
    seconds: float = 0.0,
    keys: Mapping[str, Guess] = {},
    found: Mapping[str, Guess] = {},
    by_topic: bool = True,
    template: str | None = None,
) -> Findings:
    """Look at messages and find how they are read.

    Args:
        captured: messages in order of arrival.
        source: URL that was given, without what should not be shown.
        kind: the `kind` of the section [source].
        url: URL of the broker or server alone.
        seconds: for how long messages were received.
        keys: further keys of the section [source] that were given.
        found: further keys of it that were found out.
        by_topic: the source has topics. If not, the stream is named by the URL, or by the payload.
        template: template of the topics, with {stream}. None: it is looked for.
    Raises:
        DataError: there is no message, no codec reads them, or none has a number.
    """
    if not captured:
        check = _SILENT.get(kind, "check the topics")
        raise DataError(f"{source}: no message came; {check}, or wait longer with --seconds", path=source)
    chosen, others = _main_kind(captured, grammar)
    shape = chosen.shape
    one_value = shape.bare or (shape.keys.get("records") is None and _one_value(shape))
    topics = [message.topic for message in chosen.messages]
    address = address_of(topics, grammar, one_value=one_value, given=template)
    table, long = _table(chosen, address, source)
    stream = shape.keys.get("stream") or _stream(table, address, long, shape.messages)
    taken = columns_of(stream.value) if stream else []
    taken += [long.name, long.value] if long is not None else []
    codes = _codes(table, stream)
    time = find_time(table, codes, taken=taken, near=shape.inner)
    arrivals = np.array([chosen.messages[i].arrival for i in shape.messages])
    columns = dict(shape.keys)
    if stream is not None:
        columns["stream"] = stream
        if not address.told and by_topic:
            address = address._replace(template=_last_level(address.template, topics, grammar))
    arrival = Guess("", "no field holds times: samples have the time of their arrival")
    if kind in ("redis", "kafka"):
        entries = {"redis": "entries", "kafka": "messages"}[kind]
        arrival = Guess("@broker", f"no field holds times: samples have those of their {entries}")
    columns |= {"time": arrival} if time is None else time.keys
    if chosen.decoded.codec.value in _TIMED:
        columns = {key: guess for key, guess in columns.items() if key not in _TIMED[chosen.decoded.codec.value]}
    if long is not None:
        columns |= _long_keys(long)
        clock = time.seconds if time is not None else arrivals + np.arange(len(arrivals)) * 1e-9
        table, clock, codes = widened(table, long, stream.value if stream else None, clock)
    else:
        clock = time.seconds if time is not None else arrivals
    shown = {"stream": Guess("", ""), "time": Guess("", ""), **columns}
    channels = find_channels(table, Given(), shown, (), codes, long, live=True)
    columns |= channels.keys
    if chosen.decoded.csv:
        first = chosen.messages[0].payload[:40].decode("utf-8", "replace")
        columns["csv"] = Guess(chosen.decoded.csv, f"the payloads look like {first!r}")
    return Findings(
        source=source,
        # Most entries of Redis were there before.
        seen=_seen(captured, 0.0 if kind == "redis" else seconds),
        columns=columns,
        channels=tuple(channels.channels),
        rate=measure(split_by(codes, clock)),
        unused=(*channels.unused, *others),
        remarks=tuple(channels.remarks),
        connection=_connection(
            kind, url or source, grammar, keys, address if by_topic else None, chosen.decoded, found
        ),
    )


def _main_kind(captured: Sequence[Captured], grammar: Grammar) -> tuple[_Kind, list[tuple[str, str]]]:
    """Return the kind of messages with the most numbers, and what the others are."""
    groups: dict[tuple[object, ...], list[Captured]] = {}
    for message in captured:
        levels = levels_of(message.topic, grammar)
        words = tuple(level if level.lower() in PLAIN else "" for level in levels)
        sparkplug = levels[0] == "spBv1.0"
        groups.setdefault(("spBv1.0",) if sparkplug else (*words, message.payload[:1] in (b"{", b"[")), []).append(
            message
        )
    found: list[tuple[int, _Kind]] = []
    failed: DataError | None = None
    others: list[tuple[str, str]] = []
    for messages in groups.values():
        try:
            decoded = decode([message.payload for message in messages], [message.topic for message in messages])
        except DataError as error:
            failed = error
            others.append((f"topic {messages[0].topic}", "its payloads are of no known format"))
            continue
        shape = shape_of(decoded.objects)
        table = Table("", _by_path(shape.rows), [0] * len(shape.rows))
        found.append((sum(table.cells(name).found for name in table.names), _Kind(messages, decoded, shape)))
    found.sort(key=lambda entry: -entry[0])
    if not found or not found[0][0]:
        raise failed or DataError("none of the messages has a number; look at other topics", path=captured[0].topic)
    for _, kind in found[1:]:
        others.append((f"topic {kind.messages[0].topic}", f"it is of another kind ({len(kind.messages):,} messages)"))
    return found[0][1], others


def _by_path(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    paths = dict.fromkeys(path for row in rows for path in row)
    return {path: [row.get(path) for row in rows] for path in paths}


def _one_value(shape: Shape) -> bool:
    """Return True if each row has one value and no name, so that the topic may name the channel."""
    table = Table("", _by_path(shape.rows), [0] * len(shape.rows))
    return find_long(table) is None and find_value(table, ()) is not None


def _table(chosen: _Kind, address: Address, where: str) -> tuple[Table, Long | None]:
    """Return the rows by column, and how they are in long form, by the topic or by a field."""
    shape = chosen.shape
    columns = _by_path(shape.rows)
    codes: dict[str, int] = {}
    parts = [codes.setdefault(address.streams[i], len(codes)) for i in shape.messages]
    if address.channels is not None:
        columns[_CHANNEL] = [address.channels[i] for i in shape.messages]
    table = Table(where, columns, parts, "each topic is one")
    if address.channels is None:
        return table, None if shape.bare else find_long(table)
    value = "" if shape.bare else find_value(table, (_CHANNEL,)) or ""
    names = [name for name in dict.fromkeys(address.channels) if _has_numbers(table, name, value)]
    why = "the payload is the bare value" if value == "" else f"'{value}' has the value"
    return table, Long(_CHANNEL, value, tuple(names), Guess(_CHANNEL, why))


def _has_numbers(table: Table, channel: str, value: str) -> bool:
    rows = [i for i, own in enumerate(table.columns[_CHANNEL]) if own == channel]
    cells = table.cells(value)
    texts = [str(cells.values[i]) for i in rows]
    return bool(np.isfinite(cells.numbers[rows]).any()) or not any(text in cells.texts for text in texts)


def _long_keys(long: Long) -> dict[str, Guess]:
    others = Guess("ignore", "messages with a value of no channel are passed over, rather than malformed")
    if long.name == _CHANNEL:
        return {"value": Guess(long.value, long.guess.why), "others": others}
    return {"name": long.guess, "value": Guess(long.value, f"'{long.value}' has the value"), "others": others}


def _last_level(template: Guess, topics: Sequence[str], grammar: Grammar) -> Guess:
    """Return topics whose last level may be anything, as the payload names the stream."""
    if "{stream}" not in template.value:
        return template
    separator, why = grammar.separator, f"topics such as {topics[0]}; the payload names the stream"
    if grammar is KAFKA:
        split = [topic.partition("/")[0].split(separator) for topic in topics]
        return Guess(separator.join(level[0] if len({*level}) == 1 else "*" for level in zip(*split, strict=True)), why)
    return Guess(separator.join([*topics[0].split(separator)[:-1], "{stream}"]), why)


def _codes(table: Table, stream: Guess | None) -> Ints:
    return table.streams(
        None if stream is None else [name for name in columns_of(stream.value) if name in table.columns]
    )


def _stream(table: Table, address: Address, long: Long | None, messages: Sequence[int]) -> Guess | None:
    """Return the field that names the stream, or None if the topic does."""
    beside = set() if long is None else {long.name}
    texts = [name for name in table.names if name not in beside and not name.startswith("@") and _may_name(table, name)]
    within = [name for name in texts if _differs_within(table, name, messages)]
    sure = [name for name in texts if re.sub(r"[^a-z]", "", last(name)) in _DEVICES]
    perhaps = sorted((name for name in texts if last(name) in _PERHAPS), key=lambda name: _PERHAPS.index(last(name)))
    telling = [name for name in (*sure, *perhaps) if name in within or _tells_apart(table, name)]
    if telling:
        name = telling[0]
        models = [own for own in telling if last(own) == "model"]
        if last(name) == "id" and models:
            pair = [models[0], name]
            return Guess(pair, f"fields '{pair[0]}' and '{name}' tell the devices apart", "", (_topic_instead(),))
        return Guess(name, f"field '{name}' differs where the topic does not", "", (_topic_instead(),))
    if not address.told and (entity := _entity(table)) is not None:
        return entity
    by_topic = [address.streams[i] for i in messages]
    if any([str(value) for value in table.columns[name]] == by_topic for name in sure):
        return None  # the topic says the same
    if sure and not address.told:
        return Guess(sure[0], f"field '{sure[0]}' names the device", "", (_topic_instead(),))
    return None


def _entity(table: Table) -> Guess | None:
    """Return the field that names the stream in messages of a known form, or None if they are of none."""
    if {"specversion", "source"} <= table.columns.keys():
        return Guess("source", "the messages are CloudEvents, whose 'source' names the device", "", (_topic_instead(),))
    if {"id", "type"} <= table.columns.keys() and not table.cells("id").is_number:
        return Guess(
            "id", "the messages are entities with 'id' and 'type', as those of FIWARE", "", (_topic_instead(),)
        )
    return None


def _topic_instead() -> Other:
    return Other("stream", "@topic", "each topic is a stream")


def _may_name(table: Table, name: str) -> bool:
    values = [value for value in table.columns[name] if value is not None]
    if len(values) < 0.5 * len(table) or any(isinstance(value, float | bool) for value in values):
        return False
    numbers = any(isinstance(value, int) for value in values)
    if numbers and last(name) in _PERHAPS and len(set(values)) == len(values) and not _beside_model(table):
        return False  # it numbers the messages
    rows = len(table)
    return rows < 6 or len(set(map(str, values))) <= _MOST_STREAMS_SHARE * rows


def _beside_model(table: Table) -> bool:
    return any(last(name) == "model" for name in table.names)


def _differs_within(table: Table, name: str, messages: Sequence[int]) -> bool:
    """Return True if a field has several values in one message."""
    values = Counter((i, str(value)) for i, value in zip(messages, table.columns[name], strict=True))
    return len({i for i, _ in values}) < len(values)


def _tells_apart(table: Table, name: str) -> bool:
    """Return True if a field has several values where the topic names one stream."""
    pairs = {(int(part), str(value)) for part, value in zip(table.parts, table.columns[name], strict=True)}
    return len({part for part, _ in pairs}) < len(pairs)


def _connection(
    kind: str,
    url: str,
    grammar: Grammar,
    keys: Mapping[str, Guess],
    address: Address | None,
    decoded: Decoded,
    beside: Mapping[str, Guess],
) -> dict[str, Guess]:
    found = {"kind": Guess(kind, "by the URL"), "url": Guess(url, "as it was given"), **keys}
    if address is None:
        sink = {
            "sink.kind": Guess("arrow", "predictions go to a file"),
            "sink.path": Guess("predictions.arrows", "its path"),
        }
        return {**found, "codec": decoded.codec, **sink}
    topic = address.template
    levels = re.findall(r"\{(?!channel\})\w+\}", topic.value) or ["{stream}"]
    if decoded.codec.value == "sparkplug":
        topic = Guess("spBv1.0/#", "all messages of Sparkplug B; their topics name group, node and device")
        levels = ["{stream}"]
    section: Any = SINKS.find(kind)
    of_sink = section.__struct_fields__ if section is not None else ()
    same = {
        f"sink.{name}": guess._replace(why="as of the source")
        for name, guess in found.items()
        if name == "kind" or (name in of_sink and name != "field")
    }
    template = Guess(grammar.separator.join(["predictions", *levels]), "topics of the predictions")
    if grammar is KAFKA:
        template = Guess("predictions", "topic of the predictions, whose keys are the streams")
    more = {name: guess for name, guess in _more(kind).items() if name not in keys}
    return {**found, **beside, "topic": topic, "codec": decoded.codec, **same, "sink.topic": template, **more}


def _more(kind: str) -> dict[str, Guess]:
    """Return keys without which a section of this kind is not complete."""
    if kind == "redis":
        return {"group": Guess("streamrde", "consumer group that the run makes, which keeps its position")}
    if kind == "kafka":
        made = Guess(True, "the run creates the topic if it is not there")
        group = Guess("streamrde", "consumer group of the run, which keeps its position")
        return {"group": group, "sink.create_topic": made}
    if kind == "amqp":
        queue = Guess("streamrde", "durable queue of the run, which keeps what comes while the run is away")
        return {"queue_name": queue, "create_queue": Guess(True, "the run creates the queue and binds it to the topic")}
    if kind != "nats":
        return {}
    durable = Other("durable", "streamrde", "the subjects are of a JetStream stream, which keeps what is not processed")
    plain = Guess(
        False, "plain subjects, as they were listened to: what is sent while nobody listens is lost", "", (durable,)
    )
    return {"jetstream": plain, "sink.jetstream": Guess(False, "as of the source")}


def _seen(captured: Sequence[Captured], seconds: float) -> str:
    topics = list(dict.fromkeys(message.topic for message in captured))
    during = f" in {seconds:.0f} s" if seconds else ""
    on = f"{len(topics):,} topic{'s' if len(topics) > 1 else ''} ({listed(topics, most=3)})"
    return f"{len(captured):,} messages{during} on {on}"
