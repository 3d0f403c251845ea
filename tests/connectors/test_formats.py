"""One conformance suite over every codec of samples, and payloads of enemies."""

from __future__ import annotations

import io
import struct

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamrde.connectors import Columns
from streamrde.connectors.codecs import (
    ArrowCodec,
    CborCodec,
    JsonCodec,
    MessagePackCodec,
    PackedCodec,
    decode_prediction,
)
from streamrde.connectors.dead_letters import decode_letter
from streamrde.connectors.ends import DeadLetter
from streamrde.connectors.files.file import FileDeadLetters
from streamrde.connectors.quarantine import Quarantine
from streamrde.connectors.registry import PREDICTION_CODECS
from streamrde.errors import ParameterError, PayloadError, SampleError

cbor2 = pytest.importorskip("cbor2")
COLUMNS = Columns(channels=("a", "b"))
MAKERS = {
    "json": JsonCodec,
    "msgpack": MessagePackCodec,
    "cbor": CborCodec,
    "packed": lambda columns, **options: PackedCodec(columns, layout="<ddd", **options),
    "arrow": ArrowCodec,
}
CODECS = pytest.mark.parametrize("name", MAKERS)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.slow
@CODECS
@given(
    rows=st.lists(st.tuples(FINITE, st.one_of(FINITE, st.just(np.nan)), FINITE), min_size=1, max_size=20),
)
def test_samples_come_back_bit_for_bit(name, rows):
    table = np.array(rows)
    codec = MAKERS[name](COLUMNS)
    t, x = codec.decode(codec.encode_samples(table[:, 0], table[:, 1:]))
    assert t.dtype == x.dtype == np.float64
    np.testing.assert_array_equal(t, table[:, 0])
    np.testing.assert_array_equal(x, table[:, 1:])


@CODECS
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_units_of_time_come_back(name, unit):
    columns = Columns(channels=("a", "b"), time_unit=unit)
    layout = {"layout": "<qdd"} if name == "packed" and unit != "s" else {}
    codec = PackedCodec(columns, **layout) if layout else MAKERS[name](columns)
    times = np.array([0.0, 12.5, 1.7e9])
    t, _ = codec.decode(codec.encode_samples(times, np.zeros((3, 2))))
    np.testing.assert_allclose(t, times, rtol=3e-16)


@pytest.mark.slow
@CODECS
@settings(max_examples=300)
@given(payload=st.binary(max_size=200))
@example(payload=b"")
@example(payload=b"\xff" * 64)
@example(payload=b"[" * 100_000)
@example(payload=b"\x81" * 100_000)
@example(payload=b'{"t": 1e999, "a": 1}')
@example(payload=b'{"t": 1' + b"0" * 400 + b"}")
def test_any_bytes_are_samples_or_a_payload_error(name, payload):
    try:
        t, x = MAKERS[name](COLUMNS).decode(payload)
    except PayloadError:
        pass  # nothing else may be raised
    else:
        assert len(t) >= 1
        assert x.shape == (len(t), 2)
        assert np.isfinite(t).all()
        assert not np.isinf(x).any()


@pytest.mark.slow
@CODECS
@settings(max_examples=200)
@given(data=st.data())
def test_damaged_payloads_are_samples_or_a_payload_error(name, data):
    codec = MAKERS[name](COLUMNS)
    payload = bytearray(codec.encode_samples(np.arange(4.0), np.ones((4, 2))))
    for place in data.draw(st.lists(st.integers(0, len(payload) - 1), min_size=1, max_size=8)):
        payload[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(payload)))
    for damaged in (bytes(payload), bytes(payload[:cut])):
        try:
            t, x = codec.decode(damaged)
        except PayloadError:
            continue
        assert x.shape == (len(t), 2)


@CODECS
def test_a_payload_that_is_too_long_is_refused_before_it_is_parsed(name):
    codec = MAKERS[name](COLUMNS, max_bytes=100)
    with pytest.raises(PayloadError, match="101 bytes, more than max_bytes = 100"):
        codec.decode(b"x" * 101)


@pytest.mark.parametrize(
    "value",
    [
        cbor2.CBORTag(4, [10**9, 1]),  # a decimal with a billion digits before the point
        cbor2.CBORTag(5, [10**9, 1]),  # a binary float that needs as many
        cbor2.CBORTag(2, b"\xff" * 50_000),  # an integer of that many bytes
        cbor2.CBORTag(35, "(a+)+$"),
        cbor2.CBORTag(28, [cbor2.CBORTag(29, 0)]),  # a list that holds itself
        cbor2.undefined,
    ],
    ids=str,
)
def test_cbor_tags_cost_nothing_and_are_no_samples(value):
    payload = cbor2.dumps({"t": 1.0, "a": value, "b": 2.0})
    with pytest.raises(PayloadError):
        CborCodec(COLUMNS).decode(payload)


def ipc(table: pa.Table, **options) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def test_arrow_columns_may_be_timestamps_integers_or_absent():
    table = pa.table({"t": pa.array([1, 2], pa.timestamp("ms")), "b": pa.array([1, None], pa.int32()), "c": ["x", "y"]})
    t, x = ArrowCodec(COLUMNS).decode(ipc(table))
    np.testing.assert_array_equal(t, [0.001, 0.002])
    np.testing.assert_array_equal(x, [[np.nan, 1.0], [np.nan, np.nan]])


@pytest.mark.parametrize(
    ("table", "options"),
    [
        (pa.table({"t": np.arange(10_000.0), "a": np.zeros(10_000)}), {"compression": "zstd"}),
        (pa.table({"t": [1.0], "a": pa.array(["x"]).dictionary_encode()}), {}),
        (pa.table({"a": [1.0]}), {}),
        (pa.table({"t": pa.array([1.0, None])}), {}),
        (pa.table({"t": ["now"]}), {}),
        (pa.table({"t": [1.0], "a": ["high"]}), {}),
        (pa.table({"t": pa.array([], pa.float64())}), {}),
    ],
)
def test_arrow_streams_that_are_refused(table, options):
    with pytest.raises(PayloadError):
        ArrowCodec(COLUMNS).decode(ipc(table, **options))


WITHOUT = {"t": 1.0, "accA": 2.0, "values": {"a": 1.0}}


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("msgpack", msgspec.msgpack.encode(WITHOUT)),
        ("cbor", cbor2.dumps(WITHOUT)),
        ("arrow", ipc(pa.table({"t": [1.0], "accA": [2.0], "values": [{"a": 1.0}]}))),
    ],
)
def test_a_message_without_any_channel_is_malformed_in_every_format(name, payload):
    with pytest.raises(
        PayloadError, match=r"has none of a, b; it has: accA, values\.a; give its path, as channels = \['values\.a'"
    ):
        MAKERS[name](COLUMNS).decode(payload)


def test_structs_of_arrow_are_read_by_paths():
    table = pa.table({"meta": [{"t": 1.0}], "values": [{"acc": {"a": 2.0}, "c": 9}], "b": [3.0], "values.d": [4.0]})
    columns = Columns(channels=("values.acc.a", "b", "values.d"), time="meta.t")
    t, x = ArrowCodec(columns).decode(ipc(table))
    assert (t.tolist(), x.tolist()) == ([1.0], [[2.0, 3.0, 4.0]])


@pytest.mark.parametrize("name", ["msgpack", "cbor"])
def test_a_value_that_is_no_number_is_named_in_every_format(name):
    encode = {"msgpack": msgspec.msgpack.encode, "cbor": cbor2.dumps}[name]
    for value, found in (("high", "text, 'high'"), (b"\1\2", "2 bytes"), ([1.0, "x"], "a list and others are not")):
        with pytest.raises(PayloadError, match=f"field 'a' is {found}"):
            MAKERS[name](COLUMNS).decode(encode({"t": 1.0, "a": value}))
    with pytest.raises(PayloadError, match=r"it is a bare number, 0\.5"):
        MAKERS[name](COLUMNS).decode(encode(0.5))
    np.testing.assert_array_equal(MAKERS[name](COLUMNS).decode(encode({"t": 1.0, "a": np.nan}))[1], [[np.nan, np.nan]])


@CODECS
def test_bytes_behind_the_sample_are_not_left_out_in_silence(name):
    codec = MAKERS[name](COLUMNS)
    one = codec.encode_samples([1.0], [[2.0, 3.0]])
    try:
        t, _ = codec.decode(one + codec.encode_samples([2.0], [[2.0, 3.0]]))
    except PayloadError:
        return
    assert t.tolist() == [1.0, 2.0]


@CODECS
def test_json_where_another_format_is_expected_is_said_to_be_json(name):
    if name == "json":
        return
    for payload in (b'{"t": 1, "a": 2}', b'[{"t": 1, "a": 2.55}]   ', b'{"t":1.000000,"a":2}\0\0\0\0'):
        with pytest.raises(PayloadError, match=r"JSON|'[{\[]|Arrow IPC"):
            MAKERS[name](COLUMNS).decode(payload)


@CODECS
def test_a_sequence_number_stands_after_the_channels(name):
    columns = Columns(channels=("a", "b"), sequence="seq")
    codec = PackedCodec(columns, layout="<dddI") if name == "packed" else MAKERS[name](columns)
    x = np.array([[1.0, 2.0, 7.0], [3.0, np.nan, 8.0]])
    np.testing.assert_array_equal(codec.decode(codec.encode_samples([1.0, 2.0], x))[1], x)


@pytest.mark.parametrize("layout", ["<d2f", "<dff", "<dxxffx", ">dff"])
def test_a_packed_layout_is_that_of_the_struct_module(layout):
    payload = b"".join(struct.pack(layout, t, 2 * t, -t) for t in (1.0, 2.0))
    t, x = PackedCodec(COLUMNS, layout=layout).decode(payload)
    np.testing.assert_array_equal(t, [1.0, 2.0])
    np.testing.assert_array_equal(x, [[2.0, -1.0], [4.0, -2.0]])
    with pytest.raises(PayloadError, match="not a whole number of records"):
        PackedCodec(COLUMNS, layout=layout).decode(payload[:-1])


@pytest.mark.parametrize("layout", ["", "dff", "@dff", "<d", "<dfff", "<dsf", "<d-1f", "<99999999f", "<d ff"])
def test_layouts_that_cannot_be_are_refused(layout):
    with pytest.raises(ParameterError, match="layout"):
        PackedCodec(COLUMNS, layout=layout)


def test_packed_integers_that_do_not_fit_are_refused():
    codec = PackedCodec(COLUMNS, layout="<qbb")
    for value in (200.0, np.nan):
        with pytest.raises(SampleError, match="does not fit"):
            codec.encode_samples([1.0], [[value, 0.0]])


@pytest.mark.parametrize("name", PREDICTION_CODECS.names())
def test_predictions_have_the_same_fields_in_every_format(name):
    row = {"stream": "s", "window": 3, "t_start": 1.0, "t_end": 2.0, "value": [0.25, 0.75], "label": "b"}
    payload = PREDICTION_CODECS.find(name).encode_prediction(row)
    read = {"json": decode_prediction, "msgpack": msgspec.msgpack.decode, "cbor": cbor2.loads}[name]
    assert read(payload) == row


async def _write(path, letters, **options):
    async with FileDeadLetters(path, **options) as sink:
        for letter in letters:
            await sink.write([letter])


def test_dead_letters_keep_reason_and_bytes_and_bound_the_disk(tmp_path):
    import asyncio

    path = tmp_path / "dead" / "letters.jsonl"
    letters = [DeadLetter(f"reason {i}", "a/b", bytes([i, 255, 0]) * 10, float(i)) for i in range(20)]
    asyncio.run(_write(path, letters[:10], max_bytes=600))
    asyncio.run(_write(path, letters[10:], max_bytes=600))  # goes on with the file
    lines = [*path.with_name("letters.jsonl.1").read_bytes().splitlines(), *path.read_bytes().splitlines()]
    kept = [decode_letter(line) for line in lines]
    assert 1 < len(kept) < 20
    assert kept == letters[-len(kept) :]
    assert path.stat().st_size <= 600
    long = DeadLetter("long", "t", b"x" * (3 << 20), 0.0)
    asyncio.run(_write(tmp_path / "long", [long]))
    line = (tmp_path / "long").read_bytes()
    assert len(line) < 1.5 * (1 << 20)
    assert b'"bytes":3145728' in line


def test_quarantine_sets_a_name_aside_after_faults_in_a_row_and_lets_it_try_again():
    quarantine = Quarantine(faults=3, seconds=10.0)
    assert [quarantine.fault("s", 0.0) for _ in range(2)] == [False, False]
    quarantine.clear("s")
    assert [quarantine.fault("s", 1.0) for _ in range(3)] == [False, False, True]
    assert quarantine.holds("s", 10.9)
    assert not quarantine.holds("other", 10.9)
    assert not quarantine.holds("s", 11.0)
    assert quarantine.fault("s", 11.0), "one more fault is enough"
    assert len(quarantine) == 1
    assert quarantine.clear("s"), "a good message ends it"
    assert not quarantine.holds("s", 11.5)
    assert not quarantine.clear("s")
    quarantine.set_aside("s", 12.0)
    assert not quarantine.holds(b"s", 12.0), "a topic is no stream"
    for i in range(20_000):
        quarantine.fault(f"invented-{i}", 12.0)
    assert len(quarantine._in_a_row) == 10_000
    assert not Quarantine(faults=0).fault("s", 0.0)
