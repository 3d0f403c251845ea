"""The command line: parse, call the API, print. What a command imports it imports when it runs."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from streamrde.errors import ConfigError, DataError, ParameterError, SampleError, StreamRDEError

if TYPE_CHECKING:
    from streamrde.connectors.samples import Columns
    from streamrde.runtime.metrics import Metrics

app = typer.Typer(
    name="streamrde",
    help="Streaming inference for Neural Rough Differential Equations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else there.")]
Model = Annotated[Path, typer.Option("--model", "-m", help="Model file, written by `streamrde train`.")]
StreamColumn = Annotated[str, typer.Option("--stream", help='Column of the stream\'s name; "" = one stream per file.')]
TimeColumn = Annotated[str, typer.Option("--time", help="Column of the time.")]
TimeUnit = Annotated[str, typer.Option("--time-unit", help="Unit of a numeric time column: s, ms, us or ns.")]
Channels = Annotated[
    str, typer.Option("--channels", help="Columns of the model's channels, comma-separated; default: their names.")
]
Files = Annotated[list[str], typer.Argument(help="Parquet, Feather / Arrow IPC or CSV: files, folders or globs.")]


def main() -> None:
    """Run the command line; an error of ours is one line and exit status 1, Ctrl-C is 130."""
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


@app.command()
def demo(
    broker: Annotated[
        str | None, typer.Option(help="mqtt://host:port of a broker; default: one in this process.")
    ] = None,
    speed: Annotated[float, typer.Option(min=0.1, help="How many times faster than recorded.")] = 2.0,
    json: Json = False,
) -> None:
    """Classify 42 smart-watch recordings over MQTT while they run; takes half a minute.

    Example: `streamrde demo`
    """
    from rich.console import Console

    from streamrde.demo.show import show

    console = Console(stderr=json)
    summary = show(console, broker=broker, speed=speed)
    if json:
        _print_json(summary)
        return
    console.print(
        f"[bold]{summary['right_at_end']} of {summary['streams']} streams right at their end "
        f"({summary['accuracy_at_end']:.1%})[/bold], people the model never saw\n"
        f"{summary['samples']:,} samples in {summary['seconds']} s: {summary['samples_per_second']:,} samples/s, "
        f"{summary['predictions']:,} predictions\n"
        "from sample sent to prediction received: "
        f"p50 {summary['latency_p50_ms']} ms, p99 {summary['latency_p99_ms']} ms"
    )


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="TOML file, such as configs/watch.toml.")],
    json: Json = False,
) -> None:
    """Train a Neural RDE on recorded files and write the model.

    Example: `streamrde train configs/watch.toml`
    """
    from rich.console import Console

    from streamrde import models

    bundle = models.train(config, console=Console(stderr=json))
    if json:
        _print_json(bundle.header.metrics)


@app.command()
def score(
    files: Files,
    model: Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="Predictions: .parquet, .feather, .arrow, .arrows or .csv.")],
    stream: StreamColumn = "stream_id",
    time: TimeColumn = "t",
    time_unit: TimeUnit = "s",
    channels: Channels = "",
    skip_faults: Annotated[
        bool, typer.Option("--skip-faults", help="Count and skip late, repeated and unusable rows instead of stopping.")
    ] = False,
    json: Json = False,
) -> None:
    """Predict from recorded files, in constant memory.

    Example: `streamrde score recordings/*.parquet --model model.safetensors --out predictions.parquet`
    """
    from streamrde.config import ArrowSinkConfig, columns_of
    from streamrde.inference.bundle import load
    from streamrde.inference.fleet import Fleet
    from streamrde.runtime.files import FileSource

    bundle = load(model)
    columns = columns_of(bundle.header, _split(channels), stream=stream, time=time, time_unit=time_unit)
    fleet = Fleet(bundle, faults="drop" if skip_faults else "error")
    try:
        metrics = _run(
            FileSource(files, columns), fleet, ArrowSinkConfig(path=str(out)).build(bundle), flush=True, live=False
        )
    except SampleError as error:
        raise DataError(f"{error}; --skip-faults counts and skips such rows", path=", ".join(files)) from None
    _report(metrics, json, f"wrote {out}")


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="TOML file, such as configs/mqtt.toml.")],
    json: Json = False,
) -> None:
    """Carry samples from a source through a model to a sink, until the source ends or Ctrl-C.

    Example: `streamrde run configs/mqtt.toml`
    """
    from streamrde.config import ArrowSourceConfig, RunConfig
    from streamrde.disk import read_toml
    from streamrde.inference.bundle import load
    from streamrde.inference.fleet import Fleet

    settings = read_toml(config, RunConfig)
    bundle = load(settings.model)
    live = not isinstance(settings.source, ArrowSourceConfig)
    try:
        source, sink = settings.source.build(bundle.header), settings.sink.build(bundle)
    except (ConfigError, ParameterError) as error:
        raise ConfigError(f"{config}: {error}") from None
    metrics = _run(source, Fleet(bundle, faults=settings.faults), sink, flush=settings.flush, live=live)
    _report(metrics, json, "done")


@app.command()
def replay(
    files: Files,
    to: Annotated[str, typer.Option("--to", help="Broker, mqtt://user:password@host:port.")],
    topic: Annotated[
        str, typer.Option(help="Template of the topics; {stream} is the stream's name.")
    ] = "sensors/{stream}/imu",
    speed: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="How many times faster than recorded; 0 = no pacing, and a broker may drop what it cannot queue.",
        ),
    ] = 1.0,
    batch: Annotated[int, typer.Option(min=1, help="Samples of one stream in a message, at most.")] = 1,
    tick: Annotated[float, typer.Option(min=0.001, help="Seconds between two publications.")] = 0.02,
    model: Annotated[Path | None, typer.Option("--model", "-m", help="Model whose channels are sent.")] = None,
    stream: StreamColumn = "stream_id",
    time: TimeColumn = "t",
    time_unit: TimeUnit = "s",
    channels: Channels = "",
    json: Json = False,
) -> None:
    """Send recorded samples over MQTT as the sensors would, at the pace of their times.

    Example: `streamrde replay recordings/ --to mqtt://127.0.0.1:1883 --model model.safetensors --speed 10`
    """
    from streamrde.config import columns_of
    from streamrde.connectors.samples import Columns
    from streamrde.inference.bundle import load

    if model is not None:
        header = load(model).header
        columns = columns_of(header, _split(channels), stream=stream, time=time, time_unit=time_unit)
    elif channels:
        columns = Columns(channels=_split(channels), stream=stream or None, time=time, time_unit=time_unit)
    else:
        raise ConfigError("which columns are sent? give --channels ax,ay,az or --model MODEL")
    summary = asyncio.run(_replay(files, columns, to, topic, speed, batch, tick))
    if json:
        _print_json(summary)
    else:
        print(f"sent {summary['rows']:,} rows in {summary['messages']:,} messages, {summary['seconds']} s")


@app.command()
def inspect(
    model: Annotated[Path | None, typer.Argument(help="Model file.")] = None,
    kernels: Annotated[bool, typer.Option("--kernels", help="Show which kernels run here, and why.")] = False,
    json: Json = False,
) -> None:
    """Show what a model takes, what it gives, and how it was made.

    Example: `streamrde inspect model.safetensors`
    """
    from streamrde.inference.bundle import load
    from streamrde.kernels import IMPLEMENTATION

    if kernels:
        if json:
            _print_json(IMPLEMENTATION._asdict())
        else:
            print(f"{IMPLEMENTATION.name}: {IMPLEMENTATION.reason}")
        return
    if model is None:
        raise ConfigError("what is to be inspected? give a model file, or --kernels")
    from streamrde.inference.card import card

    bundle = load(model)
    if json:
        description = msgspec.to_builtins(bundle.header) | {
            "fingerprint": bundle.fingerprint,
            "parameters": bundle.parameters,
        }
        _print_json(description)
    else:
        from rich.console import Console

        Console().print(card(bundle, model.name))


@app.command()
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
        _print_json(result)


async def _replay(
    files: list[str], columns: Columns, to: str, topic: str, speed: float, batch: int, tick: float
) -> dict[str, float | int]:
    from time import perf_counter

    from streamrde.connectors.mqtt import SamplePublisher
    from streamrde.runtime.replay import load_recording
    from streamrde.runtime.replay import replay as send

    recording = load_recording(files, columns)
    began = perf_counter()
    async with SamplePublisher(to, topic=topic, columns=columns, batch=batch) as publisher:
        rows = await send(recording, publisher, speed=speed, tick=tick)
    return {"rows": rows, "messages": publisher.counts.messages, "seconds": round(perf_counter() - began, 2)}


def _run(source: Any, fleet: Any, sink: Any, *, flush: bool, live: bool) -> Metrics:
    """Run a pipeline with a progress line.

    The first Ctrl-C or SIGTERM ends a live one in order. One over recorded files it breaks off: predictions of a part
    of the files must not pass for those of the whole.
    """
    from rich.console import Console

    from streamrde.runtime.pipeline import run as carry

    console = Console(stderr=True)

    async def go(show: Any) -> Metrics:
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM) if live else ():
            with suppress(NotImplementedError):  # Windows has no signal handlers in event loops
                loop.add_signal_handler(name, _stop_once, loop, source)
        return await carry(source, fleet, sink, flush=flush, on_start=lambda: show("connected"), on_batch=show)

    if not console.is_terminal:
        return asyncio.run(go(lambda _: None))
    with console.status("starting") as status:
        return asyncio.run(go(lambda now: status.update(now if isinstance(now, str) else _line(now))))


def _stop_once(loop: asyncio.AbstractEventLoop, source: Any) -> None:
    """End after what has arrived; a second signal ends at once."""
    source.stop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(name)


def _line(metrics: Metrics) -> str:
    faults = metrics.malformed + metrics.dropped + sum(metrics.counts) - metrics.counts.samples
    return (
        f"{metrics.streams:,} streams, {metrics.rows:,} rows ({metrics.rows / metrics.seconds:,.0f}/s), "
        f"{metrics.predictions:,} predictions" + (f", {faults:,} skipped" if faults else "")
    )


def _report(metrics: Metrics, json: bool, what: str) -> None:
    summary = metrics.summary()
    if json:
        _print_json(summary)
        return
    skipped = {
        name: summary[name] for name in ("late", "duplicate", "rejected", "malformed", "dropped") if summary[name]
    }
    print(f"{what}: {_line(metrics)}, {metrics.seconds:.2f} s")
    if skipped:
        print("skipped: " + ", ".join(f"{count:,} {name}" for name, count in skipped.items()))
    if "latency_p50_ms" in summary:
        print(
            "from arrival to confirmed prediction: "
            f"p50 {summary['latency_p50_ms']} ms, p99 {summary['latency_p99_ms']} ms"
        )


def _split(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())


def _print_json(value: Any) -> None:
    print(msgspec.json.encode(value).decode())
