"""Predictions of a live sink, as they come."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamrde.cli.options import Json, SourceKeys
from streamrde.cli.printing import moment, plain, print_json, said
from streamrde.errors import ConfigError, PayloadError

if TYPE_CHECKING:
    from streamrde.looking.messages import Captured

# Predictions of files that are shown first.
_LAST = 10


def tail(
    url: Annotated[
        str,
        typer.Argument(
            help="Topics with predictions: mqtt://host:1883/predictions/#, nats://, redis://, amqp://, kafka://, "
            "a server: ws://host:8080/predictions, a file of predictions, or a folder that a run adds files to."
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

    A file shows its last predictions, 10 or --limit. A folder shows the last ones, and then those of files that come.

    Example: `streamrde tail "mqtt://127.0.0.1:1883/predictions/#"`
    """
    from streamrde.cli.listening import pairs, place_of

    place = place_of(url)
    path = Path(url)
    if place is None and not path.exists():
        raise ConfigError(
            f"{url}: neither live topics, such as mqtt://127.0.0.1:1883/predictions/#, nor a file or folder that is "
            "there; check the name"
        )
    lines = _Lines(limit, json=json)
    try:
        if place is None:
            _read(path, limit, lines)
        else:
            asyncio.run(_follow(place, pairs(source_key or ()), lines))
    except BrokenPipeError:  # `| head` has what it wanted
        # Python would flush standard output at its end, and say that nobody reads it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print(lines.summary, file=sys.stderr)


def _read(path: Path, limit: int | None, lines: _Lines) -> None:
    """Print the last predictions of a file, or of a folder and then those of files that come into it."""
    from streamrde.cli.prediction_files import added, files_of, last_predictions, predictions_of

    if path.is_file():
        for row in last_predictions(path, limit or _LAST):
            lines.print_row(row)
        return
    known = files_of(path)
    for row in last_predictions(known[-1], min(limit or _LAST, _LAST)) if known else ():
        lines.print_row(row)
    if lines.ended:
        return
    print(f"waiting for files in {path} (Ctrl-C: end)", file=sys.stderr)
    with suppress(KeyboardInterrupt):
        for file in added(path, set(known)):
            for row in predictions_of(file):
                lines.print_row(row)
                if lines.ended:
                    return


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
        self.print_row(row, topic=message.topic)

    def print_row(self, row: dict[str, Any], **more: str) -> None:
        """Print a prediction, in JSON with further fields."""
        self._printed += 1
        if self._json:
            print_json(row | more)
        else:
            name = plain(row["stream"])
            self._width = min(max(self._width, len(name)), 32)
            print(f"{moment(row['t_end']):>21}  {name:{self._width}}  window {row['window']:<6}  {said(row)}")
        sys.stdout.flush()
