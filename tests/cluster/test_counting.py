"""Metrics of the partitions of a worker, as a scraper gets them."""

from __future__ import annotations

import pytest
from brokers import strict_kafka

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

from services import samples
from shared_runs import SharedRun, Working, eventually, in_loop, rows_of

from streamrde.runtime.exposition import Exposition


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with strict_kafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


def shown(worker):
    exposition = Exposition(worker.metrics, connections=worker.connections, refresh=worker.count, group=worker.group)
    return samples(exposition.text().decode())


@in_loop
async def test_each_partition_has_its_lag_state_and_commits(broker, tmp_path):
    run = SharedRun(broker.url, tmp_path, partitions=2)
    run.send(rows_of(10, 10), partition=1)
    async with Working(run) as working:
        await working.running(2)
        await eventually(lambda: sum(run.positions()) == 100)
        await working.until(lambda worker: worker.metrics.checkpoints or worker.count())
        found = shown(working.worker)
        place = f"1/{run.source}"
        assert found["streamrde_partitions"] == 2
        assert found["streamrde_rebalances_total"] >= 1
        assert found[f"streamrde_partition_streams/{place}"] == 10
        assert found[f"streamrde_partition_rows_total/{place}"] == 100
        assert found[f"streamrde_partition_rows_total/0/{run.source}"] == 0
        assert found[f"streamrde_partition_commits_total/{place}"] >= 1
        assert found[f"streamrde_partition_commit_seconds_count/{place}"] >= 1
        assert found[f"streamrde_partition_lag_messages/{place}"] == 0
        assert found[f"streamrde_partition_restoring/{place}"] == 0
        size = found[f"streamrde_partition_state_bytes/{place}"]
        assert size > 10 * 100
    async with Working(run) as working:
        await working.running(2)
        found = shown(working.worker)
        assert found[f"streamrde_partition_streams/{place}"] == 10
        assert found[f"streamrde_partition_state_bytes/{place}"] == size
        assert found[f"streamrde_partition_restore_bytes/{place}"] > size
        assert found[f"streamrde_partition_restore_seconds/{place}"] > 0
    assert shown(working.worker)["streamrde_partitions"] == 0


@in_loop
async def test_aborted_transactions_lost_messages_and_strays_are_counted(broker, tmp_path):
    run = SharedRun(broker.url, tmp_path, partitions=2)
    run.send(rows_of(4, 10), partition=0)
    async with Working(run) as working:
        await working.running(2)
        await eventually(lambda: sum(run.positions()) == 40)
    run.send(rows_of(4, 10, begin=10), partition=0)
    broker.retain(run.source, 60)
    broker.fault("error", "TxnOffsetCommit", code="ILLEGAL_GENERATION", where={"group_id": run.group})
    async with Working(run) as working:
        await working.running(2)
        await eventually(lambda: sum(run.positions()) == 80)
        run.send(rows_of(1, 1, begin=30), partition=1)
        await eventually(lambda: sum(run.positions()) == 81)
        found = shown(working.worker)
    assert sum(found[f"streamrde_partition_aborts_total/{number}/{run.source}"] for number in range(2)) == 1
    assert found[f"streamrde_partition_lost_total/0/{run.source}"] == 20
    assert found[f"streamrde_partition_twice_total/1/{run.source}"] == 1
    assert found["streamrde_connection_lost_total/source"] == 20
