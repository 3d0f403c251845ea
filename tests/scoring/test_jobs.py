"""One set of recordings by every way through a scoring job: the same predictions in the same order."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from bundles import make_bundle
from scoring_data import by_key, make_table, predict, read, split, write
from typer.testing import CliRunner

import streamrde as sr
from streamrde.cli import app
from streamrde.errors import ConfigError, DataError
from streamrde.inference.novelty import NOVEL, TrainingWindows
from streamrde.scoring import Job

LAYOUTS = {
    "one file, streams one after the other": lambda folder: write(make_table(), folder / "a.parquet"),
    "one file, interleaved": lambda folder: write(make_table(interleaved=True), folder / "a.parquet"),
    "files cut anywhere": lambda folder: split(make_table(), folder, files=7),
    "files cut in time": lambda folder: split(make_table(interleaved=True), folder, files=5, suffix=".feather"),
    "csv": lambda folder: split(make_table(), folder, files=3, suffix=".csv"),
}


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_job_gives_what_a_fleet_gives(tmp_path, model, layout):
    source = LAYOUTS[layout](tmp_path / "in")
    summary = sr.score(source, model, out=tmp_path / "out.parquet")
    expected = predict(model, make_table())
    assert by_key(read(tmp_path / "out.parquet")) == expected
    assert summary.predictions == len(expected)
    assert summary.rows == summary.counts.samples == make_table().num_rows
    assert summary.streams == 12
    assert (summary.parts > 3) == ("interleaved" not in layout and "time" not in layout)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "model.safetensors", "out.parquet"]


@pytest.mark.slow
@pytest.mark.usefixtures("small_parts")
def test_bytes_of_the_output_depend_on_neither_jobs_nor_batches_nor_commits(tmp_path, model):
    source = split(make_table(), tmp_path / "in", files=7)
    sr.score(source, model, out=tmp_path / "1.parquet")
    expected = (tmp_path / "1.parquet").read_bytes()
    for engine in ("threads", "processes"):
        sr.score(source, model, out=tmp_path / "2.parquet", jobs=2, batch_rows=17, engine=engine)
        assert (tmp_path / "2.parquet").read_bytes() == expected
    sr.score(source, model, out=tmp_path / "parts", jobs=2)
    assert read(tmp_path / "parts").equals(read(tmp_path / "1.parquet"))
    assert len(list((tmp_path / "parts").iterdir())) > 3


def test_interleaved_streams_can_be_divided_into_groups(tmp_path, model, monkeypatch):
    monkeypatch.setattr("streamrde.scoring.plan._LEAST_ROWS", 10)
    source = write(make_table(interleaved=True), tmp_path / "in" / "a.parquet")
    assert sr.score(source, model, out=tmp_path / "1.parquet").parts == 1
    assert sr.score(source, model, out=tmp_path / "2.parquet", groups=4).parts == 4
    assert by_key(read(tmp_path / "2.parquet")) == by_key(read(tmp_path / "1.parquet"))


def test_an_output_tells_where_it_comes_from(tmp_path, model):
    source = write(make_table(), tmp_path / "in" / "a.parquet")
    sr.score(source, model, out=tmp_path / "out.parquet", filters=[("a", ">", -100.0)])
    metadata = pa.parquet.read_schema(tmp_path / "out.parquet").metadata
    assert metadata[b"streamrde.version"].decode() == sr.__version__
    assert metadata[b"streamrde.model"].decode() == sr.load(model).fingerprint
    assert json.loads(metadata[b"streamrde.job"])["filters"] == [["a", ">", -100.0]]


def test_each_file_may_be_one_stream(tmp_path, model):
    table = make_table(4)
    for name in table["stream_id"].unique().to_pylist():
        write(table.filter(pa.compute.field("stream_id") == name), tmp_path / "in" / f"{name}.csv")
    sr.score(tmp_path / "in", model, out=tmp_path / "out.feather", stream="")
    assert by_key(read(tmp_path / "out.feather")) == predict(model, table)


def test_partitions_are_columns(tmp_path, model):
    table = make_table(6)
    for i, name in enumerate(table["stream_id"].unique().to_pylist()):
        one = table.filter(pa.compute.field("stream_id") == name).drop_columns("stream_id")
        write(one, tmp_path / "in" / f"day={i}" / f"device={name}" / "x.parquet")
    sr.score(tmp_path / "in", model, out=tmp_path / "all.parquet", stream="device")
    assert by_key(read(tmp_path / "all.parquet")) == predict(model, table)
    sr.score(tmp_path / "in", model, out=tmp_path / "some.parquet", stream="device", filters=[("day", ">=", 4)])
    assert set(read(tmp_path / "some.parquet")["stream"].to_pylist()) == {"s4", "s5"}


@pytest.mark.parametrize(
    ("filters", "streams"),
    [
        ([("kind", "==", "y")], {"s1", "s4", "s7", "s10"}),
        ([("kind", "in", ("x", "y")), ("stream_id", "!=", "s1")], {"s0", "s3", "s6", "s9", "s4", "s7", "s10"}),
        ([("kind", "not in", ("x", "y"))], {"s2", "s5", "s8", "s11"}),
    ],
)
def test_filters_choose_rows(tmp_path, model, filters, streams):
    source = split(make_table(), tmp_path / "in", files=2)
    sr.score(source, model, out=tmp_path / "out.parquet", filters=filters)
    expected = {key: row for key, row in predict(model, make_table()).items() if key[0] in streams}
    assert by_key(read(tmp_path / "out.parquet")) == expected


def test_units_are_brought_to_the_models(tmp_path, model):
    table = make_table(3)
    scaled = table.set_column(2, "a", pa.compute.multiply(table["a"], 8.0)).set_column(
        3, "b", pa.compute.divide(pa.compute.subtract(table["b"], 0.5), 2.0)
    )
    source = write(scaled, tmp_path / "in" / "a.parquet")
    sr.score(source, model, out=tmp_path / "out.parquet", scale={"a": 0.125, "b": 2.0}, offset={"b": 0.5})
    close = by_key(read(tmp_path / "out.parquet"))
    for key, row in predict(model, table).items():
        assert close[key]["value"] == pytest.approx(row["value"], rel=1e-5, abs=1e-6)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("memory", [256 << 20, 2000])
def test_rows_out_of_order_are_sorted(tmp_path, model, memory, monkeypatch):
    table = make_table()
    shuffled = table.take(pa.array(pa.array(range(table.num_rows)).to_numpy()[::-1].copy()))
    source = split(shuffled, tmp_path / "in", files=3)
    monkeypatch.setattr("streamrde.connectors.files.sorting._BLOCK_ROWS", 7)
    from streamrde.scoring import Job, run_job

    job = Job(files=str(source), model=str(model), out=str(tmp_path / "out.parquet"), sort_memory=memory)
    summary = run_job(job)
    assert summary.sorted == summary.parts
    assert by_key(read(tmp_path / "out.parquet")) == predict(model, table)
    with pytest.raises(DataError, match="is not after"):
        sr.score(source, model, out=tmp_path / "b.parquet", sort="never")
    lazily = sr.score(source, model, sort="always").read_all()
    assert by_key(lazily) == predict(model, table)


def test_features_of_windows_are_written(tmp_path, model):
    table = make_table(3)
    sr.score(
        write(table, tmp_path / "in/a.parquet"), model, out=tmp_path / "o.parquet", features=["state", "logsignature"]
    )
    found = by_key(read(tmp_path / "o.parquet"))
    bundle = sr.load(model)
    for stream in ("s0", "s1", "s2"):
        own = table.filter(pa.compute.field("stream_id") == stream)
        t, x = own["t"].to_numpy(), np.stack([own["a"].to_numpy(), own["b"].to_numpy()], axis=1)
        path = np.concatenate([(t - t[0])[:, None], x], axis=1)
        _, logsigs = sr.logsig_windows(t - t[0], path, 3, bundle.header.windows)
        rows = [found[stream, k] for k in range(len(logsigs))]
        np.testing.assert_allclose([row["logsignature"] for row in rows], logsigs, rtol=1e-9, atol=1e-12)
        # The readout of the state is the prediction.
        logits = (
            np.array([row["state"] for row in rows]) @ bundle.tensors["readout.weight"].T
            + bundle.tensors["readout.bias"]
        )
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose([row["value"] for row in rows], chances, rtol=1e-4, atol=1e-6)


def test_how_novel_windows_are_is_written_and_belongs_to_the_job(tmp_path):
    told = TrainingWindows(windows=100, streams=5, alarm=3.0)
    model, other = (make_bundle(seed, novelty=told) for seed in (0, 1))
    path, out, source = tmp_path / "model.safetensors", tmp_path / "o.parquet", tmp_path / "in/a.parquet"
    model.save(path)
    write(make_table(), source)
    summary = sr.score(source, path, out=out, novelty=True, jobs=2)
    found = by_key(read(out))
    novel = sum(row["novelty"] is not None and row["novelty"] < NOVEL for row in found.values())
    assert summary.state_counts.novel == novel > 0
    assert summary.as_dict()["novel"] == novel
    assert "novel" not in sr.score(source, path, out=out).as_dict()
    assert found == by_key(sr.score(source, path, novelty=True).read_all()) == predict(path, make_table(), novelty=True)
    assert sum(row["novelty"] is not None for row in found.values()) > len(found) / 2
    job = Job(files=str(source), model=str(path), out=str(out), novelty=True)
    one, two = (job.fingerprint(model.fingerprint, bundle.novelty_fingerprint) for bundle in (model, other))
    assert one != two
    result = CliRunner().invoke(
        app, ["score", str(source), "-m", str(path), "-o", str(tmp_path / "b.csv"), "--novelty"]
    )
    assert result.exit_code == 0, result.output
    assert f"novelty: {novel} windows" in result.output
    assert (tmp_path / "b.csv").read_text().splitlines()[0].endswith('"novelty"')


def test_rows_in_order_of_their_streams_are_not_sorted(tmp_path, model):
    assert sr.score(write(make_table(), tmp_path / "in/a.parquet"), model, out=tmp_path / "out.parquet").sorted == 0


def test_a_repeated_row_is_an_error_or_counted(tmp_path, model):
    table = make_table(2)
    source = write(pa.concat_tables([table, table.slice(3, 1)]), tmp_path / "in" / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet.*is not after"):
        sr.score(source, model, out=tmp_path / "out.parquet")
    summary = sr.score(source, model, out=tmp_path / "out.parquet", faults="drop")
    assert summary.sorted == 1
    assert summary.counts.duplicate == 1
    assert by_key(read(tmp_path / "out.parquet")) == predict(model, table)


def test_a_folder_that_is_not_empty_is_no_output(tmp_path, model):
    source = write(make_table(2), tmp_path / "in" / "a.parquet")
    with pytest.raises(ConfigError, match="not empty"):
        sr.score(source, model, out=tmp_path / "in")


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"units": {"a": "parsec"}}, "'parsec' is not known"),
        ({"units": {"a": "degC"}}, "a unit of temperature, and the model's 'm/s2' is one of acceleration"),
        ({"units": {"c": "g"}}, "none of the channels' columns"),
        ({"scale": {"a": 2.0}, "units": {"a": "g"}}, "give one of the two"),
        ({"channels": ["a"]}, "the model has 2 channels"),
        ({"filters": [("a", "in", 3)]}, "takes a list of values"),
        ({"sort": "maybe"}, "sort"),
        ({"jobs": 0}, "jobs"),
        ({"truth": ["kind", "kind"]}, "twice"),
    ],
)
def test_settings_that_cannot_work_are_named(tmp_path, model, settings, match):
    source = write(make_table(2), tmp_path / "in" / "a.parquet")
    with pytest.raises(ConfigError, match=match):
        sr.score(source, model, out=tmp_path / "out.parquet", **settings)
    assert not list(tmp_path.glob("*out*"))
