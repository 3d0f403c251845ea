"""The command `train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamrde.cli.options import Json, Where, filters_of
from streamrde.cli.printing import print_json


def train(
    config: Annotated[Path, typer.Argument(help="TOML file, such as configs/watch.toml.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key of the file: key=value. May be repeated.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Short for --set training.seed=SEED.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from training.checkpoint, if it exists.")] = False,
    where: Where = None,
    json: Json = False,
) -> None:
    """Train a model on recorded files and write it.

    Without [model] in the file, families of models are compared out of fold, and the best one is written.

    Example: `streamrde train configs/watch.toml --seed 1 --set training.epochs=5 --set output.model=""`
    """
    from rich.console import Console

    from streamrde import models

    settings = [*(settings or []), *([] if seed is None else [f"training.seed={seed}"]), *filters_of(where)]
    bundle = models.train(config, settings=settings, resume=resume, console=Console(stderr=json))
    if json:
        print_json(bundle.header.metrics)
