"""Recordings for a replay."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from streamrde.connectors.samples import Columns
from streamrde.errors import DataError, ParameterError
from streamrde.runtime.replay import load_recording

COLUMNS = Columns(channels=("a", "b"))


def write(path, t, names="s"):
    count = len(t)
    names = [names] * count if isinstance(names, str) else names
    x = np.arange(float(count))
    pa.parquet.write_table(pa.table({"stream_id": names, "t": t, "a": x, "b": -x}), path)
    return str(path)


def two_recordings(tmp_path):
    return write(tmp_path / "r.parquet", np.concatenate([np.arange(100) * 0.02, np.arange(80) * 0.02]))


def test_a_replay_does_not_sort_two_recordings_into_one_another(tmp_path):
    with pytest.raises(DataError, match=r"stream 's' jumps back from 1.98 s to 0 s at its row 100.*'split'.*'sort'"):
        load_recording(two_recordings(tmp_path), COLUMNS)


def test_a_replay_makes_two_streams_of_a_recording_that_begins_again(tmp_path):
    recording = load_recording(two_recordings(tmp_path), COLUMNS, restarts="split")
    names, counts = np.unique(recording.streams.astype(str), return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {"s": 100, "s#2": 80}
    second = recording.x[recording.streams == "s#2", 0]
    np.testing.assert_array_equal(second, np.arange(100.0, 180.0))


def test_a_replay_sorts_where_it_is_asked_to(tmp_path):
    recording = load_recording(two_recordings(tmp_path), COLUMNS, restarts="sort")
    assert set(recording.streams) == {"s"}
    assert (np.diff(recording.t) >= 0).all()


def test_rows_that_are_merely_out_of_order_are_sorted(tmp_path):
    t = np.random.default_rng(0).permutation(50) * 0.1
    assert (np.diff(load_recording(write(tmp_path / "s.parquet", t), COLUMNS).t) > 0).all()


def test_an_unknown_rule_for_restarts_lists_what_there_is(tmp_path):
    with pytest.raises(ParameterError, match="use 'error', 'split' or 'sort'"):
        load_recording(two_recordings(tmp_path), COLUMNS, restarts="merge")
