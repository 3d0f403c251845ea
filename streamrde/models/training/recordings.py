"""From recorded files to training data: streams, their split, and the log-signatures of their windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pysiglib
from numpy.typing import NDArray

from streamrde.connectors.arrow import read
from streamrde.connectors.samples import Columns
from streamrde.errors import ConfigError, DataError
from streamrde.models.training.config import DataConfig, SplitConfig
from streamrde.windowing.cutting import Runs
from streamrde.windowing.logsigs import explain_unusable
from streamrde.windowing.order import Order
from streamrde.windowing.ordering import Fault
from streamrde.windowing.recorded import InOrder, put_in_order

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Recording:
    """One recorded stream."""

    stream: str
    t: Array
    """Seconds, ascending, (L,)."""
    x: Array
    """Data channels, (L, C-1); NaN = not observed."""
    label: str
    """Its class (classification), else ""."""
    targets: Array
    """Numbers to predict (regression), (L, outputs), NaN = none; else (L, 0)."""
    group: str
    """What must not be divided between training and test."""


class Split(NamedTuple):
    """The streams of each part."""

    train: list[Recording]
    validation: list[Recording]
    test: list[Recording]


def read_recordings(data: DataConfig, *, group: str = "", order: Order | None = None) -> list[Recording]:
    """Read all streams of a data set, ordered by name.

    Args:
        data: files and columns.
        order: of the rows of a stream, as serving puts them into it; None: as they are.
        group: column whose value a stream belongs to; "" makes each stream its own group.
    Raises:
        DataError: no file, a missing column, a value that is infinite, a row that is late or, where `order` calls it a
            fault, a repeat; a stream with two labels or groups.
    """
    columns = Columns(
        channels=tuple(channel.name for channel in data.channels),
        time=data.time,
        time_unit=data.time_unit,
        stream=data.stream or None,
    )
    extra = tuple(dict.fromkeys((*data.targets, *([group] if group else []))))
    files = data.files if isinstance(data.files, str) else list(data.files)
    batches = list(read(files, columns, extra=extra))
    where = str(data.files)
    if not sum(len(batch.t) for batch in batches):
        raise DataError(f"{where}: no rows; give files with samples", path=where)
    streams = np.asarray(pa.chunked_array([_strings(batch.streams) for batch in batches]).to_numpy(), dtype=object)
    t = np.concatenate([batch.t for batch in batches])
    x = np.concatenate([batch.x for batch in batches])
    columns_read = {
        name: pa.chunked_array([batch.extra.column(name) for batch in batches if batch.extra is not None])
        for name in extra
    }
    classify = data.task == "classification"
    labels = _texts(columns_read[data.targets[0]]) if classify else None
    targets = np.empty((len(t), 0)) if classify else _numbers(columns_read, data.targets, where)
    groups = _texts(columns_read[group]) if group else None

    names, index = np.unique(streams.astype(str), return_inverse=True)
    # Stable: a stream's rows keep the order in which they were recorded.
    rows = np.split(np.argsort(index, kind="stable"), np.cumsum(np.bincount(index))[:-1])
    recordings = []
    for name, own in zip(names.tolist(), rows, strict=True):
        ordered = put_in_order(t[own], x[own], order or Order())
        _check_used(ordered, t[own], x[own], name, order or Order(), where, data.time)
        own = own[ordered.row]
        label = "" if labels is None else _single(labels[own], name, data.targets[0], where)
        key = name if groups is None else _single(groups[own], name, group, where)
        recordings.append(Recording(name, ordered.t, ordered.x, label, targets[own], key))
    return recordings


def _check_used(ordered: InOrder, t: Array, x: Array, stream: str, order: Order, where: str, column: str) -> None:
    """Raise DataError at a row that serving would not use either, unless it is a repeat that `order` allows."""
    for row, verdict in ordered.unused:
        if verdict.fault == Fault.REJECTED:
            why = explain_unusable(row, verdict.column, t, x)
            raise DataError(f"{where}: stream '{stream}': {why}", path=where)
        if verdict.fault == Fault.LATE or order.duplicates == "error":
            raise DataError(
                f"{where}: stream '{stream}' has time {t[row]} after {verdict.bound}; sort the file by '{column}' and "
                "drop repeats, or set order.lateness and order.duplicates",
                path=where,
                column=column,
            )


def split(recordings: Sequence[Recording], config: SplitConfig) -> Split:
    """Divide streams into training, validation and test, never a group between two of them.

    Raises:
        ConfigError: a listed value matches no stream or is listed twice, or no stream is left to train on.
    """
    groups = sorted({recording.group for recording in recordings})
    order = np.random.default_rng(config.seed).permutation(len(groups))
    free = [groups[i] for i in order]
    chosen: dict[str, set[str]] = {"validation": set(), "test": set()}
    for part in ("validation", "test"):
        wanted = getattr(config, part)
        if isinstance(wanted, tuple):
            chosen[part] = {str(value) for value in wanted}
            for value in sorted(chosen[part]):
                if value not in groups:
                    raise ConfigError(
                        f"split.{part}: no stream has '{value}' in column '{config.column}'; it has {', '.join(groups)}"
                    )
    both = chosen["validation"] & chosen["test"]
    if both:
        raise ConfigError(f"'{min(both)}' is listed in split.validation and in split.test: leave it in one of them")
    free = [name for name in free if name not in chosen["validation"] | chosen["test"]]
    for part in ("test", "validation"):
        share = getattr(config, part)
        if isinstance(share, tuple) or not share:
            continue
        count = max(1, round(share * len(groups)))
        chosen[part], free = set(free[:count]), free[count:]
    parts = Split([], [], [])
    for recording in recordings:
        if recording.group in chosen["test"]:
            parts.test.append(recording)
        elif recording.group in chosen["validation"]:
            parts.validation.append(recording)
        else:
            parts.train.append(recording)
    if not parts.train:
        raise ConfigError("split leaves no stream to train on: lower split.validation and split.test")
    return parts


def targets_at(recording: Recording, start: Array, end: Array) -> Array:
    """The last known value of each target within each window, (K, outputs); NaN where a window has none."""
    result = np.full((len(end), recording.targets.shape[1]), np.nan)
    stops = np.searchsorted(recording.t, end, side="right")
    starts = np.searchsorted(recording.t, start, side="right")
    for j, column in enumerate(recording.targets.T):
        known = np.flatnonzero(np.isfinite(column))
        if known.size:
            last = known[np.maximum(np.searchsorted(known, stops) - 1, 0)]
            result[:, j] = np.where((last >= starts) & (last < stops), column[last], np.nan)
    return result


def pysiglib_logsigs(runs: Runs, depth: int) -> Array:
    """Log-signatures of runs, batched: a path padded with its last point has the same signature."""
    count, channels = len(runs.stream), runs.increments.shape[1]
    longest = int(runs.lengths.max(initial=1))
    run = np.repeat(np.arange(count), runs.lengths)
    place = np.arange(len(run)) - np.repeat(runs.starts, runs.lengths) + 1
    paths = np.zeros((count, longest + 1, channels))
    paths[run, place] = runs.increments
    np.cumsum(paths, axis=1, out=paths)
    # Method 1 is the words basis: the coefficients of the tensor logarithm at the Lyndon words.
    pysiglib.prepare_log_sig(channels, depth, method=1)
    return np.asarray(pysiglib.log_sig(paths, depth, method=1))


def _strings(streams: Any) -> Any:
    return streams.dictionary_decode() if pa.types.is_dictionary(streams.type) else streams


def _texts(column: pa.ChunkedArray) -> NDArray[np.object_]:
    values = pc.cast(column, pa.string())
    return np.asarray(values.to_numpy(), dtype=object)


def _numbers(columns: dict[str, pa.ChunkedArray], names: Sequence[str], where: str) -> Array:
    targets = []
    for name in names:
        try:
            targets.append(pc.cast(columns[name], pa.float64()).to_numpy())
        except pa.ArrowException:
            raise DataError(
                f"{where}: target '{name}' is {columns[name].type}, not numbers; "
                'choose another column or set task = "classification"',
                path=where,
                column=name,
            ) from None
    return np.stack(targets, axis=1).astype(np.float64)


def _single(values: NDArray[np.object_], stream: str, column: str, where: str) -> str:
    """The one value that a stream has in `column`."""
    found = list(dict.fromkeys(values.tolist()))
    if len(found) > 1 or found[0] is None:
        shown = ", ".join(repr(value) for value in found[:3])
        raise DataError(
            f"{where}: stream '{stream}' has {shown} in column '{column}'; it must be one value per stream",
            path=where,
            column=column,
        )
    return str(found[0])
