"""Ends for tests: scripted ones in memory, and the conformance kit that every source and sink must pass.

A connector's author derives a test class from `SourceConformance` or `SinkConformance`, says there how an end is opened
and how to reach its other side, and lets pytest run what it inherits:

    class TestTicks(SourceConformance):
        def open(self):
            return TickSource(self.queue)

        async def send(self, stream, t, x):
            self.queue.put(stream, t, x)
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from streamrde.connectors.ends import Batch, Sink, Source
from streamrde.connectors.quarantine import Quarantine
from streamrde.connectors.samples import Samples

Row: TypeAlias = tuple[str, float]
_TIMEOUT = 30.0
"""Seconds that a check may take."""
_QUIET = 0.3
"""Seconds without a sample after which a source is taken to have no more."""

PREDICTIONS = pa.schema(
    [
        ("stream", pa.string()),
        ("window", pa.int64()),
        ("t_start", pa.float64()),
        ("t_end", pa.float64()),
        ("value", pa.list_(pa.float32(), 1)),
    ]
)
"""Schema of the predictions that the kit writes."""


def batch_of(streams: Sequence[str], t: ArrayLike, x: ArrayLike | None = None) -> Batch:
    """Return rows as a batch. Without x, (rows, channels), there are two channels of value 1."""
    times = np.asarray(t, dtype=np.float64)
    values = np.ones((len(times), 2)) if x is None else np.asarray(x, dtype=np.float64)
    return Batch(Samples(pa.array(streams, pa.string()), times, values), messages=len(times))


def predictions_of(stream: str, windows: Iterable[int]) -> pa.RecordBatch:
    """Return predictions of a stream's windows, whose values are their numbers."""
    rows = [
        {"stream": stream, "window": k, "t_start": float(k), "t_end": float(k + 1), "value": [float(k)]}
        for k in windows
    ]
    return pa.RecordBatch.from_pylist(rows, schema=PREDICTIONS)


class ScriptedSource(Source[Batch]):
    """Deliver batches that a test hands over, and remember which were acknowledged.

    Args:
        batches: delivered one after the other; `stop` ends before the next.
        live: after the last batch wait for `send`, until `stop`.
        quarantine, topics: of the streams, as a broker's source has them.
    """

    def __init__(
        self,
        batches: Iterable[Batch] = (),
        *,
        live: bool = False,
        quarantine: Quarantine | None = None,
        topics: str | None = None,
    ) -> None:
        self.acknowledged: list[Batch] = []
        self.quarantine = quarantine
        self.stopped = False
        self._coming = iter(batches)
        self._arrived: deque[Batch] = deque()
        self._live = live
        self._topics = topics
        self._changed = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[Batch]:
        while True:
            await asyncio.sleep(0)
            batch = self._arrived.popleft() if self._arrived else None if self.stopped else next(self._coming, None)
            if batch is not None:
                yield batch
            elif self.stopped or not self._live:
                return
            else:
                await self._changed.wait()
                self._changed.clear()

    def send(self, batch: Batch) -> None:
        """Let a batch arrive."""
        self._arrived.append(batch)
        self._changed.set()

    async def acknowledge(self, batch: Batch) -> None:
        """Remember the batch."""
        self.acknowledged.append(batch)

    def topic_of(self, stream: str) -> str | None:
        """Return the topic of a stream, if the streams have topics."""
        return None if self._topics is None else self._topics.format(stream=stream)

    def stop(self) -> None:
        """End after what has arrived."""
        self.stopped = True
        self._changed.set()


class CollectingSink(Sink):
    """Keep the predictions that it is given."""

    def __init__(self) -> None:
        self.batches: list[pa.RecordBatch] = []

    async def write(self, batch: pa.RecordBatch) -> None:
        """Keep a batch."""
        await asyncio.sleep(0)
        self.batches.append(batch)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Return all predictions, in the order in which they came."""
        return [row for batch in self.batches for row in batch.to_pylist()]


class SourceConformance(ABC):
    """Check that a source keeps its contract. Derive from it in a test module."""

    redelivers: ClassVar[bool] = True
    """What was not acknowledged comes again to a source that is opened later."""
    most_waiting: ClassVar[int] = 1000
    """Messages that may wait in the source at most, however many are sent."""

    @abstractmethod
    def open(self) -> Source[Any]:
        """Return a source with the channels a and b, not yet entered, each time with the same identity."""

    @abstractmethod
    async def send(self, stream: str, t: float, x: tuple[float, float]) -> None:
        """Let a sample arrive where the source reads, whether a source is open or not."""

    def test_samples_come_in_order(self) -> None:
        """Receive the rows of a stream as they were sent."""

        async def check() -> None:
            async with self.open() as source:
                sent = await self._send("ab", range(20))
                batches = await _receive(source, len(sent), acknowledge=True)
                _equal(_by_stream(_rows(batches)), _by_stream(sent), "order")

        _run(check())

    def test_what_is_acknowledged_does_not_come_again(self) -> None:
        """Open a source again: it gets what was not acknowledged, and nothing else."""

        async def check() -> None:
            async with self.open() as source:
                done = await self._send("a", range(5))
                for batch in await _receive(source, len(done)):
                    await source.acknowledge(batch)
                sent = await self._send("a", range(5, 10))
                await _receive(source, len(sent))
            async with self.open() as source:
                _equal(_rows(await _receive_all(source)), sent if self.redelivers else [], "redelivery")

        _run(check())

    def test_a_failure_leaves_the_batch_unacknowledged(self) -> None:
        """Raise an error in the block: it comes out, and what was delivered comes again."""

        async def check() -> None:
            try:
                async with self.open() as source:
                    sent = await self._send("a", range(3))
                    await _receive(source, len(sent))
                    raise _FailureError
            except _FailureError:
                pass
            else:
                raise AssertionError("failure: the source swallowed an error that was raised inside its block")
            async with self.open() as source:
                _equal(_rows(await _receive_all(source)), sent if self.redelivers else [], "redelivery after a failure")

        _run(check())

    def test_stop_ends_the_iteration(self) -> None:
        """Stop a source: the iteration ends, at once if nothing has arrived."""

        async def check() -> None:
            async with self.open() as source:
                asyncio.get_running_loop().call_later(0.05, source.stop)
                _equal(_rows([batch async for batch in source]), [], "rows of a source to which nothing was sent")
            async with self.open() as source:
                sent = await self._send("a", range(3))
                found = []
                async for batch in source:
                    found.append(batch)
                    await source.acknowledge(batch)
                    if len(_rows(found)) == len(sent):
                        source.stop()
                _equal(_rows(found), sent, "rows before the stop")

        _run(check())

    def test_a_slow_reader_loses_nothing(self) -> None:
        """Send much before it is read: few messages wait in the source, and all come."""

        async def check() -> None:
            async with self.open() as source:
                sent = await self._send("a", range(3 * self.most_waiting if self.most_waiting < 1000 else 200))
                await asyncio.sleep(_QUIET)
                if source.waiting is not None and source.waiting > self.most_waiting:
                    raise AssertionError(f"backpressure: {source.waiting} messages wait in the source")
                _equal(_rows(await _receive(source, len(sent), acknowledge=True)), sent, "rows behind a slow reader")

        _run(check())

    async def _send(self, streams: Iterable[str], times: Iterable[int]) -> list[Row]:
        sent = [(stream, float(t)) for t in times for stream in streams]
        for stream, t in sent:
            await self.send(stream, t, (t, -t))
        return sent


class SinkConformance(ABC):
    """Check that a sink keeps its contract. Derive from it in a test module."""

    visible: ClassVar[Literal["write", "checkpoint", "end"]] = "write"
    """When predictions can be read: when `write` returns, with the checkpoint, or when the sink is left."""

    @abstractmethod
    def open(self) -> Sink:
        """Return a sink for predictions of the schema `PREDICTIONS`, not yet entered, each time of the same place."""

    @abstractmethod
    async def read(self) -> list[tuple[str, int]]:
        """Return stream and window of all predictions that whoever reads the sink's place can see."""

    def test_predictions_come_in_order(self) -> None:
        """Write predictions: when the sink has confirmed them they can be read, each once, in order."""

        async def check() -> None:
            sent = []
            async with self.open() as sink:
                _begin(sink)
                for first in range(0, 300, 100):
                    await sink.write(predictions_of("a", range(first, first + 100)))
                    sent += [("a", window) for window in range(first, first + 100)]
                    if self.visible == "write":
                        _equal(await self.read(), sent, "predictions after a write")
                sink.finish()
                _checkpoint(sink)
                if self.visible == "checkpoint":
                    _equal(await self.read(), sent, "predictions after the last checkpoint")
            _equal(await self.read(), sent, "predictions at the end")

        _run(check())

    def test_nothing_is_written_without_predictions(self) -> None:
        """Leave a sink to which nothing was written."""

        async def check() -> None:
            async with self.open() as sink:
                _begin(sink)
                sink.finish()
                _checkpoint(sink)
            _equal(await self.read(), [], "predictions")

        _run(check())

    def test_a_failure_leaves_what_was_confirmed(self) -> None:
        """Raise an error in the block: it comes out. What was confirmed can be read, and nothing else."""

        async def check() -> None:
            try:
                async with self.open() as sink:
                    _begin(sink)
                    await sink.write(predictions_of("a", range(3)))
                    raise _FailureError
            except _FailureError:
                pass
            else:
                raise AssertionError("failure: the sink swallowed an error that was raised inside its block")
            kept = [("a", window) for window in range(3)] if self.visible == "write" else []
            _equal(await self.read(), kept, "predictions after a failure")

        _run(check())

    def test_a_checkpoint_decides_what_belongs_to_the_output(self) -> None:
        """Kill a staging sink beside a checkpoint: it shows each prediction once when it goes on."""

        async def check() -> None:
            if self.visible != "checkpoint":
                return
            for saved in (False, True):
                sink, before = self.open(), await self.read()
                async with sink:
                    position = self._resume(sink, self._position)
                    await sink.write(predictions_of(f"saved-{saved}", range(3)))
                    sink.finish()
                    if (staging := sink.staging) is not None:
                        staged = staging.stage()[0]
                        self._position = staged if saved else position
                    # The process dies here: the checkpoint is saved or not, and the sink does not come to know.
                async with self.open() as sink:
                    self._resume(sink, self._position)
                    more = [(f"saved-{saved}", window) for window in range(3)] if saved else []
                    _equal(await self.read(), before + more, f"predictions after a crash, checkpoint saved: {saved}")

        _run(check())

    _position = b""

    @staticmethod
    def _resume(sink: Sink, position: bytes) -> bytes:
        if sink.staging is not None:
            sink.staging.resume(position, {})
        return position


class _FailureError(Exception):
    """Stand for a failure inside of an end's block."""


def _run(check: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(check, _TIMEOUT))


def _begin(sink: Sink) -> None:
    if sink.staging is not None:
        sink.staging.resume(b"", {})


def _checkpoint(sink: Sink) -> None:
    if sink.staging is not None:
        sink.staging.stage()
        sink.staging.staged()


async def _receive(source: Source[Any], rows: int, *, acknowledge: bool = False) -> list[Any]:
    found: list[Any] = []
    async for batch in source:
        found.append(batch)
        if acknowledge:
            await source.acknowledge(batch)
        if len(_rows(found)) >= rows:
            break
    return found


async def _receive_all(source: Source[Any]) -> list[Any]:
    """Receive until nothing has come for a while."""
    found: list[Any] = []
    loop = asyncio.get_running_loop()
    timer = loop.call_later(_QUIET, source.stop)
    async for batch in source:
        found.append(batch)
        timer.cancel()
        timer = loop.call_later(_QUIET, source.stop)
    timer.cancel()
    return found


def _rows(batches: Iterable[Any]) -> list[Row]:
    return [
        (stream, float(t))
        for batch in batches
        for stream, t in zip(batch.samples.streams.to_pylist(), batch.samples.t, strict=True)
    ]


def _by_stream(rows: Iterable[Row]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for stream, t in rows:
        found.setdefault(stream, []).append(t)
    return found


def _equal(found: object, expected: object, what: str) -> None:
    if found != expected:
        raise AssertionError(f"{what}: expected {expected}, and found {found}")
