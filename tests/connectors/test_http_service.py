"""`streamrde run` behind HTTP in a process of its own: killed again and again, and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from brokers import free_port
from bundles import make_bundle, make_recording
from services import config, eventually, get, service
from web import post

import streamrde as sr
from streamrde.connectors.codecs import JsonCodec
from streamrde.connectors.columns import Columns

pytest.importorskip("uvicorn", reason="the extra 'web' is not installed")
pytestmark = pytest.mark.slow

STREAMS = {f"s{i}": make_recording(i, 120) for i in range(3)}
CODEC = JsonCodec(Columns(channels=("a", "b")))
BATCH = 5


async def send(port: int, stream: str, ended: asyncio.Event) -> None:
    """Send a stream in order, each batch until it is answered with 202."""
    t, x = STREAMS[stream]
    for first in range(0, len(t), BATCH):
        body = CODEC.encode_samples(t[first : first + BATCH], x[first : first + BATCH])
        while True:
            with contextlib.suppress(OSError, IndexError, ValueError):
                answer = await post(port, f"/streams/{stream}", body)
                if answer.status == 202:
                    break
                assert answer.status == 503, answer
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.05)
    ended.set()


def expected() -> dict[tuple[str, int], list[float]]:
    fleet = sr.Fleet(make_bundle(seed=1), faults="drop")
    rows = [row for stream, (t, x) in STREAMS.items() for row in fleet.push([stream] * len(t), t, x).to_pylist()]
    return {(row["stream"], row["window"]): row["value"] for row in rows}


def test_no_prediction_is_missing_however_often_the_service_is_killed(tmp_path: Path) -> None:
    port, health = free_port(), free_port()
    path = config(
        tmp_path,
        "",
        health,
        source=f'kind = "http"\n[source.listen]\nport = {port}',
        sink=f'kind = "parts"\nfolder = "{tmp_path / "out"}"',
        state=f'path = "{tmp_path / "state.db"}"\ncheckpoint_seconds = 0.1',
    )

    async def main() -> int:
        ended = [asyncio.Event() for _ in STREAMS]
        senders = [asyncio.create_task(send(port, stream, end)) for stream, end in zip(STREAMS, ended, strict=True)]
        kills = 0
        while kills < 3:
            with service(path) as process:
                await asyncio.to_thread(eventually, lambda: get(health, "/readyz")[0] == 200, process)
                await asyncio.sleep(0.3)
                assert not all(end.is_set() for end in ended), "it was killed too late to show anything"
                process.kill()
                kills += 1
        with service(path) as process:
            await asyncio.wait_for(asyncio.gather(*senders), 60)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 30) == 0
        return kills

    assert asyncio.run(main()) == 3
    parts = [pa.parquet.read_table(part).to_pylist() for part in (tmp_path / "out").glob("part-*")]
    rows = [row for part in parts for row in part]
    found = {(row["stream"], row["window"]): row["value"] for row in rows}
    assert len(rows) == len(found), "a prediction is there twice"
    assert found == expected()


def test_a_signal_ends_the_run_in_order_while_clients_are_connected(tmp_path: Path) -> None:
    port, health = free_port(), free_port()
    listen = f"[{{}}.listen]\nport = {port}"
    path = config(
        tmp_path,
        "",
        health,
        source=f'kind = "http"\n{listen.format("source")}',
        sink=f'kind = "http"\n{listen.format("sink")}',
    )

    async def main() -> None:
        with service(path) as process:
            await asyncio.to_thread(eventually, lambda: get(health, "/readyz")[0] == 200, process)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /predictions HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readuntil(b"follow\n\n")
            t, x = STREAMS["s0"]
            assert (await post(port, "/streams/s0", CODEC.encode_samples(t, x))).status == 202
            assert b"data: " in await reader.readuntil(b"}\n\n")
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 30) == 0
            assert (await reader.read()).endswith(b"0\r\n\r\n"), "the stream of events was not ended in order"
            writer.close()

    asyncio.run(asyncio.wait_for(main(), 60))
