"""The command line. Each command is a module, which imports what it needs when it runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from streamrde.cli import bench, demo, export, fit, health, init, inspect, replay, run, score, state, sweep, tail, train
from streamrde.errors import StreamRDEError

__all__ = ["app", "main"]

app = typer.Typer(
    name="streamrde",
    help="Streaming inference for Neural Rough Differential Equations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

# In the order of the help.
for _command in (
    demo.demo,
    fit.fit,
    init.init,
    train.train,
    sweep.sweep,
    score.score,
    run.run,
    tail.tail,
    health.health,
    replay.replay,
    export.export,
    inspect.inspect,
    bench.bench,
):
    app.command()(_command)

app.add_typer(state.app, name="state")


def main() -> None:
    """Run the command line. An error of streamrde prints one line and exits with status 1, Ctrl-C with 130."""
    try:
        app()
    except StreamRDEError as error:
        print(f"streamrde: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("streamrde: stopped", file=sys.stderr)
        sys.exit(130)


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from streamrde import __version__

        print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
