"""The loop: micro-batch in, fleet, predictions out, then the input is acknowledged."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamrde.connectors.samples import Samples
from streamrde.inference.fleet import Fleet
from streamrde.runtime.metrics import Metrics

# A fleet's counts are summed over its streams: too much for every micro-batch, and often enough to be looked at.
_COUNT_EVERY = 0.5


class Batch(Protocol):
    """Samples that arrived together."""

    @property
    def samples(self) -> Samples:
        """The rows."""

    @property
    def arrivals(self) -> NDArray[np.float64] | None:
        """When each row arrived, `time.perf_counter()` seconds; None for recorded rows."""


B = TypeVar("B", bound=Batch)


class Source(AbstractAsyncContextManager[Any], Protocol[B]):
    """Where samples come from. Entering it connects; iterating it ends when the source does, or after `stop`."""

    def __aiter__(self) -> AsyncIterator[B]:
        """Micro-batches in order of arrival."""

    async def acknowledge(self, batch: B) -> None:
        """The batch's predictions are safe: it need not come again."""

    def stop(self) -> None:
        """End the iteration after what has arrived by now."""


class Sink(AbstractAsyncContextManager[Any], Protocol):
    """Where predictions go."""

    async def write(self, batch: pa.RecordBatch) -> None:
        """Return when every prediction is confirmed."""


async def run(
    source: Source[B],
    fleet: Fleet,
    sink: Sink,
    *,
    flush: bool = True,
    metrics: Metrics | None = None,
    on_start: Callable[[], None] | None = None,
    on_batch: Callable[[Metrics], None] | None = None,
) -> Metrics:
    """Carry samples from a source through a fleet to a sink until the source ends or is stopped.

    A batch is acknowledged only after its predictions are confirmed, so nothing is lost between the two; a consumer
    that dies in between sees the batch again, and (stream, window) tells which predictions repeat.

    Args:
        source, sink: not yet entered.
        flush: at the end close the streams' open windows and write their predictions too.
        metrics: counters to go on with.
        on_start: called when both ends are connected.
        on_batch: called after every batch.
    """
    metrics, next_count = metrics or Metrics(), 0.0
    async with sink, source:
        if on_start is not None:
            on_start()
        async for batch in source:
            samples = batch.samples
            predictions = fleet.push(samples.streams, samples.t, samples.x)
            if predictions.num_rows:
                await sink.write(predictions)
            await source.acknowledge(batch)
            if predictions.num_rows and batch.arrivals is not None:
                metrics.latency.add(time.perf_counter() - batch.arrivals)
            metrics.rows += len(samples.t)
            metrics.predictions += predictions.num_rows
            metrics.streams = len(fleet)
            if (now := time.perf_counter()) >= next_count:
                next_count = now + _COUNT_EVERY
                _count(metrics, fleet, source)
            if on_batch is not None:
                on_batch(metrics)
        _count(metrics, fleet, source)
        if flush:
            predictions = fleet.flush()
            if predictions.num_rows:
                await sink.write(predictions)
            metrics.predictions += predictions.num_rows
    metrics.ended = time.perf_counter()
    return metrics


def _count(metrics: Metrics, fleet: Fleet, source: Any) -> None:
    metrics.counts = fleet.counts()
    counts = getattr(source, "counts", None)
    if counts is not None:
        metrics.malformed, metrics.dropped = counts.malformed, counts.dropped
