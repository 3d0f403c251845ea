"""Names of outputs: what they ask for, or why they cannot be written, before anything is read."""

import subprocess
import sys

import pytest
from scoring_data import make_table, read, write

import streamrde as sr
from streamrde.errors import ConfigError


@pytest.mark.parametrize(
    "name", ["p.jsonl", "p.json", "p.csv.gz", "p.pq", "p.xlsx", "results.2024", "P.JSONL", "p.arow"]
)
def test_an_output_of_unknown_format_is_refused_before_the_work(tmp_path, model, name):
    with pytest.raises(
        ConfigError, match=r"use one of \.parquet, .*\.csv, or a folder of Parquet files: .*/$"
    ) as error:
        sr.score(tmp_path / "not-there.parquet", model, out=tmp_path / name)
    assert name in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("name", ["p", "p/", "p.jsonl/", "made.v2"])
def test_a_slash_no_extension_or_a_folder_that_is_there_make_a_folder(tmp_path, model, name):
    source = write(make_table(2), tmp_path / "a.parquet")
    (tmp_path / "made.v2").mkdir()
    sr.score(source, model, out=f"{tmp_path}/{name}")
    assert (tmp_path / name).is_dir()
    assert read(tmp_path / name).num_rows > 0


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path, model):
    source = write(make_table(2), tmp_path / "a.parquet")
    (tmp_path / "p").write_text("mine")
    with pytest.raises(ConfigError, match="is a file"):
        sr.score(source, model, out=tmp_path / "p")
    assert (tmp_path / "p").read_text() == "mine"


@pytest.mark.parametrize("name", ["states.parquet", "states.jsonl", "s.csv.gz", "folder/"])
def test_a_state_store_called_as_something_else_is_refused_before_the_work(tmp_path, model, name):
    with pytest.raises(ConfigError, match=r"state_out = .*(\.db, \.sqlite or \.sqlite3|such as state\.db)"):
        sr.score(tmp_path / "not-there.parquet", model, out=tmp_path / "p.parquet", state_out=f"{tmp_path}/{name}")


@pytest.mark.slow
def test_the_command_refuses_an_output_of_unknown_format(tmp_path, model):
    command = [sys.executable, "-m", "streamrde", "score", tmp_path / "not-there.parquet", "-m", model]
    done = subprocess.run([*command, "-o", tmp_path / "p.jsonl"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert ".parquet, .feather, .arrow, .ipc, .arrows, .csv" in done.stderr
    assert not (tmp_path / "p.jsonl").exists()
