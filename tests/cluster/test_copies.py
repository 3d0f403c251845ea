"""Local copies of a partition's state save a restore, and are never believed when they may be wrong."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator

import pytest
from brokers import strict_kafka

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

from kafka_server.handle import StrictKafka
from shared_runs import SharedRun, Working, eventually, expected, in_loop, rows_of


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StrictKafka]:
    with strict_kafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
def run(broker, tmp_path) -> SharedRun:
    return SharedRun(broker.url, tmp_path, partitions=2, state={"cache": f"{tmp_path / 'copies'}"})


ROWS = rows_of(20, 60)


async def work(run: SharedRun, begin: int, end: int, **tables) -> list[bool]:
    """Let a worker take these rows, and return for each partition if its copy was used."""
    run.send(ROWS[begin:end])
    async with Working(run, **tables) as one:
        await one.running(2)
        await asyncio.to_thread(run.predictions, len(expected(ROWS[:end])))
        await eventually(lambda: sum(run.positions()) == end)
        return [part.store.restored.copied for part in one.worker.partitions.values()]


def check(run: SharedRun) -> None:
    assert run.predictions() == expected(ROWS)


@in_loop
async def test_a_copy_is_used_and_only_the_rest_is_read(broker, run):
    assert await work(run, 0, 400) == [False, False]
    assert await work(run, 400, 800) == [True, True]
    # Somebody without the copies goes on in between.
    assert await work(run, 800, 1000, state={"cache": None}) == [False, False]
    assert await work(run, 1000, len(ROWS)) == [True, True]
    check(run)


@in_loop
async def test_a_copy_whose_last_record_was_compacted_away_is_not_used(broker, run):
    await work(run, 0, 400)
    await work(run, 400, 800, state={"cache": None})
    assert broker.compact(run.changelog, tombstones=False)
    assert await work(run, 800, len(ROWS)) == [False, False]
    check(run)


@in_loop
async def test_a_copy_of_a_changelog_that_was_made_again_is_not_used(broker, run):
    await work(run, 0, 400)
    for folder in [run.tables["state"]["cache"]]:
        for number in range(2):
            with sqlite3.connect(f"{folder}/{run.changelog}-{number}.db") as database:
                database.execute("UPDATE positions SET data = ? WHERE name = 'source'", (b'{"offset":1,"token":"x"}',))
            database.close()
    assert await work(run, 400, len(ROWS)) == [False, False]
    check(run)


@in_loop
async def test_a_damaged_copy_is_made_again(broker, run, tmp_path):
    await work(run, 0, 400)
    for path in (tmp_path / "copies").glob("*.db"):
        path.write_bytes(b"SQLite format 3\0" + bytes(5000))
    assert await work(run, 400, 800) == [False, False]
    assert await work(run, 800, len(ROWS)) == [True, True]
    check(run)


@in_loop
async def test_a_copy_that_another_worker_has_open_is_left_to_it(broker, run, tmp_path):
    await work(run, 0, 400)
    held = [sqlite3.connect(path, isolation_level=None) for path in (tmp_path / "copies").glob("*.db")]
    for database in held:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
    assert await work(run, 400, 800) == [False, False]
    for database in held:
        database.close()
    assert await work(run, 800, len(ROWS)) == [True, True]
    check(run)


@in_loop
async def test_a_copy_that_cannot_be_written_is_done_without(broker, run, tmp_path, caplog):
    (tmp_path / "copies").write_text("a file is in the way")
    assert await work(run, 0, len(ROWS)) == [False, False]
    assert "no copy is kept" in caplog.text
    check(run)
