"""The command `sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamrde.cli.options import Json, Where, filters_of
from streamrde.cli.printing import print_json


def sweep(
    config: Annotated[Path, typer.Argument(help="TOML file, as for `streamrde train`. Its [sweep] lists what to try.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key of the file: key=value. May be repeated.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=0, help="Short for --set sweep.trials=TRIALS.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Trainings at a time, each a process.")] = 1,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write results to this Parquet file.")] = None,
    best: Annotated[Path | None, typer.Option(help="Write the best configuration to this TOML file.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write an HTML page with ranks, costs and what each key did.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the sweep whose results are in --out.")] = False,
    minutes: Annotated[float | None, typer.Option(help="Start no training after this many minutes.")] = None,
    where: Where = None,
    json: Json = False,
) -> None:
    """Try window lengths, depths, sizes and solvers on the validation streams, and find the best configuration.

    The test streams are not used. By default successive halving: all trials for a ninth of the epochs, the best third
    for a third of them, the best of these for all.

    Example: `streamrde sweep configs/watch.toml --set sweep.folds=7 -j 2 --out sweep.parquet --best best.toml`
    """
    from rich.console import Console

    from streamrde import models, toml
    from streamrde.disk import prepare_file, replace_file
    from streamrde.errors import ConfigError
    from streamrde.models.sweeping import progress, space
    from streamrde.tables import print_whole, say

    if resume and out is None:
        raise ConfigError("--resume: give --out, the file with the results so far")
    prepare_file(out, "--out")
    prepare_file(best, "--best")
    prepare_file(report, "--report")
    console = Console(stderr=json)
    settings = [*(settings or []), *([] if trials is None else [f"sweep.trials={trials}"]), *filters_of(where)]
    found = models.sweep(
        config, settings=settings, jobs=jobs, out=out or "", resume=resume, minutes=minutes, console=console
    )
    winner = found.standings[0]
    print_whole(console, progress.table(found.standings, found.best))
    say(console, f"best: {space.on_one_line(winner.trial.values)}")
    if out is not None:
        say(console, f"all {found.table.num_rows} trainings are in {out}")
    if best is not None:
        text = f"# The best of a sweep over {config}: validation {found.best.training.monitor} {winner.score:.5g}.\n"
        replace_file(best, (text + toml.dumps(space.all_tables(found.best))).encode())
        say(console, f"written to {best}: train it with `streamrde train {best}`")
    if report is not None:
        from streamrde.models.report.sweep import write_sweep

        write_sweep(report, found.standings, found.best)
        say(console, f"the page is {report}")
    if found.unfinished:
        remedy = "use --resume to run them" if out is not None else "with --out, --resume can run them later"
        say(
            console, f"unfinished: {found.unfinished:,} trainings were not started within {minutes:g} minutes; {remedy}"
        )
    if json:
        names = ("epochs", "score", "spread", "parameters", "step_us", "stream_us", "pareto", "error")
        ranked = [
            {"trial": s.trial.number, "values": s.trial.values} | {name: getattr(s, name) for name in names}
            for s in found.standings
        ]
        result = {"best": winner.trial.values, "standings": ranked, "unfinished": found.unfinished}
        print_json({"monitor": found.best.training.monitor} | result)
