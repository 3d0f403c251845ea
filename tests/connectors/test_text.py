"""Payloads of text: bare values, pairs, forms, and numbers with a sign between them."""

import contextlib
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrde.connectors.codecs.text import TextCodec, rows_of
from streamrde.connectors.columns import Columns
from streamrde.connectors.dialect import Dialect
from streamrde.connectors.ends import Message
from streamrde.errors import PayloadError, SampleError

PLAIN = Dialect()
GERMAN = Dialect(delimiter=";", decimal=",", thousands=".")


def codec(*channels, **keys):
    return TextCodec(Columns(channels=channels, **keys))


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("21.5", ["21.5"]), (" on\r\n", ["on"]), ("\ufeff21.5\0", ["21.5"]), ("", []), (" \n\0", []),
        ("23.5;1013;45", [["23.5", "1013", "45"]]), ("1,2,3", [["1", "2", "3"]]), ("1 2  3", [["1", "2", "3"]]),
        ("1|2", [["1", "2"]]), ("1\t2", [["1", "2"]]), ("2024-03-01T10:00:00;21", [["2024-03-01T10:00:00", "21"]]),
        ("a=1 b=2", [{"a": "1", "b": "2"}]), ("a: 1, b: nan", [{"a": "1", "b": "nan"}]),
        ("a=1;b=", [{"a": "1", "b": ""}]),
        ('a="x y",b=2', [{"a": "x y", "b": "2"}]), ("t=10:00:00 a=1", [{"t": "10:00:00", "a": "1"}]),
        ("a=1\nb=2\na=3\n", [{"a": "1", "b": "2"}, {"a": "3"}]), ("1;2\n3;4", [["1", "2"], ["3", "4"]]),
        ("a=1&b=%20+2&c=", [{"a": "1", "b": "  2", "c": ""}]), ("größe=1", [{"größe": "1"}]),
    ],
)  # fmt: skip
def test_a_text_has_the_rows_that_a_reader_sees(text, rows):
    assert rows_of(text, PLAIN) == rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("23,5;1.013,25", [["23.5", "1013.25"]]), ("a=23,5;b=4", [{"a": "23.5", "b": "4"}]), ("-0,5", ["-0.5"]),
        ("01.03.2024;1", [["01.03.2024", "1"]]),
    ],
)  # fmt: skip
def test_a_dialect_says_how_numbers_are_written(text, rows):
    assert rows_of(text, GERMAN) == rows


def test_comments_are_left_out_and_a_blank_as_delimiter_leaves_commas_alone():
    assert rows_of("# head\n1;2", Dialect(comment="#")) == [["1", "2"]]
    assert rows_of("1,5 2,5", Dialect(delimiter=" ", decimal=",")) == [["1.5", "2.5"]]


def test_pairs_give_samples_by_name_with_their_times():
    t, x = codec("temp", "hum", time_unit="ms").decode(b"t=1500 temp=21.5 hum=unavailable\nt=2500 temp=22")
    assert t.tolist() == [1.5, 2.5]
    np.testing.assert_array_equal(x, [[21.5, math.nan], [22.0, math.nan]])


def test_values_give_samples_by_their_places():
    t, x = codec("[1]", "[2]", time="[0]").decode(b"10;1;on\n11;2;off")
    assert (t.tolist(), x.tolist()) == ([10.0, 11.0], [[1.0, 1.0], [2.0, 0.0]])
    with pytest.raises(PayloadError, match="2 lines without a time"):
        codec("[0]", time="").decode(b"1;2\n3;4")


def test_a_bare_value_is_one_channel_at_its_arrival():
    t, x = codec("", time="").decode(b"21.5\n")
    assert np.isnan(t).all()
    assert x.tolist() == [[21.5]]


def test_a_field_can_name_the_stream():
    rows = codec("temp", sender=("id",), time="").read(Message(b"a", b"id=w1;temp=3", 0.0))
    assert (list(rows.streams), rows.x.tolist()) == (["w1"], [[3.0]])


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "it is empty"),
        (b"\xff\xfe", "not text in utf-8"),
        (b"temp=warm", "field 'temp' is text, 'warm'"),
        (b"temp=21,5", "an object"),
        (b"Temp=21", "'Temp' is spelled differently"),
        (b"temp=21.5C", "field 'temp' is text, '21.5C'"),
    ],
)
def test_errors_say_what_is_wrong(payload, reason):
    with pytest.raises(PayloadError, match=re.escape(reason)):
        codec("temp", time="").decode(payload)


@given(st.binary(max_size=60) | st.text(st.sampled_from("a1=:;,& \n\t\"'|."), max_size=30).map(str.encode))
def test_arbitrary_bytes_raise_nothing_but_a_payload_error(payload):
    for one in (codec("a", time=""), codec("[0]", time="[1]"), codec("", time="")):
        with contextlib.suppress(PayloadError):
            one.decode(payload)


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.tuples(finite, finite, finite | st.just(math.nan)), min_size=1, max_size=4))
def test_decode_undoes_encode(rows):
    one = codec("a", "b_2")
    t, x = np.array([row[0] for row in rows]), np.array([row[1:] for row in rows])
    t_read, x_read = one.decode(one.encode_samples(t, x))
    assert t_read.tobytes() == t.tobytes()
    np.testing.assert_array_equal(x_read, x)


def test_names_that_pairs_cannot_have_are_refused():
    with pytest.raises(SampleError, match="cannot be the name in a pair"):
        codec("heart rate").encode_samples([1.0], [[2.0]])
