"""Jobs whose files or predictions are in an object store or on the web."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time

import places as servers
import pyarrow.fs
import pyarrow.parquet
import pytest
from bundles import make_bundle
from scoring_data import by_key, make_table, predict, split, write

import streamrde as sr
from streamrde.connectors.files.parts import PartSink
from streamrde.connectors.files.places import Place
from streamrde.connectors.files.writing import PredictionWriter
from streamrde.errors import ConfigError, DataError
from streamrde.scoring import Job, run_job


@pytest.fixture(scope="module")
def s3():
    with pytest.MonkeyPatch.context() as patch, servers.s3_server(patch) as query:
        yield query


@pytest.mark.parametrize("engine", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_files_of_a_bucket_give_what_local_ones_give(tmp_path, model, s3, engine):
    folder = split(make_table(), tmp_path / "in", files=3)
    servers.put({f"a/{path.name}": path for path in folder.iterdir()}, s3)
    summary = sr.score(f"s3://data/a/*.parquet{s3}", model, out=tmp_path / "1.parquet", engine=engine, jobs=2)
    assert by_key(pyarrow.parquet.read_table(tmp_path / "1.parquet")) == predict(model, make_table())
    assert summary.files == 3


def test_a_file_on_the_web_is_scored_and_no_signature_is_kept(tmp_path, model):
    pytest.importorskip("fsspec")
    write(make_table(), tmp_path / "www" / "a.parquet")
    with servers.web_server(tmp_path / "www") as (address, _):
        sr.score(f"{address}/a.parquet?sig=topsecret", model, out=tmp_path / "1.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "1.parquet")
    assert by_key(table) == predict(model, make_table())
    assert b"topsecret" not in (tmp_path / "1.parquet").read_bytes()
    assert json.loads(table.schema.metadata[b"streamrde.job"])["files"] == [f"{address}/a.parquet"]


def names(query, folder):
    return sorted(place.name for place in Place(f"s3://data/{folder}{query}").walk())


def table_at(url):
    with Place(url).input_file() as file:
        return pyarrow.parquet.read_table(file)


def test_predictions_are_written_to_a_bucket(tmp_path, model, s3, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = write(make_table(), tmp_path / "in" / "a.parquet")
    summary = sr.score(source, model, out=f"s3://data/o1/p.parquet{s3}")
    assert summary.out == "s3://data/o1/p.parquet"
    sr.score(source, model, out=tmp_path / "p.parquet")
    with Place(f"s3://data/o1/p.parquet{s3}").open() as file:
        assert file.read() == (tmp_path / "p.parquet").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "model.safetensors", "p.parquet"]


@pytest.mark.usefixtures("small_parts")
def test_a_folder_of_a_bucket_is_whole_when_its_mark_is_there(tmp_path, model, s3, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = split(make_table(), tmp_path / "in", files=3)
    out = f"s3://data/o2/{s3}"
    writing = PredictionWriter.__enter__
    with monkeypatch.context() as patch:

        def stopped(self):
            if "part-00002" in str(self.path):
                raise KeyboardInterrupt
            return writing(self)

        patch.setattr(PredictionWriter, "__enter__", stopped)
        with pytest.raises(KeyboardInterrupt):
            sr.score(source, model, out=out)
    assert names(s3, "o2") == ["part-00000.parquet", "part-00001.parquet"]
    with pytest.raises(ConfigError, match=r"o2: the folder exists and is not empty.*or use --resume"):
        sr.score(source, model, out=out)
    summary = sr.score(source, model, out=out, resume=True)
    assert summary.resumed == summary.parts > 3
    assert names(s3, "o2")[0] == "_SUCCESS"
    parts = [table_at(f"s3://data/o2/{name}{s3}") for name in names(s3, "o2")[1:]]
    assert by_key(pyarrow.concat_tables(parts)) == predict(model, make_table())
    with pytest.raises(ConfigError, match=r"not empty; remove it, or choose another one$"):
        sr.score(source, model, out=out, resume=True)


@pytest.mark.slow
def test_a_job_that_writes_to_a_bucket_is_killed_and_resumed(tmp_path, model, s3):
    table = make_table(20, 2000)
    folder = split(table, tmp_path / "in", files=4)
    servers.put({f"k/{path.name}": path for path in folder.iterdir()}, s3)
    (tmp_path / "job.toml").write_text("commit_seconds = 0.0\nbatch_rows = 1000\n")
    out = f"s3://data/o3/p.parquet{s3}"
    command = [sys.executable, "-m", "streamrde", "score", f"s3://data/k/*.parquet{s3}", "--config", "job.toml"]
    command += ["-m", str(model), "-o", out, "--resume"]
    killed = 0
    for _ in range(6):
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE)
        while killed < 2 and process.poll() is None:
            commits = len(list(tmp_path.glob(".p.parquet.*.job/[0-9]*[0-9].arrow")))
            if commits > 4 * (killed + 1):
                process.kill()
                killed += 1
                break
            time.sleep(0.001)
        _, errors = process.communicate(timeout=120)
        if process.returncode == 0:
            break
        assert process.returncode == -9, errors.decode()
        assert not Place(out).exists()
    assert killed == 2
    assert by_key(table_at(out)) == predict(model, table)
    assert not list(tmp_path.glob(".p.parquet.*"))


def test_what_cannot_be_written_is_said_before_a_row_is_read(tmp_path, model, s3):
    source = write(make_table(), tmp_path / "in" / "a.parquet")

    def refused(**settings):
        with pytest.raises((ConfigError, DataError)) as caught:
            run_job(Job(files=str(source), model=str(model), **settings))
        return str(caught.value)

    assert "there is no bucket 'nobody'" in refused(out=f"s3://nobody/p.parquet{s3}")
    assert "cannot be written as '.txt'" in refused(out=f"s3://data/p.txt{s3}")
    store = refused(out=str(tmp_path / "p.parquet"), state_out=f"s3://data/state.db{s3}")
    assert "a state store is an SQLite file on this machine" in store
    store = refused(out=str(tmp_path / "p.parquet"), state_in="s3://k:topsecret@data/state.db")
    assert "s3://data/state.db: a state store is an SQLite file on this machine; copy it here" in store
    pytest.importorskip("fsspec")
    assert "nothing can be written on the web" in refused(out="https://127.0.0.1:9/p.parquet")


def test_an_upload_that_fails_leaves_the_object_before(tmp_path, s3, monkeypatch):
    schema = sr.Fleet(make_bundle()).schema
    url = f"s3://data/o4/p.parquet{s3}"
    with PredictionWriter(url, schema):
        pass
    before = Place(url).stat()
    fail = OSError("AWS Error NETWORK_CONNECTION during UploadPart")

    def broken(*arguments, **named):
        raise fail

    monkeypatch.setattr(pyarrow.fs, "copy_files", broken)
    with pytest.raises(DataError, match=r"p\.parquet: the place cannot be reached"), PredictionWriter(url, schema):
        pass
    with pytest.raises(KeyboardInterrupt), PredictionWriter(url, schema):
        raise KeyboardInterrupt
    assert Place(url).stat() == before
    assert names(s3, "o4") == ["p.parquet"]


def test_parts_of_a_bucket_belong_to_it_by_the_checkpoint(s3):
    fleet = sr.Fleet(make_bundle())
    batch = fleet.push(["s"] * 40, [i / 4 for i in range(40)], [[1.0, 2.0]] * 40)
    folder = f"s3://data/o5{s3}"

    def sink(position, outbox):
        made = PartSink(folder, fleet.schema, rows=1)
        made.resume(position, outbox)
        return made

    async def written(one):
        await one.write(batch)

    first = sink(b"", {})
    asyncio.run(written(first))
    position, _, _ = first.stage()  # and no checkpoint
    assert names(s3, "o5") == [".staged-000001.parquet"]
    second = sink(b"", {})
    assert names(s3, "o5") == []
    asyncio.run(written(second))
    position, _, _ = second.stage()  # the checkpoint is made, and the process killed
    third = sink(position, {})
    assert names(s3, "o5") == ["part-000001.parquet"]
    asyncio.run(written(third))
    third.stage()
    third.staged()
    assert names(s3, "o5") == ["part-000001.parquet", "part-000002.parquet"]
    assert table_at(f"s3://data/o5/part-000002.parquet{s3}").num_rows == batch.num_rows
    with pytest.raises(DataError, match=r"part-000002\.parquet is of another run"):
        sink(position, {})
