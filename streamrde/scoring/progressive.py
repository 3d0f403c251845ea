"""Evaluate progressively what streams would have learned from the truth of a scored job, beside simple predictions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset

from streamrde.adapting.progress import Windows, progress, summary
from streamrde.adapting.settings import MOST_PENDING, Adapt
from streamrde.adapting.trackers import Tracking
from streamrde.arrays import Floats
from streamrde.errors import ConfigError
from streamrde.inference.bundle import Bundle
from streamrde.inference.labels import adapting_of
from streamrde.inference.states import Serving
from streamrde.scoring.evaluation import truth_schema

_FORMATS = {".parquet": "parquet", ".feather": "ipc", ".arrow": "ipc", ".ipc": "ipc", "": "parquet"}
_SPARE = 8  # predictions that wait beyond those whose labels are under way


def evaluate_progressively(
    out: str, bundle: Bundle, truth: tuple[str, ...], *, delay: float = 0.0, coverage: float = 0.0
) -> dict[str, Any]:
    """Return errors of every method, and the coverage of intervals, as `adapting.progress.summary`.

    Args:
        out: predictions with their truth, as `streamrde score` wrote them: a Parquet or Arrow file, or a folder.
        bundle: the model.
        truth: columns of the truth, without "true_".
        delay: seconds until a label is known, after the time that it is for.
        coverage: of the intervals. 0: 0.9 if the model has what they need, else none.
    Raises:
        ConfigError: there is no truth, or the file is of another format.
        ParameterError: the model predicts only when a stream ends, or more labels are under way than can wait.
    """
    if not truth:
        raise ConfigError("progressive: there is no truth to learn from; name its columns with --evaluate")
    suffix = Path(out).suffix.lower()
    if suffix not in _FORMATS or "://" in out:
        raise ConfigError(f"progressive: out = {out!r}: write a local .parquet or .arrow file, or a folder")
    names = [f"true_{name}" for name in truth]
    data = pa.dataset.dataset(out, format=_FORMATS[suffix])
    table = data.to_table(["stream", "window", "t_end", "value", *names]).combine_chunks()
    header = bundle.header
    if not len(table):
        raise ConfigError(f"progressive: {out} has no predictions; give longer streams")
    streams = table["stream"].combine_chunks().dictionary_encode()
    number = np.asarray(streams.indices.to_numpy(zero_copy_only=False), np.intp)
    t_end = table["t_end"].to_numpy()
    order = np.lexsort((table["window"].to_numpy(), number))
    value = table["value"].combine_chunks().flatten().to_numpy().reshape(len(table), -1).astype(np.float64)
    windows = Windows(
        number[order],
        table["window"].to_numpy()[order],
        t_end[order],
        value[order],
        _labels(bundle, truth, table)[order],
    )
    waiting = _under_way(windows, header.horizon + delay) + _SPARE
    covers = coverage or (0.9 if header.calibration is not None else 0.0)
    serving = Serving(
        adapt=Adapt(serve="best", pending=max(1, min(waiting, MOST_PENDING + 1))),
        intervals=Tracking(coverage=covers) if covers else None,
    )
    section = adapting_of(bundle, serving, 0)
    assert section is not None  # noqa: S101 (it was asked for)
    found = progress(section, windows, horizon=header.horizon, delay=delay)
    spread = np.array(
        [float(own[np.isfinite(own)].std()) if np.isfinite(own).any() else 1.0 for own in windows.label.T]
    )
    said = summary(windows, found, streams.dictionary.to_pylist(), scale=np.where(spread > 0, spread, 1.0))
    return {"outputs": list(header.output_names), "asked": covers or None, "delay": delay, **said}


def _labels(bundle: Bundle, truth: tuple[str, ...], table: pa.Table) -> Floats:
    """Return the truth, (n, outputs): numbers, or 1 for the right class and 0 for others."""
    truth_schema(bundle.header, truth)
    columns, left = [], list(truth)
    for head in bundle.header.parts:
        if not head.classes:
            own = [table[f"true_{left.pop(0)}"].to_numpy().astype(np.float64)[:, None] for _ in range(head.outputs)]
            columns += own
            continue
        names = np.array(table[f"true_{left.pop(0)}"].to_pylist(), dtype=object)
        right = (names[:, None] == np.array(head.classes, dtype=object)).astype(np.float64)
        right[right.sum(axis=1) == 0] = math.nan
        columns.append(right[:, 1:] if head.is_binary else right)
    return np.concatenate(columns, axis=1)


def _under_way(windows: Windows, delay: float) -> int:
    """Return the most predictions of a stream whose labels are not known yet."""
    most = 0
    for k in np.unique(windows.stream).tolist():
        end = windows.t_end[windows.stream == k]
        most = max(most, int((np.searchsorted(end, end + delay, side="right") - np.arange(len(end))).max()))
    return most
