"""Messages that are read together say what they say when each is read by itself."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrde.connectors.codecs import JsonCodec, MessagePackCodec
from streamrde.connectors.codecs.rows import RowCodec
from streamrde.connectors.columns import Columns
from streamrde.connectors.ends import Message, Rows
from streamrde.connectors.messages import MessageReader, Subscription
from streamrde.connectors.quarantine import Quarantine
from streamrde.connectors.topics import TopicTemplate
from streamrde.connectors.units import Conversion

FLAT = Columns(channels=("a", "b"), missing=(-9999.0,))
NESTED = Columns(channels=("values.a", "values.b"), time="head.t", time_unit="ms")
TIMELESS = Columns(channels=("a", "b"), time="")
SHAPES = {"flat": FLAT, "nested": NESTED, "without a time": TIMELESS}


class Alone(JsonCodec):
    """Reads each message by itself."""

    def read_together(self, payloads: Any) -> None:
        return None


def plain(columns: Columns, t: float, a: Any, b: Any) -> dict[str, Any]:
    if columns is NESTED:
        return {"head": {"t": t}, "values": {"a": a, "b": b}, "more": [1]}
    return {"t": t, "a": a, "b": b} if columns.time else {"a": a, "b": b}


VALUES = st.one_of(
    st.floats(-1e6, 1e6), st.integers(-9, 9), st.none(), st.just(-9999), st.sampled_from(["1.5", "on", "x"])
)
ODD = st.sampled_from([
    b"{", b"[]", b"", b'{"t": 1}', b'{"t": 1, "A": 2}', b"17",
    b'[{"t": 1, "a": 2}, {"t": 2, "a": 3}]', b'{"t": [1, 2], "a": [3, 4]}',
])  # fmt: skip


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[str, list[list[tuple[str, bytes]]]]:
    """Draw batches of (topic, payload), mostly of plain samples."""
    shape = draw(st.sampled_from([*SHAPES]))
    usual = st.builds(plain, st.just(SHAPES[shape]), st.floats(0, 1e6), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
    mixed = st.builds(plain, st.just(SHAPES[shape]), st.floats(0, 1e6), VALUES, VALUES)
    payload = st.one_of(usual.map(as_json), usual.map(as_json), usual.map(as_json), mixed.map(as_json), ODD)
    message = st.tuples(st.sampled_from(["s/x", "s/y", "s/z", "other"]), payload)
    return shape, draw(st.lists(st.lists(message, max_size=40), min_size=1, max_size=3))


def as_json(payload: Any) -> bytes:
    return json.dumps(payload).encode()


def reader_of(codec: RowCodec, *, zero: float = 0.0, scaled: bool = False) -> MessageReader:
    conversion = Conversion(np.array([2.0, 1.0]), np.array([0.5, 0.0])) if scaled else None
    subscription = Subscription(TopicTemplate("s/{stream}"), codec, conversion=conversion)
    return MessageReader(
        [subscription], ("a", "b"), queue="test", time_zero=zero, quarantine=Quarantine(faults=3, seconds=60.0)
    )


def read(reader: MessageReader, batches: list[list[tuple[str, bytes]]]) -> list[Any]:
    """Everything that reading the batches gives and leaves behind."""
    found: list[Any] = []
    for batch in batches:
        read = reader.read(
            [Message(topic.encode(), payload, 0.125 * i, receipt=i) for i, (topic, payload) in enumerate(batch)]
        )
        letters = [(letter.reason, letter.topic, letter.payload) for letter in read.letters]
        t = np.where(read.samples.t > 1e8, 0.0, read.samples.t)  # of arrival: the clock goes on
        found.append((
            read.samples.streams.to_pylist(), t.tolist(), read.samples.x.tobytes(), read.arrivals.tolist(), letters,
            read.receipts, read.refused, read.messages,
        ))  # fmt: skip
    in_a_row = [reader.quarantine.in_a_row(key) for key in (b"s/x", b"s/y", b"s/z", b"other")]
    return [*found, vars(reader.counts), in_a_row, len(reader.quarantine)]


@given(deliveries(), st.booleans(), st.sampled_from([0.0, 100.0]))
def test_messages_read_together_are_those_read_alone(
    delivered: tuple[str, list[list[tuple[str, bytes]]]], scaled: bool, zero: float
) -> None:
    shape, batches = delivered
    together = read(reader_of(JsonCodec(SHAPES[shape]), zero=zero, scaled=scaled), batches)
    alone = read(reader_of(Alone(SHAPES[shape]), zero=zero, scaled=scaled), batches)
    assert together == alone


@pytest.mark.parametrize("codec", [JsonCodec, MessagePackCodec])
@pytest.mark.parametrize("columns", [FLAT, NESTED], ids=["flat", "nested"])
def test_plain_samples_are_read_together(codec: type[RowCodec], columns: Columns) -> None:
    own = codec(columns)
    payloads = [
        own._encode(plain(columns, 1000.0 * i, 0.1 * i, -9999.0 if columns is FLAT else None)) for i in range(20)
    ]
    rows = own.read_together(payloads)
    assert isinstance(rows, Rows)
    alone = [own.read(Message(b"", payload, 0.0)) for payload in payloads]
    np.testing.assert_array_equal(rows.t, np.concatenate([one.t for one in alone]))
    np.testing.assert_array_equal(rows.x, np.concatenate([one.x for one in alone]))
    assert math.isnan(rows.x[3, 1])


def test_a_sender_of_lists_is_not_tried_again_and_again() -> None:
    codec = JsonCodec(FLAT)
    lists = [as_json([plain(FLAT, 1.0, 2.0, 3.0), plain(FLAT, 2.0, 2.0, 3.0)])] * 8
    singles = [as_json(plain(FLAT, 1.0, 2.0, 3.0))] * 8
    assert codec.read_together(lists) is None
    assert codec.read_together(singles) is None
    codec.read(Message(b"", singles[0], 0.0))
    assert codec.read_together(singles) is not None


def test_a_fault_between_good_messages_does_not_set_a_topic_aside() -> None:
    reader = reader_of(JsonCodec(FLAT))
    good, bad = as_json(plain(FLAT, 1.0, 2.0, 3.0)), b"{"
    batch = [("s/x", payload) for payload in [good] * 20 + ([bad] + [good] * 30) * 5]
    reader.read([Message(b"s/x", good, 0.0)])
    found = reader.read([Message(topic.encode(), payload, 0.0) for topic, payload in batch])
    assert len(found.letters) == 5
    assert len(found.samples.t) == 170
    assert not len(reader.quarantine)
