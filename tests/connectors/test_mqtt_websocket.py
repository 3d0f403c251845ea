"""MQTT over WebSocket: the same source and sink as over TCP, with another address."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import aiomqtt
import pytest
from brokers import MOSQUITTO, free_port, mosquitto

from streamrde.connectors.codecs import JsonCodec, decode_prediction
from streamrde.connectors.mqtt import MqttAddress, MqttLink, MqttSink, MqttSource, Tls
from streamrde.connectors.mqtt.connection import MqttConnection
from streamrde.connectors.samples import Columns
from streamrde.errors import BrokerError, ParameterError
from streamrde.testing import SinkConformance, SourceConformance

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: apt-get install mosquitto")
COLUMNS = Columns(channels=("a", "b"))


@contextlib.contextmanager
def served(folder: Path, tls: str = "") -> Iterator[tuple[str, int]]:
    """Start mosquitto on a port for MQTT and one for WebSocket: the address of the first, and the second."""
    port = free_port()
    with mosquitto(folder, config=f"listener {port} 127.0.0.1\nprotocol websockets\n{tls}") as url:
        yield url, port


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    with served(tmp_path_factory.mktemp("mosquitto")) as (url, port):
        yield url, f"mqtt+ws://127.0.0.1:{port}/mqtt"


class TestMqttSourceOverWebSocket(SourceConformance):
    most_waiting: ClassVar[int] = 50

    @pytest.fixture(autouse=True)
    def place(self, broker: tuple[str, str]) -> None:
        (self.url, self.websocket), self.name = broker, uuid.uuid4().hex

    def open(self) -> MqttSource:
        topic = f"{self.name}/{{stream}}"
        return MqttSource(
            self.websocket, topic=topic, columns=COLUMNS, client_id=self.name, session=True, queue_messages=50
        )

    async def send(self, stream: str, t: float, x: tuple[float, float]) -> None:
        address = MqttAddress.parse(self.url)
        async with aiomqtt.Client(address.host, address.port) as client:
            await client.publish(f"{self.name}/{stream}", JsonCodec(COLUMNS).encode_samples([t], [x]), qos=1)


class TestMqttSinkOverWebSocket(SinkConformance):
    @pytest.fixture(autouse=True)
    def place(self, broker: tuple[str, str]) -> None:
        (self.url, self.websocket), self.name, self.seen = broker, uuid.uuid4().hex, []
        asyncio.run(self.subscribe())

    def open(self) -> MqttSink:
        return MqttSink(self.websocket, topic=f"{self.name}/{{stream}}")

    async def read(self) -> list[tuple[str, int]]:
        async with self.subscriber() as client:
            messages = aiter(client.messages)
            with contextlib.suppress(TimeoutError):
                while True:
                    message = await asyncio.wait_for(anext(messages), 0.5)
                    row = decode_prediction(message.payload)
                    self.seen.append((row["stream"], row["window"]))
        return self.seen

    async def subscribe(self) -> None:
        async with self.subscriber() as client:
            await client.subscribe(f"{self.name}/+", qos=1)

    def subscriber(self) -> aiomqtt.Client:
        address = MqttAddress.parse(self.url)
        return aiomqtt.Client(address.host, address.port, identifier=f"{self.name}-reader", clean_session=False)


@pytest.mark.parametrize(("version", "size"), [("3.1.1", 0), ("5", 130), ("5", 70_000)])
def test_messages_of_every_length_of_a_frame_pass_both_ways(broker: tuple[str, str], version: str, size: int) -> None:
    async def main() -> None:
        topic, got = uuid.uuid4().hex, []
        address, link = MqttAddress.parse(broker[1]), MqttLink(version=version, reconnect=False)
        connection = MqttConnection(
            address,
            link=link,
            subscriptions=[(topic, 1)],
            on_message=lambda message, receipt: got.append((message, receipt)),
        )
        payload = bytes(i % 251 for i in range(size))
        async with connection:
            for _ in range(2):
                await connection.publish(topic, payload, 1)
            await connection.drain()
            while len(got) < 2:
                await connection.wait()
            assert [bytes(message.payload) for message, _ in got] == [payload] * 2
            for _, receipt in got:
                connection.acknowledge(receipt)
            await connection.settle()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_connection_over_websocket_comes_back(broker: tuple[str, str]) -> None:
    async def main() -> None:
        connection = MqttConnection(MqttAddress.parse(broker[1]), link=MqttLink(longest_pause=0.1))
        async with connection:
            connection._abort()
            while connection.counts.connects < 2:
                await connection.wait()
            await connection.publish("a", b"1", 1)
            await connection.drain()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_the_wrong_kind_of_port_is_refused_with_a_remedy(broker: tuple[str, str]) -> None:
    async def connect(url: str) -> None:
        link = MqttLink(timeout=1.0, reconnect=False)
        async with MqttConnection(MqttAddress.parse(url), link=link):
            pass

    with pytest.raises(BrokerError, match=r"check host, port, path and mqtt\+ws:// or mqtt\+wss://"):
        asyncio.run(connect(broker[0].replace("mqtt://", "ws://")))
    with pytest.raises(BrokerError, match="check host, port and mqtt://"):
        asyncio.run(connect(broker[1].replace("mqtt+ws://", "mqtt://").removesuffix("/mqtt")))


def test_websocket_over_tls_checks_the_certificate(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    issued, files = (
        authority.issue_cert("127.0.0.1"),
        [tmp_path / name for name in ("ca.pem", "server.crt", "server.key")],
    )
    authority.cert_pem.write_to_path(files[0])
    issued.cert_chain_pems[0].write_to_path(files[1])
    issued.private_key_pem.write_to_path(files[2])
    with served(tmp_path, f"cafile {files[0]}\ncertfile {files[1]}\nkeyfile {files[2]}") as (_, port):

        async def connect(tls: Tls | None) -> None:
            link = MqttLink(tls=tls, timeout=3.0, reconnect=False)
            async with MqttConnection(MqttAddress.parse(f"mqtt+wss://127.0.0.1:{port}"), link=link) as connection:
                await connection.publish("a", b"1", 1)
                await connection.drain()

        asyncio.run(connect(Tls(ca=str(files[0]))))
        with pytest.raises(BrokerError, match="certificate verify failed"):
            asyncio.run(connect(None))


def test_addresses_of_mqtt_over_websocket() -> None:
    assert MqttAddress.parse("mqtt+ws://me:pw@host") == MqttAddress("host", 80, "me", "pw", path="/mqtt")
    assert MqttAddress.parse("wss://host/a/b?c=1") == MqttAddress("host", 443, tls=True, path="/a/b?c=1")
    assert str(MqttAddress.parse("ws://[::1]:9001")) == "[::1]:9001/mqtt"
    with pytest.raises(ParameterError, match="does not begin with"):
        MqttAddress.parse("http://host")
