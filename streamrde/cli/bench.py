"""The kernels beside their peers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from streamrde.cli.options import Json
from streamrde.cli.printing import print_json


def bench(
    rounds: Annotated[int, typer.Option(min=1, help="How often every engine runs; the medians are over these.")] = 15,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the figures to this file, as JSON.")] = None,
    json: Json = False,
) -> None:
    """Time the kernels on this machine beside the peers that are installed.

    Example: `streamrde bench --out figures.json`
    """
    from rich.console import Console

    from streamrde import bench
    from streamrde.disk import replace_file

    console = Console(stderr=json)
    machine = bench.machine()
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()), highlight=False)
    with console.status("starting") as status:
        figures = bench.measure(bench.cases(), rounds=rounds, on_case=status.update)
    result = {"machine": machine, "rounds": rounds, "figures": [figure._asdict() for figure in figures]}
    console.print(bench.table(figures))
    if out is not None:
        replace_file(out, msgspec.json.format(msgspec.json.encode(result), indent=2))
    if json:
        print_json(result)
