"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else there.")]
Model = Annotated[Path, typer.Option("--model", "-m", help="Model file, written by `streamrde train`.")]
StreamColumn = Annotated[str, typer.Option("--stream", help='Column of the stream\'s name; "" = one stream per file.')]
TimeColumn = Annotated[str, typer.Option("--time", help="Column of the time.")]
TimeUnit = Annotated[
    str,
    typer.Option("--time-unit", help="Unit of a numeric time: s, ms, us, ns, min, h, d, or excel (day numbers)."),
]
TimeFormat = Annotated[
    str, typer.Option("--time-format", help='Format of times that are text or digits, as of strptime; "" = ISO 8601.')
]
TimeZone = Annotated[str, typer.Option("--time-zone", help='Zone of times that name none; "" = UTC.')]
Channels = Annotated[
    str, typer.Option("--channels", help="Columns of the model's channels, comma-separated; default: their names.")
]
Files = Annotated[list[str], typer.Argument(help="Parquet, Feather / Arrow IPC or CSV: files, folders or globs.")]

Where = Annotated[
    list[str] | None,
    typer.Option("--where", help="Rows to train on, as data.filters: 'site == A', 'hr > 40'; repeat for more."),
]


def filters_of(where: list[str] | None) -> list[str]:
    """Return the setting of data.filters for rows given as text, or an empty list if there are none."""
    from streamrde import toml
    from streamrde.connectors.files.filters import parse_filter

    return [f"data.filters={toml.value([*map(parse_filter, where)])}"] if where else []


def split(names: str) -> tuple[str, ...]:
    """The names of a comma-separated list."""
    return tuple(name.strip() for name in names.split(",") if name.strip())
