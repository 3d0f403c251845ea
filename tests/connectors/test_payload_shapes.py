"""Payloads of the shapes that devices send are read by configuration, and whatever else they are is a PayloadError."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import cbor2
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrde.connectors.codecs import ArrowCodec, CborCodec, JsonCodec, MessagePackCodec, PackedCodec
from streamrde.connectors.columns import ColumnKeys, Columns
from streamrde.connectors.ends import Message, Rows
from streamrde.connectors.messages import MessageReader
from streamrde.connectors.payloads import PayloadConfig
from streamrde.connectors.topics import MQTT
from streamrde.errors import ConfigError, ParameterError, PayloadError, SampleError

NAN = math.nan
ENCODERS = {JsonCodec: msgspec.json.encode, MessagePackCodec: msgspec.msgpack.encode, CborCodec: cbor2.dumps}


def message(payload: Any, *, properties: dict[str, str] | None = None, stamped: float = NAN) -> Message:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Message(b"s/w1", data, 0.0, properties=properties, stamped=stamped)


def read(payload: Any, own: tuple[str, ...] = ("a", "b"), *, sequence: str = "", **keys: Any) -> Rows:
    properties, stamped = keys.pop("properties", None), keys.pop("stamped", NAN)
    codec = JsonCodec(ColumnKeys(**keys).columns_for(own, sequence=sequence))
    return codec.read(message(payload, properties=properties, stamped=stamped))


def assert_rows(found: Rows, t: list[float], x: list[list[float]], streams: list[str] | None = None) -> None:
    np.testing.assert_array_equal(found.t, t)
    np.testing.assert_array_equal(found.x, x)
    assert found.streams == streams


def reader_of(config: PayloadConfig, own: tuple[str, ...]) -> MessageReader:
    return MessageReader([config.subscription(config.template(MQTT), own, max_bytes=9999)], own, queue="q")


DEEP = ("values.a", "values.b")
LONG: dict[str, Any] = {"records": "values", "name": "id", "value": "v", "time": "t"}
SHAPES: list[tuple[Any, dict[str, Any], list[float], list[list[float]]]] = [
    ({"t": 1, "values": {"a": 0.1, "b": 0.2}}, {"channels": DEEP}, [1], [[0.1, 0.2]]),
    ([{"t": 1, "values": {"a": 1}}, {"t": 2, "values": {"b": 2}}], {"channels": DEEP}, [1, 2], [[1, NAN], [NAN, 2]]),
    # A field whose name has a dot wins over a path, at each level.
    ({"t": 1, "values.a": 5, "values": {"a": 1, "b": 2}}, {"channels": DEEP}, [1], [[5, 2]]),
    ({"t": 1, "x": {"p.a": 5, "p": {"a": 1}}}, {"channels": ("x.p.a", "x.b")}, [1], [[5, NAN]]),
    ({"t": 1, "acc[0]": 7, "acc": [1, 2, 3]}, {"channels": ("acc[0]", "acc[2]")}, [1], [[7, 3]]),
    ({"t": 1, "acc": [[1, 2], [3]]}, {"channels": ("acc[0][1]", "acc[1][1]")}, [1], [[2, NAN]]),
    ([0.5, -1], {"channels": ("[0]", "[1]"), "time": ""}, [NAN], [[0.5, -1]]),
    ([9, 0.5, -1], {"channels": ("[1]", "[2]"), "time": "[0]"}, [9], [[0.5, -1]]),
    # Records, with the time in them, or around them.
    ({"t": 3, "r": [{"a": 1, "b": 2}]}, {"records": "r"}, [3], [[1, 2]]),
    ({"t": 3, "d": {"t": 4, "r": [{"a": 1}, {"t": 5, "b": 2}]}}, {"records": "d.r"}, [4, 5], [[1, NAN], [NAN, 2]]),
    ({"r": [[1, 2], [4, 5]]}, {"records": "r", "channels": ("[1]", "q"), "time": "[0]"}, [1, 4], [[2, NAN], [5, NAN]]),
    ([{"r": [{"t": 1, "a": 1}]}, {"r": {"t": 2, "a": 2}}], {"records": "r"}, [1, 2], [[1, NAN], [2, NAN]]),
    # A name leads into each object of a list on the way.
    (
        {"u": [{"t": 1, "r": [{"a": 1}, {"b": 2}]}, {"t": 2, "r": []}, {"t": 3, "r": {"a": 3}}]},
        {"records": "u.r"}, [1, 1, 3], [[1, NAN], [NAN, 2], [3, NAN]],
    ),
    (
        {"u": [{"t": 1, "vs": [{"id": "a", "v": 1}, {"id": "b", "v": 2}]}, {"t": 2, "vs": [{"id": "b", "v": 3}]}]},
        LONG | {"records": "u.vs"}, [1, 2], [[1, 2], [NAN, 3]],
    ),
    # Long form: what belongs to one time is one row.
    ({"values": [{"id": "a", "v": 1, "t": 0}, {"id": "b", "v": 2, "t": 0}]}, LONG, [0], [[1, 2]]),
    (
        {"t": 8, "values": [{"id": "b", "v": 1, "t": 0}, {"id": "a", "v": 2}, {"id": "a", "v": 3}]},
        LONG, [0, 8, 8], [[NAN, 1], [2, NAN], [3, NAN]],
    ),
    ({"values": [{"id": 7, "v": 1, "t": 0}]}, LONG | {"channels": ("7", "8")}, [0], [[1, NAN]]),
    ({"t": 1, "id": "a", "v": "on"}, {"name": "id", "value": "v"}, [1], [[1, NAN]]),
    (
        {"values": [{"id": "acc", "t": 1, "v": {"x": 1, "y": {"z": 2}}}]},
        LONG | {"channels": ("acc:x", "acc:y.z")}, [1], [[1, 2]],
    ),
    # Columns below paths.
    (
        {"buffer": {"t": {"buffer": [1, 2]}, "x": {"buffer": [3, None]}}},
        {"time": "buffer.t.buffer", "channels": ("buffer.x.buffer", "buffer.y.buffer")}, [1, 2], [[3, NAN], [NAN, NAN]],
    ),
    # Values and times.
    ({"t": "1.5", "a": "0.12", "b": "-1e3"}, {}, [1.5], [[0.12, -1000]]),
    ({"t": 1, "a": True, "b": "off"}, {}, [1], [[1, 0]]),
    ({"t": 1, "a": " Unavailable ", "b": "---"}, {}, [1], [[NAN, NAN]]),
    ({"t": 1, "a": "Open", "b": "off"}, {"words": {"open": 2, "off": 7}}, [1], [[2, 7]]),
    ({"t": 1, "a": -9999, "b": "-9999.0"}, {"missing": (-9999,)}, [1], [[NAN, NAN]]),
    ({"t": 1, "a": -9999, "b": -9999}, {"missing": {"b": (-9999, "x")}}, [1], [[-9999, NAN]]),
    ({"t": 1, "a": "err", "b": "ERR"}, {"missing": {"*": ("err",)}}, [1], [[NAN, NAN]]),
    ({"d": "2024-03-05", "c": "12:00:01", "a": 1}, {"time": ("d", "c")}, [1709640001], [[1, NAN]]),
    (
        {"d": "05.03.2024", "c": "13:00", "a": 1},
        {"time": ("d", "c"), "time_format": "%d.%m.%Y %H:%M", "time_zone": "Europe/Vienna"}, [1709640000], [[1, NAN]],
    ),
    ({"when": {"min": 2}, "a": 1}, {"time": "when.min", "time_unit": "min"}, [120], [[1, NAN]]),
    ({"t": 1709640000123, "a": 1}, {"time_unit": "ms"}, [1709640000.123], [[1, NAN]]),
    ({"t": 45356.5, "a": 1}, {"time_unit": "excel"}, [1709640000], [[1, NAN]]),
    ({"a": 1}, {"time": "@arrival"}, [NAN], [[1, NAN]]),
    ({"a": 1}, {"time": "@broker", "stamped": 12.5}, [12.5], [[1, NAN]]),
    ({"a": 1}, {"time": "@property.at", "properties": {"at": "2024-03-05T12:00:00Z"}}, [1709640000], [[1, NAN]]),
]  # fmt: skip


@pytest.mark.parametrize(("payload", "keys", "t", "x"), SHAPES, ids=[json.dumps(shape[0])[:60] for shape in SHAPES])
def test_a_shape_gives_its_rows(payload: Any, keys: dict[str, Any], t: list[float], x: list[list[float]]) -> None:
    assert_rows(read(payload, **keys), t, x)


@pytest.mark.parametrize("kind", ENCODERS)
def test_nested_payloads_are_read_from_every_format(kind: Any) -> None:
    codec = kind(ColumnKeys(records="r", channels=DEEP).columns_for(("a", "b")))
    payload = ENCODERS[kind]({"t": 2, "r": [{"values": {"a": 1, "b": "on"}}]})
    assert_rows(codec.read(message(payload)), [2], [[1, 1]])
    assert codec.decode(payload)[1].tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"0.123", 0.123),
        (b" -5\n", -5),
        (b"true", 1),
        (b'"21.5"', 21.5),
        (b"ON", 1),
        (b"unavailable", NAN),
        (b"null", NAN),
    ],
)
def test_a_payload_may_be_the_bare_value(payload: bytes, value: float) -> None:
    assert_rows(read(payload, ("a",), channels=("",), time=""), [NAN], [[value]])


STREAMS: list[tuple[dict[str, Any], list[str]]] = [
    ({"stream": "dev"}, ["w7", "w7"]),
    ({"stream": ("site", "k")}, ["3/x", "3/y"]),
    ({"stream": ("@topic", "k")}, ["w1/x", "w1/y"]),
    ({"stream": "@property.id", "properties": {"id": "p"}}, ["p", "p"]),
]


@pytest.mark.parametrize(("keys", "streams"), STREAMS)
def test_the_payload_or_a_property_names_the_stream(keys: dict[str, Any], streams: list[str]) -> None:
    properties = keys.get("properties")
    config = PayloadConfig(topic="s/{stream}", records="r", **{k: v for k, v in keys.items() if k != "properties"})
    reader = MessageReader(
        [config.subscription(config.template(MQTT), ("a", "b"), max_bytes=9999)], ("a", "b"), queue="q"
    )
    payload = {"dev": "w7", "site": 3, "r": [{"t": 1, "a": 1, "k": "x"}, {"t": 2, "a": 2, "k": "y"}]}
    batch = reader.read([message(payload, properties=properties)])
    assert batch.letters == ()
    assert batch.samples.streams.to_pylist() == streams


def test_every_field_of_an_object_may_be_a_list_of_records_of_a_stream() -> None:
    payload = {
        "ts": 9,
        "Device A": [{"t": 1, "values": {"a": 1}}, {"t": 2, "values": {"a": 2}}],
        "B": {"t": 1, "values": {"b": 3}},
    }
    found = read(payload, records="*", stream="@key", channels=DEEP)
    assert_rows(found, [1, 2, 1], [[1, NAN], [2, NAN], [NAN, 3]], ["Device A", "Device A", "B"])


def test_a_stream_may_be_named_by_the_payload_alone() -> None:
    config = PayloadConfig(topic="all/devices", stream="dev")
    reader = reader_of(config, ("a",))
    batch = reader.read([Message(b"all/devices", b'{"dev": "x", "t": 1, "a": 2}', 0.0)])
    assert (batch.samples.streams.to_pylist(), batch.samples.x.tolist()) == (["x"], [[2.0]])


def test_a_level_of_the_topic_is_one_of_the_names_in_channels() -> None:
    config = PayloadConfig(topic="s/{stream}/{channel}", channels=("temp", "hum"), value="", time="")
    own = ("temperature", "humidity")
    topic = config.template(MQTT)
    reader = MessageReader([config.subscription(topic, own, max_bytes=99)], own, queue="q")
    batch = reader.read(
        [Message(b"s/w1/hum", b"45", 0.0), Message(b"s/w1/temp", b"21.5", 0.0), Message(b"s/w1/x", b"1", 0.0)]
    )
    np.testing.assert_array_equal(batch.samples.x, [[NAN, 45], [21.5, NAN]])
    assert "has the channel 'x', which is none of temp, hum" in batch.letters[0].reason
    config = msgspec.structs.replace(config, others="ignore")
    reader = reader_of(config, own)
    batch = reader.read([Message(b"s/w1/x", b"1", 0.0)])
    assert (batch.letters, reader.counts.unused, reader.counts.malformed) == ((), 1, 0)


def test_rows_of_other_names_are_counted_and_a_message_of_nothing_else_is_malformed() -> None:
    both = [{"id": "a", "v": 1, "t": 1}, {"id": "z", "v": 1, "t": 1}]
    assert read({"values": both}, **LONG).unused == 1
    with pytest.raises(PayloadError, match="has the names z, and none of a, b; correct channels"):
        read({"values": both[1:]}, **LONG)
    with pytest.raises(PayloadError, match="has the names z"):
        read({"values": both}, **LONG, others="refuse")
    found = read({"values": both[1:]}, **LONG, others="ignore")
    assert (len(found.t), found.unused) == (0, 1)
    found = read([{"t": 1, "z": 1}, {"t": 2, "a": 1}], others="ignore")
    assert (found.t.tolist(), found.unused) == ([2], 1)


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    ({"t": 1, "values": {"a": 1}}, {}, r"give its path, as channels = \['values.a', ...\]"),
    ({"t": 1, "r": [{"a": 1}]}, {}, "set records = 'r', whose objects are the rows"),
    ({"t": 1, "q": []}, {"records": "r"}, r"has no 'r' with the records; it has: t, q\[0\]"),
    ({"t": 1, "r": 5}, {"records": "r"}, "'r' is a bare number, 5, not a list of objects"),
    ({"r": [{"a": 1}]}, {"records": "r"}, "record 0: has no field 't' with the time; it has: no other field; name it"),
    ({"t": 1, "r": [{"a": 1}, {"c": 1}]}, {"records": "r"}, "record 1: has none of a, b; it has: c"),
    ({"t": 1, "r": [{"a": "x"}]}, {"records": "r"}, "record 0: field 'a' is text, 'x': send a number; or give"),
    ({"t": 1, "a": "1,5"}, {}, "field 'a' is text, '1,5': send a number with a decimal point, as 1.5"),
    ({"t": 1, "a": "1_000"}, {}, "field 'a' is text, '1_000': send a number; or give the word one"),
    ({"t": 1, "a": "21.5 °C"}, {}, "send the number alone, 21.5, and give its unit in units"),
    ({"t": 1, "a": "230V"}, {}, "send the number alone, 230, and give its unit in units"),
    ({"t": 1, "a": "0x10"}, {}, "field 'a' is text"),
    ({"t": 1, "a": "inf"}, {}, "field 'a' is infinite"),
    ({"t": 1, "a": 10**400}, {}, "a number is too large for float64"),
    ({"t": 1, "a": [1, 2]}, {}, r"field 'a' is a list and others are not; .* as a\[0\]"),
    ({"a": 1}, {"time": "@broker"}, "the queue gives this message no time"),
    ({"a": 1}, {"time": "@property.at"}, "has no property 'at' with the time"),
    ([{"a": 1}, {"a": 2}], {"time": ""}, "2 samples without a time"),
    ({"t": 1, "a": 1}, {"stream": "dev"}, "has no field 'dev' with the stream's name; it has: t; name it in stream"),
    ({"t": 1, "a": 1, "dev": 1.5}, {"stream": "dev"}, "field 'dev' is a bare number, 1.5"),
    ({"t": 1, "a": 1, "dev": ""}, {"stream": "dev"}, "field 'dev' is text, ''"),
    ({"values": [{"v": 1, "t": 0}]}, LONG, "record 0: has no field 'id' with the channel's name; it has: v, t"),
    ({"values": [{"id": "a", "t": 0}]}, LONG, "record 0: has no field 'v' with the value; it has: id, t"),
    ({"d": "2024-03-05", "a": 1}, {"time": ("d", "c")}, "has no field 'c' with the time"),
    ([1, 2], {"records": "*"}, "element 0 of its list is a bare number"),
]  # fmt: skip


@pytest.mark.parametrize(("payload", "keys", "reason"), REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_what_is_missing_or_wrong_is_named(payload: Any, keys: dict[str, Any], reason: str) -> None:
    with pytest.raises(PayloadError, match=reason):
        read(payload, **keys)


def test_numbers_for_no_value_are_known_in_packed_and_arrow_payloads_too() -> None:
    columns = ColumnKeys(missing={"b": (-9999,)}).columns_for(("a", "b"))
    x = [[-9999.0, 1.0], [2.0, -9999.0]]
    for codec in (PackedCodec(columns, layout="<d2f"), ArrowCodec(columns)):
        np.testing.assert_array_equal(codec.decode(codec.encode_samples([1.0, 2.0], x))[1], [[-9999, 1], [2, NAN]])


def test_keys_that_cannot_work_are_refused_at_the_start() -> None:
    with pytest.raises(ParameterError, match="it is the only channel, and has no time"):
        read(b"1", ("a",), channels=("",))
    with pytest.raises(ConfigError, match="columns: stream is not for packed payloads"):
        PackedCodec(ColumnKeys(stream="dev").columns_for(("a",)), layout="<dd")
    for keys, reason in (
        ({"time": "@broker"}, "time = '@broker' is not for packed payloads; name a column"),
        ({"others": "ignore"}, "others = 'ignore' is not for packed payloads"),
        ({"words": {"x": 1}}, "words is not for packed payloads"),
    ):
        with pytest.raises(ConfigError, match=reason):
            PackedCodec(ColumnKeys(**keys).columns_for(("a",)), layout="<dd")
    with pytest.raises(ConfigError, match="rate is not for payloads"):
        JsonCodec(ColumnKeys(rate=2.0, time="").columns_for(("a",)))


def test_numbers_in_text_now_and_then_do_not_change_how_others_are_read() -> None:
    codec = JsonCodec(Columns(channels=("a",)))
    payloads = [
        b'{"t": 1, "a": 2}',
        b'{"t": 1, "a": "2"}',
        b'{"t": 1, "a": "on"}',
        b'{"t": 1, "a": 2}',
        b'{"t": 1, "a": 2}',
    ]
    assert [codec.decode(payload)[1].tolist() for payload in payloads] == [[[2]], [[2]], [[1]], [[2]], [[2]]]


@pytest.mark.parametrize("channels", [("values.a", "acc[1]"), ("a", "x.y.z"), ("a.b[0]", "a.c")])
def test_what_is_written_at_paths_is_read_again(channels: tuple[str, ...]) -> None:
    codec = JsonCodec(ColumnKeys(channels=channels, time="meta.ts").columns_for(("a", "b")))
    t, x = np.array([1.5, 2.5]), np.array([[1.0, NAN], [3.0, 4.0]])
    for n in (1, 2):
        found = codec.decode(codec.encode_samples(t[:n], x[:n]))
        np.testing.assert_array_equal(found[0], t[:n])
        np.testing.assert_array_equal(found[1], x[:n])
    with pytest.raises(SampleError, match="cannot be written as payloads of this shape"):
        JsonCodec(ColumnKeys(records="r").columns_for(("a",))).encode_samples(t[:1], x[:1, :1])


def test_units_and_linear_maps_bring_values_to_the_models_units() -> None:
    plain = PayloadConfig(
        topic="s/{stream}", units={"x": "mg"}, scale={"b": 2.0}, offset={"b": 1.0}, channels=("x", "b")
    )
    level = PayloadConfig(topic="c/{stream}/{channel}", units={"x": "degF"}, channels=("x", "b"))
    own, units = ("a", "b"), ("g", "")
    with pytest.raises(ConfigError, match="'degF', a unit of temperature, and the model's 'g'"):
        level.subscription(level.template(MQTT), own, units, max_bytes=99)
    level = msgspec.structs.replace(level, units={"x": "g"}, scale={"b": 10.0})
    subscriptions = [one.subscription(one.template(MQTT), own, units, max_bytes=99) for one in (plain, level)]
    reader = MessageReader(subscriptions, own, queue="q")
    sent = {
        b"s/w1": b'{"t": 1, "x": 500, "b": 3}',
        b"c/w1/x": b'{"t": 2, "value": 7}',
        b"c/w1/b": b'{"t": 2, "value": 7}',
    }
    batch = reader.read([Message(topic, payload, 0.0) for topic, payload in sent.items()])
    np.testing.assert_allclose(batch.samples.x, [[0.5, 7], [7, NAN], [NAN, 70]], rtol=1e-15)


def test_missing_numbers_are_those_that_are_sent_not_those_in_the_models_unit() -> None:
    config = PayloadConfig(topic="s/{stream}", units={"a": "mg"}, missing=(-9999,), channels=("a",))
    subscription = config.subscription(config.template(MQTT), ("a",), ("g",), max_bytes=99)
    sent = [Message(b"s/w", b'{"t": %d, "a": %d}' % pair, 0.0) for pair in ((1, -9999), (2, -9999000))]
    np.testing.assert_array_equal(
        MessageReader([subscription], ("a",), queue="q").read(sent).samples.x, [[NAN], [-9999]]
    )


def test_limits_stand_in_columns_of_a_run_and_nowhere_else() -> None:
    config = PayloadConfig(topic="s/{stream}", limits={"a": (0, 1)})
    with pytest.raises(ConfigError, match="limits are of the model's channels"):
        config.subscription(config.template(MQTT), ("a",), max_bytes=99)


def test_spellings_by_channel_are_refused_where_the_topic_has_the_channel() -> None:
    config = PayloadConfig(topic="s/{stream}/{channel}", missing={"a": (-1,)})
    with pytest.raises(ConfigError, match="missing is a table by channel, and the topic has the channel"):
        config.subscription(config.template(MQTT), ("a",), max_bytes=99)


NAMES = ["t", "a", "b", "a.b", "r", "id", "v", "x"]
numbers = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False))
trees = st.recursive(
    st.one_of(numbers, st.text(max_size=5), st.sampled_from(["a", "on", "-", "1.5"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)),
    max_leaves=12,
)  # fmt: skip
KEYS: list[dict[str, Any]] = [
    {}, {"channels": ("a.b", "x[0]")}, {"records": "r"}, {"records": "r", "name": "id", "value": "v"},
    {"records": "*", "stream": "@key"}, {"stream": ("id", "x.id"), "others": "ignore"}, {"time": ("id", "t")},
    {"channels": ("[0]", "[1]"), "time": ""}, {"name": "id", "value": "v", "channels": ("a:x", "b"), "records": "a.r"},
]  # fmt: skip
CODECS = [JsonCodec(ColumnKeys(**keys).columns_for(("a", "b"), sequence="v" if not keys else "")) for keys in KEYS]


@given(tree=trees, codec=st.sampled_from(CODECS))
def test_any_value_is_rows_or_a_payload_error(tree: Any, codec: JsonCodec) -> None:
    try:
        found = codec.read(message(msgspec.json.encode(tree)))
    except PayloadError:
        return
    assert len(found.t) == len(found.x) == len(found.streams if found.streams is not None else found.t)
    assert len(found.t) or found.unused
    assert not np.isinf(found.x).any()


def naive(record: Any, path: str) -> Any:
    """Find a path in an object, step by step; a field's own name wins."""
    if isinstance(record, dict) and path in record:
        return record[path]
    for cut in (i for i, sign in enumerate(path) if sign == "."):
        if isinstance(record, dict) and path[:cut] in record:
            return naive(record[path[:cut]], path[cut + 1 :])
    return KeyError


@given(
    tree=st.dictionaries(
        st.sampled_from(["a", "b", "a.b"]),
        st.one_of(st.floats(-9, 9), st.dictionaries(st.sampled_from("ab"), st.floats(-9, 9))),
    )
)
def test_paths_are_found_as_a_naive_walker_finds_them(tree: dict[str, Any]) -> None:
    codec = JsonCodec(ColumnKeys(channels=("a.b", "b.a"), time="").columns_for(("x", "y")))
    wanted = [naive(tree, path) for path in ("a.b", "b.a")]
    if wanted == [KeyError, KeyError] or any(isinstance(value, dict) for value in wanted):
        with pytest.raises(PayloadError):
            codec.decode(msgspec.json.encode(tree))
        return
    np.testing.assert_array_equal(
        codec.decode(msgspec.json.encode(tree))[1], [[NAN if value is KeyError else value for value in wanted]]
    )


names = st.sampled_from(["a", "b", "c"])
leaves = st.one_of(names, st.floats(-9, 9), st.integers(-9, 9), st.none(), st.lists(st.floats(-9, 9), max_size=3))
objects = st.dictionaries(
    st.sampled_from(["t", "a", "b", "a.b", "v", "x"]),
    st.one_of(leaves, st.dictionaries(st.sampled_from(["a", "b", "t", "x.a", "x"]), leaves, max_size=4)),
    max_size=6,
)
likely = st.one_of(
    objects,
    st.lists(objects, max_size=3),
    st.builds(lambda outer, rows: {**outer, "r": rows}, objects, st.lists(objects, max_size=3)),
)
FAST: list[dict[str, Any]] = [
    {}, {"channels": ("a.b", "x[0]")}, {"channels": ("x.a", "x.b")}, {"records": "r"}, {"channels": ("x[1]", "v.x.a")},
    {"records": "r", "channels": ("x[0]", "v.b")}, {"time": "x.t"}, {"time": "", "channels": ("a", "x.b")},
    {"channels": ("x[0]", "x[1]")}, {"name": "x", "value": "v", "others": "ignore"},
    {"records": "r", "name": "x", "value": "v"}, {"records": "r", "name": "x.a", "value": "x.x", "others": "refuse"},
]  # fmt: skip
LAYOUTS = [JsonCodec(ColumnKeys(**keys).columns_for(("a", "b"))) for keys in FAST]


@given(payload=likely, codec=st.sampled_from(LAYOUTS))
def test_a_struct_reads_what_the_shape_reads(payload: Any, codec: JsonCodec) -> None:
    assert codec._layout is not None
    codec._struct_fits = True
    try:
        expected = codec.shape.rows(msgspec.json.decode(msgspec.json.encode(payload)))
    except PayloadError as error:
        with pytest.raises(PayloadError, match=re.escape(str(error))):
            codec.read(message(msgspec.json.encode(payload)))
        return
    found = codec.read(message(msgspec.json.encode(payload)))
    np.testing.assert_array_equal(found.t, expected.t)
    np.testing.assert_array_equal(found.x, expected.x)
    assert found.unused == expected.unused


@pytest.mark.parametrize("keys", [keys for keys in FAST if "name" not in keys])
def test_numbers_at_paths_are_read_by_a_struct(keys: dict[str, Any]) -> None:
    codec = JsonCodec(ColumnKeys(**keys).columns_for(("a", "b")))
    columns = msgspec.structs.replace(codec.columns, records="")
    rows = JsonCodec(columns).encode_samples([1.0], [[1.0, 2.0]])
    payload = rows if not codec.columns.records else b'{"r": [' + rows + b"]}"
    assert codec._layout is not None
    found = codec._layout.read(codec._parse(payload))
    assert found is not None
    assert found[1].tolist() == [[1.0, 2.0]]
