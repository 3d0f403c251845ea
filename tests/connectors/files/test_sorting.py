"""Samples in order of time, whatever fits into memory."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamrde.connectors.files import sorting
from streamrde.connectors.samples import Samples
from streamrde.errors import DataError


def samples_of(times, start):
    rows = np.arange(start, start + len(times))
    names = pa.array([f"s{i % 3}" for i in rows])
    extra = pa.record_batch({"label": pa.array([f"l{i}" for i in rows])})
    return Samples(names, np.array(times, float), np.stack([rows, -rows], axis=1).astype(float), extra)


@pytest.mark.slow
@settings(max_examples=40)
@given(
    st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=30), min_size=1, max_size=8),
    st.sampled_from([1, 900, 1 << 20]),
    st.sampled_from([1, 3, 4096]),
)
def test_sorting_is_stable_whatever_fits_into_memory(tmp_path_factory, times, memory, block):
    folder = tmp_path_factory.mktemp("sort")
    starts = np.cumsum([0, *map(len, times)])
    batches = [samples_of(some, start) for some, start in zip(times, starts, strict=False)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorting, "_BLOCK_ROWS", block)
        found = list(sorting.sort_by_time(iter(batches), folder=folder, memory=memory, batch_rows=11))
    t = np.concatenate(times)
    order = np.argsort(t, kind="stable")
    assert all(0 < len(batch.t) <= 11 for batch in found)
    np.testing.assert_array_equal(np.concatenate([batch.t for batch in found]), t[order])
    np.testing.assert_array_equal(np.concatenate([batch.x for batch in found]), np.stack([order, -order], axis=1))
    assert [name for batch in found for name in batch.streams.to_pylist()] == [f"s{i % 3}" for i in order]
    assert [label for batch in found for label in batch.extra["label"].to_pylist()] == [f"l{i}" for i in order]
    assert not list(folder.iterdir())


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path):
    with pytest.raises(DataError, match="absent"):
        list(sorting.sort_by_time([samples_of([2, 1], 0)] * 3, folder=tmp_path / "absent", memory=1))
