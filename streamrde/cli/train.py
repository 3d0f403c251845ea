"""Training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamrde.cli.options import Json
from streamrde.cli.printing import print_json


def train(
    config: Annotated[Path, typer.Argument(help="TOML file, such as configs/watch.toml.")],
    json: Json = False,
) -> None:
    """Train a Neural RDE on recorded files and write the model.

    Example: `streamrde train configs/watch.toml`
    """
    from rich.console import Console

    from streamrde import models

    bundle = models.train(config, console=Console(stderr=json))
    if json:
        print_json(bundle.header.metrics)
