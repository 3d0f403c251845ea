"""The command `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamrde.errors import ConfigError


def export(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    out: Annotated[Path, typer.Argument(help="The graph to write, a file that ends in .onnx.")],
) -> None:
    """Write a model's step as an ONNX graph, for programs without Python.

    A fitted model needs the package onnx. A Neural RDE needs torch and onnxscript too. The graph takes a state and a
    window's token, and returns the next state and the output.

    Example: `streamrde export model.safetensors step.onnx`
    """
    if out.suffix != ".onnx":
        raise ConfigError(f"{out}: a graph is a file that ends in .onnx; call it {out.with_suffix('.onnx').name}")
    from streamrde.inference.bundle import load
    from streamrde.models import export_onnx

    bundle = load(model)
    export_onnx(bundle, out)
    header = bundle.header
    dtype = "float64" if header.field.in_rows else header.dtype
    print(f"{out}: z ({dtype}, n x {header.hidden}) and logsig (float64, n x {header.logsig_channels}) in,")
    print(f"z_next and output ({header.output_dtype}, n x {header.outputs}) out")
