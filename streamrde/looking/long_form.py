"""Recognise data in long form, where each row has the value of one channel, and put it into columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamrde.arrays import Floats, Ints
from streamrde.fitting.discovery import STREAMS
from streamrde.looking.cells import NO_VALUE
from streamrde.looking.guesses import Guess
from streamrde.looking.table import Table
from streamrde.nearest import listed

# Names of the column that names a row's channel, and of the one with its value, the most telling first.
NAMES = (
    "entity_id",
    "_field",
    "channel",
    "field",
    "metric",
    "variable",
    "parameter",
    "signal",
    "quantity",
    "measurement",
    "name",
    "tag",
    "tagname",
    "item",
    "sensor",
    "sensor_name",
    "key",
    "point",
    "kpi",
    "id",
    "n",
)
VALUES = ("value", "_value", "state", "val", "v", "reading", "measurement_value", "result")
_MOST = 500
_LEAST_RANGE = 0.5  # share of a name's values that are numbers


class Long(NamedTuple):
    """Describe data in long form."""

    name: str
    """Column that names the channel."""
    value: str
    names: tuple[str, ...]
    """Names whose values are numbers, in the order in which they come."""
    guess: Guess


def find_long(table: Table) -> Long | None:
    """Return how the data is in long form, or None if each channel has a column."""
    by_name = {name.lower().strip(): name for name in reversed(table.names)}
    value = next((by_name[usual] for usual in VALUES if usual in by_name), None)
    if value is None:
        return None
    name = next(
        (
            by_name[usual]
            for usual in NAMES
            if usual in by_name and by_name[usual] != value and _names(table, by_name[usual])
        ),
        None,
    )
    if name is None:
        return None
    # Other columns of numbers that change make it likely that each row has several channels.
    numbers = [
        own
        for own in table.names
        if own not in (name, value)
        and table.cells(own).is_number
        and not table.cells(own).constant
        and not re.search(r"(?i)time|date|stamp|^ts?$|_at$|changed|updated|status|quality|^q$|id$", own)
    ]
    if numbers:
        return None
    rows: dict[str, list[int]] = {}
    for i, own in enumerate(table.columns[name]):
        if own is not None:
            rows.setdefault(str(own), []).append(i)
    cells = table.cells(value)
    good = []
    for own, places in rows.items():
        said = [str(cells.values[i]).strip().lower() not in NO_VALUE for i in places if cells.values[i] is not None]
        there = sum(said)
        if there and np.isfinite(cells.numbers[places]).sum() >= _LEAST_RANGE * there:
            good.append(own)
    if not good:
        return None
    unsure = f"'{name}' may as well name streams that have one channel each" if name.lower() in STREAMS else ""
    why = f"each row has one value, in '{value}', of the channel that '{name}' names: {listed(good, most=4)}"
    return Long(name, value, tuple(good), Guess(name, why, unsure))


def widened(
    table: Table, long: Long, stream: str | Sequence[str] | None, seconds: Floats | None
) -> tuple[Table, Floats, Ints]:
    """Return a table with a column per channel, one row per stream and time, with the times and streams of its rows."""
    codes = table.streams(stream)
    t = seconds if seconds is not None else np.arange(len(table), dtype=np.float64)
    places: dict[tuple[int, float], int] = {}
    wanted, values = set(long.names), table.columns[long.value]
    rows: list[dict[str, object]] = []
    for i, own in enumerate(table.columns[long.name]):
        if own is None or str(own) not in wanted or not np.isfinite(t[i]):
            continue
        key = (int(codes[i]), float(t[i]))
        if key not in places:
            places[key] = len(rows)
            rows.append({})
        rows[places[key]][str(own)] = values[i]
    columns = {own: [row.get(own) for row in rows] for own in long.names}
    keys = list(places)
    wide = Table(table.where, columns, [code for code, _ in keys], table.whole)
    return wide, np.array([time for _, time in keys]), np.array([code for code, _ in keys], np.int64)


def _names(table: Table, name: str) -> bool:
    cells = table.cells(name)
    return not cells.is_number and 1 <= len(cells.texts) <= _MOST and cells.distinct < max(2, len(table) / 2)
