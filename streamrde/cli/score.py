"""Predictions from recorded files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamrde.cli.options import DIALECT, Json, given_options, with_options
from streamrde.cli.printing import print_json
from streamrde.cli.summary import print_summary
from streamrde.connectors.dialect import Dialect
from streamrde.errors import ConfigError, DataError
from streamrde.scoring.job import ColumnsConfig, Job

if TYPE_CHECKING:
    from streamrde.inference.bundle import Bundle
    from streamrde.scoring.status import Status

# Exit status of a job that skipped files: done, and not all of it.
SKIPPED = 3

# Keys of a job that have an option, and its flags where they are not the key's name.
_JOB = {
    "model": ("--model", "-m"), "out": ("--out", "-o"), "filters": ("--where",), "truth": ("--evaluate",),
    "features": (), "novelty": (), "intervals": (), "sort": (), "restarts": (), "on_error": (), "time_check": (),
    "jobs": ("--jobs", "-j"), "engine": (), "ray_address": (), "groups": (), "state_in": (), "state_out": (),
}  # fmt: skip
_COLUMNS = {
    "stream": (), "time": (), "time_unit": (), "time_format": (), "time_zone": (), "time_ambiguous": (),
    "channels": (), "units": ("--unit",), "name": ("--name-column",), "value": ("--value-column",),
}  # fmt: skip


@with_options((Job, _JOB), (ColumnsConfig, _COLUMNS), (Dialect, DIALECT))
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
    skip_faults: Annotated[
        bool, typer.Option("--skip-faults", help="Count and skip late, repeated and unusable rows instead of stopping.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a job that was stopped.")] = False,
    progressive: Annotated[
        bool,
        typer.Option(
            "--progressive",
            help="Evaluate what streams would learn from the truth when it comes: needs --evaluate. See also --delay.",
        ),
    ] = False,
    delay: Annotated[
        str | None,
        typer.Option("--delay", help="Time until a label is known, after the time that it is for, such as 60s."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write an HTML page of what --progressive found, with charts.")
    ] = None,
    json: Json = False,
    **options: Any,
) -> None:
    """Predict from recorded files, in constant memory.

    Example: `streamrde score recordings/ --model model.safetensors --out predictions.parquet --jobs 2`
    """
    from streamrde.config.durations import seconds_of
    from streamrde.disk import prepare_file
    from streamrde.inference.bundle import load
    from streamrde.scoring.run import run_job

    settings = given_options(Job, _JOB, options)
    settings |= {"files": tuple(files)} if files else {}
    settings |= {"faults": "drop"} if skip_faults else {}
    columns, csv = given_options(ColumnsConfig, _COLUMNS, options), given_options(Dialect, DIALECT, options)
    job = _job(config, settings, columns, csv)
    bundle = load(job.model)
    late = 0.0 if delay is None else seconds_of("--delay", delay)
    if delay is not None and not progressive:
        raise ConfigError(f"--delay {delay}: it is of labels that are learned from; add --progressive, or leave it out")
    if report is not None and not progressive:
        raise ConfigError(f"--report {report}: it is of labels that are learned from; add --progressive")
    if progressive and not job.truth:
        raise ConfigError("--progressive: there is no truth to learn from; name its columns with --evaluate")
    prepare_file(report, "--report")
    job = _with_stores_of_runs(job, bundle)
    if "-" in (job.out, *job.patterns):
        _pipe(job, bundle)
        return
    with _progress() as on_status:
        try:
            summary = run_job(job, bundle=bundle, resume=resume, on_status=on_status)
        except DataError as error:
            raise DataError(f"{error}{_remedy(job, error)}", path=error.path, column=error.column) from None
    learned = None
    if progressive:
        from streamrde.scoring.progressive import evaluate_progressively

        learned = evaluate_progressively(job.out, bundle, job.truth, delay=late, coverage=job.intervals)
    if learned is not None and report is not None:
        from streamrde.pages.progressive import write_progressive

        write_progressive(report, learned, f"Labels that come late: {job.out}")
    if json:
        print_json(summary.as_dict() | ({} if learned is None else {"progressive": learned}))
    else:
        print_summary(summary)
        if learned is not None:
            from rich.console import Console

            from streamrde.cli.evaluation import progressive_tables
            from streamrde.tables import print_whole

            for table in progressive_tables(learned):
                print_whole(Console(), table)
            if report is not None:
                print(f"the page is {report}")
    if summary.skipped:
        raise typer.Exit(SKIPPED)


def _job(config: Path | None, settings: dict[str, Any], columns: dict[str, Any], csv: dict[str, Any]) -> Job:
    """Return the configuration file's job, or an empty one, with the options that were given."""
    from msgspec.structs import replace

    from streamrde.disk import read_toml

    job = Job() if config is None else read_toml(config, Job)
    job = replace(
        job, columns=replace(job.columns, csv=replace(job.columns.csv, **csv), **columns), **settings
    ).checked()
    for name, option in (("files", "FILES"), ("model", "--model MODEL"), ("out", "--out OUT")):
        if not getattr(job, name):
            raise ConfigError(f"{name} is missing: give {option}, or a --config that has it")
    return job


def _with_stores_of_runs(job: Job, bundle: Bundle) -> Job:
    """Return the job with state stores in place of the configurations of live runs."""
    from msgspec.structs import replace

    from streamrde.config import RunConfig, StateConfig
    from streamrde.disk import read_toml

    for name in ("state_in", "state_out"):
        path = getattr(job, name)
        if path.endswith(".toml"):
            run = read_toml(path, RunConfig)
            if run.state is None:
                raise ConfigError(f"{path}: the run has no [state], and so no store; give it one")
            if not isinstance(run.state, StateConfig):
                raise ConfigError(
                    f"{path}: the run's state is in Kafka; export it to a file with  streamrde state export {path}"
                )
            identity = run.identity(bundle.fingerprint)
            if job.state_identity not in ({}, identity):
                raise ConfigError("state_in and state_out belong to runs of other settings: give one of the two")
            job = replace(job, **{name: run.state.path}, state_identity=identity, order=job.order or run.order)
    return job


def _pipe(job: Job, bundle: Bundle) -> None:
    """Score an Arrow stream on standard input, output, or both, in one pass without a job."""
    import sys

    import pyarrow as pa

    from streamrde.scoring.lazily import predict_lazily
    from streamrde.scoring.output import check_output, is_folder, provenance, write_file

    if job.out != "-":
        check_output(job.out)
        if is_folder(job.out):
            raise ConfigError(f"out = {job.out!r}: what comes from an Arrow stream is written to one file, or to -")
    try:
        # A reader of its own: one that still waits when the program stops must not hold Python's lock of sys.stdin.
        source = pa.ipc.open_stream(open(0, "rb", closefd=False)) if "-" in job.patterns else None  # noqa: SIM115
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"standard input is no Arrow IPC stream ({error}); send one", path="-") from None
    predictions = predict_lazily(source, job, bundle)
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
    """Show a progress bar on a terminal, and nothing elsewhere."""
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
    """Name the options that help, where the error itself does not."""
    from streamrde.connectors.files.places import is_url

    if error.setting == "time_check":
        return ""
    if error.setting == "restarts":
        return "; --restarts split, or --restarts sort, does so"
    if error.setting == "faults" and job.faults == "error":
        return "; --skip-faults counts and skips such rows"
    files = job.on_error == "stop" and error.path and (is_url(error.path) or Path(error.path).is_file())
    return "; --on-error skip leaves such files out" if files else ""
