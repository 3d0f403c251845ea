"""The line protocol: exact to its specification, hostile input included."""

import contextlib
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrde.connectors.codecs.lines import LinesCodec
from streamrde.connectors.codecs.points import parse_points, series_of, value_of
from streamrde.connectors.columns import Columns
from streamrde.connectors.ends import Message
from streamrde.errors import ParameterError, PayloadError, SampleError

COLUMNS = Columns(channels=("temperature", "humidity"), time_unit="ns")
CODEC = LinesCodec(COLUMNS)


def naive_points(text):
    """Read points one character at a time. An oracle: it knows nothing but the rules."""
    points, place, line = [], 0, 1

    def name(place, ends, escapes):
        found = ""
        while place < len(text) and text[place] not in ends + "\n":
            if text[place] == "\\" and place + 1 < len(text) and text[place + 1] in escapes:
                place += 1
            found += text[place]
            place += 1
        return found, place

    def blank(place):
        while place < len(text) and text[place] in " \t\r\0":
            place += 1
        return place

    while place < len(text):
        place = blank(place)
        if place == len(text):
            break
        if text[place] == "\n":
            place, line = place + 1, line + 1
            continue
        if text[place] == "#":
            while place < len(text) and text[place] != "\n":
                place += 1
            continue
        start_line, tags, fields, stamp = line, {}, [], None
        measurement, place = name(place, ", ", ", ")
        if not measurement:
            raise ValueError("measurement")
        while place < len(text) and text[place] == ",":
            key, place = name(place + 1, ",= ", ",= ")
            if not key or text[place : place + 1] != "=":
                raise ValueError("tag")
            value, place = name(place + 1, ",= ", ",= ")
            if not value:
                raise ValueError("tag")
            tags[key] = value
        if text[place : place + 1] != " ":
            raise ValueError("fields")
        place = blank(place)
        while True:
            key, place = name(place, ",= ", ",= ")
            if not key or text[place : place + 1] != "=":
                raise ValueError("field")
            place += 1
            start = place
            if text[place : place + 1] == '"':
                place += 1
                while place < len(text) and text[place] != '"':
                    line += text[place] == "\n"
                    place += 2 if text[place] == "\\" else 1
                if place >= len(text):
                    raise ValueError("text")
                place += 1
            else:
                while place < len(text) and text[place] not in ',=" \n':
                    place += 1
                if place == start:
                    raise ValueError("value")
            fields.append((key, text[start:place]))
            if text[place : place + 1] != ",":
                break
            place += 1
        after = blank(place)
        if after > place and after < len(text) and text[after] != "\n":
            end = after
            while end < len(text) and text[end] not in " \t\r\0\n":
                end += 1
            if not re.fullmatch("-?[0-9]+", text[after:end]) or not -(2**63) <= int(text[after:end]) < 2**63:
                raise ValueError("timestamp")
            stamp, after = int(text[after:end]), blank(end)
        if after < len(text) and text[after] != "\n":
            raise ValueError("rest")
        points.append((start_line, measurement, tags, fields, stamp))
        place = after
    return points


def parsed(text):
    return [(p.line, *series_of(p.series), p.fields, p.timestamp) for p in parse_points(text)]


pieces = st.lists(
    st.sampled_from([*'a1,= \\"\n#', "a=1", " 12", ",b=2i", ' c="x y"', "m,t=v", "\\ ", "\r\n"]), max_size=14
)


@given(pieces.map("".join) | st.text(max_size=20))
def test_a_naive_parser_agrees(text):
    try:
        expected = naive_points(text)
    except ValueError:
        with pytest.raises(PayloadError, match="line"):
            parsed(text)
        return
    assert parsed(text) == expected


name = st.text(st.sampled_from('ab,= "é\\#'), min_size=1, max_size=5).filter(lambda s: not s.endswith("\\"))


@given(name, st.dictionaries(name, name, max_size=3), st.text(max_size=8), st.integers(-(2**63), 2**63 - 1))
def test_every_name_and_text_can_be_escaped(measurement, tags, text, stamp):
    def escaped(name, signs):
        return "".join("\\" + sign if sign in signs else sign for sign in name)

    if measurement.startswith("#") or any(sign in "".join([measurement, *tags, *tags.values()]) for sign in "\\"):
        return  # a backslash before a separator has no spelling
    written = escaped(measurement, ", ") + "".join(f",{escaped(k, ',= ')}={escaped(v, ',= ')}" for k, v in tags.items())
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    ((_, found, found_tags, fields, found_stamp),) = parsed(f'{written} f="{quoted}" {stamp}')
    assert (found, found_tags, found_stamp) == (measurement, tags, stamp)
    assert [(key, value_of(value)) for key, value in fields] == [("f", text)]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1", 1.0), ("1.0", 1.0), ("-1.234456e+78", -1.234456e78), ("1.234456E78", 1.234456e78), (".5", 0.5),
        ("5.", 5.0),
        ("1i", 1), ("-9223372036854775808i", -(2**63)), ("18446744073709551615u", 2**64 - 1),
        ("t", True), ("True", True), ("FALSE", False), ("f", False), ('"a\\"b\\\\c\\d"', 'a"b\\c\\d'), ('""', ""),
    ],
)  # fmt: skip
def test_values_have_the_protocols_types(written, value):
    found = value_of(written)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "written",
    ["nan", "inf", "1_0", "٣", "0x1", "tRUE", "1e", "e1", "9223372036854775808i", "-1u", "1.5i", "i", "--1", "1e5i"],
)
def test_what_is_no_value_is_refused_with_its_field(written):
    with pytest.raises(PayloadError, match=r"line 1: field 'humidity' is "):
        CODEC.decode(f"weather temperature=1,humidity={written}".encode())


def test_points_of_one_time_are_one_sample_and_others_are_left_out():
    t, x = CODEC.decode(
        b"# from the roof\n"
        b"weather,site=roof temperature=21.5 1465839830100000000\r\n"
        b"disk,site=roof used=12i 1465839830100000000\n\n"
        b"weather,site=roof humidity=40i 1465839830100000000\n"
        b'weather,site=roof temperature=22,note="a, b=c\\" d" 1465839831100000000\n\0'
    )
    assert t.tolist() == [1465839830.1, 1465839831.1]
    np.testing.assert_array_equal(x, [[21.5, 40.0], [22.0, math.nan]])


def test_a_point_without_a_timestamp_has_its_time_of_arrival():
    t, x = CODEC.decode(b"weather temperature=1\nweather humidity=t")
    assert np.isnan(t).tolist() == [True]
    assert x.tolist() == [[1.0, 1.0]]
    t, _ = LinesCodec(Columns(channels=COLUMNS.channels, time="")).decode(b"weather temperature=1 5")
    assert np.isnan(t).all()


def test_a_field_can_have_the_time():
    codec = LinesCodec(Columns(channels=("temperature",), time="at", time_unit="ms"))
    assert codec.decode(b"w temperature=1,at=1500i 77")[0].tolist() == [1.5]
    with pytest.raises(
        PayloadError, match=r"line 1 has no field 'at' with the time; it has: temperature; name it in time"
    ):
        codec.decode(b"w temperature=1 77")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "no point in it"),
        (b"\xff\xfe", "are not UTF-8"),
        (b"weather pressure=3,Humidity=5", "it has: pressure, Humidity; 'Humidity' is spelled differently"),
        (b'{"temperature": 3}', "line 1 is not line protocol"),
        (b"weather temperature=1\nweather temperature", "line 2 is not line protocol: its field 'temperature'"),
        (b"weather,=x temperature=1", "its measurement or a tag is not name=value"),
        (b'weather,a="b" c temperature=1', "is not name=value"),
        (b"weather temperature=1 12.5", "timestamp"),
        (b"weather temperature=1 99999999999999999999", "does not fit into 64 bits"),
        (b"weather temperature=1 " + b"9" * 6000, "does not fit into 64 bits"),
        (b"weather temperature=1e999 1", "field 'temperature' is too large for float64"),
        (b'weather temperature="warm" 1', "field 'temperature' is text, 'warm'"),
    ],
)
def test_errors_say_what_is_wrong(payload, reason):
    with pytest.raises(PayloadError, match=re.escape(reason)):
        CODEC.decode(payload)


def test_nanoseconds_taken_for_seconds_are_refused_with_the_key():
    codec = LinesCodec(Columns(channels=("temperature",)))
    with pytest.raises(PayloadError, match='time_unit to the precision of the timestamps, which is "ns"'):
        codec.decode(b"w temperature=1 1465839830100000000")


@given(st.binary(max_size=120))
def test_arbitrary_bytes_raise_nothing_but_a_payload_error(payload):
    with contextlib.suppress(PayloadError):
        CODEC.decode(payload)


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(
        st.tuples(st.integers(0, 10**12), finite, finite | st.just(math.nan)),
        min_size=1,
        max_size=5,
        unique_by=lambda r: r[0],
    )
)
def test_decode_undoes_encode(rows):
    codec = LinesCodec(Columns(channels=("a b", "c=d,e"), time_unit="ms"))
    t, x = np.array([row[0] / 1000 for row in rows]), np.array([row[1:] for row in rows])
    t_read, x_read = codec.decode(codec.encode_samples(t, x))
    assert t_read.tobytes() == t.tobytes()
    np.testing.assert_array_equal(x_read, x)


def test_what_the_protocol_cannot_carry_is_refused():
    with pytest.raises(SampleError, match='set time_unit = "ns"'):
        LinesCodec(Columns(channels=("a",))).encode_samples([0.5], [[1.0]])
    with pytest.raises(ParameterError, match="leave time_format out"):
        LinesCodec(Columns(channels=("a",), time_format="%Y"))
    with pytest.raises(SampleError, match="finite"):
        CODEC.encode_samples([1.0], [[1.0, math.inf]])


def read(codec, payload, topic="t"):
    return codec.read(Message(topic.encode(), payload, 0.0))


def test_tags_fields_and_the_measurement_name_the_stream():
    columns = Columns(channels=("temperature",), time_unit="s", sender=("tags.site", "measurement", "device"))
    rows = read(LinesCodec(columns), b"w,site=a\\ b temperature=1,device=7i 5\nw,site=c temperature=2,device=8i 5\n")
    assert list(rows.streams) == ["a b/w/7", "c/w/8"]
    assert (rows.t.tolist(), rows.x.tolist()) == ([5.0, 5.0], [[1.0], [2.0]])
    with pytest.raises(PayloadError, match=r"line 1 has no 'tags.site' with the stream's name; it has: meas"):
        read(LinesCodec(columns), b"w,place=a temperature=1,device=7i 5")


def test_a_field_of_two_measurements_is_told_apart_by_them():
    codec = LinesCodec(Columns(channels=("cpu.used", "mem.used"), time_unit="s", sender=("host",)))
    rows = read(codec, b"cpu,host=a used=1 5\nmem,host=a used=2 5\nmem,host=b used=3 5\ndisk,host=b used=3 5")
    assert list(rows.streams) == ["a", "b"]
    np.testing.assert_array_equal(rows.x, [[1.0, 2.0], [math.nan, 3.0]])
    assert rows.unused == 1


def test_a_tag_can_name_the_channel_of_a_point():
    columns = Columns(channels=("inside", "outside"), time_unit="s", name="entity_id", missing=(-127,))
    codec = LinesCodec(columns)
    _, x = codec.decode(
        b'C,entity_id=inside value=21i 5\nC,entity_id=other value=1 5\nC,entity_id=outside value="on" 5'
    )
    np.testing.assert_array_equal(x, [[21.0, 1.0]])
    np.testing.assert_array_equal(codec.decode(b"C,entity_id=inside value=-127 5")[1], [[math.nan, math.nan]])
    with pytest.raises(PayloadError, match="line 1 has no field 'value'; it has: state; name it in value"):
        codec.decode(b"C,entity_id=inside state=1 5")
    with pytest.raises(PayloadError, match="line 1 has no 'entity_id' with the channel"):
        codec.decode(b"C value=1 5")


def test_values_are_read_by_the_rules_of_all_payloads():
    codec = LinesCodec(Columns(channels=("a", "b"), time_unit="s", words={"open": 1.0}, missing={"b": ("bad",)}))
    np.testing.assert_array_equal(codec.decode(b'm a="open",b="bad" 1\nm a="2.5",b="unavailable" 2')[1][:, 0], [1, 2.5])
    with pytest.raises(PayloadError, match="field 'a' is text, 'bad'"):
        codec.decode(b'm a="bad" 1')
