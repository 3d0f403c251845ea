"""A configuration to begin with."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from streamrde.cli.options import Json, SourceKeys, split
from streamrde.cli.printing import print_json
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
    source: Annotated[
        list[str] | None,
        typer.Argument(
            help="Data to look at: a file, a folder, a glob, or live topics such as mqtt://127.0.0.1:1883/sensors/#. "
            "Or, for a file with every key, the command that reads it: fit, train, run or score.",
            show_default="train",
        ),
    ] = None,
    use: Annotated[
        Literal["fit", "train", "score", "run"] | None,
        typer.Option("--for", help="Command that will read the file. [by --out, such as train.toml, else fit]"),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Column to predict, or columns of numbers, comma-separated.")
    ] = None,
    stream: Annotated[str | None, typer.Option(help='Column of the stream\'s name. "": each file is one.')] = None,
    time: Annotated[str | None, typer.Option(help="Column of the time.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Model that will run, so that its channels are looked for.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write to this file instead of standard output.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Time to listen to a live source.")] = 10.0,
    source_key: SourceKeys = None,
    json: Json = False,
) -> None:
    """Look at data and write a configuration for it, or write one with every key and its default.

    Each guess stands below its evidence, and what is unsure is said.

    Example: `streamrde init data.csv --target label --out train.toml && streamrde train train.toml`
    """
    named = source or ["train"]
    if len(named) == 1 and named[0] in STRUCTS and not Path(named[0]).exists():
        _write(text_of(named[0]), named[0], out, "change what is marked 'Must be given', then")
        return
    if len(named) == 1 and not _may_be_data(named[0]):
        text_of(named[0])  # says which commands there are
    from streamrde.cli.listening import pairs
    from streamrde.cli.looking import Wanted, look

    wanted = Wanted(
        use, split(target) if target else (), stream, time, model, out, seconds, pairs(source_key or ()), json
    )
    found, chosen, text = look(named, wanted)
    if json:
        print_json(found.as_dict() | {"for": chosen, "toml": text})
    if out is not None or not json:
        _write(text, chosen, out, "next:", doubts=found.doubts, quiet=json)


def _may_be_data(name: str) -> bool:
    return Path(name).exists() or any(sign in name for sign in "./*?:\\")


def _write(
    text: str, command: str, out: Path | None, then: str, *, doubts: Sequence[str] = (), quiet: bool = False
) -> None:
    from streamrde.disk import prepare_file, replace_file

    if out is None:
        print(text, end="")
    else:
        if out.exists():
            raise ConfigError(f"--out {out}: the file exists; remove it or give another path")
        prepare_file(out, "--out")
        replace_file(out, text.encode())
    if quiet:
        return
    for doubt in doubts:
        print(f"unsure: {doubt}", file=sys.stderr)
    if out is not None:
        print(f"written to {out}; {then} streamrde {command} {_use(command, out)}")


def text_of(what: str) -> str:
    """Return the configuration of a command.

    Raises:
        ConfigError: no such command reads one.
    """
    from streamrde.cli.template import template
    from streamrde.nearest import did_you_mean, either

    if what not in STRUCTS:
        raise ConfigError(
            f"init {what}: there is no such file; give data, or the command that will read the configuration, "
            f"{either(EXAMPLES)}{did_you_mean(what, EXAMPLES)}"
        )
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
