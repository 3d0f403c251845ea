"""`run --check` of a shared run: partitions, lag, state, workers, and what is wrong with them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from brokers import strict_kafka

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

from shared_runs import SharedRun, Working, eventually, in_loop, rows_of

from streamrde import toml
from streamrde.cluster.describing import describe
from streamrde.cluster.lag import Lag, lag_text
from streamrde.cluster.member import Task
from streamrde.cluster.naming import place_of_run
from streamrde.errors import StateError


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with strict_kafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


def place_of(run):
    config = run.config()
    return place_of_run(config.source, config.state, config="run.toml")


@in_loop
async def test_check_shows_partitions_lag_state_and_workers(broker, tmp_path):
    run = SharedRun(broker.url, tmp_path)
    run.send(rows_of(20, 10))
    before = describe(place_of(run))
    assert before.lines["partitions"] == f"4 of {run.source}; changelog {run.changelog} is created with as many"
    assert before.lines["lag"] == "200 messages, and the group has no position yet"
    assert before.lines["workers"] == "none now"
    assert before.lines["keys"].startswith("crc32, 20 keys")
    assert before.warnings == []
    assert run.changelog not in broker_topics(run)
    async with Working(run) as working:
        await working.running(4)
        await eventually(lambda: sum(run.positions()) == 200)
        during = describe(place_of(run))
    assert during.lines["partitions"] == f"4 of {run.source}, and as many of changelog {run.changelog}"
    assert during.lines["lag"] == "0 messages"
    assert during.lines["workers"].startswith("1, with 4 of 4 partitions: streamrde@")
    assert during.lines["workers"].endswith(" 0-3")
    assert "records of about" in during.lines["changelog"]
    assert during.warnings == []


def broker_topics(run):
    return run.admin.list_topics(timeout=10).topics


def test_check_warns_of_two_sorts_of_producers(broker, tmp_path):
    run = SharedRun(broker.url, tmp_path, partitions=12)
    rows = rows_of(300, 1)
    run.send(rows[:200])
    run.client["partitioner"] = "murmur2_random"
    run.send(rows[200:])
    del run.client["partitioner"]
    (warning,) = describe(place_of(run)).warnings
    assert "crc32, but" in warning
    assert "as murmur2 does" in warning
    assert "same partitioner" in warning


@in_loop
async def test_check_warns_of_messages_that_were_deleted_unread(broker, tmp_path):
    run = SharedRun(broker.url, tmp_path, partitions=1)
    run.send(rows_of(1, 10))
    async with Working(run) as working:
        await working.running(1)
        await eventually(lambda: sum(run.positions()) == 10)
    run.send(rows_of(1, 50, begin=10))
    broker.retain(run.source, 40)
    found = describe(place_of(run))
    assert found.lines["lag"].startswith("20 messages, most in partition 0: 20; 30 were deleted before they were read")
    assert "30 messages were deleted" in found.warnings[0]
    assert f"--entity-name {run.source} --add-config retention.ms=" in found.warnings[0]


@in_loop
async def test_a_worker_sees_a_stream_in_two_partitions(broker, tmp_path, caplog):
    run = SharedRun(broker.url, tmp_path)
    run.send(rows_of(1, 10), partition=1)
    async with Working(run) as working:
        await working.running(4)
        await eventually(lambda: sum(run.positions()) == 10)
        run.send(rows_of(1, 10, begin=10), partition=3)
        await eventually(lambda: sum(run.positions()) == 20)
        lookout = working.worker._plan.lookout
        assert [lookout.twice(Task(run.source, number)) for number in range(4)] == [0, 0, 0, 1]
    assert "stream 's0' comes in partition 3" in caplog.text


def test_check_warns_of_a_changelog_that_deletes(broker, tmp_path):
    run = SharedRun(broker.url, tmp_path)
    broker.create_topic(run.changelog, 4, cleanup_policy="delete")
    (warning,) = describe(place_of(run)).warnings
    assert f"--entity-name {run.changelog} --add-config cleanup.policy=compact" in warning


@in_loop
async def test_a_worker_warns_once_of_topics_that_lose_state_or_samples(broker, tmp_path, caplog):
    run = SharedRun(broker.url, tmp_path)
    broker.create_topic(run.changelog, 4, cleanup_policy="delete")
    async with Working(run) as working:
        await working.running(4)
    (warning,) = [one.message for one in caplog.records if "cleanup.policy" in one.message]
    assert warning.startswith(f"changelog {run.changelog!r} has cleanup.policy = delete")


def test_another_number_of_partitions_stops_the_check(broker, tmp_path):
    run = SharedRun(broker.url, tmp_path)
    broker.create_topic(run.changelog, 3, cleanup_policy="compact")
    with pytest.raises(StateError, match=r"streamrde state rehash run\.toml"):
        describe(place_of(run))


def test_the_command_shows_it_and_leaves_no_trace(broker, tmp_path):
    run = SharedRun(broker.url, tmp_path)
    run.send(rows_of(20, 10))
    config = tmp_path / "run.toml"
    config.write_text(toml.dumps(run.tables))
    command = [sys.executable, "-m", "streamrde", "run", f"{config}", "--check", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["lag"] == "200 messages, and the group has no position yet"
    assert found["state"].startswith("a changelog in Kafka: saved every 0.05 s")
    assert run.changelog not in broker_topics(run)


def test_a_lag_counts_from_what_is_still_there():
    lag = Lag(0, low=40, high=60, committed=10)
    assert (lag.begin, lag.unread, lag.lost) == (40, 20, 30)
    assert Lag(0, low=40, high=60, committed=None).lost == 0
    assert lag_text([Lag(0, 0, 5, 5), Lag(1, 0, 9, 2)]) == "7 messages, most in partition 1: 7"
