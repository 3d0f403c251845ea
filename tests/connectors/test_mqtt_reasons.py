"""What a broker refuses, and why, is never taken for a confirmation."""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections.abc import Awaitable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from brokers import MOSQUITTO, free_port, mosquitto
from scripted_broker import ScriptedBroker

from streamrde.connectors.ends import DeadLetter
from streamrde.connectors.mqtt import (
    MqttAddress,
    MqttDeadLetters,
    MqttLink,
    MqttSink,
    MqttSource,
    SamplePublisher,
    Will,
)
from streamrde.connectors.mqtt.connection import MqttConnection
from streamrde.connectors.samples import Columns, Samples
from streamrde.errors import BrokerError, ParameterError

COLUMNS = Columns(channels=("a",))
LINK = MqttLink(version="5", longest_pause=0.05)


def run(main: Awaitable[object], seconds: float = 30.0) -> None:
    asyncio.run(asyncio.wait_for(main, seconds))


def predictions(count: int) -> pa.RecordBatch:
    rows = [{"stream": "s", "window": i, "t_start": i, "t_end": i + 1.0, "value": [1.0]} for i in range(count)]
    return pa.RecordBatch.from_pylist(rows)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (135, "Not authorized, code 135; check user and password, and the broker's access rules"),
        (144, "Topic name invalid, code 144; choose another topic"),
        (153, "Payload format invalid, code 153"),
    ],
)
def test_a_prediction_that_is_refused_for_good_is_an_error_with_its_reason_and_topic(code: int, name: str) -> None:
    async def main() -> None:
        async with (
            ScriptedBroker(puback=[0, 0, code]) as broker,
            MqttSink(broker.url, topic="predictions/{stream}", link=LINK) as sink,
        ):
            await sink.write(predictions(2))
            with pytest.raises(BrokerError) as caught:
                await sink.write(predictions(3))
            assert sink.counts.messages == 2
            assert caught.value.final
            for text in (name, "'predictions/s'", "it is not confirmed"):
                assert text in str(caught.value)

    run(main())


def test_a_refusal_of_the_last_of_many_is_not_lost() -> None:
    async def main() -> None:
        async with (
            ScriptedBroker(puback=[0] * 499 + [135]) as broker,
            MqttSink(broker.url, topic="p/{stream}", link=LINK, inflight=1000) as sink,
        ):
            for count in (500, 1):
                with pytest.raises(BrokerError, match="code 135"):
                    await sink.write(predictions(count))

    run(main())


@pytest.mark.parametrize("code", [151, 131, 128, 145])
def test_a_refusal_that_passes_is_published_again_until_it_is_confirmed(
    code: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with ScriptedBroker(puback=[code, 0, code, code]) as broker:
            async with MqttSink(broker.url, topic="p/{stream}", link=LINK) as sink:
                await sink.write(predictions(3))
                assert sink.counts.messages == 3
                assert sink.connection.refused == 3
            assert len(broker.published) == 6

    with caplog.at_level(logging.WARNING):
        run(main())
    assert len([r for r in caplog.records if "refuses a message on topic 'p/s'" in r.getMessage()]) == 1


def test_the_codes_of_success_are_confirmations() -> None:
    async def main() -> None:
        # 16: no matching subscribers
        async with (
            ScriptedBroker(puback=[0, 16, 16]) as broker,
            MqttSink(broker.url, topic="p/{stream}", link=LINK) as sink,
        ):
            await sink.write(predictions(3))
            assert sink.counts.messages == 3

    run(main())


def test_a_dead_letter_and_a_replayed_sample_that_are_refused_are_errors() -> None:
    async def main() -> None:
        async with (
            ScriptedBroker(puback=[135]) as broker,
            MqttDeadLetters(broker.url, topic="dead", link=LINK) as letters,
        ):
            with pytest.raises(BrokerError, match=r"on topic 'dead' .*code 135"):
                await letters.write([DeadLetter("why", "t", b"x", 0.0)])
        for code in (135, 151):  # sent in order: nothing is sent again behind the others
            async with ScriptedBroker(puback=[0, code]) as broker:
                link = MqttLink(version="5", reconnect=False)
                publisher = SamplePublisher(broker.url, topic="a/{stream}", columns=COLUMNS, link=link)
                with pytest.raises(BrokerError, match=f"on topic 'a/s' .*code {code}"):
                    async with publisher:
                        await publisher.publish(Samples(pa.array(["s"] * 3), np.arange(3.0), np.ones((3, 1))))
                assert publisher.counts.messages == 0

    run(main())


def test_a_will_that_may_not_be_published_is_an_error() -> None:
    async def main() -> None:
        link = MqttLink(version="5", will=Will("state/run"))
        async with (
            ScriptedBroker(puback=[135]) as broker,
            MqttSource(broker.url, topic="a/{stream}", columns=COLUMNS, link=link) as source,
        ):
            with pytest.raises(BrokerError, match="'state/run'"):
                await anext(aiter(source))

    run(main())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (135, "Not authorized, code 135"),
        (128, "Unspecified error, code 128"),
        (162, "the broker allows no wildcards"),
        (143, "Topic filter invalid, code 143"),
        (0, "at QoS 0 and not 1: what it sends could be lost; set qos = 0"),
    ],
)
def test_a_subscription_that_is_refused_or_granted_less_is_an_error_with_its_filter(code: int, reason: str) -> None:
    async def main() -> None:
        async with ScriptedBroker(suback=[code]) as broker:
            link = MqttLink(version="5", wait=True)
            with pytest.raises(BrokerError) as caught:
                async with MqttSource(broker.url, topic="sensors/{stream}/imu", columns=COLUMNS, link=link):
                    pass
            assert reason in str(caught.value)
            assert "'sensors/+/imu'" in str(caught.value)

    run(main())


def test_of_several_subscriptions_the_one_that_is_refused_is_named() -> None:
    async def main() -> None:
        async with ScriptedBroker(suback=[1, 1, 135]) as broker:
            subscriptions = [("a/+", 1), ("b/+", 1), ("c/+", 1)]
            with pytest.raises(BrokerError, match=r"the subscription to 'c/\+'"):
                async with MqttConnection(MqttAddress.parse(broker.url), link=LINK, subscriptions=subscriptions):
                    pass

    run(main())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (134, "Bad user name or password, code 134; check user and password"),
        (135, "Not authorized, code 135"),
        (133, "Client identifier not valid, code 133; choose another client_id"),
        (132, 'set version = "3.1.1"'),
        (138, "Banned"),
        (157, "Server moved, code 157; set url"),
    ],
)
def test_a_connection_that_is_refused_for_good_is_not_waited_for(code: int, reason: str) -> None:
    async def main() -> None:
        async with ScriptedBroker(connack=[code]) as broker:
            with pytest.raises(BrokerError) as caught:
                async with MqttSink(broker.url, topic="p/{stream}", link=MqttLink(version="5", wait=True)):
                    pass
            assert reason in str(caught.value)
            assert broker.connects == 1

    run(main())


def test_a_broker_that_is_busy_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        link = MqttLink(version="5", wait=True, longest_pause=0.05)
        async with ScriptedBroker(connack=[137, 137, 136, 151]) as broker:
            async with MqttSink(broker.url, topic="p/{stream}", link=link) as sink:
                await sink.write(predictions(1))
            assert broker.connects == 5
        async with ScriptedBroker(connack=[137]) as broker:
            with pytest.raises(BrokerError, match="Server busy, code 137"):
                async with MqttSink(broker.url, topic="p/{stream}", link=LINK):
                    pass

    with caplog.at_level(logging.WARNING):
        run(main())
    said = [r.getMessage() for r in caplog.records if "waiting for MQTT broker" in r.getMessage()]
    assert len(said) == 3, "once for each reason"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (142, "Session taken over, code 142; another client has connected with the same client_id"),
        (135, "Not authorized, code 135"),
        (149, "Packet too large, code 149"),
    ],
)
def test_a_broker_that_ends_a_connection_for_good_says_why(code: int, reason: str) -> None:
    async def main() -> None:
        async with ScriptedBroker() as broker:
            async with MqttSource(broker.url, topic="a/{stream}", columns=COLUMNS, link=LINK) as source:
                broker.disconnect(code)
                with pytest.raises(BrokerError) as caught:
                    await anext(aiter(source))
            assert reason in str(caught.value)
            assert broker.connects == 1

    run(main())


@pytest.mark.parametrize("code", [139, 141, 152, 160])
def test_a_broker_that_shuts_down_is_connected_to_again(code: int, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with ScriptedBroker() as broker, MqttSink(broker.url, topic="p/{stream}", link=LINK) as sink:
            broker.disconnect(code)
            while sink.connection.connects < 2:
                await asyncio.sleep(0.01)
            await sink.write(predictions(1))

    with caplog.at_level(logging.WARNING):
        run(main())
    assert f"it says: {'Server shutting down' if code == 139 else ''}" in caplog.text
    assert f"code {code}" in caplog.text


def test_no_more_is_under_way_than_the_broker_allows() -> None:
    async def main() -> None:
        async with ScriptedBroker(limit=3) as broker:
            async with MqttSink(broker.url, topic="p/{stream}", link=LINK) as sink:
                assert sink._connection._outbox.limit == 3
                await sink.write(predictions(20))
            assert len(broker.published) == 20

    run(main())


def test_a_broker_that_is_not_there_is_waited_for_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    port = free_port()

    async def main() -> None:
        link = MqttLink(wait=True, longest_pause=0.05)
        sink = MqttSink(f"mqtt://127.0.0.1:{port}", topic="p/{stream}", link=link)
        entering = asyncio.create_task(sink.__aenter__())
        while "waiting for MQTT broker" not in caplog.text:
            await asyncio.sleep(0.01)
        assert sink.connection.waiting
        await asyncio.sleep(0.5)
        assert not entering.done()
        with mosquitto(tmp_path, port=port):
            await entering
            assert not sink.connection.waiting
            await sink.write(predictions(1))
            await sink.__aexit__(None, None, None)

    with caplog.at_level(logging.WARNING):
        run(main())
    assert caplog.text.count("waiting for MQTT broker") == 1


def test_waiting_can_be_cancelled() -> None:
    async def main() -> None:
        sink = MqttSink(f"mqtt://127.0.0.1:{free_port()}", topic="p/{stream}", link=MqttLink(wait=True))
        entering = asyncio.create_task(sink.__aenter__())
        while not sink.connection.waiting:
            await asyncio.sleep(0.01)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering

    run(main(), 10)


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
@pytest.mark.parametrize("read", [True, False])
def test_access_rules_of_a_real_broker_are_errors_and_not_confirmations(tmp_path: Path, read: bool) -> None:
    passwords, rules = tmp_path / "passwords", tmp_path / "rules"
    passwords.touch(0o600)
    made = subprocess.run(["mosquitto_passwd", "-b", str(passwords), "alice", "pw"], capture_output=True, check=False)
    assert made.returncode == 0, made.stderr
    rules.write_text("user alice\n" + ("topic read sensors/#\n" if read else "topic write predictions/#\n"))

    async def main() -> None:
        with mosquitto(tmp_path, passwords=passwords, config=f"acl_file {rules}") as url:
            address = url.replace("://", "://alice:pw@")
            link = MqttLink(version="5")
            async with MqttSink(address, topic="predictions/{stream}", link=link) as sink:
                if not read:
                    await sink.write(predictions(1))
                else:
                    with pytest.raises(BrokerError, match=r"'predictions/s' \(Not authorized, code 135"):
                        await sink.write(predictions(1))
            for version in ("3.1.1", "5"):
                impatient = MqttLink(version=version, wait=True)
                with pytest.raises(BrokerError, match=r"(Bad user name or password|Not authorized), code 13[45]"):
                    async with MqttSink(url.replace("://", "://alice:no@"), topic="p/{stream}", link=impatient):
                        pass

    run(main())


@pytest.mark.parametrize("topic", ["state/{stream}", "state/{site}", "state}"])
def test_a_will_has_no_placeholders(topic: str) -> None:
    with pytest.raises(ParameterError, match="without wildcards and braces"):
        Will(topic)
