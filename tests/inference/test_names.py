"""Slots of streams: the compiled table of names against the dictionary, and what a fleet relies on."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrde import kernels
from streamrde.errors import ParameterError, ShapeError
from streamrde.inference.names import StreamNames, stream_column
from streamrde.kernels import reference

names = st.text(max_size=12) | st.sampled_from(["a", "b", "aa", "", "pump-7", "x" * 40])


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from(["add", "release", "find"]), st.lists(names, max_size=30)), max_size=20))
def test_names_have_the_slots_that_a_dictionary_would_give_them(steps):
    ours, theirs = StreamNames(), StreamNames()
    theirs._names = reference.Names()
    for step, batch in steps:
        column = pa.array(batch, pa.string())
        if step == "add":
            for mine, other in zip(ours.add(column), theirs.add(column), strict=True):
                assert mine.tolist() == other.tolist()
        elif step == "release":
            live = [name for name in dict.fromkeys(batch) if name in theirs]
            slots = theirs.find(live)
            ours.release(slots)
            theirs.release(slots)
        assert [name in ours for name in batch] == [name in theirs for name in batch]
        assert len(ours) == len(theirs)
        assert ours.find(None).tolist() == theirs.find(None).tolist()
        assert ours.names_of(ours.find(None)).to_pylist() == theirs.names_of(theirs.find(None)).to_pylist()


def test_many_come_and_go_and_each_keeps_its_slot():
    rng, ours, expected = np.random.default_rng(0), StreamNames(), {}
    for _ in range(30):
        batch = [f"stream-{i}" for i in rng.integers(0, 5000, size=1000)]
        slots, _ = ours.add(pa.array(batch))
        assert len(np.unique(slots)) == len(set(batch))
        for name, slot in zip(batch, slots.tolist(), strict=True):
            assert expected.setdefault(name, slot) == slot
        assert len(ours) == len(expected)
        gone = [name for name in expected if rng.random() < 0.3]
        ours.release(ours.find(gone))
        for name in gone:
            del expected[name]
    assert set(ours.names_of(ours.find(None)).to_pylist()) == set(expected)


def test_a_slice_of_a_dictionary_brings_only_the_streams_it_names():
    column = pa.array(["a", "b", "c", "b"]).dictionary_encode()[3:]
    slots, added = StreamNames().add(column)
    assert (slots.tolist(), added.tolist()) == ([0], [0])


def test_integers_are_names_and_numbers_with_a_fraction_or_nulls_are_not():
    assert stream_column(np.array([7, 8])).to_pylist() == ["7", "8"]
    chunks = pa.chunked_array([["a"], ["b"]])
    for column in (chunks, chunks.dictionary_encode(), pd.Series(chunks, dtype=pd.ArrowDtype(pa.string()))):
        assert stream_column(column).to_pylist() == ["a", "b"]
    for bad in ([1.5], [None, "a"], [b"\xff"]):
        with pytest.raises(ShapeError, match="stream"):
            stream_column(bad)
    with pytest.raises(ParameterError, match="'b' is not live"):
        StreamNames().find(["b"])


@pytest.mark.skipif(kernels.Names is reference.Names, reason="it is about the compiled table of names")
def test_what_is_no_column_of_strings_is_an_error():
    table = kernels.Names()
    data = np.zeros(3, np.uint8)
    for offsets in ([0, 4], [-1, 2], [2, 1, 3], []):
        with pytest.raises(ValueError, match="offsets"):
            table.add(np.array(offsets, np.int32), data)
    with pytest.raises(TypeError, match="int32"):
        table.find(np.array([0, 1]), data)
    with pytest.raises(ValueError, match="slot 0"):
        table.release(np.array([0]))
    with pytest.raises(ValueError, match="slot 5"):
        table.names(np.array([5]))
    with pytest.raises(RuntimeError, match="not initialised"):
        kernels.Names.__new__(kernels.Names).live()
