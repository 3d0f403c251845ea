"""Send recorded samples as sensors would."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from streamrde.cli.options import DIALECT, Flags, Json, given_options, with_options
from streamrde.cli.printing import print_json
from streamrde.connectors.dialect import Dialect
from streamrde.errors import ConfigError
from streamrde.scoring.job import ColumnsConfig

if TYPE_CHECKING:
    from streamrde.connectors.ends import Publisher
    from streamrde.connectors.files.restarts import OnRestart
    from streamrde.runtime.replay import Recording


_COLUMNS: Flags = dict.fromkeys(("stream", "time", "time_unit", "time_format", "time_zone", "channels"), ()) | {
    "name": ("--name-column",),
    "value": ("--value-column",),
}


@with_options((ColumnsConfig, _COLUMNS), (Dialect, DIALECT))
def replay(
    files: Annotated[list[str], typer.Argument(help="Parquet, Feather / Arrow IPC or CSV: files, folders or globs.")],
    to: Annotated[
        str,
        typer.Option(
            "--to", help="Queue, mqtt://user:password@host:port, nats://, redis://, amqp:// or kafka://.", metavar="URL"
        ),
    ],
    topic: Annotated[
        str | None,
        typer.Option(help="Template of the topics, with {stream} for the stream's name, such as sensors/{stream}/imu."),
    ] = None,
    speed: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Speed, as a multiple of real time. 0: as fast as possible; a broker may then drop messages.",
        ),
    ] = 1.0,
    batch: Annotated[int, typer.Option(min=1, help="Most samples of one stream in a message.")] = 1,
    tick: Annotated[float, typer.Option(min=0.001, help="Seconds between two publications.")] = 0.02,
    mqtt: Annotated[
        str, typer.Option(help='Version of MQTT: "3.1.1", or "5", in which a broker reports refused messages.')
    ] = "3.1.1",
    keys: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Further key of a section [sink] of the kind, such as exchange=sensors.", metavar="KEY=VALUE"
        ),
    ] = None,
    model: Annotated[Path | None, typer.Option("--model", "-m", help="Send the channels of this model.")] = None,
    time_check: Annotated[
        str,
        typer.Option("--time-check", help="Times that cannot be right: error, or off (no check).", metavar="error|off"),
    ] = "error",
    restarts: Annotated[
        str,
        typer.Option(
            help="Streams that jump back in time: error, split them (name, name#2), or sort.",
            metavar="error|split|sort",
        ),
    ] = "error",
    json: Json = False,
    **options: Any,
) -> None:
    """Send recorded samples to a queue as the sensors would, at the pace of their times.

    Example: `streamrde replay recordings/ --to mqtt://127.0.0.1:1883 --model model.safetensors --speed 10`
    """
    from streamrde.connectors.publishing import publisher_to
    from streamrde.inference.bundle import load
    from streamrde.inference.clocks import expectation_of
    from streamrde.runtime.replay import load_recording
    from streamrde.times.plausible import Expectation, TimeCheck

    csv = Dialect(**given_options(Dialect, DIALECT, options))
    config = ColumnsConfig(csv=csv, **given_options(ColumnsConfig, _COLUMNS, options))
    expected: Expectation | None = Expectation()
    if model is not None:
        header = load(model).header
        expected = expectation_of(header)
        columns = config.columns(header)
    elif config.channels:
        columns = config.columns_for(config.channels)
    else:
        raise ConfigError("which columns are sent? give --channels ax,ay,az or --model MODEL")
    if TimeCheck(time_check).action == "off":  # type: ignore[arg-type]
        expected = None
    recording = load_recording(files, columns, expected=expected, restarts=cast("OnRestart", restarts))
    settings = dict(_pair(text) for text in keys or ())
    if mqtt != "3.1.1":
        settings["version"] = mqtt
    publisher = publisher_to(to, topic=topic, columns=columns, batch=batch, keys=settings)
    summary = asyncio.run(_replay(recording, publisher, speed, tick))
    if json:
        print_json(summary)
    else:
        print(f"sent {summary['rows']:,} rows in {summary['messages']:,} messages, {summary['seconds']} s")


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign:
        raise ConfigError(f"--set {text}: give KEY=VALUE")
    return key.strip(), value.strip()


async def _replay(recording: Recording, publisher: Publisher, speed: float, tick: float) -> dict[str, float | int]:
    from time import perf_counter

    from streamrde.runtime.replay import replay as send

    began = perf_counter()
    async with publisher:
        rows = await send(recording, publisher, speed=speed, tick=tick)
    return {"rows": rows, "messages": publisher.messages, "seconds": round(perf_counter() - began, 2)}
