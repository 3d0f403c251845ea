"""The command `inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from streamrde.cli.options import Json
from streamrde.cli.printing import print_json
from streamrde.errors import ConfigError


def inspect(
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Model file. Several, or a folder, are compared: models, reports of fit and train, results of sweep.",
            metavar="MODEL",
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Compare runs in an HTML page: figures, learning, costs, settings.")
    ] = None,
    kernels: Annotated[bool, typer.Option("--kernels", help="Show which kernels run here, and why.")] = False,
    json: Json = False,
) -> None:
    """Show a model's inputs, its outputs and how it was trained, or compare the models of several runs.

    A run is a model file, the HTML report of a fit or a training, or the Parquet file of a sweep. A folder is searched
    for all of them. Reports add settings, learning curves and durations to what a model knows of itself.

    Example: `streamrde inspect model.safetensors`

    Example: `streamrde inspect runs/ --report comparison.html`
    """
    from streamrde.inference.bundle import load
    from streamrde.kernels import IMPLEMENTATION

    if kernels:
        if json:
            print_json(IMPLEMENTATION._asdict())
        else:
            print(f"{IMPLEMENTATION.name}: {IMPLEMENTATION.reason}")
            print(f"STREAMRDE_KERNELS chooses among {', '.join(IMPLEMENTATION.available)}")
        return
    if not models:
        raise ConfigError("missing MODEL: pass a model file, or use --kernels")
    if len(models) > 1 or report is not None or models[0].is_dir() or models[0].suffix in (".html", ".parquet"):
        from streamrde.cli.comparing import compare_runs

        compare_runs(models, report=report, json=json)
        return
    from streamrde.inference.card import card

    bundle = load(models[0])
    if json:
        description = msgspec.to_builtins(bundle.header) | {
            "fingerprint": bundle.fingerprint,
            "parameters": bundle.parameters,
            "path_channels": bundle.header.path_channels,
            "logsig_channels": bundle.header.logsig_channels,
        }
        print_json(description)
    else:
        from rich.console import Console

        Console().print(card(bundle, models[0].name))
