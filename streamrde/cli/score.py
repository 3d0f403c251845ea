"""Predictions from recorded files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamrde.cli.options import Channels, Files, Json, Model, StreamColumn, TimeColumn, TimeUnit, split
from streamrde.cli.pipeline import carry, report
from streamrde.errors import DataError, SampleError


def score(
    files: Files,
    model: Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="Predictions: .parquet, .feather, .arrow, .arrows or .csv.")],
    stream: StreamColumn = "stream_id",
    time: TimeColumn = "t",
    time_unit: TimeUnit = "s",
    channels: Channels = "",
    skip_faults: Annotated[
        bool, typer.Option("--skip-faults", help="Count and skip late, repeated and unusable rows instead of stopping.")
    ] = False,
    json: Json = False,
) -> None:
    """Predict from recorded files, in constant memory.

    Example: `streamrde score recordings/*.parquet --model model.safetensors --out predictions.parquet`
    """
    from streamrde.config import ArrowSinkConfig, columns_of
    from streamrde.inference.bundle import load
    from streamrde.inference.fleet import Fleet
    from streamrde.runtime.files import FileSource

    bundle = load(model)
    columns = columns_of(bundle.header, split(channels), stream=stream, time=time, time_unit=time_unit)
    fleet = Fleet(bundle, faults="drop" if skip_faults else "error")
    try:
        metrics = carry(FileSource(files, columns), fleet, ArrowSinkConfig(path=str(out)).build(bundle), flush=True)
    except SampleError as error:
        raise DataError(f"{error}; --skip-faults counts and skips such rows", path=", ".join(files)) from None
    report(metrics, json, f"wrote {out}")
