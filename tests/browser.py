"""A headless Chromium, and the live page of a pipeline in this process."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future

import numpy as np
import pyarrow as pa

from streamrde.connectors.ends import Batch, Sink, Source
from streamrde.connectors.quarantine import Quarantine
from streamrde.connectors.samples import Samples
from streamrde.inference.fleet import Fleet
from streamrde.page import Access, Page
from streamrde.runtime.labels import LateLabels
from streamrde.runtime.pipeline import Pipeline
from streamrde.runtime.recent import Recent
from streamrde.runtime.service import server_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextlib.contextmanager
def browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Containers have little /dev/shm, and root has no sandbox.
        found = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        try:
            yield found
        finally:
            found.close()


class Fed(Source[Batch]):
    """A source that delivers what a test puts in."""

    def __init__(self) -> None:
        self.quarantine = Quarantine()
        self._queue: asyncio.Queue[Batch | None] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[Batch]:
        while (batch := await self._queue.get()) is not None:
            yield batch

    def put(self, batch: Batch | None) -> None:
        self._queue.put_nowait(batch)

    def stop(self) -> None:
        self.put(None)


class Kept(Sink):
    """A sink that keeps what it was given."""

    def __init__(self) -> None:
        self.rows: list[dict] = []

    async def write(self, batch: pa.RecordBatch) -> None:
        self.rows += batch.to_pylist()


class Served:
    """A pipeline with its page, in an event loop of its own thread."""

    def __init__(self, bundle, *, access: Access | None = None, **settings) -> None:
        self.source, self.sink = Fed(), Kept()
        self.recent = Recent(len(bundle.header.channels))
        fleet = Fleet(bundle, faults="drop", **settings)
        labels = LateLabels(fleet) if "adapt" in settings else None
        self.pipeline = Pipeline(self.source, fleet, self.sink, recent=self.recent, flush=False, labels=labels)
        channels = [(channel.name, channel.unit) for channel in bundle.header.channels]
        self.page = Page(self.pipeline, self.recent, access=access, channels=channels, title="a test")
        self.port = 0
        self._ready: Future[int] = Future()
        self._end: asyncio.Event
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(),))

    def __enter__(self) -> Served:
        self._thread.start()
        self.port = self._ready.result(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(30)
        assert not self._thread.is_alive()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _run(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with server_of(self.pipeline, "127.0.0.1", 0, self.page) as server:
            running = asyncio.create_task(self.pipeline.run())
            self._ready.set_result(server.port)
            await self._end.wait()
            self.source.stop()
            await running

    def push(self, streams: Sequence[str], t: Sequence[float], x) -> None:
        """Push samples, and return when they are worked off."""
        samples = Samples(pa.array(streams), np.asarray(t, dtype=float), np.asarray(x, dtype=float))
        rows, deadline = self.pipeline.metrics.rows + len(t), time.monotonic() + 60
        self.call(self.source.put, Batch(samples))
        while self.pipeline.metrics.rows < rows:
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def call(self, function, *arguments):
        """Call a function in the loop, and return what it returns."""
        done: Future = Future()
        self._loop.call_soon_threadsafe(lambda: done.set_result(function(*arguments)))
        return done.result(30)
