"""Predictions from recorded files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamrde.cli.options import Json, split
from streamrde.cli.pipeline import print_troubles
from streamrde.cli.printing import print_json
from streamrde.errors import ConfigError, DataError

if TYPE_CHECKING:
    from streamrde.scoring import Job, Status, Summary

# Exit status of a job that skipped files: done, and not all of it.
SKIPPED = 3


def score(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            help="Parquet, Feather / Arrow IPC or CSV: files, folders, globs; - is an Arrow stream on stdin."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="TOML file such as configs/score.toml; options override it.")
    ] = None,
    model: Annotated[Path | None, typer.Option("--model", "-m", help="Model file, from `streamrde train`.")] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            help="Predictions: .parquet, .feather, .arrow, .arrows, .csv; else a folder; - is an Arrow stream.",
        ),
    ] = None,
    stream: Annotated[
        str | None, typer.Option("--stream", help='Column of the stream\'s name [stream_id]; "" = one stream per file.')
    ] = None,
    time: Annotated[str | None, typer.Option("--time", help="Column of the time [t].")] = None,
    time_unit: Annotated[
        str | None,
        typer.Option("--time-unit", help="Unit of a numeric time: s, ms, us, ns, min, h, d or excel (days) [s]."),
    ] = None,
    time_format: Annotated[
        str | None,
        typer.Option("--time-format", help="Format of times that are text or digits, as of strptime [ISO 8601]."),
    ] = None,
    time_zone: Annotated[str | None, typer.Option("--time-zone", help="Zone of times that name none [UTC].")] = None,
    time_ambiguous: Annotated[
        str | None,
        typer.Option("--time-ambiguous", help="Times that clocks put back show twice: error, earlier, later [error]."),
    ] = None,
    channels: Annotated[
        str | None, typer.Option("--channels", help="Columns of the model's channels, comma-separated [their names].")
    ] = None,
    unit: Annotated[
        list[str] | None, typer.Option("--unit", help="Unit of a column that is not in the model's: ax=m/s2.")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option("--where", help="Rows to take: 'site == A', 'hr > 40', 'day in 3, 4'.")
    ] = None,
    evaluate: Annotated[
        str | None,
        typer.Option(
            "--evaluate", help="Columns with the truth, comma-separated: carried along, and measured against."
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option("--features", help="What else to write of each window, comma-separated: state, logsignature."),
    ] = None,
    novelty: Annotated[
        bool, typer.Option("--novelty", help="Write how far each window lies outside of the training, as a p-value.")
    ] = False,
    sort: Annotated[
        str | None,
        typer.Option("--sort", help="Rows out of order: auto sorts them on disk if any, always, never [auto]."),
    ] = None,
    restarts: Annotated[
        str | None,
        typer.Option(
            "--restarts",
            help="A stream that jumps back in time and goes on: error, split it (name, name#2), or sort [error].",
        ),
    ] = None,
    skip_faults: Annotated[
        bool, typer.Option("--skip-faults", help="Count and skip late, repeated and unusable rows instead of stopping.")
    ] = False,
    on_error: Annotated[
        str | None,
        typer.Option("--on-error", help="A file that cannot be used: stop, or skip it (exit status 3) [stop]."),
    ] = None,
    time_check: Annotated[
        str | None,
        typer.Option("--time-check", help="Times that cannot be right: error, reject such streams, or off [error]."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Threads, processes, or Ray tasks [1].")
    ] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", help="threads, processes, local (by the size), or ray [local].")
    ] = None,
    ray_address: Annotated[str | None, typer.Option("--ray-address", help="Ray cluster [one on this machine].")] = None,
    groups: Annotated[
        int | None,
        typer.Option(
            "--groups", min=1, help="Parts to make of streams that are interleaved; each reads the files [1]."
        ),
    ] = None,
    state_in: Annotated[
        str | None,
        typer.Option(
            "--state-in", help="State store from which the streams go on, or the TOML file of the run that has it."
        ),
    ] = None,
    state_out: Annotated[
        str | None,
        typer.Option(
            "--state-out", help="State store for where the streams stand, or a run's TOML file; leaves windows open."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a job that was stopped.")] = False,
    json: Json = False,
) -> None:
    """Predict from recorded files, in constant memory.

    Example: `streamrde score recordings/ --model model.safetensors --out predictions.parquet --jobs 2`
    """
    from streamrde.connectors.files.filters import parse_filter
    from streamrde.scoring import run_job

    job = _job(
        config,
        {
            "files": tuple(files) if files else None,
            "model": None if model is None else str(model),
            "out": out,
            "filters": None if where is None else tuple(map(parse_filter, where)),
            "truth": None if evaluate is None else split(evaluate),
            "features": None if features is None else split(features),
            "novelty": novelty or None,
            "sort": sort,
            "restarts": restarts,
            "faults": "drop" if skip_faults else None,
            "on_error": on_error,
            "time_check": time_check,
            "jobs": jobs,
            "engine": engine,
            "ray_address": ray_address,
            "groups": groups,
            "state_in": state_in,
            "state_out": state_out,
        },
        {
            "stream": stream,
            "time": time,
            "time_unit": time_unit,
            "time_format": time_format,
            "time_zone": time_zone,
            "time_ambiguous": time_ambiguous,
            "channels": None if channels is None else split(channels),
            "units": None if unit is None else dict(map(_unit, unit)),
        },
    )
    job = _with_stores_of_runs(job)
    if "-" in (job.out, *job.patterns):
        _pipe(job)
        return
    with _progress() as on_status:
        try:
            summary = run_job(job, resume=resume, on_status=on_status)
        except DataError as error:
            raise DataError(f"{error}{_remedy(job, error)}", path=error.path, column=error.column) from None
    if json:
        print_json(summary.as_dict())
    else:
        _print(summary)
    if summary.skipped:
        raise typer.Exit(SKIPPED)


def _job(config: Path | None, settings: dict[str, Any], columns: dict[str, Any]) -> Job:
    """The configuration file's job, or an empty one, with the options that were given."""
    from msgspec.structs import replace

    from streamrde.disk import read_toml
    from streamrde.scoring import Job

    job = Job() if config is None else read_toml(config, Job)
    given = {name: value for name, value in columns.items() if value is not None}
    job = replace(job, columns=replace(job.columns, **given))
    job = replace(job, **{name: value for name, value in settings.items() if value is not None}).checked()
    for name, option in (("files", "FILES"), ("model", "--model MODEL"), ("out", "--out OUT")):
        if not getattr(job, name):
            raise ConfigError(f"{name} is missing: give {option}, or a --config that has it")
    return job


def _with_stores_of_runs(job: Job) -> Job:
    """The job with state stores where it names the configurations of live runs."""
    from msgspec.structs import replace

    from streamrde.config import RunConfig
    from streamrde.disk import read_toml
    from streamrde.inference.bundle import load

    for name in ("state_in", "state_out"):
        path = getattr(job, name)
        if path.endswith(".toml"):
            run = read_toml(path, RunConfig)
            if run.state is None:
                raise ConfigError(f"{path}: the run has no [state], and so no store; give it one")
            identity = run.identity(load(job.model).fingerprint)
            if job.state_identity not in ({}, identity):
                raise ConfigError("state_in and state_out belong to runs of other settings: give one of the two")
            job = replace(job, **{name: run.state.path}, state_identity=identity, order=job.order or run.order)
    return job


def _unit(text: str) -> tuple[str, str]:
    column, equals, unit = text.partition("=")
    if not equals:
        raise ConfigError(f"--unit {text!r}: write COLUMN=UNIT, such as ax=m/s2")
    return column, unit


def _pipe(job: Job) -> None:
    """An Arrow stream on standard input, output, or both: one pass, no job."""
    import sys

    import pyarrow as pa

    from streamrde.inference.bundle import load
    from streamrde.scoring.lazily import predictions_of
    from streamrde.scoring.output import check_output, is_folder, provenance, write_file

    if job.out != "-":
        check_output(job.out)
        if is_folder(job.out):
            raise ConfigError(f"out = {job.out!r}: what comes from an Arrow stream is written to one file, or to -")
    bundle = load(job.model)
    try:
        # A reader of its own: one that still waits when the program stops must not hold Python's lock of sys.stdin.
        source = pa.ipc.open_stream(open(0, "rb", closefd=False)) if "-" in job.patterns else None  # noqa: SIM115
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"standard input is no Arrow IPC stream ({error}); send one", path="-") from None
    predictions = predictions_of(source, job, bundle)
    if job.out != "-":
        write_file(job.out, predictions.schema, predictions, provenance(job, bundle))
        return
    schema = predictions.schema.with_metadata(provenance(job, bundle))
    with pa.ipc.new_stream(sys.stdout.buffer, schema) as writer:
        for batch in predictions:
            writer.write_batch(batch)
            sys.stdout.buffer.flush()


@contextmanager
def _progress() -> Iterator[Callable[[Status], None]]:
    """A progress bar on a terminal, and nothing elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda status: None
        return
    from rich import progress as bars

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.TaskProgressColumn(),
        bars.TextColumn("{task.fields[rate]}"),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None, rate="")

        def show(status: Status) -> None:
            unit = "files" if status.stage == "scanning" else "rows"
            parts = f", part {status.parts} of {status.parts_total}" if status.parts_total > 1 else ""
            if bar.tasks[task].description.split(",")[0] != status.stage:
                bar.reset(task, description=status.stage)
            speed = bar.tasks[task].speed
            bar.update(
                task,
                description=status.stage + parts,
                completed=status.done,
                total=max(status.total, status.done),
                rate=f"{speed:,.0f} {unit}/s" if speed else "",
            )

        yield show


def _remedy(job: Job, error: DataError) -> str:
    if "time_check" in str(error):
        return ""
    if "restarts =" in str(error):
        return "; --restarts split, or --restarts sort, does so"
    if error.row is not None and job.faults == "error":
        return "; --skip-faults counts and skips such rows"
    files = job.on_error == "stop" and error.path and Path(error.path).is_file()
    return "; --on-error skip leaves such files out" if files else ""


def _print(summary: Summary) -> None:
    rate = summary.rows / max(summary.seconds, 1e-9)
    streams = (
        f"{summary.streams - summary.silent:,} of {summary.streams:,} streams"
        if summary.silent
        else (f"{summary.streams:,} streams")
    )
    print(
        f"wrote {summary.out}: {streams}, {summary.rows:,} rows, "
        f"{summary.predictions:,} predictions, "
        f"{summary.seconds:.2f} s ({rate:,.0f} rows/s)"
    )
    if summary.silent:
        names = ", ".join(f"'{name}'" for name in summary.silent_examples)
        more = ", ..." if summary.silent > len(summary.silent_examples) else ""
        why = (
            "their windows are still open, in the state store"
            if summary.states
            else "they have fewer than two usable samples"
        )
        print(f"{summary.silent:,} streams without a window, hence without a prediction ({names}{more}): {why}")
    faults = {name: count for name, count in summary.counts._asdict().items() if name != "samples" and count}
    if faults:
        print("skipped: " + ", ".join(f"{count:,} {name}" for name, count in faults.items()))
    print_troubles(summary.troubles, summary.implausible, summary.said)
    for reason, count in summary.dropped.items():
        print(f"skipped: {count:,} row{'s' if count > 1 else ''}: {reason}")
    flags = {name.replace("_", " "): getattr(summary.state_counts, name) for name in ("out_of_range", "not_finite")}
    if any(flags.values()):
        print("states: " + ", ".join(f"{count:,} windows {name}" for name, count in flags.items() if count))
    if cuts := summary.state_counts.cuts:
        print(f"cut: {cuts:,} silences were longer than the model bridges; the streams begin anew after them")
    if summary.novelty:
        novel, drifts = summary.state_counts.novel, summary.state_counts.drifts
        print(f"novelty: {novel:,} windows with p below 1 %, {drifts:,} alarms of drift")
    if summary.sorted:
        print(f"sorted: rows of {summary.sorted} of {summary.parts} parts were not in order of time")
    for name, count in summary.restarts.items():
        print(
            f"split: stream {name} begins again {count} time{'s' if count > 1 else ''}: {name}#2{' ...' * (count > 1)}"
        )
    if summary.resumed:
        print(f"resumed: {summary.resumed} of {summary.parts} parts were done")
    if summary.states:
        print(f"states: {summary.states:,} streams left where they stand")
    for reason in summary.skipped.values():
        print(f"left out: {reason}")
    if summary.unmeasured:
        print(f"not measured: {summary.unmeasured}")
    if summary.evaluation is not None:
        if summary.horizon:
            print(
                f"truth: the model predicts {summary.horizon:g} s ahead; each window is compared with what is known so "
                "much later"
            )
        from rich.console import Console

        from streamrde.cli.evaluation import alarms, outcome, tables
        from streamrde.tables import print_whole

        for table in tables(summary.evaluation):
            print_whole(Console(), table)
        print(f"done: {outcome(summary.evaluation)}")
        for alarm in alarms(summary.evaluation):
            print(f"warning: {alarm}")
