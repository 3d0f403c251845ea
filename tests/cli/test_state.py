"""`streamrde state` on files of SQLite: what it lists, what it carries over, and what it refuses."""

from __future__ import annotations

import contextlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

import streamrde as sr
from streamrde.cli import main
from streamrde.cli.state import app
from streamrde.errors import StateError
from streamrde.state import Checkpoint, SqliteStore
from streamrde.state.portable import PortableFile, write_portable

IDENTITY = {"model": "0123456789abcdef", "source.time_unit": "s"}
DAY = 86400.0
NOW = 1_700_000_000.0


def snapshot(number):
    accumulator = sr.LogSignature(2, 2)
    accumulator.push([0.0, number])
    return accumulator.snapshot()


@pytest.fixture
def store(tmp_path):
    """A file with two streams that run and one that ended, saved on three days."""
    path = tmp_path / "state.db"
    kept = SqliteStore(path)
    kept.open(IDENTITY)
    kept.commit(Checkpoint(snapshots={"a/1": snapshot(1), "b": snapshot(9)}, windows={"b": 3}, saved=NOW - 2 * DAY))
    kept.commit(Checkpoint(ended=["b"], windows={"b": 7}, saved=NOW - DAY))
    kept.commit(
        Checkpoint(snapshots={"a/2": snapshot(2)}, windows={"a/2": 5}, positions={"models before": b"[]"}, saved=NOW)
    )
    kept.close()
    return path


def call(monkeypatch, capsys, *arguments):
    """Exit status, output and errors of the command as the shell would see them."""
    monkeypatch.setattr("sys.argv", ["streamrde", "state", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        main()
    return exit_.value.code or 0, *capsys.readouterr()


@pytest.fixture
def ask(monkeypatch, capsys):
    def ask(*arguments):
        status, out, errors = call(monkeypatch, capsys, *arguments, "--json")
        assert status == 0, errors
        return json.loads(out)

    return ask


@pytest.fixture
def refused(monkeypatch, capsys):
    def refused(*arguments):
        status, _, errors = call(monkeypatch, capsys, *arguments)
        assert status == 1
        return errors

    return refused


def everything(path):
    kept = SqliteStore(path)
    kept.open(IDENTITY)
    found = kept.head(), {record.name: record for record in kept.records()}
    kept.close()
    return found


def export(path, file, streams=3):
    with contextlib.closing(SqliteStore(path)) as kept:
        kept.open(IDENTITY)
        write_portable(file, kept, streams)
    return file


def test_list_has_every_stream_and_the_sum(ask, store):
    found = ask("list", store)
    assert [(one["stream"], one["window"], one["ended"]) for one in found["list"]] == [
        ("a/1", None, False), ("b", 7, True), ("a/2", 5, False),
    ]  # fmt: skip
    assert found["list"][0]["saved"] == "2023-11-12T22:13:20+00:00"
    assert found["list"][0]["bytes"] == len(snapshot(1))
    assert found["list"][0]["model"] == "0123456789ab"
    assert found["total"] == {"streams": 2, "ended": 1, "bytes": 2 * len(snapshot(1))}
    assert found["identity"] == IDENTITY


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--stream", "a/*"], ["a/1", "a/2"]),
        (["--ended"], ["b"]),
        (["--running"], ["a/1", "a/2"]),
        (["--older-than", "1d", "--stream", "a*"], ["a/1", "a/2"]),
        (["--older-than", "36500d"], []),
    ],
)
def test_list_filters(ask, store, options, names):
    found = ask("list", store, *options)
    assert [one["stream"] for one in found["list"]] == names
    assert found["total"]["streams"] + found["total"]["ended"] == len(names)


def test_list_for_people(monkeypatch, capsys, store):
    status, out, _ = call(monkeypatch, capsys, "list", store, "--limit", 1)
    assert status == 0
    header, row, more, total = out.splitlines()
    assert header.split() == ["stream", "bytes", "saved", "ended", "model"]
    assert row.startswith("a/1")
    assert more == "and 2 more"
    assert total == f"{store}: 2 streams, 1 ended, {2 * len(snapshot(1))} bytes"


def test_a_run_file_names_its_store(ask, store, tmp_path):
    config = tmp_path / "run.toml"
    config.write_text(
        f'model = "m"\n[source]\nkind = "mqtt"\nurl = "mqtt://h"\ntopic = "a/{{stream}}"\n'
        f'[sink]\nkind = "arrow"\npath = "p"\n[state]\npath = "{store}"\n'
    )
    assert ask("list", config)["store"] == str(store)


@pytest.mark.parametrize("name", ["state.arrow", "state.parquet"])
def test_an_export_that_is_imported_is_the_same_store(ask, store, tmp_path, name):
    file, again = tmp_path / name, tmp_path / "again.db"
    assert ask("export", store, "--out", file)["streams"] == 3
    report = ask("import", file, again)
    assert (report["streams"], report["ended"], report["done"]) == (2, 1, True)
    assert everything(again) == everything(store)
    table = pq.read_table(file) if name.endswith("parquet") else pa.ipc.open_file(str(file)).read_all()
    assert table["stream"].to_pylist() == ["a/1", "b", "a/2"]


def test_an_imported_store_goes_on(store, tmp_path, ask):
    ask("export", store, "--out", tmp_path / "x")
    ask("import", tmp_path / "x", tmp_path / "again.db")
    kept = SqliteStore(tmp_path / "again.db")
    kept.open(IDENTITY)
    kept.commit(Checkpoint(snapshots={"b": snapshot(3), "new": snapshot(4)}, windows={"b": 8}, saved=NOW))
    assert kept.read(["a/1", "b", "new"]) == {"a/1": snapshot(1), "b": snapshot(3), "new": snapshot(4)}
    assert kept.last_window("b") == 8
    kept.close()


def test_a_check_changes_nothing(ask, store, tmp_path):
    ask("export", store, "--out", tmp_path / "x")
    report = ask("import", tmp_path / "x", tmp_path / "again.db", "--check")
    assert (report["streams"], report["done"]) == (2, False)
    assert not (tmp_path / "again.db").exists()
    before = everything(store)
    assert ask("compact", store, "--older-than", "1d", "--check")["ended"] == 1
    assert everything(store) == before


def test_compact_deletes_what_is_old_or_ended(ask, store):
    report = ask("compact", store, "--older-than", "1d", "--ended")
    assert (report["streams"], report["ended"]) == (0, 1)
    assert everything(store)[1].keys() == {"a/1", "a/2"}
    assert ask("compact", store)["streams"] == 0
    assert ask("compact", store, "--older-than", "1d")["streams"] == 2
    assert everything(store)[1] == {}


def test_compact_gives_room_back(ask, tmp_path):
    path = tmp_path / "big.db"
    kept = SqliteStore(path)
    kept.open(IDENTITY)
    kept.commit(Checkpoint(snapshots={f"s{i}": bytes(5000) for i in range(100)}, saved=NOW))
    kept.close()
    size = path.stat().st_size
    ask("compact", path, "--older-than", "1d")
    assert path.stat().st_size < size / 5


def test_what_cannot_be_is_refused_with_its_remedy(refused, store, tmp_path):
    assert "there is no state store" in refused("list", tmp_path / "none.db")
    (tmp_path / "empty.db").touch()
    assert "there is no state store" in refused("list", tmp_path / "empty.db")
    (tmp_path / "text.db").write_text("this is no database at all" * 100)
    assert "it is not a state store" in refused("list", tmp_path / "text.db")
    assert "is there already: give another path, or --force" in refused("export", store, "--out", store)
    assert "is there already: move it away" in refused("import", export(store, tmp_path / "x.arrow"), store)
    assert "move goes from a file of SQLite to Kafka or back" in refused("move", store, tmp_path / "b.db")
    assert "which has no partitions" in refused("rehash", store)
    assert "--seek is for a store in Kafka" in refused("import", tmp_path / "x.arrow", tmp_path / "b.db", "--seek")
    assert "--older-than" in refused("list", store, "--older-than", "soon")
    assert "names no changelog" in refused("list", "kafka://127.0.0.1:9")
    assert "use murmur2, crc32, fnv1a" in refused("import", tmp_path / "x.arrow", "kafka://h/x", "--partitioner", "md5")


def test_a_store_in_use_is_refused(refused, store):
    kept = SqliteStore(store)
    kept.open(IDENTITY)
    assert "another run has it open" in refused("list", store)
    assert "another run has it open" in refused("compact", store)
    kept.close()


@pytest.mark.parametrize("name", ["x.arrow", "x.parquet"])
def test_a_damaged_export_is_refused_whole(store, tmp_path, refused, name):
    export(store, tmp_path / name)
    with pytest.raises(StateError, match="changed while it was read"):
        export(store, tmp_path / name, 4)
    whole = (tmp_path / name).read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / name).write_bytes(whole[:cut])
        assert f"{tmp_path / name} cannot be read" in refused("import", tmp_path / name, tmp_path / "again.db")
        assert not (tmp_path / "again.db").exists()


def test_an_export_with_a_damaged_snapshot_is_refused(tmp_path, refused):
    kept = SqliteStore(tmp_path / "a.db")
    kept.open(IDENTITY)
    kept.commit(Checkpoint(snapshots={"a": snapshot(1)[:-1] + b"x"}, saved=NOW))
    kept.close()
    export(tmp_path / "a.db", tmp_path / "a.arrow", 1)
    assert "stream 'a': the snapshot is damaged" in refused("import", tmp_path / "a.arrow", tmp_path / "again.db")
    assert [*tmp_path.glob(".again*")] == []


def test_another_table_or_version_is_no_export(tmp_path, store):
    pq.write_table(pa.table({"stream": ["a"]}), tmp_path / "t.parquet")
    with pytest.raises(StateError, match="no export of a state store"):
        PortableFile(tmp_path / "t.parquet")
    file = export(store, tmp_path / "x.arrow")
    table = pa.ipc.open_file(str(file)).read_all()
    text = table.schema.metadata[b"streamrde.state"].replace(b'"format":1', b'"format":2')
    other = table.replace_schema_metadata({b"streamrde.state": text})
    pq.write_table(other, tmp_path / "other.parquet")
    with pytest.raises(StateError, match="has format 2, and this streamrde reads 1"):
        PortableFile(tmp_path / "other.parquet")
    pq.write_table(table.slice(1), tmp_path / "less.parquet")
    with pytest.raises(StateError, match="has 2 streams of 3"):
        list(PortableFile(tmp_path / "less.parquet").records())


def test_every_command_has_help_an_example_and_its_line_in_the_documentation():
    from test_documents import ROOT

    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    for name, command in typer.main.get_command(app).commands.items():
        assert f"Example: `streamrde state {name}" in command.help
        assert f"`streamrde state {name}`" in page, name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"
            flag = max(parameter.opts, key=len)
            assert flag == "--json" or not flag.startswith("--") or flag in page, f"{name} {flag}"
