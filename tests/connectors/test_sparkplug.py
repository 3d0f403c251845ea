"""Sparkplug B: births, aliases, types, deaths and numbers of messages."""

import asyncio
import contextlib
import logging
import math
import struct
import threading
import time
import zlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import client as paho
from paho.mqtt import publish

from streamrde.connectors.codecs import sparkplug
from streamrde.connectors.codecs.sparkplug import SparkplugCodec
from streamrde.connectors.ends import Message
from streamrde.connectors.messages import MessageReader, Subscription
from streamrde.connectors.mqtt.config import MqttSourceConfig
from streamrde.connectors.samples import Columns
from streamrde.connectors.sections import ModelOutline
from streamrde.connectors.topics import TopicTemplate
from streamrde.errors import ConfigError, ParameterError, PayloadError, SampleError

pytest.importorskip("google.protobuf", reason="Sparkplug B needs protobuf")

COLUMNS = Columns(channels=("Temperature", "Inputs/A"))
INT8, INT16, INT32, INT64, UINT8, UINT32, UINT64, FLOAT, DOUBLE, BOOLEAN, STRING = 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12
DATASET, TEMPLATE = 16, 19


def varint(number):
    found = b""
    while number > 127:
        found, number = found + bytes([number % 128 + 128]), number // 128
    return found + bytes([number])


def number(field, value):
    return varint(field << 3) + varint(value)


def block(field, value):
    return varint(field << 3 | 2) + varint(len(value)) + value


VALUES = {
    "int": lambda v: number(10, v), "long": lambda v: number(11, v), "bool": lambda v: number(14, v),
    "float": lambda v: varint(12 << 3 | 5) + struct.pack("<f", v),
    "double": lambda v: varint(13 << 3 | 1) + struct.pack("<d", v),
    "text": lambda v: block(15, v.encode()), "bytes": lambda v: block(16, v), "dataset": lambda v: block(17, v),
    "template": lambda v: block(18, v),
}  # fmt: skip


def metric(name=None, *, alias=None, at=None, type=None, null=False, historical=False, **value):
    """Write a metric by the wire format of protobuf alone."""
    found = b"" if name is None else block(1, name.encode())
    for field, one in ((2, alias), (3, at), (4, type)):
        found += b"" if one is None else number(field, one)
    found += (number(5, 1) if historical else b"") + (number(7, 1) if null else b"")
    return block(2, found + b"".join(VALUES[kind](one) for kind, one in value.items()))


def payload(*metrics, at=1_700_000_000_000, seq=None):
    return number(1, at) + b"".join(metrics) + (b"" if seq is None else number(3, seq))


def read(codec, topic, *metrics, **options):
    return codec.read(message(f"spBv1.0/{topic}", payload(*metrics, **options)))


def message(topic, payload):
    return Message(topic.encode(), payload, 0.0)


def born(codec, *, session=0, seq=0):
    """Let node g/n with the device d be born."""
    node = read(codec, "g/NBIRTH/n", metric("bdSeq", type=INT64, long=session), seq=seq)
    metrics = [metric("Temperature", alias=7, type=DOUBLE, double=20.5), metric("Inputs/A", alias=8, type=INT16, int=5)]
    return node, read(codec, "g/DBIRTH/n/d", *metrics, metric("Serial", alias=9, type=STRING, text="x"), seq=seq + 1)


def test_a_birth_gives_names_and_first_values_and_data_come_by_alias():
    codec = SparkplugCodec(COLUMNS)
    node, device = born(codec)
    assert (len(node.t), node.ended) == (0, ())
    assert (device.t.tolist(), device.x.tolist(), list(device.streams)) == ([1.7e9], [[20.5, 5.0]], ["g/n/d"])
    data = read(
        codec, "g/DDATA/n/d", metric(alias=8, int=0xFFFF), metric(alias=9, text="y"), at=1_700_000_001_250, seq=2
    )
    assert data.t.tolist() == [1_700_000_001.25]
    np.testing.assert_array_equal(data.x, [[math.nan, -1.0]])


def test_metrics_of_one_timestamp_are_one_sample_and_samples_are_in_order_of_time():
    codec = SparkplugCodec(COLUMNS)
    born(codec)
    metrics = [metric(alias=7, at=3000, double=3.0), metric(alias=7, at=1000, double=1.0, historical=True)]
    data = read(codec, "g/DDATA/n/d", *metrics, metric(alias=8, at=3000, int=4), seq=2)
    assert data.t.tolist() == [1.0, 3.0]
    np.testing.assert_array_equal(data.x, [[1.0, math.nan], [3.0, 4.0]])
    arrival = SparkplugCodec(Columns(channels=COLUMNS.channels, time=""))
    _, device = born(arrival)
    assert np.isnan(device.t).tolist() == [True]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (INT8, {"int": 0xFF}, -1), (INT8, {"int": 0xFFFFFF80}, -128), (INT8, {"int": 127}, 127),
        (INT16, {"int": 0x8000}, -32768),
        (INT32, {"int": 0xFFFFFFFE}, -2), (INT64, {"long": 2**64 - 3}, -3), (UINT8, {"int": 255}, 255),
        (UINT32, {"long": 2**32 - 1}, 2**32 - 1), (UINT64, {"long": 2**63}, 2**63), (FLOAT, {"float": 0.5}, 0.5),
        (BOOLEAN, {"bool": 1}, 1), (STRING, {"text": "12.5"}, 12.5), (STRING, {"text": "off"}, 0),
        (DOUBLE, {"null": True}, math.nan), (DOUBLE, {}, math.nan),
    ],
)  # fmt: skip
def test_numbers_are_read_by_their_type(kind, value, expected):
    _, x = SparkplugCodec(COLUMNS).decode(payload(metric("Temperature", type=kind, **value)))
    np.testing.assert_array_equal(x, [[expected, math.nan]])
    codec = SparkplugCodec(COLUMNS)  # and by the birth's, where a message has no type
    read(codec, "g/NBIRTH/n", metric("Temperature", alias=1, type=kind, **value))
    np.testing.assert_array_equal(read(codec, "g/NDATA/n", metric(alias=1, **value)).x, [[expected, math.nan]])


def test_deaths_end_the_streams_of_a_device_or_a_node():
    codec = SparkplugCodec(COLUMNS)
    born(codec, session=3)
    assert list(read(codec, "g/NDEATH/n", metric("bdSeq", type=INT64, long=2)).ended) == []  # of an earlier session
    dead = read(codec, "g/DDEATH/n/d", seq=2)
    assert (list(dead.ended), len(dead.t)) == (["g/n/d"], 0)
    with pytest.raises(
        PayloadError, match=r"metric 7 has no name, and the birth was not seen; ask the node for a rebirth"
    ):
        read(codec, "g/DDATA/n/d", metric(alias=7, double=1.0), seq=3)
    born(codec, session=3)
    assert set(read(codec, "g/NDEATH/n", metric("bdSeq", type=INT64, long=3)).ended) == {"g/n", "g/n/d"}


def test_deaths_of_nodes_that_were_not_seen_end_what_a_run_before_may_have_left():
    codec = SparkplugCodec(COLUMNS)
    assert read(codec, "g/NDEATH/n", metric("bdSeq", type=INT64, long=3)).ended == ("g/n", "g/n/")
    assert read(codec, "g/DDEATH/n/d", seq=2).ended == ("g/n/d",)


@pytest.mark.parametrize(
    ("born_as", "dies_as", "ends"), [(3, 3, True), (3, 2, False), (0, 255, False), (3, 4, True), (255, 0, True)]
)
def test_a_death_of_an_earlier_session_is_late_and_ends_nothing(born_as, dies_as, ends):
    codec = SparkplugCodec(COLUMNS)
    born(codec, session=born_as)
    dead = read(codec, "g/NDEATH/n", metric("bdSeq", type=INT64, long=dies_as))
    assert (set(dead.ended), dead.unused) == (({"g/n", "g/n/d"}, 0) if ends else (set(), 1))


def test_a_new_session_ends_streams_whose_death_was_not_seen_and_a_rebirth_does_not():
    codec = SparkplugCodec(COLUMNS)
    born(codec, session=3)
    node, device = born(codec, session=3, seq=9)
    assert (tuple(node.ended), tuple(device.ended), node.missed, device.missed) == ((), (), 0, 0)
    node, _ = born(codec, session=4)
    assert set(node.ended) == {"g/n", "g/n/d"}


def test_a_rebirth_remembers_devices_for_the_nodes_death():
    codec = SparkplugCodec(COLUMNS)
    born(codec)
    read(codec, "g/NBIRTH/n", metric("bdSeq", type=INT64, long=0), seq=0)
    with pytest.raises(PayloadError, match="birth was not seen"):
        read(codec, "g/DDATA/n/d", metric(alias=7, double=1.0), seq=1)
    assert set(read(codec, "g/NDEATH/n", metric("bdSeq", type=INT64, long=0)).ended) == {"g/n", "g/n/d"}


def test_missing_messages_are_counted_over_the_turn_of_the_number_and_logged_once(caplog):
    codec = SparkplugCodec(COLUMNS)
    born(codec)
    numbers = (2, 5, 100, 200, 1, 1, 0, 2)
    with caplog.at_level(logging.WARNING):
        missed = [read(codec, "g/DDATA/n/d", metric(alias=7, double=1.0), seq=seq).missed for seq in numbers]
    assert missed == [0, 2, 94, 99, 56, 0, 0, 0]
    assert caplog.text.count("never came") == 1
    assert "'g/n': 2 messages never came, between number 2 and 5" in caplog.text


def test_births_are_kept_in_bounded_memory_and_the_oldest_are_forgotten(monkeypatch):
    monkeypatch.setattr(sparkplug, "_MOST_STREAMS", 5)
    codec = SparkplugCodec(COLUMNS)
    hot = metric("Temperature", alias=7, type=DOUBLE, double=20.5)
    for node in ("a", "b"):
        read(codec, f"g/NBIRTH/{node}", hot, seq=0)
        for device in range(3):
            read(codec, f"g/DBIRTH/{node}/{device}", hot, seq=device + 1)
    for topic, known in (("g/NDATA/b", True), ("g/DDATA/b/2", True), ("g/NDATA/a", False), ("g/DDATA/a/0", False)):
        with contextlib.nullcontext() if known else pytest.raises(PayloadError, match="birth was not seen"):
            read(codec, topic, metric(alias=7, double=1.0))
    for device in range(20):
        read(codec, f"g/DBIRTH/b/{device}", hot)
    assert len(read(codec, "g/DDATA/b/19", metric(alias=7, double=1.0)).t) == 1
    with pytest.raises(PayloadError, match="birth was not seen"):
        read(codec, "g/DDATA/b/2", metric(alias=7, double=1.0))
    for kind in ("NBIRTH/b", "NDEATH/b", "NBIRTH/c", "NDEATH/c"):
        read(codec, f"g/{kind}", hot)
    assert codec._streams == sum(len(node.streams) for node in codec._nodes.values()) == 0


def test_a_birth_with_a_value_that_cannot_be_read_counts_as_a_birth_and_nothing_before_it_is_forgotten():
    codec = SparkplugCodec(COLUMNS)
    born(codec, session=3)
    bad = metric("Temperature", alias=7, type=STRING, text="warm")
    with pytest.raises(PayloadError, match="'Temperature' is text, 'warm'"):
        read(codec, "g/NBIRTH/n", metric("bdSeq", type=INT64, long=4), bad, seq=0)
    with pytest.raises(PayloadError, match="'Temperature' is text, 'warm'"):
        read(codec, "g/DBIRTH/n/d", bad, seq=4)
    data = read(codec, "g/DDATA/n/d", metric(alias=7, text="12"), seq=5)
    assert (data.x[0, 0], set(data.ended), data.missed) == (12.0, {"g/n", "g/n/d"}, 3)


def test_data_without_any_channel_are_counted():
    codec = SparkplugCodec(COLUMNS)
    born(codec)
    rows = read(codec, "g/DDATA/n/d", metric(alias=9, text="y"), seq=2)
    assert (len(rows.t), rows.unused) == (0, 1)


def test_commands_and_states_are_left_unused():
    codec = SparkplugCodec(COLUMNS)
    assert codec.read(message("spBv1.0/STATE/host", b'{"online": true}')).unused == 1
    assert codec.read(message("spBv1.0/g/NCMD/n", b"")).unused == 1
    assert codec.read(message("spBv1.0/g/DCMD/n/d", b"")).unused == 1
    born(codec)
    odd = [metric(alias=7, type=DATASET, dataset=b"\x08\x01"), metric(alias=8, type=TEMPLATE, template=b"\x28\x01")]
    rows = read(codec, "g/DDATA/n/d", *odd, seq=2)
    assert (rows.unused, len(rows.t)) == (2, 0)


def test_a_device_without_any_channel_is_named_in_the_log(caplog):
    codec = SparkplugCodec(COLUMNS)
    read(codec, "g/NBIRTH/n", seq=0)
    with caplog.at_level(logging.WARNING):
        read(codec, "g/DBIRTH/n/d", metric("temperature", type=DOUBLE, double=1.0), seq=1)
    assert "'g/n/d' has none of Temperature, Inputs/A; it has: temperature; 'temperature' is spelled" in caplog.text


def test_compressed_payloads_are_read_within_the_limit():
    inner = payload(metric("Temperature", type=DOUBLE, double=2.0))
    for body in (zlib.compress(inner), zlib.compress(inner, wbits=31)):
        _, x = SparkplugCodec(COLUMNS).decode(block(4, b"SPBV1.0_COMPRESSED") + block(5, body))
        np.testing.assert_array_equal(x, [[2.0, math.nan]])
    bomb = block(4, b"SPBV1.0_COMPRESSED") + block(5, zlib.compress(bytes(2_000_000)))
    with pytest.raises(PayloadError, match="uncompressed it is longer than max_bytes"):
        SparkplugCodec(COLUMNS).decode(bomb)


@pytest.mark.parametrize(
    ("topic", "body", "reason"),
    [
        ("sensors/w1", b"", "its topic is not one of Sparkplug B"),
        ("spBv1.0/g/DDATA/n", b"", "type 'DDATA', which does not go with its levels"),
        ("spBv1.0/g/NDATAS/n", b"", "type 'NDATAS', which Sparkplug B does not have"),
        ("spBv1.0/g/NDATA/n", b'{"a": 1}', "not Sparkplug B"),
        ("spBv1.0/g/DBIRTH/n/d", b"", "birth of its node 'g/n' was not seen"),
        ("spBv1.0/g/NDATA/n", payload(metric("Temperature", int=5)), "'Temperature' has no datatype"),
        ("spBv1.0/g/NDATA/n", payload(metric("Temperature", type=12, text="warm")), "is text, 'warm'"),
        ("spBv1.0/g/NDATA/n", payload(metric("Temperature", double=math.inf)), "is infinite"),
        ("spBv1.0/g/NDATA/n", payload(metric("Temperature", double=1.0), at=2**60), "counts milliseconds"),
    ],
)
def test_errors_say_what_is_wrong(topic, body, reason):
    with pytest.raises(PayloadError, match=reason):
        SparkplugCodec(COLUMNS).read(message(topic, body))


@pytest.mark.parametrize("options", [{"time": "at"}, {"time_unit": "us"}, {"time_format": "%Y"}, {"sequence": "n"}])
def test_keys_that_cannot_apply_are_refused(options):
    with pytest.raises(ParameterError, match="Sparkplug B"):
        SparkplugCodec(Columns(channels=("a",), **options))


kinds = st.sampled_from(["NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH", "NCMD"])


@given(st.lists(st.tuples(kinds, st.binary(max_size=40)), max_size=4))
def test_arbitrary_bytes_raise_nothing_but_a_payload_error(messages):
    codec = SparkplugCodec(COLUMNS)
    born(codec)
    for kind, body in messages:
        with contextlib.suppress(PayloadError):
            codec.read(message(f"spBv1.0/g/{kind}/n" + ("/d" if kind[0] == "D" else ""), body))


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(
        st.tuples(st.integers(0, 10**13), finite, finite | st.just(math.nan)),
        min_size=1,
        max_size=4,
        unique_by=lambda row: row[0],
    )
)
def test_decode_undoes_encode_in_the_order_of_time(rows):
    rows = sorted(rows)
    t, x = np.array([row[0] / 1000 for row in rows]), np.array([row[1:] for row in rows])
    codec = SparkplugCodec(COLUMNS)
    t_read, x_read = codec.decode(codec.encode_samples(t, x))
    assert t_read.tobytes() == t.tobytes()
    np.testing.assert_array_equal(x_read, x)
    with pytest.raises(SampleError, match="in milliseconds"):
        codec.encode_samples([0.0001], [[1.0, 2.0]])


def test_a_reader_hands_on_streams_ends_and_counts():
    codec = SparkplugCodec(COLUMNS)
    reader = MessageReader(
        [Subscription(TopicTemplate("spBv1.0/#", named=False), codec)], COLUMNS.channels, queue="test"
    )
    hot = metric("Temperature", alias=7, type=DOUBLE, double=20.5)
    batch = reader.read(
        [
            message("spBv1.0/g/NBIRTH/n", payload(metric("bdSeq", type=INT64, long=0), seq=0)),
            message("spBv1.0/g/DBIRTH/n/d", payload(hot, seq=1)),
            message("spBv1.0/g/DBIRTH/n/e", payload(hot, seq=2)),
            message("spBv1.0/g/DDATA/n/d", payload(metric(alias=7, double=21.0), at=1_700_000_001_000, seq=5)),
            message("spBv1.0/g/NDEATH/n", payload(metric("bdSeq", type=INT64, long=0))),
            message("spBv1.0/g/DDATA/n/d", payload(metric(alias=7, double=22.0))),
            message("spBv1.0/g/NBIRTH/n", payload(metric("bdSeq", type=INT64, long=1), seq=0)),
            message("spBv1.0/g/DBIRTH/n/d", payload(hot, at=1_700_000_009_000, seq=1)),
            message("spBv1.0/g/NCMD/n", b""),
        ]
    )
    assert batch.samples.streams.to_pylist() == ["g/n/d", "g/n/e", "g/n/d", "g/n/d"]
    assert batch.samples.t.tolist() == [1.7e9, 1.7e9, 1.7e9 + 1, 1.7e9 + 9]
    assert sorted(batch.ends) == [(3, "g/n"), (3, "g/n/d"), (3, "g/n/e")]
    assert len(batch.letters) == 1
    assert "birth was not seen" in batch.letters[0].reason
    assert (reader.counts.missed, reader.counts.unused, reader.counts.malformed, reader.counts.merged) == (2, 1, 1, 0)
    assert reader.topic_of("g/n/e") == "spBv1.0/g/DBIRTH/n/e"


def test_messages_without_times_of_their_own_get_their_arrival():
    codec = SparkplugCodec(Columns(channels=COLUMNS.channels, time=""))
    reader = MessageReader(
        [Subscription(TopicTemplate("spBv1.0/#", named=False), codec)], COLUMNS.channels, queue="test"
    )
    arrived = time.perf_counter()
    hot = payload(metric("Temperature", type=DOUBLE, double=20.5))
    batch = reader.read([Message(f"spBv1.0/g/NDATA/n{i}".encode(), hot, arrived - i) for i in range(2)])
    np.testing.assert_allclose(batch.samples.t, time.time() - np.arange(2), atol=0.5)


def test_the_configuration_needs_no_stream_in_the_topic():
    section = MqttSourceConfig(
        url="mqtt://127.0.0.1", topic="spBv1.0/plant/#", codec="sparkplug", channels=("Temperature",)
    )
    (one,) = section.subscriptions(["temperature"])
    assert isinstance(one.codec, SparkplugCodec)
    assert one.topic.filter == "spBv1.0/plant/#"
    with pytest.raises(ParameterError, match="stream"):
        MqttSourceConfig(url="mqtt://127.0.0.1", topic="spBv1.0/plant/#", channels=("a",)).subscriptions(["a"])


def test_births_are_asked_for_where_they_are_needed_once_a_minute_and_only_if_told():
    codec = SparkplugCodec(COLUMNS)
    topic, body = b"spBv1.0/g/DDATA/n/d", payload(metric(alias=7, double=1.0))
    for moment in (0.0, 1.0):
        with pytest.raises(PayloadError, match="rebirth = true does"):
            codec.read(Message(topic, body, moment))
    assert codec.requests() == []
    codec.ask_for_births()
    asked = []
    for moment in (2.0, 3.0, 61.0, 63.0):
        with pytest.raises(PayloadError):
            codec.read(Message(topic, body, moment))
        asked += [(moment, to) for to, _ in codec.requests()]
    assert asked == [(2.0, "spBv1.0/g/NCMD/n"), (63.0, "spBv1.0/g/NCMD/n")]
    born(codec)
    assert codec.requests() == []
    codec.read(Message(topic, payload(metric(alias=7, double=1.0), seq=9), 200.0))
    ((to, command),) = codec.requests()
    assert to == "spBv1.0/g/NCMD/n"
    assert metric("Node Control/Rebirth", type=BOOLEAN, bool=1)[2:] in command


def test_births_are_asked_for_only_over_mqtt_and_by_this_codec():
    keys = {"url": "mqtt://127.0.0.1", "topic": "spBv1.0/#", "channels": ("Temperature",), "rebirth": True}
    with pytest.raises(ConfigError, match='rebirth is for codec = "sparkplug"'):
        MqttSourceConfig(**keys | {"topic": "a/{stream}"}).subscriptions(["a"])
    MqttSourceConfig(codec="sparkplug", **keys).subscriptions(["a"])


def test_a_node_that_is_asked_over_a_broker_is_born_again_and_its_data_are_used(mosquitto_url):
    """A run begins after the node's birth: the first data cannot be read, what follows the rebirth can."""
    section = MqttSourceConfig(
        url=mosquitto_url, topic="spBv1.0/plant/#", codec="sparkplug", channels=COLUMNS.channels, rebirth=True
    )
    host, port = mosquitto_url.removeprefix("mqtt://").split(":")
    hot, data = metric("Temperature", alias=7, type=DOUBLE, double=20.5), payload(metric(alias=7, double=21.0), seq=9)
    born_again = [
        ("spBv1.0/plant/NBIRTH/n", payload(metric("bdSeq", type=INT64, long=0), seq=0), 1, False),
        ("spBv1.0/plant/DBIRTH/n/d", payload(hot, seq=1), 1, False),
    ]
    node = paho.Client(paho.CallbackAPIVersion.VERSION2)
    node.on_message = lambda client, _, command: [client.publish(topic, body, 1) for topic, body, *_ in born_again]
    subscribed = threading.Event()
    node.on_connect = lambda *_: node.subscribe("spBv1.0/plant/NCMD/n", 1)
    node.on_subscribe = lambda *_: subscribed.set()
    node.connect(host, int(port))
    node.loop_start()
    assert subscribed.wait(20)

    async def main():
        rows, letters = [], []
        async with section.build(ModelOutline(("temperature", "a"), pa.schema([]), {})) as source:
            node.publish("spBv1.0/plant/DDATA/n/d", data, 1)
            async for batch in source:
                rows += batch.samples.x[:, 0].tolist()
                letters += batch.letters
                await source.acknowledge(batch)
                if rows:
                    source.stop()
        return rows, letters

    try:
        rows, letters = asyncio.run(asyncio.wait_for(main(), 20))
    finally:
        node.disconnect()
        node.loop_stop()
    assert rows == [20.5]
    assert ["has no name" in letter.reason for letter in letters] == [True]


def test_a_broker_delivers_births_data_and_deaths_of_any_node(mosquitto_url):
    section = MqttSourceConfig(
        url=mosquitto_url, topic="spBv1.0/plant/#", codec="sparkplug", channels=COLUMNS.channels, qos=1
    )
    hot = metric("Temperature", alias=7, type=DOUBLE, double=20.5)
    sent = [
        ("NBIRTH/n", payload(metric("bdSeq", type=INT64, long=0), seq=0)),
        ("DBIRTH/n/d", payload(hot, seq=1)),
        ("DDATA/n/d", payload(metric(alias=7, double=21.0), at=1_700_000_001_000, seq=2)),
        ("NDEATH/n", payload(metric("bdSeq", type=INT64, long=0))),
    ]

    async def main():
        rows, ended = [], []
        async with section.build(ModelOutline(("temperature", "a"), pa.schema([]), {})) as source:
            host, port = mosquitto_url.removeprefix("mqtt://").split(":")
            messages = [(f"spBv1.0/plant/{topic}", body, 1, False) for topic, body in sent]
            await asyncio.to_thread(publish.multiple, messages, hostname=host, port=int(port))
            async for batch in source:
                samples = batch.samples
                rows += zip(samples.streams.to_pylist(), samples.t.tolist(), samples.x[:, 0].tolist(), strict=True)
                ended += [stream for _, stream in batch.ends]
                await source.acknowledge(batch)
                if ended:
                    source.stop()
        return rows, ended

    rows, ended = asyncio.run(asyncio.wait_for(main(), 20))
    assert rows == [("plant/n/d", 1.7e9, 20.5), ("plant/n/d", 1.7e9 + 1, 21.0)]
    assert set(ended) == {"plant/n", "plant/n/d"}


def test_words_and_spellings_of_no_value_are_those_of_the_columns():
    columns = Columns(channels=("Valve", "Level"), words={"opened": 1.0}, missing={"Level": (-9999, "bad")})
    codec = SparkplugCodec(columns)
    for value, level, expected in (("opened", {"int": 2**32 - 9999}, math.nan), ("off", {"text": "bad"}, math.nan)):
        _, x = codec.decode(payload(metric("Valve", text=value), metric("Level", type=INT32, **level)))
        np.testing.assert_array_equal(x, [[float(value == "opened"), expected]])
    with pytest.raises(ConfigError, match="name is not for Sparkplug B"):
        SparkplugCodec(Columns(channels=("a",), name="n"))
