from __future__ import annotations

import contextlib
import json
import math
import random
import struct
from datetime import UTC, datetime

import cbor2
import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamrde.connectors.codecs import (
    ArrowCodec,
    CborCodec,
    JsonCodec,
    MessagePackCodec,
    PackedCodec,
    decode_prediction,
    encode_prediction,
)
from streamrde.connectors.samples import Columns
from streamrde.errors import ParameterError, PayloadError, SampleError
from streamrde.times import zero_seconds

CHANNELS = ("ax", "heart rate", "class")
CODEC = JsonCodec(Columns(channels=CHANNELS))

finite = st.floats(allow_nan=False, allow_infinity=False)
rows = st.integers(1, 8)


@pytest.mark.slow
@given(st.data())
def test_decode_undoes_encode_bit_for_bit(data: st.DataObject) -> None:
    n = data.draw(rows)
    t = data.draw(hnp.arrays(np.float64, n, elements=finite))
    x = data.draw(hnp.arrays(np.float64, (n, 3), elements=finite | st.just(math.nan)))
    t_read, x_read = CODEC.decode(CODEC.encode_samples(t, x))
    assert t_read.tobytes() == t.tobytes()
    assert np.where(np.isnan(x_read), math.nan, x_read).tobytes() == np.where(np.isnan(x), math.nan, x).tobytes()


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_a_payload_error(payload: bytes) -> None:
    for decode in (CODEC.decode, decode_prediction):
        with contextlib.suppress(PayloadError):
            decode(payload)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["t", *CHANNELS, "z"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.slow
@given(json_values)
def test_arbitrary_json_gives_finite_times_or_a_payload_error(value: object) -> None:
    try:
        t, x = CODEC.decode(json.dumps(value).encode())
    except PayloadError:
        return
    assert t.shape == (len(x),)
    assert x.shape == (len(t), 3)
    assert len(t) >= 1
    assert np.isfinite(t).all()


def test_mutilated_payloads_raise_nothing_but_a_payload_error() -> None:
    rng = random.Random(0)
    whole = CODEC.encode_samples([0.5, 1.5], np.array([[1, 2, 3], [4, math.nan, 6]]))
    for _ in range(3000):
        payload = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            payload[rng.randrange(len(payload))] = rng.randrange(256)
        with contextlib.suppress(PayloadError):
            CODEC.decode(bytes(payload[: rng.randint(0, len(payload))]))


@pytest.mark.parametrize(
    "payload",
    [
        '{"t": 1.5, "ax": 2, "heart rate": null}',
        '[{"t": 1.5, "ax": 2}]',
        '{"t": [1.5], "ax": [2], "class": [null]}',
        '{"t": 1.5, "ax": 2.0, "unknown": {"deep": [1, {"x": "y"}]}}',
        '{"t": [1.5], "ax": [2], "class": null}',
    ],
)
def test_a_sample_has_three_spellings_and_what_is_not_observed_is_nan(payload: str) -> None:
    t, x = CODEC.decode(payload.encode())
    assert t.tolist() == [1.5]
    np.testing.assert_array_equal(x, [[2.0, math.nan, math.nan]])


def test_batches_by_rows_and_by_columns_agree() -> None:
    by_rows = b'[{"t": 1, "ax": 2}, {"t": 2, "class": 5}]'
    by_columns = b'{"t": [1, 2], "ax": [2, null], "class": [null, 5]}'
    for a, b in zip(CODEC.decode(by_rows), CODEC.decode(by_columns), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "truncated"),
        (b"\xff\xfe", "malformed"),
        (b"{", "truncated"),
        (b"[]", "no sample"),
        (b'{"t": [], "ax": []}', "no sample"),
        (b"12", "it is a bare number, 12, not an object"),
        (b"null", "it is null, not an object"),
        (b'{"ax": 1}', "has no field 't' with the time"),
        (b'{"t": null, "ax": 1}', "field 't': null is not a time"),
        (b'{"t": "noon", "ax": 1}', "field 't': 'noon' is not an ISO 8601"),
        (b'{"t": 1, "ax": "text"}', "'ax' is text, 'text': send a number"),
        (b'{"t": true, "ax": 1}', "field 't': true is not a time"),
        (b'{"t": 1, "ax": {"a": 1}}', "'ax' is an object with a"),
        (b'{"t": 1, "ax": [1]}', "'ax' is a list"),
        (b'{"t": [1, 2], "ax": [1]}', "'ax' has 1 values and 't' has 2"),
        (b'{"t": [1, 2], "ax": 1}', "'ax' has one number"),
        (b'{"t": [1, null], "ax": [1, 2]}', "field 't': null is not a time"),
        (b'{"t": 1e999, "ax": 1}', "out of range"),
        (b'{"t": NaN, "ax": 1}', "'t' is not finite"),
        (b'{"t": Infinity}', "malformed"),
        (b'{"t": 1' + b"0" * 400 + b', "ax": 1}', "out of range|too large"),
        (b'{"t": 1, "ax": 1' + b"0" * 400 + b"}", "out of range|too large"),
        (b"[" * 100_000, "not a sample"),
        (b'{"t": 1, "z": ' + b"[" * 100_000, "not a sample"),
        (b'{"t": 1} trailing', "trailing"),
    ],
)
def test_a_malformed_payload_is_an_error_with_its_reason(payload: bytes, reason: str) -> None:
    with pytest.raises(PayloadError, match=reason):
        CODEC.decode(payload)


def test_a_payload_over_the_limit_is_refused_unread() -> None:
    codec = JsonCodec(Columns(channels=("a",)), max_bytes=20)
    codec.decode(b'{"t": 1, "a": 12345}')
    with pytest.raises(PayloadError, match="21 bytes, more than max_bytes = 20"):
        codec.decode(b'{"t": 1, "a": 123456}')


@pytest.mark.parametrize(("unit", "ticks"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_times_are_read_in_their_unit(unit: str, ticks: int) -> None:
    codec = JsonCodec(Columns(channels=("a",), time_unit=unit))
    now = 1_700_000_000
    for payload in (b'{"t": %d, "a": 1}' % (now * ticks), b'{"t": [%d], "a": [1]}' % (now * ticks)):
        assert codec.decode(payload)[0].tolist() == [float(now)]
    t, _ = codec.decode(codec.encode_samples([now + 0.25], [[1.0]]))
    assert t.tolist() == [now + 0.25]


def test_nanoseconds_since_1970_keep_all_digits_that_float64_has() -> None:
    codec = JsonCodec(Columns(channels=("a",), time_unit="ns"))
    assert codec.decode(b'{"t": 1700000000123456789, "a": 1}')[0].tolist() == [1700000000.123456789]


@pytest.mark.parametrize(("t", "x"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.inf)])
def test_what_json_cannot_carry_is_not_encoded(t: float, x: float) -> None:
    with pytest.raises(SampleError, match="finite"):
        CODEC.encode_samples([t], [[x, 0.0, 0.0]])


def test_a_prediction_comes_back_as_it_was() -> None:
    row = {"stream": "pump-7", "window": 3, "t_start": 1.5, "t_end": 2.5, "value": [0.1, -0.0, 1e300], "label": "FEL"}
    assert decode_prediction(encode_prediction(row)) == row
    del row["label"]
    assert decode_prediction(encode_prediction(row)) == row
    assert b"label" not in encode_prediction({**row, "label": None})
    assert math.isnan(decode_prediction(encode_prediction({**row, "value": [math.nan]}))["value"][0])


@pytest.mark.parametrize(
    "columns",
    [{"channels": ()}, {"channels": ("a", "a")}, {"channels": ("t",)}, {"channels": ("a",), "time_unit": "hr"}],
)
def test_columns_that_cannot_work_are_refused(columns: dict[str, object]) -> None:
    with pytest.raises(ParameterError):
        Columns(**columns)


def test_a_payload_without_a_time_is_one_sample() -> None:
    codec = JsonCodec(Columns(channels=("a", "b"), time=""))
    t, x = codec.decode(b'{"a": 1.5, "t": 3}')
    assert np.isnan(t).tolist() == [True]
    np.testing.assert_array_equal(x, [[1.5, np.nan]])
    assert codec.decode(codec.encode_samples([7.0], [[1.0, 2.0]]))[1].tolist() == [[1.0, 2.0]]
    for payload in (b'[{"a": 1}, {"a": 2}]', b'{"a": [1, 2]}', b"[]"):
        with pytest.raises(PayloadError, match=r"without a time|is a list|no sample"):
            codec.decode(payload)
    for kind in (lambda c: PackedCodec(c, layout="<2d"), ArrowCodec):
        with pytest.raises(ParameterError, match=r"name it in columns\.time"):
            kind(Columns(channels=("a", "b"), time=""))


def test_the_zero_of_a_clock_is_a_moment() -> None:
    assert zero_seconds("1970-01-01") == 0.0
    assert zero_seconds("2000-01-01T01:00:00+01:00") == 946684800.0
    with pytest.raises(ParameterError, match="give a date and time"):
        zero_seconds("the epoch")


IMU = ("ax", "ay", "az", "wx", "wy", "wz")


def refused(payload: bytes, *, channels: tuple[str, ...] = IMU, time: str = "t") -> str:
    with pytest.raises(PayloadError) as caught:
        JsonCodec(Columns(channels=channels, time=time)).decode(payload)
    return str(caught.value)


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        (b'{"t": 0.0, "accX": 0.1, "accY": 0.2}', "has none of ax, ay, az, wx, wy, wz; it has: accX, accY; name its"),
        (b'{"t": 0.0, "AX": 0.1}', "it has: AX; 'AX' is spelled differently"),
        (b'{"t": 0.0, "ax ": 0.1}', "it has: ax ;"),
        (b'{"t": 0.0}', "it has: no other field"),
        (b'{"t": 0.0, "imu": {"ax": 0.1, "ay": 0.2}}', "imu.ay; give its path, as channels = ['imu.ax', ...]"),
        (b'{"t": 0, "values": [{"id": "d.ax", "v": 0.1, "t": 0}]}', "values[].id, values[].v, values[].t; name places"),
        (b'{"t": 0, "acc": [0.1, 0.2, 0.3]}', "it has: acc[3]; name places in it, as acc[0]"),
        (b'{"t": [0, 1], "accX": [0.1, 0.2]}', "it has: accX[2]"),
        (b'[{"t": 0, "ax": 1}, {"t": 1, "accX": 1}]', "element 1 of its list: has none of ax"),
        (b'[{"t": 0, "accX": 1}]', "its list's element: has none of ax"),
        (b'{"ts": 0, "values": {"ax": 0.1}}', "has no time 't' and has none of ax, ay, az, wx, wy, wz; it has: ts,"),
        (b'{"ts": 0, "ax": 0.1}', "has no field 't' with the time; it has: ts; name it in time"),
    ],
)  # fmt: skip
def test_a_message_without_any_channel_is_malformed_and_says_what_it_has(payload: bytes, found: str) -> None:
    assert found in refused(payload)


def test_a_message_with_some_channels_is_a_sample_also_where_they_are_null() -> None:
    codec = JsonCodec(Columns(channels=IMU))
    np.testing.assert_array_equal(codec.decode(b'{"t": 1, "wz": 0.5, "gps": 1}')[1], [[math.nan] * 5 + [0.5]])
    assert np.isnan(codec.decode(b'{"t": 1, "ax": null}')[1]).all()
    assert np.isnan(codec.decode(b'{"t": [1, 2], "ax": [null, null]}')[1]).all()
    assert np.isnan(codec.decode(b'{"t": [1, 2], "ax": null}')[1]).all()
    for unread in (b"1e999", b"[" * 2000 + b"]" * 2000):
        with contextlib.suppress(PayloadError):
            codec.decode(b'{"t": 1, "ax": null, "z": ' + unread + b"}")


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        (b"0.123", 'it is a bare number, 0.123, not an object: send {"t": 12.34, "value": 0.1}'),
        (b"-5", "it is a bare number, -5"),
        (b"true", "it is true, not an object"),
        (b'"on"', "it is text, 'on', not an object"),
        (b"ON", "it is text, 'ON'"),
        (b"21.5 C", "it is text, '21.5 C'"),
        (b"[0.1, 0.2, 0.3]", "element 0 of its list is a bare number, 0.1, not an object"),
        (b'{"t": 1, "value": "abc"}', "field 'value' is text, 'abc': send a number"),
        (b'{"t": 1, "value": {"v": 0.1}}', "field 'value' is an object with v: send a number"),
        (b'{"t": 1, "value": [0.1, 0.2]}', "field 'value' is a list and others are not"),
        (b'{"t": 1, "value": nan}', "JSON has no nan: send null"),
        (b'{"t": 1, "value": -inf}', "JSON has no -inf: send null"),
        (b'{"t": 1, "value": Infinity}', "JSON has no Infinity: send null"),
        (b'{"t": 1, "val": 2}', "has no field 'value'; it has: val; name its fields in channels"),
    ],
)
def test_a_payload_of_another_shape_is_refused_with_what_was_found(payload: bytes, found: str) -> None:
    assert found in refused(payload, channels=("value",))


@pytest.mark.parametrize(
    "payload",
    [
        b'{"t": 1, "ax": 0.5}\0',
        b'{"t": 1, "ax": 0.5}\0\0\0',
        b'{"t": 1, "ax": 0.5}\r\n\0',
        b'\xef\xbb\xbf{"t": 1, "ax": 0.5}',
        b'[{"t": 1, "ax": 0.5}]\n',
        b'{"t": 1, "ax": 0.5, "ay": NaN}',
        b'{"t": [1], "ax": [0.5], "ay": [NaN]}\0',
    ],
)
def test_a_nul_at_the_end_a_byte_order_mark_and_the_word_nan_are_read(payload: bytes) -> None:
    t, x = JsonCodec(Columns(channels=IMU)).decode(payload)
    assert t.tolist() == [1.0]
    np.testing.assert_array_equal(x, [[0.5] + [math.nan] * 5])


@pytest.mark.parametrize("payload", [b'{"t": 1, "ax": 1}\0{"t": 2, "ax": 2}', b'{"t": 1, "ax": 1}\n{"t": 2, "ax": 2}'])
def test_a_second_sample_behind_the_first_is_not_lost_in_silence(payload: bytes) -> None:
    assert "trailing characters" in refused(payload)


def test_a_value_that_is_infinite_is_named() -> None:
    assert "field 'ay' is infinite in sample 1" in refused(b'{"t": [1, 2], "ax": [1, NaN], "ay": [1, Infinity]}')


def test_names_of_strangers_are_cut_and_made_printable() -> None:
    many = json.dumps({"t": 1, **{f"field {i}": i for i in range(100)}}).encode()
    assert "... (100 in all)" in refused(many)
    assert len(refused(json.dumps({"t": 1, "x" * 10_000: 1}).encode())) < 300
    assert "\n" not in refused(json.dumps({"t": 1, "a\nERROR all is lost": 1}).encode())


@pytest.mark.parametrize("time", ["t", ""])
def test_a_sequence_number_is_decoded_after_the_channels_and_is_none_of_them(time: str) -> None:
    codec = JsonCodec(Columns(channels=("a",), time=time, sequence="seq"))
    np.testing.assert_array_equal(codec.decode(b'{"t": 1, "a": 2, "seq": 7}')[1], [[2.0, 7.0]])
    np.testing.assert_array_equal(codec.decode(b'{"t": 1, "a": 2}')[1], [[2.0, math.nan]])
    for payload, match in (
        (b'{"t": 1, "seq": 7}', "has no field 'a'"),
        (b'{"t": 1, "a": 1, "seq": "x"}', "'seq' is text"),
    ):
        with pytest.raises(PayloadError, match=match):
            codec.decode(payload)
    if time:
        batch = codec.decode(b'{"t": [1, 2], "a": [2, 3], "seq": 7}')[1]
        np.testing.assert_array_equal(batch, [[2.0, 7.0], [3.0, 7.0]])
        np.testing.assert_array_equal(codec.decode(b'{"t": [1, 2], "a": [2, 3], "seq": [7, 8]}')[1][:, 1], [7.0, 8.0])
        assert codec.decode(codec.encode_samples([1.0], [[2.0, 7.0]]))[1].tolist() == [[2.0, 7.0]]
    with pytest.raises(ParameterError, match="is also the time or one of the channels"):
        Columns(channels=("a",), sequence="a")


@pytest.mark.parametrize("codec", [JsonCodec, MessagePackCodec, CborCodec], ids=lambda codec: codec.__name__)
def test_times_in_payloads_may_be_text(codec) -> None:
    columns = Columns(channels=("ax",))
    encode = {JsonCodec: msgspec.json.encode, MessagePackCodec: msgspec.msgpack.encode, CborCodec: cbor2.dumps}[codec]
    noon = 1709640000.0
    for time in ("2024-03-05T12:00:00Z", "2024-03-05 13:00:00+01:00", "1709640000"):
        assert codec(columns).decode(encode({"t": time, "ax": 0.12}))[0].tolist() == [noon]
        assert codec(columns).decode(encode({"t": [time, time], "ax": [0.1, 0.2]}))[0].tolist() == [noon, noon]
    digits = msgspec.structs.replace(columns, time_format="%Y%m%d%H%M%S%f")
    assert codec(digits).decode(encode({"t": 20240305120000123, "ax": 1.0}))[0].tolist() == [noon + 0.123]
    local = msgspec.structs.replace(columns, time_format="%d.%m.%Y %H:%M", time_zone="Europe/Berlin")
    assert codec(local).decode(encode({"t": "05.03.2024 13:00", "ax": 1.0}))[0].tolist() == [noon]
    assert codec(local).decode(codec(local).encode_samples([noon], [[1.0]]))[0].tolist() == [noon]
    with pytest.raises(PayloadError, match=r"field 't': .* showed twice .*time_ambiguous"):
        codec(local).decode(encode({"t": "27.10.2024 02:30", "ax": 1.0}))


@pytest.mark.parametrize("codec", [MessagePackCodec, CborCodec], ids=lambda codec: codec.__name__)
def test_timestamps_of_a_binary_format_are_times(codec) -> None:
    moment = datetime(2024, 3, 5, 12, tzinfo=UTC)
    payload = (msgspec.msgpack.encode if codec is MessagePackCodec else cbor2.dumps)({"t": moment, "ax": 1.0})
    assert codec(Columns(channels=("ax",))).decode(payload)[0].tolist() == [1709640000.0]


def test_packed_and_arrow_payloads_carry_digits_of_dates_and_text() -> None:
    columns = Columns(channels=("ax",), time_format="%Y%m%d%H%M%S")
    packed = PackedCodec(columns, layout="<qf")
    for codec, payload in (
        (packed, struct.pack("<qf", 20240305120000, 1.0)),
        (ArrowCodec(columns), _ipc(t=pa.array(["20240305120000"]), ax=pa.array([1.0]))),
        (ArrowCodec(columns), _ipc(t=pa.array([20240305120000]), ax=pa.array([1.0]))),
    ):
        assert codec.decode(payload)[0].tolist() == [1709640000.0]
        assert codec.decode(codec.encode_samples([1709640000.0], [[1.0]]))[0].tolist() == [1709640000.0]
    with pytest.raises(PayloadError, match="record 0: '20241305120000' does not fit"):
        packed.decode(struct.pack("<qf", 20241305120000, 1.0))
    with pytest.raises(PayloadError, match="column 't', row 0: 'noon' is not an ISO"):
        ArrowCodec(Columns(channels=("ax",))).decode(_ipc(t=pa.array(["noon"]), ax=pa.array([1.0])))


def _ipc(**columns: pa.Array) -> bytes:
    batch, sink = pa.record_batch(columns), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())
