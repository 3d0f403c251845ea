"""Recorded samples sent to a queue at the pace at which they were recorded, or a multiple of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamrde.arrays import Floats
from streamrde.connectors.columns import Columns
from streamrde.connectors.ends import Publisher
from streamrde.connectors.files.reading import SampleReader, read
from streamrde.connectors.files.restarts import OnRestart, Restarts, explain, split_streams
from streamrde.connectors.files.together import together
from streamrde.connectors.samples import Samples
from streamrde.errors import DataError, ParameterError
from streamrde.times.plausible import Expectation, suspect_recordings


class Recording(NamedTuple):
    """Hold the rows of many streams in order of time."""

    streams: NDArray[np.object_]
    t: Floats
    x: Floats


def load_recording(
    files: str | Sequence[str],
    columns: Columns,
    *,
    expected: Expectation | None = None,
    restarts: OnRestart = "error",
) -> Recording:
    """Read all rows of the files, sorted by time. They are held in memory, 8 bytes per value.

    Args:
        expected: what the times are judged by; None: they are not.
        restarts: a stream that jumps back in time and goes on: "error", "split" it into several (name, name#2), or
            "sort" its rows into one another.
    Raises:
        DataError: as `connectors.files.read`; the times cannot be right, the message names the likely unit; a stream
            begins again.
    """
    if restarts not in ("error", "split", "sort"):
        raise ParameterError(f"restarts={restarts!r}: use 'error', 'split' or 'sort'")
    where = files if isinstance(files, str) else ", ".join(map(str, files))
    read_in_order, partial = [*read(files, columns)], SampleReader(columns).is_partial
    if restarts != "sort":
        watch = Restarts(partial=partial)
        for samples in read_in_order:
            watch.push(samples)
        if restarts == "split":
            read_in_order = [*split_streams(read_in_order, watch.places())]
        elif found := watch.found():
            raise DataError(f"{where}: {explain(found, 'restarts =')}", path=where, column=columns.time)
    parts = [(np.array(s.streams.to_pylist(), dtype=object), s.t, s.x) for s in read_in_order]
    streams, t, x = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(t, kind="stable")
    streams, t, x = streams[order], t[order], x[order]
    if partial:
        whole = together(Samples(pa.array(streams, pa.string()), t, x))
        streams, t, x = np.array(whole.streams.to_pylist(), dtype=object), whole.t, whole.x
    if expected is not None:
        _, codes = np.unique(streams.astype(str), return_inverse=True)
        by_stream = np.argsort(codes, kind="stable")
        times = np.split(t[by_stream], np.flatnonzero(np.diff(codes[by_stream])) + 1)
        if reason := suspect_recordings(times, expected, columns.time_unit):
            raise DataError(f"{where}: column '{columns.time}': {reason}", path=where, column=columns.time)
    return Recording(streams, t, x)


async def replay(
    recording: Recording,
    publisher: Publisher,
    *,
    speed: float = 1.0,
    tick: float = 0.1,
    on_tick: Callable[[Samples], None] | None = None,
) -> int:
    """Publish a recording. Its first sample is sent at once, the others after the same times as recorded.

    Args:
        publisher: connected.
        speed: how many times faster than recorded; 0 = as fast as the broker takes it.
        tick: seconds between two publications, >= 0. What falls due between them goes out together, in messages of the
            publisher's batch size.
        on_tick: called with the rows just before they are published.
    Returns:
        rows published and confirmed.
    """
    if speed < 0 or tick <= 0:
        raise ParameterError(f"speed={speed}, tick={tick}: speed must be at least 0 (0 = no pacing) and tick above 0 s")
    # Without pacing a slice is what one write carries; it bounds what waits in memory.
    step = tick * speed if speed else np.inf
    due = (recording.t - recording.t[0]) / step if speed else np.arange(len(recording.t)) // 1000
    cuts = np.flatnonzero(np.diff(np.floor(due))) + 1
    began = time.perf_counter()
    for rows in np.split(np.arange(len(recording.t)), cuts):
        if speed:
            # A slice holds the samples of one tick and goes out when the tick is over, as a sensor that batches would.
            await asyncio.sleep(max(0.0, began + (np.floor(due[rows[0]]) + 1) * tick - time.perf_counter()))
        samples = Samples(pa.array(recording.streams[rows]), recording.t[rows], recording.x[rows])
        if on_tick is not None:
            on_tick(samples)
        await publisher.publish(samples)
    await publisher.flush()
    return len(recording.t)
