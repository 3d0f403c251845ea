"""The live page of workers: each shows the streams of its own partitions, and counts what it did itself."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import free_port, strict_kafka

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

from services import eventually
from shared_runs import SharedRun, expected, rows_of
from web import events

from streamrde import toml
from streamrde.page.roll import Care

STREAMS, EACH = 20, 30


@contextlib.contextmanager
def worker(run: SharedRun, folder: Path) -> Iterator[int]:
    """`streamrde run` in a process of its own, and the port of its page."""
    port = free_port()
    config = folder / f"worker-{port}.toml"
    config.write_text(toml.dumps(run.tables | {"service": {"port": port, "page": True}}))
    log = folder / f"worker-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamrde", "run", str(config)],
            stdout=output, stderr=output, env=os.environ | {"PYTHONFAULTHANDLER": "1"},
        )  # fmt: skip
    try:
        yield port
    finally:
        process.terminate()
        assert process.wait(30) == 0, log.read_text()


def shown(port: int, wanted: Callable[[dict[str, Any], dict[str, list[Any]]], bool]) -> tuple[dict[str, Any], Any]:
    """Look at a worker's page until it shows what is wanted: its counters, and the streams that it has now."""
    eventually(lambda: socket.create_connection(("127.0.0.1", port), 5).close() is None)
    deadline = time.monotonic() + 60
    status: dict[str, Any] = {}
    streams: dict[str, list[Any]] = {}
    with socket.create_connection(("127.0.0.1", port)) as viewer:
        viewer.settimeout(30)
        viewer.sendall(b"GET /page/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        for name, found in events(viewer):
            if name == "status":
                status = found
            else:
                streams |= {row[1]: row for row in found}
            live = {stream: row for stream, row in streams.items() if row[10] != Care.ENDED}
            if status and wanted(status, live):
                return status, live
            assert time.monotonic() < deadline, (status, live)
    raise AssertionError("the page ended")


def parted(first: int, second: int, streams: set[str]) -> tuple[set[str], set[str]] | None:
    """Streams on the pages of two workers, if each has some and both have all of them."""
    left, theirs = ({*shown(port, lambda _, live: bool(live))[1]} for port in (first, second))
    return (left, theirs) if not left & theirs and left | theirs == streams else None


def rows_shown(port: int, least: int) -> int:
    """Number of rows on a worker's page, when it is so large."""
    return shown(port, lambda status, _: status["rows"] >= least)[0]["rows"]


@pytest.mark.slow
def test_each_worker_shows_the_streams_of_its_partitions_and_counts_what_it_did(tmp_path):
    rows = rows_of(STREAMS, EACH)
    with strict_kafka(tmp_path) as broker:
        run = SharedRun(broker.url, tmp_path)
        run.send(rows)
        with worker(run, tmp_path) as first:
            status, streams = shown(
                first, lambda status, streams: len(streams) == STREAMS and status["predictions"] == len(expected(rows))
            )
            assert run.predictions(len(expected(rows))) == expected(rows)
            assert status["rows"] == len(rows)
            assert status["streams"] == STREAMS
            last = {stream: t for stream, t, _ in rows}
            for stream, row in streams.items():
                assert row[2] == last[stream]
                assert row[4] == EACH
            with worker(run, tmp_path) as second:
                left, theirs = eventually(lambda: parted(first, second, {*streams}), seconds=60)
                more = rows_of(STREAMS, 5, begin=EACH, seed=1)
                run.send(more)
                assert rows_shown(second, 5 * len(theirs)) == 5 * len(theirs)
                assert rows_shown(first, len(rows) + 5 * len(left)) == len(rows) + 5 * len(left)
