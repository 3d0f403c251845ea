"""`streamrde state` between two runs: what the second predicts is what one run that nobody stopped predicts."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from brokers import strict_kafka

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

from confluent_kafka import Producer
from confluent_kafka.cimpl import NewPartitions
from shared_runs import BUNDLE, SharedRun, Working, eventually, expected, in_loop, rows_of

from streamrde.cluster import placing
from streamrde.cluster.contents import ChangelogContents
from streamrde.cluster.moving import move
from streamrde.cluster.naming import place_of_run
from streamrde.cluster.rehashing import rehash
from streamrde.cluster.thinning import thin
from streamrde.config import RunConfig
from streamrde.errors import StateError
from streamrde.settings import convert
from streamrde.state import SqliteStore

ROWS = rows_of(30, 24)
HALF = len(ROWS) // 2


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with strict_kafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


def place_of(run):
    config = run.config()
    return place_of_run(config.source, config.state, config="run.toml")


async def work(run, partitions, read):
    """Let a worker work until so many messages are read."""
    async with Working(run) as working:
        await working.running(partitions)
        await eventually(lambda: sum(run.positions()) == read)


def grow(run, partitions):
    run.admin.create_partitions([NewPartitions(run.source, partitions)])[run.source].result(10)
    run.partitions = partitions


@pytest.mark.parametrize("cached", [False, True])
@in_loop
async def test_a_rehash_between_two_runs_changes_no_prediction(broker, tmp_path, cached):
    run = SharedRun(broker.url, tmp_path, state={"cache": f"{tmp_path}/copies"} if cached else {})
    run.send(ROWS[:HALF])
    await work(run, 4, HALF)
    grow(run, 8)
    run.send(ROWS[HALF:])
    with pytest.raises(StateError, match="streamrde state rehash"):
        await work(run, 8, len(ROWS))
    assert rehash(place_of(run)).moved > 0
    more = rows_of(30, 6, begin=24)
    for part, read in ((), len(ROWS)), (more, len(ROWS + more)):
        run.send(part)
        await work(run, 8, read)
    assert run.predictions() == expected(ROWS + more)
    contents = ChangelogContents(place_of(run))
    assert (len(contents), contents.twice()) == (30, [])


@in_loop
async def test_unread_messages_are_drained_before_their_streams_move(broker, tmp_path):
    run = SharedRun(broker.url, tmp_path)
    run.send(ROWS[: HALF // 2])
    await work(run, 4, HALF // 2)
    run.send(ROWS[HALF // 2 : HALF])
    grow(run, 8)
    run.send(ROWS[HALF:])
    with pytest.raises(StateError, match=r"work them off first with  streamrde run run\.toml --drain"):
        rehash(place_of(run))
    old = sum(high for number, high in ends(run).items() if number < 4)
    await asyncio.wait_for(run.config().worker(BUNDLE, until_end=True).run(), 30)
    assert sum(position for position in run.positions() if position >= 0) == old
    assert rehash(place_of(run)).moved > 0
    await work(run, 8, len(ROWS))
    assert run.predictions() == expected(ROWS)


@in_loop
async def test_a_drain_ends_where_the_last_offset_is_no_message(broker, tmp_path):
    run = SharedRun(broker.url, tmp_path, partitions=2)
    producer = Producer(run.client | {"transactional.id": run.group + "-sensors"})
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce(run.source, b'{"t": 1, "a": 0, "b": 0}', key="s0")
    producer.commit_transaction(10)
    await asyncio.wait_for(run.config().worker(BUNDLE, until_end=True).run(), 30)
    assert sorted(ends(run).values()) == [0, 2]
    assert sorted(run.positions()) == [0, 1]


def ends(run):
    """The offset after the last message of each partition."""
    return {lag.partition: lag.high for lag in placing.lags(place_of(run))}


@contextlib.asynccontextmanager
async def alone(run, path):
    """A run of its own, with a file."""
    config = convert(run.tables | {"state": {"path": f"{path}", "checkpoint_seconds": 0.05}}, RunConfig)
    pipeline = config.build(BUNDLE)
    task = asyncio.create_task(pipeline.run())
    yield
    pipeline.stop()
    await task
    pipeline.close()


@in_loop
async def test_a_run_goes_on_in_kafka_and_back_in_sqlite(broker, tmp_path):
    run, path = SharedRun(broker.url, tmp_path), tmp_path / "state.db"
    third = len(ROWS) // 3
    run.send(ROWS[:third])
    async with alone(run, path):
        await eventually(lambda: sum(run.positions()) == third)
    store = SqliteStore(path)
    store.open(run.config().identity(BUNDLE.fingerprint))
    assert move(store, place_of(run)).streams == 30
    run.send(ROWS[third : 2 * third])
    await work(run, 4, 2 * third)
    assert move(place_of(run), path).streams == 30
    with pytest.raises(StateError, match="has moved its streams away"):
        await work(run, 4, 2 * third)
    run.send(ROWS[2 * third :])
    async with alone(run, path):
        await eventually(lambda: sum(run.positions()) == len(ROWS))
    assert run.predictions() == expected(ROWS)


@in_loop
async def test_a_state_that_was_thinned_begins_the_deleted_streams_anew(broker, tmp_path):
    run = SharedRun(broker.url, tmp_path)
    run.send(ROWS[:HALF])
    await work(run, 4, HALF)
    assert thin(place_of(run), before=2e9).streams == 30
    assert len(ChangelogContents(place_of(run))) == 0
    run.send(ROWS[HALF:])
    await work(run, 4, len(ROWS))
    assert run.predictions() == sorted(expected(ROWS[:HALF]) + expected(ROWS[HALF:]))
