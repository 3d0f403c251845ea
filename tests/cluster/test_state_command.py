"""`streamrde state` from the command line, on changelogs named by a run's file and by an address."""

from __future__ import annotations

import json

import pytest
from brokers import strict_kafka

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

from shared_runs import SharedRun, Working, eventually, in_loop, rows_of

from streamrde import toml
from streamrde.cli import main


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with strict_kafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
def state(monkeypatch, capsys):
    def state(*arguments, status=0):
        monkeypatch.setattr("sys.argv", ["streamrde", "state", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, errors = capsys.readouterr()
        assert (exit_.value.code or 0) == status, errors
        return out if not status else errors

    return state


@in_loop
async def work(run):
    async with Working(run) as working:
        await working.running(4)
        await eventually(lambda: sum(run.positions()) == 200)


@in_loop
async def export_at_work(run, state, file):
    async with Working(run) as working:
        await working.running(4)
        assert json.loads(state("export", file.with_name("run.toml"), "--out", file, "--json"))["streams"] == 20
        errors = state("compact", file.with_name("run.toml"), "--ended", status=1)
        assert "stop all workers first" in errors


def test_a_store_in_kafka_is_named_by_its_run_or_by_its_address(broker, tmp_path, state):
    run = SharedRun(broker.url, tmp_path)
    run.send(rows_of(20, 10))
    work(run)
    config = tmp_path / "run.toml"
    config.write_text(toml.dumps(run.tables))
    address = f"{broker.url}/{run.changelog}"

    found = json.loads(state("list", config, "--json"))
    assert found["store"] == address
    assert found["total"]["streams"] == 20
    assert sum(found["offsets"].values()) == 200
    assert found["twice"] == []
    assert json.loads(state("list", address, "--json")) == found
    assert state("list", address, "--limit", 1).splitlines()[-1].startswith(f"{address}: 20 streams, 0 ended, ")

    export_at_work(run, state, tmp_path / "x.parquet")
    other = {**run.tables, "state": {"kind": "kafka", "topic": "other"}}
    second = tmp_path / "second.toml"
    second.write_text(toml.dumps(other))
    assert json.loads(state("import", tmp_path / "x.parquet", second, "--check", "--json"))["done"] is False
    assert json.loads(state("import", tmp_path / "x.parquet", second, "--json"))["streams"] == 20
    copied = json.loads(state("list", second, "--json"))
    assert sorted(copied["list"], key=str) == sorted(found["list"], key=str)
    assert copied["total"] == found["total"]

    assert "give the run's TOML file, or --input and --group" in state("compact", address, "--ended", status=1)
    named = ("--input", run.source, "--group", run.group)
    assert "0 streams and 0 that ended deleted" in state("compact", address, "--ended", *named)
    out = state("move", address, tmp_path / "back.db", *named)
    assert "20 streams and 0 that ended moved" in out
    assert "delete both topics once the run on SQLite works" in out
    assert "has moved the streams away" in state("rehash", config, status=1)
