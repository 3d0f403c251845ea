"""A model fitted to files: what is found in them, and that it needs no torch."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from fit_data import turning

import streamrde as sr
from streamrde.errors import DataError
from streamrde.fitting.discovery import find_roles, find_task
from streamrde.fitting.entry import fit
from streamrde.fitting.families import fit_reservoirs
from streamrde.fitting.sources import as_source


def test_roles_are_found_by_name_and_groups_are_no_channels(tmp_path) -> None:
    pq.write_table(turning(), tmp_path / "x.parquet")
    source = as_source(str(tmp_path))
    roles = find_roles(source, ["label"], drop=["size"])
    assert roles[:4] == ("stream_id", "t", ("a", "b"), "subject")
    assert find_task(source, ["label"]) == "classification"
    assert find_task(source, ["a"]) == "regression"
    with pytest.raises(DataError, match=r"no column 'labl' \(did you mean 'label'\?\)"):
        find_roles(source, ["labl"])


def test_files_without_time_and_stream_columns_number_their_rows(tmp_path) -> None:
    plain = turning(streams=2).drop_columns(["t", "stream_id"])
    for i in (0, 1):
        pyarrow.csv.write_csv(plain.slice(60 * i, 60), tmp_path / f"{i}.csv")
    roles = find_roles(as_source(str(tmp_path)), ["label"])
    assert (roles.stream, roles.time) == ("", "")
    with pytest.raises(DataError, match=r"two streams at least.* found 2, of 1, with 2; name the column .*--stream"):
        fit(tmp_path, "label", channels=["a", "b"])


def test_text_that_may_name_streams_is_pointed_at(tmp_path) -> None:
    table = turning().rename_columns({"stream_id": "bench"})
    dates = pa.array(["2026-03-01T06:00:00Z"] * len(table))
    source = as_source(table.set_column(table.column_names.index("t"), "t", dates))
    notes = find_roles(source, ["label"]).notes
    assert "time: column 't'" in notes
    assert any(note.endswith('in "bench", say which: --stream bench') for note in notes)
    assert not any("--stream" in note for note in find_roles(source, ["label"], stream="").notes)


@pytest.mark.parametrize("numbered", [False, True])
def test_a_further_name_is_taken_in_one_file_if_its_values_come_again(tmp_path, numbered) -> None:
    table = turning(streams=4).rename_columns({"stream_id": "machine"})
    if numbered:
        table = table.set_column(table.column_names.index("machine"), "machine", pa.array(np.arange(len(table)) // 60))
    roles = find_roles(as_source(table), ["label"])
    assert roles.stream == "machine"
    assert roles.notes[0] == "streams: column 'machine' has 4 values"
    assert "machine" not in roles.channels
    # In several files it may be the machine of several recordings, and a measured quantity comes in many values.
    for i in (0, 1):
        pq.write_table(table.slice(120 * i, 120), tmp_path / f"{i}.parquet")
    assert find_roles(as_source(str(tmp_path)), ["label"]).stream == ""
    counted = table.set_column(table.column_names.index("machine"), "machine", pa.array(np.arange(len(table))))
    assert find_roles(as_source(counted), ["label"]).stream == ""


def test_a_fitted_model_classifies_new_streams_and_is_served(tmp_path) -> None:
    path, out = tmp_path / "x.parquet", tmp_path / "m.safetensors"
    pq.write_table(turning(), path)
    report = fit(path, "label", drop=["size"], out=out)
    assert report.measures["accuracy"] == 1.0
    assert report.measures["majority_accuracy"] <= 0.6
    assert {"nearest_accuracy", "summaries_accuracy"} <= report.measures.keys()
    new = turning(streams=4)
    found = sr.score(new, sr.load(out)).read_pandas().groupby("stream", observed=True)["label"].last()
    assert found.tolist() == ["right", "left"] * 2


def test_a_fitted_model_is_served_without_being_written(tmp_path) -> None:
    pq.write_table(turning(), tmp_path / "x.parquet")
    bundle = fit(tmp_path, "label", drop=["size"]).bundle
    bundle.save(tmp_path / "m.safetensors")
    answers = [sr.score(turning(streams=2), own).read_all() for own in (bundle, sr.load(tmp_path / "m.safetensors"))]
    assert answers[0].equals(answers[1])


def test_a_model_that_loses_to_a_plain_one_says_so(tmp_path, monkeypatch) -> None:
    """A value that never changes makes the same path however often it is observed; a summary counts."""
    monkeypatch.setattr("streamrde.fitting.recipe.FAMILIES", (fit_reservoirs,))
    rare = np.repeat(np.random.default_rng(5).permutation(np.arange(24) % 2), 20)
    t = np.tile(np.arange(20.0), 24)
    rows = pa.table(
        {
            "stream_id": [f"s{i:02}" for i in np.repeat(np.arange(24), 20)],
            "t": t,
            "a": np.where((rare == 1) & (t % 2 == 1), np.nan, 5.0),
            "label": np.where(rare, "rare", "often"),
        }
    )
    pq.write_table(rows, tmp_path / "x.parquet")
    report = fit(tmp_path, "label")
    assert report.measures["summaries_accuracy"] == 1.0
    assert report.measures["accuracy"] < 1.0
    assert set(report.warnings) <= set(report.notes)
    assert any(text.startswith("warning: a plain model is better: 'summaries'") for text in report.warnings)


def test_a_number_per_stream_is_fitted(tmp_path) -> None:
    pq.write_table(turning(), tmp_path / "x.parquet")
    report = fit(tmp_path, "size", task="regression", drop=["label"])
    assert report.measures["rmse"] < 0.3 * report.measures["mean_rmse"]
    assert report.bundle.header.task == "regression"
    known = report.bundle.header.calibration
    assert known.streams == (len(np.unique(report.fitted.examples.groups)),)
    errors = np.abs(report.fitted.chosen.held_out - report.fitted.examples.truth)[:, 0]
    assert report.bundle.tensors["calibration.scores"][0, 0, -1] == errors.max()
    rows = sr.Fleet(report.bundle, faults="drop", time_check="off", intervals=0.8).schema
    assert {"lower", "upper"} <= set(rows.names)


def test_the_command_needs_no_torch_and_overwrites_nothing(tmp_path) -> None:
    pq.write_table(turning(), tmp_path / "x.parquet")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        f"sys.argv = ['streamrde', 'fit', {str(tmp_path / 'x.parquet')!r}, '--target', 'label', '--drop', 'size']\n"
        "from streamrde.cli import main; main()"
    )
    first = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "right on 24 of 24 streams" in first.stdout
    assert (tmp_path / "model.safetensors").exists()
    second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert second.returncode == 1
    assert "the file exists" in second.stderr
