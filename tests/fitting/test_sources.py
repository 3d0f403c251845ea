"""Data wherever it is: the same fit from files, tables, batches, data frames and columns."""

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from fit_data import swinging

import streamrde as sr
from streamrde.errors import DataError, ParameterError
from streamrde.fitting.discovery import find_task, find_time_unit
from streamrde.fitting.sources import as_source


class Frame:
    """Speak Arrow and nothing else, as data frames do."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


def test_every_kind_of_data_gives_the_same_model(tmp_path) -> None:
    rows = swinging()
    pq.write_table(rows, tmp_path / "x.parquet")
    kinds = [
        tmp_path / "x.parquet",
        [tmp_path / "x.parquet"],
        rows,
        rows.combine_chunks().to_batches()[0],
        rows.to_reader(),
        ds.dataset(rows),
        Frame(rows),
        rows.to_pydict(),
        rows.to_pandas().to_xarray(),
    ]
    fingerprints = {sr.fit(kind, "label").bundle.fingerprint for kind in kinds}
    assert len(fingerprints) == 1


@pytest.mark.parametrize("name", ["__index_level_0__", "Unnamed: 0"])
def test_the_index_of_a_data_frame_is_no_channel_unless_it_is_named(name) -> None:
    rows = swinging()
    numbered = rows.append_column(name, pa.array(range(rows.num_rows)))
    report = sr.fit(numbered, "label")
    assert report.bundle.fingerprint == sr.fit(rows, "label").bundle.fingerprint
    assert any(note.startswith("not used: ") for note in report.notes)
    assert sr.fit(numbered, "label", channels=["a", name]).fitted.examples.channels == ("a", name)


def test_data_of_another_kind_is_refused_with_what_can_be_given() -> None:
    with pytest.raises(ParameterError, match="data is int: give a path or several, a pyarrow table"):
        sr.fit(3, "label")
    with pytest.raises(ParameterError, match="columns of one length"):
        sr.fit({"a": [1.0], "label": ["x", "y"]}, "label")
    with pytest.raises(DataError, match="0 rows"):
        sr.fit(swinging().slice(0, 0), "label")
    with pytest.raises(DataError, match=r"no column 'labl' \(did you mean 'label'\?\)"):
        sr.fit(swinging(), "labl")


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["yes", "no"] * 30, "classification"),
        ([True, False] * 30, "classification"),
        ([0.0, 1.0, None] * 20, "classification"),
        ([0.5, 1.0] * 30, "regression"),
        (list(np.repeat(np.arange(26), 10)), "classification"),
        (list(np.repeat(np.arange(26), 10) * 3), "regression"),
        (list(np.arange(60) % 26), "regression"),
        (list(np.repeat(np.arange(200), 10)), "regression"),
    ],
)
def test_the_task_is_found_by_the_targets_values(values, task) -> None:
    assert find_task(as_source({"y": values}), ["y"]) == task


def test_times_since_1970_in_finer_units_are_known_by_their_size() -> None:
    found = {
        factor: find_time_unit(as_source({"t": np.array([1_700_000_000 * factor], np.int64)}), "t")[0]
        for factor in (1, 10**3, 10**6, 10**9)
    }
    assert list(found.values()) == ["s", "ms", "us", "ns"]
    rows = swinging()
    late = rows.set_column(1, "t", pa.array((1.7e12 + 1000 * rows["t"].to_numpy()).astype(np.int64)))
    report = sr.fit(late, "label")
    assert report.config.time_unit == "ms"
    assert any("milliseconds since 1970" in note for note in report.notes)
    assert report.measures["accuracy"] == sr.fit(rows, "label").measures["accuracy"]
