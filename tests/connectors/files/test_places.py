"""Recorded files in object stores and on the web."""

from __future__ import annotations

import gzip
import uuid
from pathlib import Path

import numpy as np
import places as servers
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest

from streamrde.connectors.files.errors import explain
from streamrde.connectors.files.places import Place, as_path, expand, has_magic, is_url, shown
from streamrde.connectors.files.reading import read
from streamrde.connectors.files.recordings import find_recordings, hive_partitions
from streamrde.connectors.samples import Columns
from streamrde.errors import DataError

COLUMNS = Columns(channels=("a",), stream="s")
TABLE = pa.table({"s": ["x", "x", "y"], "t": [0.0, 1.0, 0.5], "a": [1.0, None, 3.0]})
SIGNED = "?X-Amz-Signature=topsecret&X-Amz-Expires=60"


@pytest.fixture(scope="module")
def s3():
    with pytest.MonkeyPatch.context() as patch, servers.s3_server(patch) as query:
        yield query


@pytest.fixture
def web(tmp_path):
    with servers.web_server(tmp_path) as server:
        yield server


def files_of(folder: Path) -> dict[str, Path]:
    """The table in every format."""
    pa.parquet.write_table(TABLE, folder / "x.parquet", row_group_size=2)
    pa.feather.write_feather(TABLE, str(folder / "x.feather"))
    with pa.ipc.new_stream(folder / "x.arrows", TABLE.schema) as writer:
        writer.write_table(TABLE)
    pa.csv.write_csv(TABLE, folder / "x.csv")
    (folder / "x.csv.gz").write_bytes(gzip.compress((folder / "x.csv").read_bytes()))
    return {path.name: path for path in sorted(folder.iterdir())}


def rows_of(source: str, **settings: object) -> list[tuple[str, float, float]]:
    rows = []
    for samples in read(source, COLUMNS, **settings):
        rows += zip(samples.streams.to_pylist(), samples.t.tolist(), samples.x[:, 0].tolist(), strict=True)
    return rows


def check(rows: list[tuple[str, float, float]]) -> None:
    assert [row[:2] for row in rows] == [("x", 0.0), ("x", 1.0), ("y", 0.5)]
    np.testing.assert_array_equal([row[2] for row in rows], [1.0, np.nan, 3.0])


def test_every_format_is_read_from_a_bucket(s3, tmp_path):
    files = files_of(tmp_path)
    servers.put({f"formats/{name}": path for name, path in files.items()}, s3)
    for name in files:
        check(rows_of(f"s3://data/formats/{name}{s3}"))
    assert len(files) == 5


def test_every_format_is_read_from_the_web(web, tmp_path):
    pytest.importorskip("fsspec")
    for name in files_of(tmp_path):
        check(rows_of(f"{web[0]}/{name}{SIGNED}"))


def test_a_folder_a_glob_and_partitions_of_a_bucket(s3, tmp_path):
    pa.parquet.write_table(TABLE.drop_columns("s"), tmp_path / "x.parquet")
    keys = ["h/s=x/1.parquet", "h/s=y/1.parquet", "h/_tmp/1.parquet", "h/s=y/.1.parquet", "h/s=y/note.md"]
    servers.put(dict.fromkeys(keys, tmp_path / "x.parquet"), s3)
    found = find_recordings(f"s3://data/h/{s3}")
    assert [str(one.path) for one in found] == ["s3://data/h/s=x/1.parquet", "s3://data/h/s=y/1.parquet"]
    assert [one.stream for one in found] == ["s=x/1.parquet", "s=y/1.parquet"]
    assert [one.partitions for one in found] == [{"s": "x"}, {"s": "y"}]
    assert find_recordings(f"s3://data/h/s=*/1.par?uet{s3}") == find_recordings(f"s3://data/**/s=[xy]/*.parquet{s3}")
    assert len(find_recordings(f"s3://data/h/s=[!x]/*.parquet{s3}")) == 1
    assert [row[0] for row in rows_of(f"s3://data/h{s3}")] == ["x", "x", "x", "y", "y", "y"]


def test_row_groups_that_a_filter_excludes_are_not_fetched(web, tmp_path):
    pytest.importorskip("fsspec")
    rows = 200_000
    table = pa.table({"s": ["x"] * rows, "t": np.arange(rows) / 8, "a": np.random.default_rng(0).normal(size=rows)})
    pa.parquet.write_table(table, tmp_path / "big.parquet", row_group_size=rows // 40)
    size = (tmp_path / "big.parquet").stat().st_size
    assert len(rows_of(f"{web[0]}/big.parquet", filters=[("t", "<", 100.0)])) == 800
    spans = [asked.removeprefix("GET bytes=").split("-") for asked in web[1] if "bytes=" in asked]
    assert spans
    assert sum(int(last) - int(first) + 1 for first, last in spans) < size / 4
    assert "GET all" not in web[1]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://key:secret@b/a/x.csv?region=eu-west-1", "s3://b/a/x.csv"),
        ("s3://b/a/*.cs?", "s3://b/a/*.cs?"),
        ("https://h/a/x.csv" + SIGNED, "https://h/a/x.csv"),
        ("https://user:secret@h:81/a/x.csv", "https://h:81/a/x.csv"),
        ("abfs://box:secret@account.dfs.core.windows.net/x.csv", "abfs://box@account.dfs.core.windows.net/x.csv"),
    ],
)
def test_a_place_is_named_without_secrets_and_keeps_its_url(url, name):
    place = Place(url)
    assert (str(place), shown(url), place.url) == (name, name, url)
    assert "secret" not in repr(place)
    assert place.name == name.rsplit("/", 1)[1]
    assert place.with_name("y.csv").url == url.replace(place.name, "y.csv")


def test_paths_drives_and_file_urls_are_paths(tmp_path):
    assert not is_url(r"C:\data\x.csv")
    assert as_path("a/x.csv") == Path("a/x.csv")
    assert as_path((tmp_path / "a b.csv").as_uri()) == tmp_path / "a b.csv"
    write = tmp_path / "x.csv"
    pa.csv.write_csv(TABLE, write)
    check(rows_of(write.as_uri()))


def test_patterns():
    root = f"memory://{uuid.uuid4().hex}"
    fsspec = pytest.importorskip("fsspec")
    for key in ("a.csv", "b/a.csv", "b/c/a.csv", "b/c/a+b.csv", "b/[a].csv"):
        fsspec.filesystem("memory").pipe(f"{root}/{key}", b"s,t,a\nx,0,1\n")

    def keys(pattern: str) -> list[str]:
        return [str(place).removeprefix(f"{root}/") for place in expand(Place(f"{root}/{pattern}"))]

    assert keys("*.csv") == ["a.csv"]
    assert keys("**/a.csv") == ["a.csv", "b/a.csv", "b/c/a.csv"]
    assert keys("b/**") == ["b/[a].csv", "b/a.csv", "b/c/a+b.csv", "b/c/a.csv"]
    assert keys("b/*/a+?.csv") == ["b/c/a+b.csv"]
    assert not has_magic(Place("https://h/[a]*.csv"))
    assert rows_of(f"{root}/b/c/a.csv") == [("x", 0.0, 1.0)]
    assert hive_partitions(Place("s3://data/day=3/a%20b=c/x.csv")) == {"day": "3", "a b": "c"}


def test_what_is_not_there_is_named(s3, web, tmp_path):
    with pytest.raises(DataError, match=r"s3://data/none\.csv: there is no such file or folder"):
        rows_of(f"s3://data/none.csv{s3}")
    with pytest.raises(DataError, match=r"s3://nobody/x\.csv: there is no bucket 'nobody'.*check the name"):
        rows_of(f"s3://nobody/x.csv{s3}")
    with pytest.raises(DataError, match="the pattern matches no file"):
        rows_of(f"s3://data/none/*.csv{s3}")
    with pytest.raises(DataError, match=r"Unexpected query parameter in S3 URI: 'endpoint'.*correct the URL"):
        rows_of("s3://data/x.csv?endpoint=here")
    with pytest.raises(DataError, match="xyz:// is not a known kind of place; use one of s3://"):
        rows_of("xyz://data/x.csv")
    with pytest.raises(DataError, match="web server has no such file") as caught:
        rows_of(f"{web[0]}/none.csv{SIGNED}")
    assert "topsecret" not in str(caught.value)
    with pytest.raises(DataError, match=r"access is denied; check the credentials .*status 403") as caught:
        rows_of(f"{web[0]}/denied.csv{SIGNED}")
    assert "topsecret" not in str(caught.value)
    pa.csv.write_csv(TABLE, tmp_path / "x.csv")
    with pytest.raises(DataError, match=r"x\.csv: has no column 'a2'.*it has: s, t, a"):
        list(read(f"{web[0]}/x.csv{SIGNED}", Columns(channels=("a2",), stream="s")))
    address = f"{web[0]}/x.csv"
    with pytest.raises(DataError, match="2 URLs differ in their queries alone"):
        find_recordings([f"{address}?id=1", f"{address}?id=2"])


def test_a_server_that_is_not_there_is_named(tmp_path):
    pytest.importorskip("fsspec")
    with servers.web_server(tmp_path) as (address, _):
        pass
    with pytest.raises(DataError, match="cannot be reached; check the network"):
        rows_of(f"{address}/x.csv")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("When listing: AWS Error NO_SUCH_BUCKET during ListObjectsV2 (Request ID: 7B8)", r"bucket.*ListObjectsV2\)$"),
        ("AWS Error ACCESS_DENIED during HeadObject operation: No response body.", "access is denied; check the cred"),
        ("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7", "cannot be reached; check the net"),
        ("AWS Error SLOW_DOWN during PutObject operation: please", "the store is too busy; run again later"),
        ("403, message='Forbidden', url='https://h/x.csv?sig=topsecret'", r"url='https://h/x\.csv'"),
    ],
)
def test_errors_of_stores_have_a_remedy_and_no_secret(text, match):
    error = OSError(text)
    import re

    assert re.search(match, explain(error, remote=True))
    assert "topsecret" not in explain(error, remote=True)


def test_no_error_about_data_has_a_secret():
    error = DataError("s3://k:topsecret@b/*.cs?: no; https://h/x?topsecret: none", path="https://h/x.csv?sig=topsecret")
    assert str(error) == "s3://b/*.cs?: no; https://h/x none"
    assert error.path == "https://h/x.csv"
