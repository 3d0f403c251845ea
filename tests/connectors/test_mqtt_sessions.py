"""What the MQTT connection survives: brokers that die, close sessions, hang, or send things twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from brokers import MOSQUITTO, free_port, mosquitto
from scripted_broker import ScriptedBroker

from streamrde.connectors import Columns, Samples
from streamrde.connectors.codecs import decode_prediction
from streamrde.connectors.mqtt import MqttAddress, MqttLink, MqttSink, MqttSource, SamplePublisher, Will
from streamrde.connectors.mqtt.connection import MqttConnection
from streamrde.connectors.mqtt.messages import Receipt
from streamrde.errors import BrokerError, ParameterError

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: apt-get install mosquitto")
COLUMNS = Columns(channels=("a",))
VERSIONS = pytest.mark.parametrize("version", ["3.1.1", "5"])


def run(main: Awaitable[object], seconds: float = 30.0) -> None:
    asyncio.run(asyncio.wait_for(main, seconds))


def samples(first: int, last: int) -> Samples:
    t = np.arange(first, last, dtype=float)
    return Samples(pa.array(["s"] * len(t)), t, t[:, None])


def predictions(first: int, last: int) -> pa.RecordBatch:
    rows = [{"stream": "s", "window": i, "t_start": 0.0, "t_end": 1.0, "value": [1.0]} for i in range(first, last)]
    return pa.RecordBatch.from_pylist(rows)


@contextlib.asynccontextmanager
async def restartable(folder: Path, config: str = "persistence true\nautosave_on_changes true\nautosave_interval 1"):
    """A broker on one port, and a function that stops it and starts it again after some seconds away."""
    port, stack = free_port(), contextlib.ExitStack()
    text = f"persistence_location {folder}/\n{config}" if "persistence true" in config else config
    url = stack.enter_context(mosquitto(folder, port=port, config=text))

    async def restart(away: float = 0.3) -> None:
        await asyncio.to_thread(stack.close)
        await asyncio.sleep(away)
        stack.enter_context(mosquitto(folder, port=port, config=text))

    try:
        yield url, restart
    finally:
        stack.close()


async def times(source: MqttSource, until: float) -> list[float]:
    got: list[float] = []
    async for batch in source:
        got += batch.samples.t.tolist()
        await source.acknowledge(batch)
        if until in got:
            return got
    return got


@pytest.mark.slow
@VERSIONS
def test_a_source_goes_on_after_its_broker_was_away(tmp_path: Path, version: str) -> None:
    async def main() -> None:
        async with restartable(tmp_path) as (url, restart):
            link = MqttLink(version=version, longest_pause=0.2)
            source = MqttSource(url, topic="a/{stream}", columns=COLUMNS, client_id="c", session=True, link=link)
            async with source:
                async with SamplePublisher(url, topic="a/{stream}", columns=COLUMNS) as publisher:
                    await publisher.publish(samples(0, 5))
                assert await times(source, 4.0) == [0.0, 1.0, 2.0, 3.0, 4.0]
                await source._connection.settle()  # the broker has read the acknowledgements
                await restart()
                async with SamplePublisher(url, topic="a/{stream}", columns=COLUMNS) as publisher:
                    await publisher.publish(samples(5, 8))
                assert await times(source, 7.0) == [5.0, 6.0, 7.0]
                assert source.connection.connects == 2
                assert source.connection.sessions_lost == 0

    run(main())


def test_what_is_held_when_the_connection_breaks_is_passed_on_once_and_acknowledged(mosquitto_url: str) -> None:
    async def main() -> None:
        link = MqttLink(longest_pause=0.2)
        source = MqttSource(
            mosquitto_url, topic="a/{stream}", columns=COLUMNS, client_id="c", session=True, link=link, batch_messages=4
        )
        async with source:
            async with SamplePublisher(mosquitto_url, topic="a/{stream}", columns=COLUMNS) as publisher:
                await publisher.publish(samples(0, 10))
            batches = aiter(source)
            first = await anext(batches)
            while source.waiting + len(first.samples.t) < 10:
                await asyncio.sleep(0.01)
            source._connection._abort()  # the socket breaks with ten messages unacknowledged
            await source.acknowledge(first)  # while there is no connection
            while source.connection.redelivered < 10:
                await source._connection.wait()
            got = first.samples.t.tolist()
            while len(got) < 10:
                batch = await anext(batches)
                got += batch.samples.t.tolist()
                await source.acknowledge(batch)
            assert got == [float(i) for i in range(10)]
            await asyncio.sleep(0.1)
        # Nothing is left: a client of the same session is sent the next message first.
        async with (
            MqttSource(mosquitto_url, topic="a/{stream}", columns=COLUMNS, client_id="c", session=True) as again,
            SamplePublisher(mosquitto_url, topic="a/{stream}", columns=COLUMNS) as publisher,
        ):
            await publisher.publish(samples(99, 100))
            assert await times(again, 99.0) == [99.0]

    run(main())


def test_what_comes_with_the_acceptance_is_acknowledged_at_once() -> None:
    async def main() -> None:
        connects = []

        def take(message: object, receipt: Receipt | None) -> None:
            assert receipt is not None
            connects.append(connection.counts.connects)
            connection.acknowledge(receipt)

        async with ScriptedBroker(kept=("a/x", "a/y")) as broker:
            address = MqttAddress.parse(broker.url)
            link = MqttLink(version="5")
            connection = MqttConnection(address, link=link, client_id="c", session=True, on_message=take)
            async with connection:
                while len(connects) < 2:
                    await asyncio.sleep(0.01)
                await connection.settle()
                assert broker.acknowledged == [1, 2]
                assert connects == [1, 1]

    run(main())


def test_a_socket_closed_before_its_write_leaves_the_next_of_its_number_alone() -> None:
    async def main() -> None:
        async with ScriptedBroker() as broker:
            connection = MqttConnection(MqttAddress.parse(broker.url), link=MqttLink(version="5", reconnect=False))
            async with connection:
                number = connection._wire.paho.socket().fileno()
                connection._wire.paho.unsubscribe("a")  # asks the loop to write
                connection._abort()
                with socket.socket() as other:
                    os.dup2(other.fileno(), number)
                    try:
                        await asyncio.sleep(0)
                        assert not asyncio.get_running_loop().remove_writer(number)
                    finally:
                        if number != other.fileno():
                            os.close(number)

    run(main())


def test_a_forgotten_session_is_counted_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with restartable(tmp_path, config="") as (url, restart):
            link = MqttLink(longest_pause=0.2)
            source = MqttSource(url, topic="a/{stream}", columns=COLUMNS, client_id="c", session=True, link=link)
            async with source:
                await restart()
                while source.connection.connects < 2 or not source.connection.connected:
                    await asyncio.sleep(0.02)
                async with SamplePublisher(url, topic="a/{stream}", columns=COLUMNS) as publisher:
                    await publisher.publish(samples(0, 1))
                assert await times(source, 0.0) == [0.0]
                assert source.connection.sessions_lost == 1

    run(main())
    assert "has forgotten the session" in caplog.text


@pytest.mark.slow
@VERSIONS
def test_a_sink_sends_again_what_was_not_confirmed(tmp_path: Path, version: str) -> None:
    async def main() -> None:
        async with restartable(tmp_path) as (url, restart):
            got: list[int] = []

            def received(message, receipt) -> None:
                got.append(decode_prediction(bytes(message.payload))["window"])
                viewer.acknowledge(receipt)

            link = MqttLink(version=version, longest_pause=0.2)
            viewer = MqttConnection(
                MqttAddress.parse(url), link=link, client_id="v", session=True, subscriptions=[("p/+", 1)],
                on_message=received,
            )  # fmt: skip
            async with viewer, MqttSink(url, topic="p/{stream}", link=link) as sink:
                await sink.write(predictions(0, 10))
                restarting = asyncio.create_task(restart())
                for first in range(10, 200, 10):
                    await sink.write(predictions(first, first + 10))
                    await asyncio.sleep(0.01)
                await restarting
                while set(got) < set(range(200)):
                    await asyncio.sleep(0.02)
                assert sink.counts.messages == 200
                assert sink.connection.connects == 2

    run(main())


class Relay:
    """A TCP relay to a broker that can stop passing bytes on: a network, or a broker, that hangs."""

    def __init__(self, url: str) -> None:
        self.target = MqttAddress.parse(url)
        self.hangs = False
        self.tasks: list[asyncio.Task[None]] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Relay:
        self.server = await asyncio.start_server(self.relay, "127.0.0.1", 0)
        self.url = f"mqtt://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        await self.server.wait_closed()

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self.target.host, self.target.port)
        hung = self.hangs
        self.writers += [writer, back]

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    while self.hangs and not hung:
                        await asyncio.sleep(0.01)
                    sink.write(data)
            sink.close()

        self.tasks += [asyncio.create_task(pump(reader, back)), asyncio.create_task(pump(there, writer))]


def test_a_broker_that_hangs_is_left_and_asked_again(mosquitto_url: str) -> None:
    async def main() -> None:
        async with Relay(mosquitto_url) as relay:
            link = MqttLink(timeout=0.3, longest_pause=0.1)
            async with MqttSink(relay.url, topic="p/{stream}", link=link) as sink:
                await sink.write(predictions(0, 3))
                relay.hangs = True
                writing = asyncio.create_task(sink.write(predictions(3, 6)))
                await asyncio.sleep(0.1)
                assert not writing.done()
                await asyncio.wait_for(writing, 10)  # by a new connection, which does not hang
                assert sink.connection.connects >= 2
                assert sink.connection.resent == 3
                relay.hangs = False

    run(main())


@pytest.mark.slow
def test_two_clients_of_one_name_do_not_fight_at_full_speed(mosquitto_url: str) -> None:
    async def main() -> None:
        clients = [MqttConnection(MqttAddress.parse(mosquitto_url), client_id="same") for _ in range(2)]
        async with clients[0], clients[1]:
            await asyncio.sleep(1.5)
            assert 3 <= sum(client.counts.connects for client in clients) <= 12

    run(main())


def test_the_first_connection_is_tried_once() -> None:
    async def main() -> None:
        with pytest.raises(BrokerError, match="start the broker"):
            async with MqttSink(f"mqtt://127.0.0.1:{free_port()}", topic="p/{stream}"):
                pass

    run(main(), 5)


def test_a_broker_that_closes_instead_of_accepting_is_an_error_at_once() -> None:
    async def main() -> None:
        async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(close, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            with pytest.raises(BrokerError, match="closed before it was accepted"):
                async with MqttSink(f"mqtt://127.0.0.1:{port}", topic="p/{stream}"):
                    pass

    run(main(), 5)


@VERSIONS
def test_a_will_says_whether_the_client_is_there(mosquitto_url: str, version: str) -> None:
    async def main() -> None:
        states: list[bytes] = []
        viewer = MqttConnection(
            MqttAddress.parse(mosquitto_url),
            subscriptions=[("state/it", 0)],
            on_message=lambda message, _: states.append(bytes(message.payload)),
        )
        link = MqttLink(version=version, will=Will("state/it"), longest_pause=0.1)

        async def until(wanted: list[bytes]) -> None:
            while states != wanted:
                await asyncio.sleep(0.01)

        async with viewer:
            async with MqttSink(mosquitto_url, topic="p/{stream}", link=link) as sink:
                await until([b"online"])
                sock: socket.socket = sink._connection._wire.paho.socket()
                sock.shutdown(socket.SHUT_RDWR)  # dies without a farewell, and comes back
                await until([b"online", b"offline", b"online"])
            await until([b"online", b"offline", b"online", b"offline"])

    run(main())


def test_a_retained_message_is_counted_and_may_be_skipped(mosquitto_url: str) -> None:
    async def main() -> None:
        address = MqttAddress.parse(mosquitto_url)
        async with MqttConnection(address) as client:
            await client.publish("a/s", b'{"t": 1, "a": 1}', 1, retain=True)
            await client.drain()
            for retained, wanted in (("use", [1.0, 2.0]), ("skip", [2.0])):
                source = MqttSource(mosquitto_url, topic="a/{stream}", columns=COLUMNS, retained=retained)
                async with source:
                    while not source.waiting:
                        await asyncio.sleep(0.01)
                    await client.publish("a/s", b'{"t": 2, "a": 1}', 1)
                    assert await times(source, 2.0) == wanted
                    assert source.counts.retained == 1

    run(main())


def test_mqtt_5_keeps_to_the_number_of_messages_asked_for(mosquitto_url: str) -> None:
    async def main() -> None:
        source = MqttSource(mosquitto_url, topic="a/{stream}", columns=COLUMNS, inflight=7, link=MqttLink(version="5"))
        async with source, SamplePublisher(mosquitto_url, topic="a/{stream}", columns=COLUMNS) as publisher:
            await publisher.publish(samples(0, 100))
            await publisher.flush()
            await asyncio.sleep(0.2)
            assert source.waiting == 7

    run(main())


@pytest.mark.parametrize(
    "link", [{"version": "4"}, {"timeout": 0.0}, {"keepalive": 0}, {"session_expiry": -1}, {"longest_pause": 0}]
)
def test_links_that_cannot_work_are_refused(link: dict[str, object]) -> None:
    with pytest.raises(ParameterError):
        MqttLink(**link)
    with pytest.raises(ParameterError):
        Will("a/+")
