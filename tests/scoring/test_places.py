"""Jobs whose files or predictions are in an object store or on the web."""

from __future__ import annotations

import json

import places as servers
import pyarrow.parquet
import pytest
from scoring_data import by_key, make_table, predict, split, write

import streamrde as sr


@pytest.fixture(scope="module")
def s3():
    with pytest.MonkeyPatch.context() as patch, servers.s3_server(patch) as query:
        yield query


def test_files_of_a_bucket_give_what_local_ones_give(tmp_path, model, s3):
    folder = split(make_table(), tmp_path / "in", files=3)
    servers.put({f"a/{path.name}": path for path in folder.iterdir()}, s3)
    summary = sr.score(f"s3://data/a/*.parquet{s3}", model, out=tmp_path / "1.parquet", engine="processes", jobs=2)
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
