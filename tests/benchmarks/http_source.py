"""How fast a source of kind "http" takes samples, beside a bare server that only answers.

    python tests/benchmarks/http_source.py
    python tests/benchmarks/http_source.py --requests 20000 --rounds 5

Both run in a process of their own, on starlette and uvicorn, and in turn. Clients keep 16 connections and send a
request on each as soon as the one before is answered. "bare" reads the body and answers 202. "source" is HttpSource
alone: decode, micro-batch, acknowledge, answer. WebSocket: one connection, messages as fast as they go. Rates are per
second of the server's CPU time, since other programs may use the machine too, and per second of the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1]))
from brokers import free_port

from streamrde.connectors.codecs import JsonCodec
from streamrde.connectors.http import HttpSourceConfig, ListenConfig
from streamrde.connectors.http.options import Listening
from streamrde.connectors.sections import ModelOutline
from streamrde.demo.watch_data import COLUMNS

CONNECTIONS = 16


async def serve_source(port: int) -> None:
    section = HttpSourceConfig(listen=ListenConfig(port=port))
    async with section.build(ModelOutline(COLUMNS.channels, pa.schema([]), {})) as source:
        async for batch in source:
            await source.acknowledge(batch)


async def serve_bare(port: int) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route, WebSocketRoute
    from starlette.websockets import WebSocket, WebSocketDisconnect

    async def take(request: Request) -> Response:
        await request.body()
        return Response(status_code=202)

    async def take_messages(socket: WebSocket) -> None:
        await socket.accept()
        try:
            while True:
                await socket.receive_text()
        except WebSocketDisconnect:
            pass

    routes = [Route("/{path:path}", take, methods=["POST"]), WebSocketRoute("/{path:path}", take_messages)]
    config = uvicorn.Config(
        Starlette(routes=routes), http="h11", ws="websockets-sansio", loop="none", log_config=None, access_log=False
    )
    await uvicorn.Server(config).serve([Listening(port=port).socket()])


def body(rows: int) -> bytes:
    return JsonCodec(COLUMNS).encode_samples(np.arange(rows) / 50, np.ones((rows, len(COLUMNS.channels))))


async def post_all(port: int, requests: int, rows: int) -> None:
    content, left = body(rows), iter(range(requests))
    head = f"POST /streams/s HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n".encode()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in left:
            writer.write(head + content)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert b" 202 " in answer, answer
            lengths = [line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            await reader.readexactly(int(lengths[0].partition(b":")[2]))
        writer.close()

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))


async def send_all(port: int, messages: int, rows: int) -> None:
    import websockets

    content = body(rows).decode()
    async with websockets.connect(f"ws://127.0.0.1:{port}/streams/s") as socket:
        for _ in range(messages):
            await socket.send(content)
        await (await socket.ping())


def cpu(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(kind: str, way: str, requests: int, rows: int) -> tuple[float, float]:
    port = free_port()
    process = subprocess.Popen([sys.executable, __file__, "--serve", kind, "--port", str(port)])
    try:
        while True:
            try:
                (await asyncio.open_connection("127.0.0.1", port))[1].close()
                break
            except OSError:
                await asyncio.sleep(0.05)
        work = post_all if way == "POST" else send_all
        await work(port, requests // 10, rows)
        began, before = time.perf_counter(), cpu(process.pid)
        await work(port, requests, rows)
        return requests / (cpu(process.pid) - before), requests / (time.perf_counter() - began)
    finally:
        process.kill()
        process.wait()


async def main(requests: int, rounds: int) -> None:
    print(f"{platform.machine()}, Python {platform.python_version()}, {requests} requests, {rounds} rounds")
    for way, rows in (("POST", 1), ("POST", 100), ("WebSocket", 1)):
        rates: dict[str, list[tuple[float, float]]] = {"bare": [], "source": []}
        for _ in range(rounds):
            for kind, found in rates.items():
                found.append(await measure(kind, way, requests if rows == 1 else requests // 10, rows))
        medians = {
            kind: [statistics.median(column) for column in zip(*found, strict=True)] for kind, found in rates.items()
        }
        spread = {
            kind: [round(min(one[0] for one in found)), round(max(one[0] for one in found))]
            for kind, found in rates.items()
        }
        shown = {
            "way": way,
            "rows": rows,
            **{f"{kind} per CPU second": round(values[0]) for kind, values in medians.items()},
            **{f"{kind} per second": round(values[1]) for kind, values in medians.items()},
            "spread": spread,
            "ratio": round(medians["source"][0] / medians["bare"][0], 2),
        }
        print(json.dumps(shown))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", choices=["bare", "source"])
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run({"bare": serve_bare, "source": serve_source}[arguments.serve](arguments.port))
    else:
        asyncio.run(main(arguments.requests, arguments.rounds))
