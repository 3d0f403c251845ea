"""The project's own ends pass the kit that it gives to authors of connectors."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from pathlib import Path

import aiomqtt
import pyarrow as pa
import pyarrow.parquet
import pytest
from brokers import MOSQUITTO, mosquitto

from streamrde.connectors.codecs import JsonCodec, decode_prediction
from streamrde.connectors.files.arrow import FileSink
from streamrde.connectors.files.parts import PartSink
from streamrde.connectors.mqtt import MqttAddress, MqttSink, MqttSource
from streamrde.connectors.samples import Columns
from streamrde.testing import PREDICTIONS, CollectingSink, ScriptedSource, SinkConformance, SourceConformance, batch_of

COLUMNS = Columns(channels=("a", "b"))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory):
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    with mosquitto(tmp_path_factory.mktemp("mosquitto")) as url:
        yield url


class TestMqttSource(SourceConformance):
    most_waiting = 50

    @pytest.fixture(autouse=True)
    def place(self, broker: str) -> None:
        self.url, self.name = broker, uuid.uuid4().hex

    def open(self) -> MqttSource:
        topic = f"{self.name}/{{stream}}"
        return MqttSource(
            self.url, topic=topic, columns=COLUMNS, client_id=self.name, session=True, queue_messages=self.most_waiting
        )

    async def send(self, stream: str, t: float, x: tuple[float, float]) -> None:
        address = MqttAddress.parse(self.url)
        payload = JsonCodec(COLUMNS).encode_samples([t], [x])
        async with aiomqtt.Client(address.host, address.port) as client:
            await client.publish(f"{self.name}/{stream}", payload, qos=1)


class TestScriptedSource(SourceConformance):
    redelivers = False

    def open(self) -> ScriptedSource:
        self.source = ScriptedSource(live=True)
        return self.source

    async def send(self, stream: str, t: float, x: tuple[float, float]) -> None:
        self.source.send(batch_of([stream], [t], [x]))


class TestMqttSink(SinkConformance):
    @pytest.fixture(autouse=True)
    def place(self, broker: str) -> None:
        self.url, self.name, self.seen = broker, uuid.uuid4().hex, []
        asyncio.run(self.subscribe())

    def open(self) -> MqttSink:
        return MqttSink(self.url, topic=f"{self.name}/{{stream}}")

    async def read(self) -> list[tuple[str, int]]:
        async with self.subscriber() as client:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    async for message in client.messages:
                        row = decode_prediction(message.payload)
                        self.seen.append((row["stream"], row["window"]))
        return self.seen

    async def subscribe(self) -> None:
        """Begin a session, for which the broker keeps what nobody reads yet."""
        async with self.subscriber() as client:
            await client.subscribe(f"{self.name}/+", qos=1)

    def subscriber(self) -> aiomqtt.Client:
        address = MqttAddress.parse(self.url)
        return aiomqtt.Client(address.host, address.port, identifier=f"{self.name}-reader", clean_session=False)


class TestFileSink(SinkConformance):
    visible = "end"

    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "predictions.parquet"

    def open(self) -> FileSink:
        return FileSink(self.path, PREDICTIONS)

    async def read(self) -> list[tuple[str, int]]:
        return rows_of([self.path] if self.path.exists() else [])


class TestPartSink(SinkConformance):
    visible = "checkpoint"

    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "parts"

    def open(self) -> PartSink:
        return PartSink(self.folder, PREDICTIONS)

    async def read(self) -> list[tuple[str, int]]:
        return rows_of(sorted(self.folder.glob("part-*")))


class TestCollectingSink(SinkConformance):
    @pytest.fixture(autouse=True)
    def place(self) -> None:
        self.sink = CollectingSink()

    def open(self) -> CollectingSink:
        return self.sink

    async def read(self) -> list[tuple[str, int]]:
        return [(row["stream"], row["window"]) for row in self.sink.rows]


def rows_of(paths: list[Path]) -> list[tuple[str, int]]:
    tables = [pa.parquet.read_table(path) for path in paths]
    return [(row["stream"], row["window"]) for table in tables for row in table.to_pylist()]


class Swallowing(CollectingSink):
    """A sink that loses predictions and hides errors."""

    async def write(self, batch: pa.RecordBatch) -> None:
        self.batches = [batch]

    async def __aexit__(self, *_: object) -> bool:
        return True


class Repeating(ScriptedSource):
    """A source that delivers everything twice, and never stops."""

    async def __aiter__(self):
        async for batch in super().__aiter__():
            yield batch
            yield batch


@pytest.mark.parametrize("check", ["test_predictions_come_in_order", "test_a_failure_leaves_what_was_confirmed"])
def test_a_sink_that_breaks_its_contract_is_found(check: str) -> None:
    case = TestCollectingSink()
    case.sink = Swallowing()
    with pytest.raises(AssertionError, match=r"expected|swallowed"):
        getattr(case, check)()


def test_a_source_that_breaks_its_contract_is_found() -> None:
    class Case(TestScriptedSource):
        def open(self) -> ScriptedSource:
            self.source = Repeating(live=True)
            return self.source

    with pytest.raises(AssertionError, match="order: expected"):
        Case().test_samples_come_in_order()
