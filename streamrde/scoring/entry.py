"""`streamrde.score`: recorded samples in, predictions out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, overload

import pyarrow as pa

from streamrde.connectors.files.filters import Filter
from streamrde.connectors.files.restarts import OnRestart
from streamrde.errors import ConfigError
from streamrde.inference.bundle import Bundle, load
from streamrde.inference.plausibility import Plausible
from streamrde.inference.states import Feature
from streamrde.inference.table import OnFault
from streamrde.scoring.job import ColumnsConfig, Engine, Job, OnError, Sort
from streamrde.scoring.lazily import ArrowStream, predictions_of
from streamrde.scoring.run import run_job
from streamrde.scoring.status import Status, Summary
from streamrde.times.plausible import OnTime
from streamrde.times.texts import Ambiguous

Path: TypeAlias = str | os.PathLike[str]
Source: TypeAlias = Path | Sequence[Path] | ArrowStream


@overload
def score(source: Source, model: Path | Bundle, *, out: None = None, stream: str = ..., time: str = ..., time_unit: str = ..., time_format: str = ..., time_zone: str = ..., time_ambiguous: Ambiguous = ..., channels: Sequence[str] = ..., units: Mapping[str, str] | None = ..., scale: Mapping[str, float] | None = ..., offset: Mapping[str, float] | None = ..., filters: Sequence[Filter] = ..., truth: Sequence[str] = ..., features: Sequence[Feature] = ..., novelty: bool = ..., plausible: Plausible | None = ..., sort: Sort = ..., restarts: OnRestart = ..., faults: OnFault = ..., on_error: OnError = ..., time_check: OnTime = ..., state_in: Path = ..., state_out: Path = ..., engine: Engine = ..., ray_address: str = ..., jobs: int = ..., groups: int = ..., batch_rows: int = ..., resume: bool = ..., on_status: Callable[[Status], None] | None = ...) -> pa.RecordBatchReader: ...  # fmt: skip # noqa: E501
@overload
def score(source: Path | Sequence[Path], model: Path, *, out: Path, stream: str = ..., time: str = ..., time_unit: str = ..., time_format: str = ..., time_zone: str = ..., time_ambiguous: Ambiguous = ..., channels: Sequence[str] = ..., units: Mapping[str, str] | None = ..., scale: Mapping[str, float] | None = ..., offset: Mapping[str, float] | None = ..., filters: Sequence[Filter] = ..., truth: Sequence[str] = ..., features: Sequence[Feature] = ..., novelty: bool = ..., plausible: Plausible | None = ..., sort: Sort = ..., restarts: OnRestart = ..., faults: OnFault = ..., on_error: OnError = ..., time_check: OnTime = ..., state_in: Path = ..., state_out: Path = ..., engine: Engine = ..., ray_address: str = ..., jobs: int = ..., groups: int = ..., batch_rows: int = ..., resume: bool = ..., on_status: Callable[[Status], None] | None = ...) -> Summary: ...  # fmt: skip # noqa: E501
def score(
    source: Source,
    model: Path | Bundle,
    *,
    out: Path | None = None,
    stream: str = "stream_id",
    time: str = "t",
    time_unit: str = "s",
    time_format: str = "",
    time_zone: str = "",
    time_ambiguous: Ambiguous = "error",
    channels: Sequence[str] = (),
    units: Mapping[str, str] | None = None,
    scale: Mapping[str, float] | None = None,
    offset: Mapping[str, float] | None = None,
    filters: Sequence[Filter] = (),
    truth: Sequence[str] = (),
    features: Sequence[Feature] = (),
    novelty: bool = False,
    plausible: Plausible | None = None,
    sort: Sort = "auto",
    restarts: OnRestart = "error",
    faults: OnFault = "error",
    on_error: OnError = "stop",
    time_check: OnTime = "error",
    state_in: Path = "",
    state_out: Path = "",
    engine: Engine = "local",
    ray_address: str = "",
    jobs: int = 1,
    groups: int = 1,
    batch_rows: int = 65536,
    resume: bool = False,
    on_status: Callable[[Status], None] | None = None,
) -> pa.RecordBatchReader | Summary:
    """Predict from recorded samples: into a file, or as an Arrow stream that is computed as it is read.

    Without `out` the result is a RecordBatchReader with the rows of `Fleet.push`, in constant memory, by one process;
    `sort = "auto"` is "never" there, and engine, groups, resume and on_error have no effect. With `out` it is a
    job: divided into parts that share no stream, scored by as many processes as asked for, committed part by part, and
    written in an order that depends on the files and settings alone.

    Args:
        source: files, folders or globs, see `streamrde.connectors.files.read`; or, without `out`, any object with
            ``__arrow_c_stream__``: of pyarrow, polars, duckdb, pandas.
        model: path of a model file; or, without `out`, a Bundle.
        out: .parquet, .feather, .arrow, .ipc, .arrows or .csv; a name without extension is a folder of Parquet files.
        stream, time, time_unit: columns of the stream's name (in files "" = one stream per file) and of the time, and
            the unit of a numeric time: s, ms, us, ns, min, h, d, or excel (its day numbers).
        time_format, time_zone, time_ambiguous: how times are written as text, or as digits of a date, in the terms of
            `datetime.strptime` ("" = ISO 8601); the zone of those that name none ("" = UTC); and which reading is meant
            where its clocks were put back or forward: "error", "earlier" or "later".
        channels: columns of the model's channels, in its order; default: the channels' names.
        units: unit of a column where it is not the model's, ``{"ax": "m/s2"}``.
        scale, offset: ``x * scale + offset`` is in the model's unit, by column.
        filters: comparisons that all must hold for a row, ``("site", "==", "A")``.
        truth: columns with what was to be predicted, carried into the output as ``true_...``; a job measures the
            predictions against them. For each head of the model in turn: one for a classification, one per output for
            a regression.
        features: what else of each window is put out: its "state" (hidden) and its "logsignature".
        novelty: put out how far each window lies outside of what the model was trained on, as a p-value.
        plausible: which values can be real, and what becomes of others.
        sort: "auto" sorts what turns out not to be in order of time, on disk; "always" sorts; "never" treats such rows
            as `faults` says.
        restarts: a stream that jumps back in time and goes on from there, as after a reboot: "error" stops, "split"
            makes each part a stream of its own (``name``, ``name#2``), "sort" puts all its rows in order of time.
        faults: rows that cannot be used: "error" stops, "drop" counts and skips them.
        on_error: files that cannot be used: "stop", or "skip", as if they were not there.
        time_check: times that cannot be right by the model's training: "error" stops with the likely unit, "reject"
            (for faults = "drop") counts and skips the rows of such streams, "off" does not look.
        state_in: state store from which streams go on; a live service leaves one.
        state_out: state store into which streams' states are put; their last windows then stay open.
        engine, ray_address: "threads" or "processes", or "local" to choose by the job's size; or "ray", at an address
            or started here.
        jobs: threads, processes, or Ray tasks at the same time.
        groups: into how many parts, at most, streams are divided that are interleaved throughout the files; each part
            reads the files anew.
        batch_rows: rows read at a time; it bounds the memory, not the result.
        resume: go on with a job that was stopped.
        on_status: called often with how far a job is.
    Raises:
        ConfigError: settings that cannot work.
        DataError: a file or a row that cannot be used; names the file, the column and, where it is one, the row.
        WorkerError: worker processes die again and again.
    """
    is_arrow = not isinstance(source, str | os.PathLike) and isinstance(source, ArrowStream)
    job = Job(
        model="" if isinstance(model, Bundle) else os.fspath(model),
        files=() if is_arrow else tuple(map(os.fspath, [source] if isinstance(source, str | os.PathLike) else source)),  # type: ignore[arg-type]
        out="" if out is None else os.fspath(out),
        columns=ColumnsConfig(
            stream=stream,
            time=time,
            time_unit=time_unit,
            time_format=time_format,
            time_zone=time_zone,
            time_ambiguous=time_ambiguous,
            channels=tuple(channels),
            units=dict(units or {}),
            scale=dict(scale or {}),
            offset=dict(offset or {}),
        ),
        filters=tuple(filters),
        truth=tuple(truth),
        features=tuple(features),
        novelty=novelty,
        plausible=plausible or Plausible(),
        sort=sort,
        restarts=restarts,
        faults=faults,
        on_error=on_error,
        time_check=time_check,
        state_in=os.fspath(state_in),
        state_out=os.fspath(state_out),
        engine=engine,
        ray_address=ray_address,
        jobs=jobs,
        groups=groups,
        batch_rows=batch_rows,
    ).checked()
    if out is None:
        bundle = model if isinstance(model, Bundle) else load(model)
        return predictions_of(source if is_arrow else None, job, bundle)  # type: ignore[arg-type]
    if is_arrow:
        raise ConfigError("an Arrow stream has no place in a job: leave `out` away, and write what the reader gives")
    if isinstance(model, Bundle):
        raise ConfigError("a job's workers load the model themselves: give its path")
    return run_job(job, resume=resume, on_status=on_status)
