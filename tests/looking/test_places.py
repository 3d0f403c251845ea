"""Object stores are looked at as folders are."""

import tomllib

import pytest
from places import put, s3_server
from typer.testing import CliRunner

from streamrde.cli import app
from streamrde.demo.watch_data import MODEL


@pytest.fixture
def bucket(monkeypatch):
    with s3_server(monkeypatch) as query:
        yield query


def test_files_in_an_object_store_are_looked_at(bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = MODEL.parent
    put({f"walks/{i}.parquet": folder / f"subject-0{i}.parquet" for i in (1, 2)}, bucket)
    lines = "t;ax;ay\n" + "\n".join(f"{i},5;{i % 7},25;0,5" for i in range(50))
    (tmp_path / "a.csv").write_text(lines)
    put({"texts/a.csv": tmp_path / "a.csv"}, bucket)

    def init(url, *options):
        done = CliRunner().invoke(app, ["init", url, *options, "--out", "out.toml"])
        assert done.exit_code == 0, done.exception
        text = (tmp_path / "out.toml").read_text()
        (tmp_path / "out.toml").unlink()
        return tomllib.loads(text)

    found = init(f"s3://data/walks{bucket}", "--target", "label")
    assert (found["stream"], found["time"], found["target"], found["group"]) == ("stream_id", "t", "label", "subject")
    found = init(f"s3://data/texts{bucket}", "--for", "score")
    assert found["columns"]["csv"] == {"delimiter": ";", "decimal": ","}
