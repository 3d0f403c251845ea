"""The command `fit`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from streamrde.cli.options import Json, split
from streamrde.cli.printing import print_json
from streamrde.errors import ConfigError

if TYPE_CHECKING:
    from streamrde.fitting.config import FitConfig

# Headings of the help.
_LEARNED, _DATA, _SEARCH, _WRITTEN = "What is learned", "What the columns hold", "Search", "What is written"
# Exit status of a fit that Ctrl-C ended early, with a model.
INTERRUPTED = 130


def fit(
    data: Annotated[
        list[str],
        typer.Argument(help="Recorded files: files, folders or globs. Or a TOML file that an earlier fit wrote."),
    ],
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            help="Column to predict, or columns of numbers, comma-separated: one value per stream, or along it.",
            rich_help_panel=_LEARNED,
        ),
    ] = None,
    horizon: Annotated[
        str | None,
        typer.Option(help="Predict the target so much later, such as 24h. [0]", rich_help_panel=_LEARNED),
    ] = None,
    task: Annotated[
        Literal["auto", "classification", "regression"] | None,
        typer.Option(
            help="Classes, or numbers. auto: text and few whole numbers are classes.", rich_help_panel=_LEARNED
        ),
    ] = None,
    class_weights: Annotated[
        str | None,
        typer.Option(
            help="Cost of an error by class: balanced (all classes the same), or factors such as open=3,stuck=5.",
            rich_help_panel=_LEARNED,
        ),
    ] = None,
    stream: Annotated[
        str | None, typer.Option(help='Column of the stream\'s name. "": each file is one.', rich_help_panel=_DATA)
    ] = None,
    time: Annotated[
        str | None, typer.Option(help='Column of the time. "": rows are 1 s apart.', rich_help_panel=_DATA)
    ] = None,
    time_unit: Annotated[
        str | None, typer.Option(help="Unit of times that are numbers. [s]", rich_help_panel=_DATA)
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(help="Columns of the channels, comma-separated. [all numbers]", rich_help_panel=_DATA),
    ] = None,
    drop: Annotated[
        str | None, typer.Option(help="Columns that are no channels, comma-separated.", rich_help_panel=_DATA)
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(help='Column of what is kept together, such as a person. "": none.', rich_help_panel=_DATA),
    ] = None,
    split_column: Annotated[
        str | None,
        typer.Option("--split", help='Column that marks a test part or folds. "": none.', rich_help_panel=_DATA),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Use so many minutes: go on from closed forms to stacks, which need torch.", rich_help_panel=_SEARCH
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="Memory to use, such as 2GB: a sample of larger data chooses the model. [a quarter of all]",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the random features. [0]", rich_help_panel=_SEARCH)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The model's file. [model.safetensors]", rich_help_panel=_WRITTEN),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="The report's HTML file. [beside the model]", rich_help_panel=_WRITTEN),
    ] = None,
    opens: Annotated[
        bool, typer.Option("--open", help="Open the report in a browser.", rich_help_panel=_WRITTEN)
    ] = False,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no report.", rich_help_panel=_WRITTEN)] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite files that exist.", rich_help_panel=_WRITTEN)
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    json: Json = False,
) -> None:
    """Fit a model to recorded streams: in seconds without torch, or in --minutes with it.

    Writes the model, a report (HTML) and a TOML file that repeats the fit. Ctrl-C keeps the best model so far.

    Examples:

    - `streamrde fit recordings.parquet --target label --open`

    - `streamrde fit "day*/*.csv" --target label --group person --minutes 2 --out walk.safetensors`

    - `streamrde fit model.toml --force`
    """
    from streamrde.cli.following import following
    from streamrde.cli.verdict import print_report
    from streamrde.disk import prepare_file
    from streamrde.fitting.config import write_config
    from streamrde.fitting.entry import fit as fit_files
    from streamrde.fitting.progress import Stage

    if opens and no_report:
        raise ConfigError("--open: there is no report with --no-report; leave one of them out")
    given: dict[str, Any] = {
        "target": None if target is None else _one_or_more(target),
        "horizon": horizon,
        "class_weights": None if class_weights is None else _weights(class_weights),
        "task": task,
        "stream": stream,
        "time": time,
        "time_unit": time_unit,
        "channels": None if channels is None else split(channels),
        "drop": None if drop is None else split(drop),
        "group": group,
        "split": split_column,
        "minutes": minutes,
        "memory": memory,
        "seed": seed,
        "out": None if out is None else str(out),
    }
    changed = {name for name, value in given.items() if value is not None}
    config_file = data[0] if len(data) == 1 and data[0].endswith(".toml") else None
    config = _config(data, config_file, {name: given[name] for name in changed})
    files = {"--out": Path(config.out)}
    if not no_report:
        files["--report"] = report or Path(config.out).with_suffix(".html")
    toml = Path(config.out).with_suffix(".toml")
    repeats = config_file is not None and toml.exists() and toml.samefile(config_file)
    if repeats and changed - {"out"}:
        raise ConfigError(
            f"{toml}: would no longer say how {config.out} was made, because of --{min(changed - {'out'})}; "
            "give another --out"
        )
    if not repeats:
        files["--out (its TOML file)"] = toml
    if len({path.absolute() for path in files.values()}) < len(files):
        raise ConfigError(
            f"--out {config.out}: the model, its report and its TOML file need different names; give an --out that "
            "ends in .safetensors"
        )
    for option, path in files.items():
        if path.exists() and not force:
            raise ConfigError(f"{option} {path}: the file exists; add --force to overwrite it, or give another --out")
        prepare_file(path, option)
    with following(quiet=quiet, minutes=config.minutes) as progress:
        found = fit_files(
            **config.arguments(),
            out=config.out,
            say=(lambda text: None) if json else print,
            progress=progress,
        )
        if not repeats:
            write_config(toml, found.config)
        if not no_report:
            progress(Stage("write the report", 0, 1))
            found.save(files["--report"])
            progress(Stage("write the report", 1, 1))
    written = [str(path) for path in files.values()]
    if json:
        print_json({**found.as_dict(), "written": written})
    else:
        print_report(found, written)
        again = shlex.join(["streamrde", "fit", str(toml), "--force"])
        print(f"  {again}")
    if not no_report:
        _show(files["--report"], opens=opens, quiet=json)
    if found.fitted.stopped == "interrupt":
        raise typer.Exit(INTERRUPTED)


def _show(page: Path, *, opens: bool, quiet: bool) -> None:
    """Say where the report is, and open it if that is wanted and possible."""
    import webbrowser

    address = page.absolute().as_uri()
    opened = opens and webbrowser.open(address)
    if not quiet:
        how = (
            "opened in a browser"
            if opened
            else "no browser was found: open it yourself"
            if opens
            else "a browser opens it"
        )
        print(f"report: {address} ({how})")


def _config(data: list[str], file: str | None, given: dict[str, Any]) -> FitConfig:
    """Return the settings of a TOML file, overridden by the options that were given, or these alone."""
    from msgspec.structs import replace

    from streamrde.fitting.config import FitConfig, read_config

    if file is not None:
        config = read_config(file)
        # The choice among candidates was made for that target and those columns.
        return replace(config, **given, choice="" if given.keys() - {"out"} else config.choice)
    if "target" not in given:
        raise ConfigError("--target is missing: give the column to predict, such as --target label")
    return FitConfig(data=data[0] if len(data) == 1 else tuple(data), **given)


def _weights(text: str) -> str | dict[str, float]:
    if "=" not in text:
        return text
    found = {}
    for part in split(text):
        label, _, factor = part.rpartition("=")
        try:
            found[label] = float(factor)
        except ValueError:
            raise ConfigError(
                f"--class-weights {text!r}: {part!r} is no factor of a class; give a name and a number, such as open=3"
            ) from None
    return found


def _one_or_more(names: str) -> str | tuple[str, ...]:
    found = split(names)
    if not found:
        raise ConfigError(f"--target {names!r}: names no column; give one, such as --target label")
    return found[0] if len(found) == 1 else found
