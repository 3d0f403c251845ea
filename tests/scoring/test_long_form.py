"""Jobs on tables in long form and on folders of files: the predictions are those of wide tables in any order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scoring_data import make_table, split, write

import streamrde as sr
from streamrde.errors import DataError
from streamrde.fitting.inputs import ChannelConfig, DataConfig
from streamrde.fitting.recordings import read_recordings
from streamrde.runtime.replay import load_recording
from streamrde.scoring.folder import JobFolder
from streamrde.scoring.job import ColumnsConfig, Job
from streamrde.scoring.plan import File
from streamrde.scoring.run import run_job

LONG = ColumnsConfig(name="entity", value="state")


def melted(table: pa.Table, *, by: str) -> pa.Table:
    """Return a table's long form, in order of time, or channel by channel within each stream."""
    parts = []
    for name in ("a", "b"):
        own = table.select(["stream_id", "t", "kind"]).append_column("entity", pa.array([name] * table.num_rows))
        parts.append(own.append_column("state", table.column(name)))
    both = pa.concat_tables(parts)
    keys = {"time": [("t", "ascending")], "channel": [("stream_id", "ascending"), ("entity", "ascending")]}[by]
    order = pc.sort_indices(both, sort_keys=keys)
    return both.take(order)


def score(model: Path, files: Path, folder: Path, **keys: object) -> pa.Table:
    out = folder / "out.parquet"
    run_job(Job(model=str(model), files=str(files), out=str(out), **keys))  # type: ignore[arg-type]
    return pa.parquet.read_table(out).sort_by([("stream", "ascending"), ("window", "ascending")])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("by", ["time", "channel"])
@pytest.mark.parametrize("batch_rows", [7, 65536])
def test_long_and_wide_tables_give_the_same_predictions(
    tmp_path: Path, model: Path, small_parts: None, by: str, suffix: str, batch_rows: int
) -> None:
    table = make_table()
    expected = score(model, write(table, tmp_path / "wide.parquet"), tmp_path)
    long = write(melted(table, by=by), tmp_path / f"long{suffix}")
    found = score(model, long, tmp_path, columns=LONG, batch_rows=batch_rows)
    assert found.equals(expected)


def test_streams_that_go_on_in_other_files_are_put_together(tmp_path: Path, model: Path) -> None:
    table = make_table()
    expected = score(model, write(table, tmp_path / "wide.parquet"), tmp_path)
    parts = split(melted(table, by="time"), tmp_path / "parts", files=3)
    found = score(model, parts, tmp_path, columns=LONG, sort="always")
    assert found.equals(expected)


def test_a_channel_that_begins_again_is_named(tmp_path: Path, model: Path) -> None:
    long = melted(make_table(1), by="channel")
    twice = write(pa.concat_tables([long, long]), tmp_path / "twice.parquet")
    with pytest.raises(DataError, match=r"stream 's0' jumps back from .* Set restarts ="):
        score(model, twice, tmp_path, columns=LONG)
    with pytest.raises(DataError, match=r"'s0' begins again at .*needs all channels in each row: divide the file"):
        score(model, twice, tmp_path, columns=LONG, restarts="split")


@pytest.mark.parametrize("by", ["time", "channel"])
def test_training_and_replay_read_the_same_recordings(tmp_path: Path, model: Path, by: str) -> None:
    table = make_table()
    wide, long = write(table, tmp_path / "wide.csv"), write(melted(table, by=by), tmp_path / "long.csv")
    channels = tuple(ChannelConfig(name=name) for name in ("a", "b"))
    one = read_recordings(DataConfig(files=str(wide), channels=channels, target="kind"))
    two = read_recordings(DataConfig(files=str(long), channels=channels, target="kind", name="entity", value="state"))
    for a, b in zip(one, two, strict=True):
        assert a.stream == b.stream
        np.testing.assert_array_equal(a.t, b.t)
        np.testing.assert_array_equal(a.x, b.x)
        assert a.target.values[0] == b.target.values[0]
    own = [channel.name for channel in sr.load(model).header.channels]
    expected = load_recording(str(wide), ColumnsConfig().columns_for(own, stream="stream_id"))
    found = load_recording(str(long), LONG.columns_for(own, stream="stream_id"))
    np.testing.assert_array_equal(np.sort(found.t), np.sort(expected.t))
    rows = sorted(zip(found.streams, found.t, found.x.tolist(), strict=True))
    assert rows == sorted(zip(expected.streams, expected.t, expected.x.tolist(), strict=True))


def folders(table: pa.Table, path: Path) -> Path:
    """Write a folder for each stream, with a file for each channel."""
    for name in table.column("stream_id").unique().to_pylist():
        own = table.filter(pc.equal(table.column("stream_id"), name))
        for channel in ("a", "b"):
            write(own.select(["t", channel]), path / name / f"{channel}.csv")
    return path


SPREAD = ColumnsConfig(stream="", channels=("a.csv:a", "b.csv:b"))


@pytest.mark.parametrize("jobs", [1, 2])
def test_folders_with_a_file_per_channel_give_the_same_predictions(
    tmp_path: Path, model: Path, small_parts: None, jobs: int
) -> None:
    table = make_table()
    expected = score(model, write(table, tmp_path / "wide.parquet"), tmp_path)
    found = score(model, folders(table, tmp_path / "in"), tmp_path, columns=SPREAD, jobs=jobs, batch_rows=7)
    assert found.equals(expected)


@pytest.mark.parametrize("commits", [0, 1, 3, 7])
@pytest.mark.parametrize("kind", ["long", "spread"])
def test_a_stopped_job_goes_on(
    tmp_path: Path, model: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch, kind: str, commits: int
) -> None:
    table = make_table(interleaved=kind == "long")
    if kind == "long":
        source, columns = write(melted(table, by="time"), tmp_path / "long.csv"), LONG
    else:
        source, columns = folders(table, tmp_path / "in"), SPREAD
    expected = score(model, source, tmp_path, columns=columns)
    (tmp_path / "out.parquet").unlink()
    job = Job(
        model=str(model), files=str(source), out=str(tmp_path / "out.parquet"), columns=columns, batch_rows=31,
        commit_seconds=0.0,
    )  # fmt: skip
    made, commit = [], JobFolder.commit

    def commit_or_stop(self: JobFolder, *arguments: object, **named: object) -> None:
        if len(made) == commits:
            raise KeyboardInterrupt
        made.append(commit(self, *arguments, **named))  # type: ignore[func-returns-value,arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(JobFolder, "commit", commit_or_stop)
        with pytest.raises(KeyboardInterrupt):
            run_job(job)
    summary = run_job(job, resume=True)
    assert summary.predictions == expected.num_rows
    found = pa.parquet.read_table(job.out).sort_by([("stream", "ascending"), ("window", "ascending")])
    assert found.equals(expected)


def test_a_file_that_changes_while_a_job_waits_is_noticed(tmp_path: Path, model: Path) -> None:
    source = folders(make_table(2), tmp_path / "in")
    (recording, _) = Job(columns=SPREAD).reader(sr.load(model).header).find(source)
    file = File.of(recording)
    file.check()
    (source / "s0" / "b.csv").write_text("t,b\n0,1\n")
    with pytest.raises(DataError, match="has changed since the job began"):
        file.check()
