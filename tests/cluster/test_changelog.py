"""Records of a changelog: what is written is read back, and what is not ours is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrde.cluster.changelog import Entry, decode, identity_entry, identity_of, positions_of
from streamrde.errors import StateError

PLACE = "topic 'x.state' [0] @7"
NUMBERS = st.none() | st.integers(0, 2**63 - 1)
ENTRIES = st.builds(
    Entry,
    st.text(),
    st.binary(),
    st.sampled_from(["s", "m"]),
    offset=NUMBERS,
    model=st.text(),
    window=NUMBERS,
    saved=st.floats(0, 1e10),
)


@given(ENTRIES)
def test_an_entry_comes_back_as_it_was_written(entry):
    assert decode(entry.key, entry.data, entry.headers, place=PLACE) == entry


def test_a_tombstone_has_no_headers_and_is_a_deleted_entry():
    assert decode(b"sa", None, None, place=PLACE) == Entry("a", None)


def test_an_empty_snapshot_is_a_stream_that_ended():
    assert Entry("a", b"").ended
    assert not Entry("a", b"1").ended
    assert not Entry("a", b"", "m").ended


@pytest.mark.parametrize(
    ("key", "headers", "match"),
    [
        (b"a", [("format", b"1")], "the key b'a' is none of a changelog"),
        (b"", [("format", b"1")], "none of a changelog"),
        (b"sa", [], "has format none, and this streamrde reads 1"),
        (b"sa", [("format", b"2")], "has format 2, and this streamrde reads 1"),
        (b"sa", [("format", b"1"), ("offset", b"x")], "a header cannot be read"),
        (b"sa", [("format", b"1"), ("model", b"\xff")], "a header cannot be read"),
    ],
)
def test_a_record_that_is_not_ours_is_refused_with_its_place(key, headers, match):
    with pytest.raises(StateError, match=match) as caught:
        decode(key, b"1", headers, place=PLACE)
    assert str(caught.value).startswith(PLACE)


def test_identity_and_positions_are_the_stores_own_records():
    entries = [
        identity_entry({"model": "abc"}),
        Entry("identity", b"{}"),
        Entry("position:sink", b"p", "m"),
        Entry("position:gone", None, "m"),
    ]
    assert identity_of(entries) == {"model": "abc"}
    assert positions_of(entries) == {"sink": b"p"}
    assert identity_of(entries[1:]) is None
    with pytest.raises(StateError, match="identity in the changelog cannot be read"):
        identity_of([Entry("identity", b"{", "m")])
