"""Write commands and code that use a fitted model."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from streamrde import toml
from streamrde.connectors.columns import ColumnKeys, given_keys
from streamrde.inference.header import Header

_USUAL = {"stream": "stream_id", "time": "t", "time_unit": "s"}  # defaults of `streamrde score`
# Options of `streamrde score` for keys of [columns] and of [columns.csv].
_OPTIONS = {
    "time_format": "--time-format", "time_zone": "--time-zone", "time_ambiguous": "--time-ambiguous",
    "name": "--name-column", "value": "--value-column",
}  # fmt: skip
_CSV_OPTIONS = {
    "delimiter": "--delimiter", "decimal": "--decimal", "thousands": "--thousands", "skip": "--skip-lines",
    "comment": "--comment", "encoding": "--encoding",
}  # fmt: skip


def score_command(
    data: str | Sequence[str],
    model: str,
    *,
    stream: str | Sequence[str] | None,
    time: str | Sequence[str] | None,
    time_unit: str,
    columns: ColumnKeys | None = None,
) -> str:
    """Return a command for a shell that predicts from the same files.

    Args:
        data: files, folders or globs, "" if the data was no file. The command gets globs as they are, so that the shell
            does not expand them.
        model: the model's file.
        stream, time, time_unit: columns and unit, as `streamrde score` has them. Several columns have no option.
        columns: how columns are read. Keys without an option are named in a comment.
    """
    files = [data or "DATA"] if isinstance(data, str) else list(data)
    out = str(Path(model).with_name("predictions.parquet"))
    options = ["--model", model, "--out", out]
    several = []
    for name, value in (("stream", stream), ("time", time), ("time_unit", time_unit)):
        if not isinstance(value, str):
            several.append(name)
        elif value != _USUAL[name]:
            options += [f"--{name.replace('_', '-')}", value]
    given = {} if columns is None else given_keys(columns)
    csv = {} if columns is None else given_keys(columns.csv)
    given.pop("csv", None)
    for table, flags in ((given, _OPTIONS), (csv, _CSV_OPTIONS)):
        for key in [key for key in flags if key in table]:
            options += [flags[key], str(table.pop(key))]
    for column, unit in given.pop("units", {}).items():
        options += ["--unit", f"{column}={unit}"]
    # A name that begins with a dash is no option.
    dashed = any(file.startswith("-") for file in files)
    words = ["streamrde", "score", *([*options, "--", *files] if dashed else [*files, *options])]
    left = ", ".join([*several, *given, *(f"csv.{key}" for key in csv)])
    return shlex.join(words) + (f"  # with {left} of the fit's TOML file under [columns] in --config" if left else "")


def run_commands(model: str) -> str:
    """Return commands for a shell that write a configuration of a live run, and run it."""
    return f"streamrde init run --out run.toml   # then set model = {toml.value(model)}\nstreamrde run run.toml"


def embedding(header: Header, model: str) -> str:
    """Return Python code that predicts from the samples of one stream as they come."""
    names = ", ".join(channel.name for channel in header.channels[:6]) + (", ..." if len(header.channels) > 6 else "")
    answer = "label" if header.task == "classification" else "value"
    return (
        "import streamrde as sr\n\n"
        f"predictor = sr.Predictor(sr.load({model!r}))\n"
        f"for t, x in samples:  # seconds, and a list of the channels: {names}\n"
        "    for prediction in predictor.push(t, x):\n"
        f"        print(prediction.t_end, prediction.{answer})"
    )
