"""`streamrde demo`: broker, sensors, service and table in one process."""

from __future__ import annotations

import asyncio
import secrets
import time
import webbrowser
from collections.abc import Callable
from contextlib import AsyncExitStack, nullcontext, suppress
from pathlib import Path

import pyarrow as pa
from paho.mqtt.client import MQTTMessage
from rich.console import Console
from rich.live import Live

from streamrde.connectors.broker import EmbeddedBroker
from streamrde.connectors.codecs import decode_prediction
from streamrde.connectors.mqtt import MqttSink, MqttSource, SamplePublisher
from streamrde.connectors.mqtt.connection import MqttConnection
from streamrde.connectors.mqtt.messages import Receipt
from streamrde.connectors.mqtt.topics import MqttAddress
from streamrde.connectors.topics import TopicTemplate
from streamrde.demo.board import Board
from streamrde.demo.watch_data import COLUMNS, MODEL, held_out_files, truth
from streamrde.errors import BrokerError
from streamrde.inference.bundle import Bundle, load
from streamrde.inference.fleet import Fleet
from streamrde.page import Page
from streamrde.runtime.metrics import Metrics
from streamrde.runtime.pipeline import Pipeline
from streamrde.runtime.recent import Recent
from streamrde.runtime.replay import load_recording, replay
from streamrde.runtime.service import server_of
from streamrde.tables import print_whole

# A watch that sends every 0.2 s puts 10 samples of 50 Hz in a message. At twice real time that is one every 0.1 s.
_BATCH = 10
_SAMPLE_RATE = 50.0
# Seconds to wait for the last predictions before giving up.
_PATIENCE = 20.0


def show(
    console: Console,
    *,
    broker: str | None = None,
    model: Path = MODEL,
    speed: float = 2.0,
    port: int | None = 0,
    opens: bool = False,
) -> dict[str, float | int]:
    """Run the demo and return its summary.

    Args:
        console: shows the table: live on a terminal, elsewhere as a line every few seconds.
        broker: ``mqtt://host:port`` of a broker to use. None starts one in this process.
        model: the model file.
        speed: multiple of real time.
        port: of the live page; 0: any free one; None: there is no page.
        opens: open the page in a browser, and serve it until Ctrl-C.
    """
    bundle = load(model)
    with EmbeddedBroker() if broker is None else nullcontext() as embedded:
        url = broker or (embedded.url if embedded is not None else "")
        where = "in this process" if broker is None else "external"
        console.print(f"broker    {where}, MQTT")
        console.print(f"model     {Path(model).name}: {bundle.header.description}")
        board = Board(truth())
        console.print(f"streams   {len(board.truth)} recordings of people the model never saw, {speed:g}x real time")
        metrics = asyncio.run(_everything(url, bundle, board, console, speed, port, opens=opens))
    print_whole(console, board.table())
    return {
        "streams": len(board.truth),
        "right_at_end": board.right,
        "accuracy_at_end": round(board.right / len(board.truth), 4),
        "samples": metrics.counts.samples,
        "samples_per_second": round(metrics.counts.samples / metrics.seconds),
        "predictions": board.predictions,
        "latency_p50_ms": round(board.latency.quantile(0.5) * 1e3, 1),
        "latency_p99_ms": round(board.latency.quantile(0.99) * 1e3, 1),
        "seconds": round(metrics.seconds, 1),
    }


async def _everything(
    url: str, bundle: Bundle, board: Board, console: Console, speed: float, port: int | None, *, opens: bool
) -> Metrics:
    mine = f"streamrde-demo/{secrets.token_hex(4)}"  # an external broker may have several demos at once
    sensors, predictions = mine + "/sensors/{stream}/imu", mine + "/predictions/{stream}"
    recording = load_recording(held_out_files(), COLUMNS)
    source = MqttSource(url, topic=sensors, columns=COLUMNS)
    sink = MqttSink(url, topic=predictions)
    metrics, started = Metrics(), asyncio.Event()
    recent = None if port is None else Recent(len(bundle.header.channels))
    fleet = Fleet(bundle, novelty=bundle.novelty_fingerprint != "")
    pipeline = Pipeline(source, fleet, sink, metrics=metrics, recent=recent, on_start=started.set)

    def received(message: MQTTMessage, receipt: Receipt | None) -> None:
        board.predicted(decode_prediction(bytes(message.payload)))
        if receipt is not None:
            viewer.acknowledge(receipt)

    shown = [(TopicTemplate(predictions).filter, 1)]
    viewer = MqttConnection(MqttAddress.parse(url), subscriptions=shown, on_message=received)
    async with AsyncExitStack() as stack:
        if port is not None and recent is not None:
            await _serve_page(stack, pipeline, recent, bundle, board, console, port, opens=opens)
        await stack.enter_async_context(viewer)
        sensor = await stack.enter_async_context(SamplePublisher(url, topic=sensors, columns=COLUMNS, batch=_BATCH))
        service = asyncio.create_task(pipeline.run())
        table = asyncio.create_task(_display(board, console))
        try:
            await _first(service, asyncio.create_task(started.wait()))
            metrics.began = time.perf_counter()
            sending = asyncio.create_task(
                replay(recording, sensor, speed=speed, tick=_BATCH / _SAMPLE_RATE / speed, on_tick=board.sent)
            )
            await _first(service, sending)
            await _until(lambda: metrics.rows >= board.samples, service, "samples")
            board.ended = True
            source.stop()
            await service
            await _until(lambda: board.predictions >= metrics.predictions, None, "predictions")
        finally:
            table.cancel()
            service.cancel()
            await asyncio.gather(table, service, return_exceptions=True)
        if opens:
            console.print("the page stays until Ctrl-C")
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
    return metrics


async def _serve_page(
    stack: AsyncExitStack,
    pipeline: Pipeline,
    recent: Recent,
    bundle: Bundle,
    board: Board,
    console: Console,
    port: int,
    *,
    opens: bool,
) -> None:
    """Serve the live page for as long as `stack` is open, with the truth beside the predictions."""
    recent.labels.append(pa.record_batch({"stream": [*board.truth], "label": [*board.truth.values()]}))
    channels = [(channel.name, channel.unit) for channel in bundle.header.channels]
    page = Page(pipeline, recent, channels=channels, title=bundle.header.description)
    server = await stack.enter_async_context(server_of(pipeline, "127.0.0.1", port, page))
    address = f"http://127.0.0.1:{server.port}/"
    console.print(f"page      {address}")
    if opens:
        await asyncio.to_thread(webbrowser.open, address)


async def _first(service: asyncio.Task[Metrics], other: asyncio.Task[object]) -> None:
    """Wait for `other`. If the service fails first, raise its error."""
    await asyncio.wait((service, other), return_when=asyncio.FIRST_COMPLETED)
    if service.done():
        other.cancel()
        service.result()
    await other


async def _until(done: Callable[[], bool], service: asyncio.Task[Metrics] | None, what: str) -> None:
    deadline = time.perf_counter() + _PATIENCE
    while not done():
        if service is not None and service.done():
            service.result()
        if time.perf_counter() > deadline:
            raise BrokerError(
                f"some {what} did not come back within {_PATIENCE:g} s: is the broker overloaded? lower --speed"
            )
        await asyncio.sleep(0.02)


async def _display(board: Board, console: Console) -> None:
    """Show the board until cancelled."""
    if not console.is_terminal:
        while True:
            await asyncio.sleep(5)
            console.print(f"{board.right} of {len(board.truth)} right, {board.rate:,.0f} samples/s")
    rows = max(5, console.height - 8)
    with Live(board.table(rows), console=console, auto_refresh=False, transient=True) as live:
        while True:
            await asyncio.sleep(0.25)
            live.update(board.table(rows), refresh=True)
