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
    model: Annotated[Path | None, typer.Argument(help="Model file.")] = None,
    kernels: Annotated[bool, typer.Option("--kernels", help="Show which kernels run here, and why.")] = False,
    json: Json = False,
) -> None:
    """Show a model's inputs, its outputs and how it was trained.

    Example: `streamrde inspect model.safetensors`
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
    if model is None:
        raise ConfigError("missing MODEL: pass a model file, or use --kernels")
    from streamrde.inference.card import card

    bundle = load(model)
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

        Console().print(card(bundle, model.name))
