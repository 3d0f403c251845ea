"""`streamrde.score`: recorded samples in, predictions out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict, Unpack, overload

import msgspec
import pyarrow as pa

from streamrde.connectors.columns import Missing
from streamrde.connectors.datasets import as_rows
from streamrde.connectors.dialect import Dialect
from streamrde.connectors.files.filters import Filter
from streamrde.connectors.files.restarts import OnRestart
from streamrde.errors import ConfigError
from streamrde.floats import as_plain
from streamrde.inference.bundle import Bundle, load
from streamrde.inference.plausibility import Plausible
from streamrde.inference.states import Feature
from streamrde.inference.table import OnFault
from streamrde.scoring.job import ColumnsConfig, Engine, Job, OnError, Sort
from streamrde.scoring.lazily import ArrowStream, predict_lazily
from streamrde.scoring.run import run_job
from streamrde.scoring.status import Status, Summary
from streamrde.settings import convert
from streamrde.times.plausible import OnTime
from streamrde.times.texts import Ambiguous
from streamrde.windowing.order import Order

Path: TypeAlias = str | os.PathLike[str]
Source: TypeAlias = Path | Sequence[Path] | ArrowStream


class Settings(TypedDict, total=False):
    """List the settings of `score`. `Job` and its `ColumnsConfig` explain each and have its default."""

    stream: str
    time: str
    time_unit: str
    time_format: str
    time_zone: str
    time_ambiguous: Ambiguous
    channels: Sequence[str]
    units: Mapping[str, str] | None
    scale: Mapping[str, float] | None
    offset: Mapping[str, float] | None
    records: str
    name: str
    value: str
    others: Literal["count", "refuse", "ignore"]
    missing: Missing
    words: Mapping[str, float]
    limits: Mapping[str, tuple[float, float]]
    rate: float
    csv: Dialect
    filters: Sequence[Filter]
    truth: Sequence[str]
    features: Sequence[Feature]
    novelty: bool
    intervals: float
    plausible: Plausible | None
    order: Order | None
    sort: Sort
    restarts: OnRestart
    faults: OnFault
    on_error: OnError
    time_check: OnTime
    state_in: Path
    state_out: Path
    state_identity: Mapping[str, str]
    engine: Engine
    ray_address: str
    jobs: int
    groups: int
    batch_rows: int
    sort_memory: int
    commit_seconds: float


@overload
def score(
    source: Source, model: Path | Bundle, *, out: None = None, **settings: Unpack[Settings]
) -> pa.RecordBatchReader: ...
@overload
def score(
    source: Path | Sequence[Path],
    model: Path,
    *,
    out: Path,
    resume: bool = ...,
    on_status: Callable[[Status], None] | None = ...,
    **settings: Unpack[Settings],
) -> Summary: ...
def score(
    source: Source,
    model: Path | Bundle,
    *,
    out: Path | None = None,
    resume: bool = False,
    on_status: Callable[[Status], None] | None = None,
    **settings: Unpack[Settings],
) -> pa.RecordBatchReader | Summary:
    """Predict from recorded samples, into a file or as an Arrow stream that is computed while it is read.

    Without `out` the result is a RecordBatchReader with the rows of `Fleet.push`, in constant memory, by one process;
    `sort = "auto"` is "never" there, and engine, groups, resume and on_error have no effect. With `out` it is a
    job: divided into parts that share no stream, scored by as many processes as asked for, committed part by part, and
    written in an order that depends on the files and settings alone.

    Args:
        source: files, folders or globs, see `streamrde.connectors.files.read`; or, without `out`, any object with
            ``__arrow_c_stream__``: of pyarrow, polars, duckdb, pandas. Or a Dataset of xarray.
        model: path of a model file; or, without `out`, a Bundle.
        out: .parquet, .feather, .arrow, .ipc, .arrows or .csv; a name without extension is a folder of Parquet files.
        resume: go on with a job that was stopped.
        on_status: called often with how far a job is.
        settings: keys of `Job`, and of `ColumnsConfig` for the columns: ``truth=["label"], time_unit="ms", jobs=2``.
    Raises:
        ConfigError: settings that cannot work.
        DataError: a file or a row that cannot be used; names the file, the column and, where it is one, the row.
        WorkerError: worker processes die again and again.
    """
    source = as_rows(source)
    is_arrow = not isinstance(source, str | os.PathLike) and isinstance(source, ArrowStream)
    job = job_of(
        settings,
        model="" if isinstance(model, Bundle) else model,
        files=() if is_arrow else [source] if isinstance(source, str | os.PathLike) else source,
        out="" if out is None else out,
    )
    if out is None:
        bundle = model if isinstance(model, Bundle) else load(model)
        return predict_lazily(source if is_arrow else None, job, bundle)  # type: ignore[arg-type]
    if is_arrow:
        raise ConfigError("an Arrow stream has no place in a job: leave `out` away, and write what the reader gives")
    if isinstance(model, Bundle):
        raise ConfigError("a job's workers load the model themselves: give its path")
    return run_job(job, resume=resume, on_status=on_status)


def job_of(settings: Mapping[str, Any], **tables: Any) -> Job:
    """Return the job that `settings` describe.

    Args:
        settings: keys of `Job`, and of `ColumnsConfig` for the columns. None: as if it was not given.
        tables: further keys of `Job`.
    Raises:
        ConfigError: settings that cannot work.
    """
    tables["columns"] = {}
    for name, value in settings.items():
        if value is not None:
            (tables["columns"] if name in ColumnsConfig.__struct_fields__ else tables)[name] = value
    try:
        return convert(msgspec.to_builtins(tables, enc_hook=as_plain), Job)
    except TypeError as error:
        raise ConfigError(str(error)) from None
