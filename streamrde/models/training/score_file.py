"""Write the test streams as a file that `score` reads, so that the served model can be measured again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamrde.connectors.files.writing import PredictionWriter
from streamrde.connectors.samples import HORIZON
from streamrde.fitting.recordings import Recording
from streamrde.inference.header import Header
from streamrde.models.training.augmentation import Variant
from streamrde.models.training.config import TrainConfig
from streamrde.models.training.examples import targets_of
from streamrde.models.training.preflight import OWN
from streamrde.windowing.recorded import window_recordings

# Rows of a record batch, hence of a row group.
_ROWS = 1 << 18


def truth_columns(config: TrainConfig) -> dict[str, str]:
    """Return the file's column of each target: its name, with ``target_`` in front if another column has that name."""
    taken = {*OWN, *(channel.name for channel in config.data.channels)}
    found: dict[str, str] = {}
    for name in config.data.targets:
        column = name
        while column in taken:
            column = f"target_{column}"
        taken.add(column)
        found[name] = column
    return found


def write_test(path: str | os.PathLike[str], streams: Sequence[Recording], config: TrainConfig, header: Header) -> None:
    """Write streams row by row: "stream_id", "t" in seconds, the model's channels, and a column for each target.

    A row's target is that of its window, the horizon included, so that ``streamrde score FILE --model MODEL --evaluate
    TARGET`` compares each prediction with the same target as training did. Null = not known, not observed.

    Args:
        path: the file. Its extension selects the format, see `PredictionWriter`.
        streams: the test streams.
        config: the run's configuration.
        header: the trained model's header.
    Raises:
        DataError: the file cannot be written.
    """
    channels = [channel.name for channel in header.channels]
    truth = truth_columns(config)
    classify = header.task == "classification"
    fields = [pa.field("stream_id", pa.string()), *(pa.field(name, pa.float64()) for name in ("t", *channels))]
    metadata = {HORIZON: repr(header.horizon)} if header.horizon else None
    kind = pa.string() if classify else pa.float64()
    fields += [pa.field(name, kind, metadata=metadata) for name in truth.values()]
    schema = pa.schema(fields)
    with PredictionWriter(os.fspath(path), schema) as file:
        for batch in _batches(streams, config, header, schema):
            file.write(batch)


def _batches(
    streams: Sequence[Recording], config: TrainConfig, header: Header, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    waiting: list[pa.RecordBatch] = []
    for i, stream in enumerate(streams):
        columns = [pa.array([stream.stream]).take(pa.array(np.zeros(len(stream.t), np.int8))), pa.array(stream.t)]
        columns += [pa.array(column, from_pandas=True) for column in np.ascontiguousarray(stream.x.T)]
        truth = _truth(stream, config, header)
        if header.task == "classification":
            columns.append(pa.array(header.labels, pa.string()).take(pa.array(truth, mask=truth < 0)))
        else:
            columns += [pa.array(column, from_pandas=True) for column in np.ascontiguousarray(truth.T)]
        waiting.append(pa.RecordBatch.from_arrays(columns, schema=schema))
        if i + 1 == len(streams) or sum(batch.num_rows for batch in waiting) >= _ROWS:
            yield pa.Table.from_batches(waiting).combine_chunks().to_batches()[0]
            waiting = []


def _truth(stream: Recording, config: TrainConfig, header: Header) -> NDArray[Any]:
    """Return the targets of a stream's rows, (L,) numbers of classes or (L, outputs)."""
    classes = header.labels if header.task == "classification" else ()
    variant = Variant(stream.t, stream.x, 1.0)
    truth: NDArray[Any] = np.full(len(stream.t), -1) if classes else np.full((len(stream.t), header.outputs), np.nan)
    for windowed in window_recordings([stream.t], [stream.x], header.partition):
        values = targets_of(stream.target, variant, windowed, config.data.horizon, classes)
        if stream.target.t is None:
            truth[:] = values[:1] if len(values) else truth
            continue
        window = np.searchsorted(windowed.end, stream.t)
        inside = window < len(windowed.end)
        inside[inside] = windowed.start[window[inside]] < stream.t[inside]
        truth[inside] = values[window[inside]]
    return truth
