"""Traps of a cluster, each at a broker that keeps Kafka's rules: nothing is lost, and nothing comes twice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from brokers import strict_kafka
from bundles import make_bundle

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

from confluent_kafka import Producer
from kafka_server.handle import StrictKafka
from shared_runs import SharedRun, Working, eventually, expected, in_loop, rows_of

from streamrde.cluster.member import Member
from streamrde.connectors.codecs import decode_prediction
from streamrde.errors import BrokerError, StateError


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StrictKafka]:
    with strict_kafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture(autouse=True)
def _calm(broker):
    yield
    broker.clear()


@pytest.fixture
def run(broker, tmp_path) -> SharedRun:
    return SharedRun(broker.url, tmp_path)


def windows(predictions):
    """Stream, window and value of each prediction, in order."""
    found = (decode_prediction(payload) for _, payload in predictions)
    return sorted((row["stream"], row["window"], row["value"]) for row in found)


async def finished(run: SharedRun, rows) -> None:
    """Wait for all predictions, then check that they are those of one fleet, each once."""
    wanted = expected(rows)
    await asyncio.to_thread(run.predictions, len(wanted))
    await eventually(lambda: sum(run.positions()) == len(rows))
    assert run.predictions() == wanted


@in_loop
async def test_a_commit_whose_outcome_is_unknown_is_not_repeated(broker, run):
    rows = rows_of(20, 30)
    async with Working(run) as one:
        await one.running(4)
        cut = broker.fault("cut_after", "EndTxn", count=3, where={"transactional_id": f"{run.group}-{run.source}-1"})
        run.send(rows)
        await asyncio.to_thread(broker.await_fault, cut)
        await finished(run, rows)


@in_loop
@pytest.mark.parametrize("api", ["Produce", "AddPartitionsToTxn", "AddOffsetsToTxn", "TxnOffsetCommit", "EndTxn"])
async def test_a_broker_that_goes_away_in_a_transaction_is_waited_for(broker, run, api):
    rows = rows_of(20, 30)
    async with Working(run) as one:
        await one.running(4)
        cut = broker.fault("cut_before", api, count=4)
        run.send(rows[:200])
        await asyncio.to_thread(broker.await_fault, cut)
        run.send(rows[200:])
        await finished(run, rows)


@in_loop
async def test_a_transaction_of_an_old_generation_is_aborted_and_tried_again(broker, run):
    rows = rows_of(20, 30)
    async with Working(run) as one:
        await one.running(4)
        fault = broker.fault("error", "TxnOffsetCommit", count=3, code="ILLEGAL_GENERATION")
        run.send(rows)
        await asyncio.to_thread(broker.await_fault, fault)
        await finished(run, rows)
        assert sum(part.store.transactions.aborted for part in one.worker.partitions.values()) == 3


@in_loop
async def test_a_producer_whose_transaction_timed_out_is_replaced(broker, run):
    rows = rows_of(20, 60)
    async with Working(run) as one:
        await one.running(4)
        run.send(rows[:400])
        await finished(run, rows[:400])
        for number in range(4):
            broker.expire_transactions(f"{run.group}-{run.source}-{number}")
        run.send(rows[400:])
        await finished(run, rows)


@in_loop
async def test_what_comes_before_the_consumer_has_gone_back_is_not_used(broker, run, monkeypatch):
    """A partition whose producer was fenced restores, while the consumer goes on at its old place for a while."""
    begin, begins = Member.begin, []

    def later(self, *order):
        begins.append(order)
        threading.Timer(0.5 if len(begins) > 4 else 0.0, begin, (self, *order)).start()

    monkeypatch.setattr(Member, "begin", later)
    rows = rows_of(20, 60)
    async with Working(run) as one:
        await one.running(4)
        run.send(rows[:400])
        await finished(run, rows[:400])
        for number in range(4):
            fencing = Producer(run.client | {"transactional.id": f"{run.group}-{run.source}-{number}"})
            await asyncio.to_thread(fencing.init_transactions, 10)
        run.send(rows[400:600])
        await one.until(lambda _: len(begins) == 8)
        run.send(rows[600:])
        await finished(run, rows)


@in_loop
async def test_a_worker_that_the_group_dropped_loses_nothing_and_repeats_nothing(broker, run):
    rows = rows_of(20, 60)
    async with Working(run) as one:
        await one.running(4)
        run.send(rows[:400])
        await finished(run, rows[:400])
        broker.expire_members(run.group)
        run.send(rows[400:])
        await finished(run, rows)
        await one.running(4)


@in_loop
async def test_a_worker_that_does_not_know_that_it_lost_its_partitions_is_shut_out(broker, run):
    rows = rows_of(20, 60)
    async with Working(run, options={"client.id": "zombie"}) as zombie:
        await zombie.running(4)
        run.send(rows[:400])
        await finished(run, rows[:400])
        # It hears nothing of the group any more, and goes on.
        for api in ("Heartbeat", "JoinGroup"):
            broker.fault("silence_before", api, count=None, client="zombie")
        async with Working(run, options={"client.id": "heir"}) as heir:
            await heir.running(4)
            run.send(rows[400:])
            await finished(run, rows)


@in_loop
async def test_a_rebalance_during_a_restore_breaks_it_off(broker, run):
    rows = rows_of(40, 40)
    async with Working(run) as one:
        await one.running(4)
        run.send(rows[:800])
        await finished(run, rows[:800])
    broker.fault("delay", "Fetch", count=None, where={"topic": run.changelog}, seconds=0.5)
    async with Working(run) as one:
        await one.until(lambda worker: len(worker.partitions) == 4)
        async with Working(run) as two:
            await two.until(lambda worker: len(worker.partitions) == 2)
            assert broker.faults()
            await two.running(2)
            await one.running(2)
            run.send(rows[800:])
            await finished(run, rows)


@in_loop
async def test_a_restore_may_take_longer_than_the_poll_interval(broker, run):
    rows = rows_of(40, 40)
    async with Working(run) as one:
        await one.running(4)
        run.send(rows[:800])
        await finished(run, rows[:800])
    broker.fault("delay", "Fetch", count=3, where={"topic": run.changelog}, seconds=3.0)
    async with Working(run, options={"max.poll.interval.ms": 2000}) as one:
        await one.running(4)
        generation = broker.groups()[run.group]["generation"]
        run.send(rows[800:])
        await finished(run, rows)
        assert broker.groups()[run.group]["generation"] == generation
        assert one.worker.rebalances == 1


@in_loop
async def test_a_partition_count_that_changed_is_refused_with_the_command(broker, run):
    async with Working(run) as one:
        await one.running(4)
    from confluent_kafka.cimpl import NewPartitions

    run.admin.create_partitions([NewPartitions(run.source, 6)])[run.source].result(10)
    with pytest.raises(StateError, match=r"has 4 partitions, and its input .* has 6: .* streamrde state rehash"):
        async with Working(run) as one:
            await one.running(4)


@in_loop
async def test_partitions_that_are_added_while_workers_run_end_them(broker, run):
    from confluent_kafka.cimpl import NewPartitions

    one = Working(run, source={"discover": 0.2})
    task = asyncio.create_task(one.worker.run())
    await eventually(lambda: run.group in broker.groups() and broker.groups()[run.group]["members"])
    run.admin.create_partitions([NewPartitions(run.source, 6)])[run.source].result(10)
    with pytest.raises(StateError, match="streamrde state rehash"):
        await task


@in_loop
async def test_messages_deleted_before_they_were_read_are_counted(broker, run, caplog):
    rows = rows_of(20, 60)
    async with Working(run) as one:
        await one.running(4)
        run.send(rows[:400])
        await finished(run, rows[:400])
    before = run.positions()
    run.send(rows[400:])
    for number, position in enumerate(before):
        broker.retain(run.source, position + 10, partition=number)
    async with Working(run) as one:
        await one.running(4)
        assert sum(part.store.lost for part in one.worker.partitions.values()) == 40
        assert one.worker.connections["source"].lost == 40
        await eventually(lambda: sum(run.positions()) == len(rows))
    assert "10 messages were deleted before they were read, and are lost; keep messages longer" in caplog.text


@in_loop
async def test_idle_partitions_do_not_hold_time_up_and_time_is_each_partition_s_own(broker, run):
    """A partition that nothing comes from has no watermark of its own, and is nobody else's."""
    rows = [row for row in rows_of(8, 30) if row[0] == "s0"]
    other = [("s1", t, x) for _, t, x in rows]
    run.send(rows, partition=0)
    run.send(other[:5], partition=1)
    holding = make_bundle(seed=1, interpolation="hold")
    async with Working(run, bundle=holding, silence={"advance": "watermark", "every": 0.05}) as one:
        await one.running(4)
        # 30 samples 0.2 s apart: five windows closed by samples in partition 0, none by time in partition 1.
        await eventually(lambda: run.positions()[:2] == [30, 5])
        assert [key for key, _ in run.predictions(5)].count("s1") == 0
        run.send([("s2", 3.0, (0.0, 0.0))], partition=1)
        # Time has passed in partition 1, whose other stream sees its windows close without a sample of its own.
        await asyncio.to_thread(run.predictions, 8)
        assert [key for key, _ in run.predictions(8)].count("s1") == 3


@in_loop
async def test_a_model_is_swapped_while_workers_differ(broker, run, caplog):
    """A worker with the old model does not touch what the new one has saved, until it is swapped too."""
    rows = rows_of(20, 60)
    new = make_bundle(seed=2)
    async with Working(run) as old:
        await old.running(4)
        run.send(rows[:400])
        await finished(run, rows[:400])
        async with Working(run) as swapped:
            await old.running(2)
            await swapped.running(2)
            await swapped.worker.swap(new, run.config().identity(new.fingerprint))
            run.send(rows[400:800])
            await eventually(lambda: sum(run.positions()) == 800)
            positions = run.positions()
        # The worker with the new model is gone, and its partitions come to the one with the old model.
        await old.until(lambda worker: sum(one.phase == "failed" for one in worker.partitions.values()) == 2)
        assert any("model was" in text and new.fingerprint in text for text in old.worker.obstacles())
        run.send(rows[800:])
        await asyncio.sleep(0.3)
        untouched = [i for i, (before, now) in enumerate(zip(positions, run.positions(), strict=True)) if before == now]
        assert len(untouched) == 2
        await old.worker.swap(new, run.config().identity(new.fingerprint))
        await old.running(4)
        await eventually(lambda: sum(run.positions()) == len(rows))
    assert [(key, window) for key, window, _ in windows(run.predictions())] == [
        (key, window) for key, window, _ in windows(expected(rows))
    ]


@in_loop
async def test_a_worker_with_another_model_is_refused_unless_it_replaces_the_one_before(broker, run, tmp_path):
    rows = rows_of(20, 40)
    new = make_bundle(seed=2)
    async with Working(run) as one:
        await one.running(4)
        run.send(rows[:400])
        await finished(run, rows[:400])
    run.send(rows[400:])
    async with Working(run, bundle=new) as other:
        await other.until(lambda worker: sum(bool(one.failure) for one in worker.partitions.values()) == 4)
        assert sum(run.positions()) == 400
    async with Working(run, bundle=new, state={"replaces": [f"{run.model}"]}) as other:
        await other.running(4)
        await eventually(lambda: sum(run.positions()) == len(rows))
    # Another restart needs no permission any more.
    async with Working(run, bundle=new) as other:
        await other.running(4)
        assert sum(len(one.pipeline.fleet) for one in other.worker.partitions.values()) == 20


@in_loop
async def test_a_poisoned_stream_does_not_hold_its_partition_up(broker, run):
    """Messages that cannot be read, one of them too long for a letter, and values that no path passes through."""
    rows = rows_of(20, 30)
    run.create(letters := run.sink + "-letters", 1)
    poison = [
        b"",
        b"\xff\x00",
        b"{}",
        b'{"t": 1e308, "a": 1, "b": 2}',
        b'{"t": 0, "a": 1e308, "b": -1e308}',
        b"x" * 900_000,
    ]
    section = {"kind": "kafka", "url": run.tables["source"]["url"], "topic": letters}
    async with Working(run, dead_letters=section) as one:
        await one.running(4)
        run.send(rows[:300])
        for payload in poison:
            run.send_raw(payload, key="poison")
        run.send(rows[300:])
        await eventually(lambda: sum(run.positions()) == len(rows) + len(poison))
    healthy = [(key, value) for key, value in run.predictions(len(expected(rows))) if key != "poison"]
    assert healthy == expected(rows)
    assert len(run.read(letters)) == 4


@in_loop
async def test_a_stream_that_ended_is_a_record_without_a_state_and_goes_with_its_ttl(broker, run):
    async with Working(run, silence={"advance": "watermark", "idle": 2.0, "every": 0.05}) as one:
        await one.running(4)
        run.send([("early", 0.2 * i, (0.1, 0.2)) for i in range(10)], partition=2)
        run.send([("late", 5.0 + 0.2 * i, (0.1, 0.2)) for i in range(10)], partition=2)
        await eventually(
            lambda: {(b"searly", b"")} <= {(one.key, one.value) for one in broker.committed(run.changelog, 2)}
        )
        await eventually(lambda: run.positions()[2] == 20)
    latest = {one.key: one for one in broker.committed(run.changelog, 2)}
    assert latest[b"searly"].headers["window"] == b"1"
    assert latest[b"slate"].value
    async with Working(run) as one:
        await one.running(4)
        assert {name for part in one.worker.partitions.values() for name in part.pipeline.fleet.streams} == {"late"}
    async with Working(run, state={"ttl": 0.001}) as one:
        await one.running(4)
        run.send([("new", 0.2 * i, (0.1, 0.2)) for i in range(10)], partition=2)
        await eventually(lambda: run.positions()[2] == 30)
    latest = {one.key: one.value for one in broker.committed(run.changelog, 2)}
    assert latest[b"searly"] is latest[b"slate"] is None
    broker.compact(run.changelog, tombstones=False)
    assert {one.key for one in broker.committed(run.changelog, 2) if one.key[:1] == b"s"} == {b"snew"}


@in_loop
async def test_messages_deleted_while_a_partition_waits_are_counted_and_the_rest_is_read(broker, run, caplog):
    rows = rows_of(20, 60)
    async with Working(run) as one:
        await one.running(4)
        run.send(rows[:400])
        await finished(run, rows[:400])
        # What comes now cannot be fetched until it is deleted.
        refusing = broker.fault(
            "error", "Fetch", count=None, code="NOT_LEADER_OR_FOLLOWER", where={"topic": run.source}
        )
        await asyncio.to_thread(broker.await_fault, refusing)
        run.send(rows[400:800])
        for number in range(4):
            broker.retain(run.source, -1, partition=number)
        broker.clear()
        run.send(rows[800:])
        await eventually(lambda: sum(run.positions()) == len(rows))
        assert one.worker.connections["source"].lost == 400
    assert "messages were deleted before they were read, and are lost; keep messages longer" in caplog.text


@in_loop
async def test_tombstones_and_markers_of_the_input_are_passed_and_are_no_samples(broker, run):
    rows = rows_of(1, 30)
    run.send(rows[:10], partition=0)
    run.send_raw(None, key="gone", partition=0)
    run.send(rows[10:20], partition=0)
    run.send(rows[20:], partition=0, transactional=True)
    async with Working(run) as one:
        await one.running(4)
        await asyncio.to_thread(run.predictions, len(expected(rows)))
        await eventually(lambda: run.positions()[0] == 31)
        assert one.worker.partitions[run.source, 0].pipeline.source.counts.malformed == 0
    assert run.predictions() == expected(rows)


@in_loop
@pytest.mark.parametrize("keys", [{"protocol": "consumer"}, {"instance": "{host}-a"}], ids=["KIP-848", "static"])
async def test_partitions_move_by_both_protocols_and_with_static_members(broker, tmp_path, keys):
    run = SharedRun(broker.url, tmp_path, source=keys)
    second = keys if "protocol" in keys else {"instance": "{host}-b"}
    rows = rows_of(20, 60)
    async with Working(run) as one:
        await one.running(4)
        run.send(rows[:400])
        async with Working(run, source=second) as two:
            await two.running(2)
            await one.running(2)
            run.send(rows[400:800])
            await asyncio.to_thread(run.predictions, len(expected(rows[:800])))
        if "instance" in keys:
            # The group keeps a static member's partitions until its session ends, or it is back.
            broker.expire_members(run.group)
        await one.running(4)
        run.send(rows[800:])
        await finished(run, rows)


@in_loop
async def test_a_revocation_has_a_limit_after_which_nothing_more_is_committed(broker, run):
    rows = rows_of(20, 60)
    async with Working(run, options={"max.poll.interval.ms": 3000}) as one:
        await one.running(4)
        run.send(rows[:400])
        await finished(run, rows[:400])
        # Its transactions get no answer, and the group wants these two partitions back. The next owner's producers,
        # which have a later epoch, are answered.
        for number in range(2):
            mine = {"transactional_id": f"{run.group}-{run.source}-{number}", "producer_epoch": 0}
            broker.fault("silence_before", "EndTxn", count=None, where=mine)
        run.send(rows[400:800])
        async with Working(run) as two:
            await two.running(2)
            broker.clear()
            run.send(rows[800:])
            await finished(run, rows)


@in_loop
async def test_a_broker_that_does_not_answer_when_a_partition_is_given_is_asked_again(broker, run):
    rows = rows_of(20, 30)
    run.send(rows)
    one = Working(run)
    check, asked = one.worker._plan.check, []

    def unanswered(topic: str) -> int:
        asked.append(topic)
        if 1 < len(asked) < 4:  # the first time is at the start
            raise BrokerError("it does not answer")
        return check(topic)

    one.worker._plan.check = unanswered
    async with one:
        await one.running(4)
        await finished(run, rows)


@in_loop
async def test_a_second_signal_breaks_a_worker_off_and_the_next_one_repeats_nothing(broker, run):
    rows = rows_of(20, 60)
    one = Working(run)
    async with one:
        await one.running(4)
        run.send(rows[:400])
        await finished(run, rows[:400])
        broker.fault("silence_before", "EndTxn", count=None)
        run.send(rows[400:800])
        await one.until(lambda worker: worker.count() or worker.metrics.rows == 800)
        one.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one.task
        broker.clear()
        one.task = asyncio.create_task(asyncio.sleep(0))
    async with Working(run) as two:
        await two.running(4)
        run.send(rows[800:])
        await finished(run, rows)
