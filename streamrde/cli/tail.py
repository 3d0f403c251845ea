"""Predictions of a live sink, as they come."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamrde.cli.options import Json, SourceKeys
from streamrde.cli.printing import moment, plain, print_json, said
from streamrde.errors import ConfigError, PayloadError

if TYPE_CHECKING:
    from streamrde.looking.messages import Captured


def tail(
    url: Annotated[
        str,
        typer.Argument(
            help="Topics with predictions: mqtt://host:1883/predictions/#, nats://, redis://, amqp://, kafka://, "
            "or a server: ws://host:8080/predictions."
        ),
    ],
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="End after so many predictions.", show_default="never")
    ] = None,
    source_key: SourceKeys = None,
    json: Json = False,
) -> None:
    """Print predictions as a run publishes them, until Ctrl-C.

    It takes no message from other readers. JSON, MessagePack and CBOR are told apart by themselves. Of queues that keep
    messages, the last ones come first. With --json each prediction is an object on its own line.

    Example: `streamrde tail "mqtt://127.0.0.1:1883/predictions/#"`
    """
    from streamrde.cli.listening import pairs, place_of

    place = place_of(url)
    if place is None:
        raise ConfigError(
            f"{url}: tail prints what comes at live topics, such as mqtt://127.0.0.1:1883/predictions/#; "
            "read a file of predictions with pandas, polars or DuckDB"
        )
    lines = _Lines(limit, json=json)
    try:
        asyncio.run(_follow(place, pairs(source_key or ()), lines))
    except BrokenPipeError:  # `| head` has what it wanted
        # Python would flush standard output at its end, and say that nobody reads it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print(lines.summary, file=sys.stderr)


async def _follow(place: Any, keys: dict[str, Any], lines: _Lines) -> None:
    from streamrde.cli.listening import heard

    print(f"listening at {place.shown} (Ctrl-C: end)", file=sys.stderr)
    async with aclosing(heard(place, keys)) as coming:
        async for messages, dropped in coming:
            lines.dropped = dropped
            for message in messages:
                lines.take(message)
                if lines.ended:
                    return


class _Lines:
    """Print messages that are predictions, and count the others.

    Args:
        limit: predictions to print. None: all.
        json: print them as objects.
    """

    def __init__(self, limit: int | None, *, json: bool) -> None:
        self.dropped = 0
        """Messages that came faster than they could be printed."""
        self._limit = limit
        self._json = json
        self._printed = self._others = self._width = 0

    @property
    def ended(self) -> bool:
        """True if there are as many as were asked for."""
        return self._printed == self._limit

    @property
    def summary(self) -> str:
        """Say what came."""
        parts = [f"{self._printed:,} predictions"]
        parts += [f"{self._others:,} other messages"] if self._others else []
        parts += [f"{self.dropped:,} dropped, as they came too fast"] if self.dropped else []
        return ", ".join(parts)

    def take(self, message: Captured) -> None:
        """Print a message if it is a prediction."""
        from streamrde.connectors.codecs.predictions import read_prediction

        try:
            row = read_prediction(message.payload)
        except PayloadError as error:
            self._others += 1
            if self._others == 1:
                print(f"topic {plain(message.topic)}: {error}; such messages are counted", file=sys.stderr)
            return
        self._printed += 1
        if self._json:
            print_json({**row, "topic": message.topic})
        else:
            name = plain(row["stream"])
            self._width = min(max(self._width, len(name)), 32)
            print(f"{moment(row['t_end']):>21}  {name:{self._width}}  window {row['window']:<6}  {said(row)}")
        sys.stdout.flush()
