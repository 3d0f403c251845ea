"""A configuration to begin with."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer

from streamrde.errors import ConfigError

# What has no default, by command: examples, to be changed first.
EXAMPLES: dict[str, dict[str, Any]] = {
    "fit": {"data": "recordings.parquet", "target": "label"},
    "train": {
        "data.files": "recordings.parquet",
        "data.channels": ["ax", "ay", "az"],
        "data.target": "label",
        "windows.seconds": 1.0,
        "windows.n": 32,
        "windows.norm": 1.0,
        "gap.seconds": 60.0,
        "output.model": "model.safetensors",
        "output.report": "report.html",
    },
    "run": {
        "model": "model.safetensors",
        "source.kind": "mqtt",
        "source.url": "mqtt://127.0.0.1:1883",
        "source.topic": "sensors/{stream}/imu",
        "source.topics.topic": "sensors/{stream}/imu",
        "source.will.topic": "status/reader",
        "sink.kind": "mqtt",
        "sink.url": "mqtt://127.0.0.1:1883",
        "sink.topic": "predictions/{stream}",
        "sink.path": "predictions.parquet",
        "sink.folder": "predictions",
        "sink.will.topic": "status/writer",
        "state.path": "state.sqlite",
        "dead_letters.kind": "file",
        "dead_letters.path": "dead.jsonl",
        "dead_letters.url": "mqtt://127.0.0.1:1883",
        "dead_letters.topic": "dead-letters",
        "dead_letters.will.topic": "status/dead-letters",
    },
    "score": {"model": "model.safetensors", "files": "recordings.parquet", "out": "predictions.parquet"},
}
STRUCTS = {
    "fit": "streamrde.fitting.config:FitConfig",
    "train": "streamrde.models.training.config:TrainConfig",
    "run": "streamrde.config:RunConfig",
    "score": "streamrde.scoring:Job",
}


def init(
    what: Annotated[
        str, typer.Argument(help="The command that will read the file: fit, train, run or score.")
    ] = "train",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write to this file instead of standard output.")
    ] = None,
) -> None:
    """Write a configuration with every key, its meaning and its default.

    Example: `streamrde init train --out train.toml`
    """
    from streamrde.disk import prepare_file, replace_file

    text = text_of(what)
    if out is None:
        print(text, end="")
        return
    if out.exists():
        raise ConfigError(f"--out {out}: the file exists; remove it or give another path")
    prepare_file(out, "--out")
    replace_file(out, text.encode())
    print(f"written to {out}: change what is marked 'Must be given', then streamrde {what} {_use(what, out)}")


def text_of(what: str) -> str:
    """Return the configuration of a command.

    Raises:
        ConfigError: no such command reads one.
    """
    from streamrde.cli.template import template
    from streamrde.nearest import did_you_mean, either

    if what not in STRUCTS:
        raise ConfigError(f"init {what}: use {either(EXAMPLES)}{did_you_mean(what, EXAMPLES)}")
    module, name = STRUCTS[what].split(":")
    body = template(getattr(importlib.import_module(module), name), EXAMPLES[what])
    use = f"streamrde {what} {_use(what, Path('FILE'))}"
    head = (
        f"# Every key of a configuration for `{use}`, with its default.\n"
        "# Keys may be left out; those in comments are off.\n\n"
    )
    return head + body


def _use(what: str, path: Path) -> str:
    return f"--config {path}" if what == "score" else str(path)
