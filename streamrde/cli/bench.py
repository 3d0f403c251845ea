"""The command `bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from streamrde.cli.options import Json
from streamrde.cli.printing import print_json


def bench(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds. Every engine runs once in each.")] = 15,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure this group only: 'one by one', 'windows of 32', 'batch', 'fleet', 'push', 'step' or "
            "'scales'. May be repeated."
        ),
    ] = None,
    streams: Annotated[
        list[int] | None, typer.Option(min=1, help="Streams in a fleet. May be repeated. A million takes 2 GB.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the figures to this file, as JSON.")] = None,
    chart: Annotated[Path | None, typer.Option(help="Draw the figures to this file, as SVG (extra `bench`).")] = None,
    json: Json = False,
) -> None:
    """Time the kernels on this machine beside the peers that are installed.

    Every engine runs once per round, on one thread, and ratios are taken within a round. The extra `bench` installs the
    peers pysiglib, roughpy and sig-rust. iisignature and signatory are measured if installed.

    Example: `streamrde bench --out figures.json`
    """
    from rich.console import Console

    from streamrde import bench
    from streamrde.disk import prepare_file, replace_file
    from streamrde.errors import ParameterError
    from streamrde.nearest import did_you_mean
    from streamrde.tables import print_whole

    groups = bench.GROUPS if only is None else tuple(only)
    unknown = [group for group in groups if group not in bench.GROUPS]
    if unknown:
        raise ParameterError(
            f"--only {unknown[0]!r}: use one of {', '.join(map(repr, bench.GROUPS))}"
            f"{did_you_mean(unknown[0], bench.GROUPS)}"
        )
    prepare_file(out, "--out")
    prepare_file(chart, "--chart")
    console = Console(stderr=json)
    machine = bench.machine()
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()), highlight=False)
    sizes = {} if streams is None else {"streams": tuple(streams)}
    with console.status("starting") as status:
        figures = bench.measure(bench.cases(groups, **sizes), rounds=rounds, on_case=status.update)
    result = {"machine": machine, "rounds": rounds, "figures": [figure._asdict() for figure in figures]}
    print_whole(console, bench.table(figures))
    if out is not None:
        replace_file(out, msgspec.json.format(msgspec.json.encode(result), indent=2))
    if chart is not None:
        replace_file(chart, bench.chart(figures))
    if json:
        print_json(result)
    else:
        print(f"done: {len(figures):,} figures, medians of {rounds:,} rounds")
