"""The law of a cluster: the predictions are those of one fleet that nobody disturbed, bit for bit, each once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest
from brokers import strict_kafka

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

from kafka_server.handle import StrictKafka
from shared_runs import SharedRun, Working, eventually, expected, in_loop, rows_of

ROWS = rows_of(40, 200)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StrictKafka]:
    with strict_kafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


class Disturber:
    """Do what happens to clusters, in an order that a seed decides.

    Args:
        broker: where it happens.
        run: whose workers are started, stopped, dropped and cut off.
        seed: of the order.
    """

    def __init__(self, broker: StrictKafka, run: SharedRun, seed: int) -> None:
        self.broker, self.run = broker, run
        self.random = random.Random(seed)
        self.workers: list[Working] = []

    async def start(self) -> None:
        """Start a worker."""
        if len(self.workers) < 3:
            worker = Working(self.run)
            await worker.__aenter__()
            self.workers.append(worker)

    async def stop(self) -> None:
        """Stop a worker in order."""
        if len(self.workers) > 1:
            await self.workers.pop(self.random.randrange(len(self.workers))).__aexit__(None, None, None)

    async def drop(self) -> None:
        """Let the group forget its members."""
        self.broker.expire_members(self.run.group)

    async def time_out(self) -> None:
        """Let the broker end a transaction."""
        self.broker.expire_transactions(f"{self.run.group}-{self.run.source}-{self.random.randrange(4)}")

    async def cut(self) -> None:
        """Cut all connections."""
        self.broker.close_connections()

    async def lose_an_answer(self) -> None:
        """Apply requests, and cut the connections instead of an answer."""
        api = self.random.choice(["EndTxn", "Produce", "TxnOffsetCommit", "AddPartitionsToTxn"])
        self.broker.fault("cut_after", api, count=2)

    async def refuse(self) -> None:
        """Answer with an error that goes away."""
        api, code = self.random.choice(
            [
                ("TxnOffsetCommit", "ILLEGAL_GENERATION"),
                ("TxnOffsetCommit", "COORDINATOR_LOAD_IN_PROGRESS"),
                ("EndTxn", "COORDINATOR_NOT_AVAILABLE"),
                ("Produce", "NOT_LEADER_OR_FOLLOWER"),
                ("InitProducerId", "CONCURRENT_TRANSACTIONS"),
            ]
        )
        self.broker.fault("error", api, count=2, code=code)

    async def disturb(self) -> None:
        """Do one of these."""
        await self.random.choice(
            [self.start, self.stop, self.drop, self.time_out, self.cut, self.lose_an_answer, self.refuse]
        )()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@in_loop
async def test_whatever_happens_every_prediction_comes_once_and_is_that_of_a_fleet(broker, tmp_path, seed):
    run = SharedRun(broker.url, tmp_path)
    disturber = Disturber(broker, run, seed)
    await disturber.start()
    for begin in range(0, len(ROWS), 400):
        run.send(ROWS[begin : begin + 400])
        await disturber.disturb()
        await asyncio.sleep(disturber.random.uniform(0, 0.6))
    broker.clear()
    await eventually(lambda: sum(run.positions()) == len(ROWS), seconds=40)
    for worker in disturber.workers:
        await worker.__aexit__(None, None, None)
    assert run.predictions() == expected(ROWS)
