"""The command `demo`."""

from __future__ import annotations

from typing import Annotated

import typer

from streamrde.cli.options import Json
from streamrde.cli.printing import print_json


def demo(
    broker: Annotated[
        str | None, typer.Option(help="Use the broker at mqtt://host:port. By default the demo runs its own.")
    ] = None,
    speed: Annotated[float, typer.Option(min=0.1, help="Speed, as a multiple of real time.")] = 2.0,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the live page. 0: any free one.")] = 0,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Serve a live page, and print its address.")] = True,
    opens: Annotated[
        bool, typer.Option("--open", help="Open the page in a browser, and serve it until Ctrl-C.")
    ] = False,
    json: Json = False,
) -> None:
    """Classify 42 smart-watch recordings live over MQTT. Takes half a minute.

    Example: `streamrde demo`
    """
    from rich.console import Console

    from streamrde.demo.show import show

    console = Console(stderr=json)
    summary = show(console, broker=broker, speed=speed, port=port if page else None, opens=opens and page)
    if json:
        print_json(summary)
        return
    console.print(
        f"[bold]{summary['right_at_end']} of {summary['streams']} streams right at their end "
        f"({summary['accuracy_at_end']:.1%})[/bold], people the model never saw\n"
        f"{summary['samples']:,} samples in {summary['seconds']} s: {summary['samples_per_second']:,} samples/s, "
        f"{summary['predictions']:,} predictions\n"
        "from sample sent to prediction received: "
        f"p50 {summary['latency_p50_ms']} ms, p99 {summary['latency_p99_ms']} ms"
    )
