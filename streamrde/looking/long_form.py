"""Recognise data in long form, where each row has the value of one channel, and put it into columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from streamrde.arrays import Floats, Ints
from streamrde.connectors.values import NO_VALUE
from streamrde.fitting.discovery import STREAMS
from streamrde.looking.guesses import Guess
from streamrde.looking.table import Table
from streamrde.nearest import listed

# Names of the column that names a row's channel, and of the one with its value, the most telling first. Of a path only
# the last step counts.
NAMES = (
    "entity_id", "_field", "channel", "field", "metric", "variable", "parameter", "signal", "quantity", "measurement",
    "name", "tag", "tagname", "item", "sensor", "sensor_name", "key", "point", "kpi", "id", "n", "path", "event",
)  # fmt: skip
VALUES = ("value", "_value", "state", "val", "v", "values", "reading", "measurement_value", "result", "data")
# Columns of numbers that may stand beside: times, states of the message, and names of streams and groups.
_BESIDE = re.compile(
    r"(?i)time|date|stamp|^ts?$|_at$|changed|updated|status|quality|^q$|id$|version|revision|seq|^lc$|coun|^table$"
    r"|^(device|stream|machine|node|recording|session|trial|run|subject|patient|person|group|participant)"
)
_MOST = 500
_FEW = 50  # rows among which a name may stand once
_NUMBERS = 0.5  # share of a name's values that are numbers


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
    value = _usual(table, VALUES, lambda name: True)
    name = _usual(table, NAMES, lambda name: name != value and _names(table, name))
    if name is None:
        return None
    inside = [own for own in table.names if re.match(r"(?i)(.*\.)?values?\.", own) and table.cells(own).found]
    if value is None and inside:
        return _of_tables(table, name, inside)
    if value is None or _has_more(table, {name, value}):
        return None
    good = _with_numbers(table, name, value)
    if not good:
        return None
    unsure = f"'{name}' may as well name streams that have one channel each" if last(name) in STREAMS else ""
    why = f"each row has one value, in '{value}', of the channel that '{name}' names: {listed(good, most=4)}"
    return Long(name, value, tuple(good), Guess(name, why, unsure))


def last(path: str) -> str:
    """Return the last step of a path, in lower case.

    >>> last("event_data.new_state.State"), last("t")
    ('state', 't')
    """
    return path.rsplit(".", 1)[-1].lower().strip()


def find_value(table: Table, but: Sequence[str]) -> str | None:
    """Return the column of the value where each row has one, or None if there are several columns of numbers."""
    value = _usual(table, VALUES, lambda name: name not in but)
    return None if value is None or _has_more(table, {value, *but}) else value


def _usual(table: Table, usual: Sequence[str], fits: Callable[[str], bool]) -> str | None:
    """Return the column with the most telling name. Of the old and the new state, it is the new."""
    found = [own for own in table.names if last(own) in usual and fits(own)]
    return min(found, key=lambda own: (".old" in own, usual.index(last(own)), own.count(".")), default=None)


def _has_more(table: Table, but: set[str]) -> bool:
    """Return True if other columns of numbers make it likely that each row has several channels."""
    others = (own for own in table.names if own not in but and not _BESIDE.search(last(own)))
    return any(_varies(table, own) for own in others)


def _varies(table: Table, name: str) -> bool:
    """Return True if a column has numbers, not only switches, that change or stand alone."""
    cells = table.cells(name)
    return cells.is_number and cells.words < cells.found and (len(table) == 1 or not cells.constant)


def _with_numbers(table: Table, name: str, value: str) -> list[str]:
    """Return the names whose values are mostly numbers."""
    rows: dict[str, list[int]] = {}
    for i, own in enumerate(table.columns[name]):
        if own is not None:
            rows.setdefault(str(own), []).append(i)
    cells = table.cells(value)
    good = []
    for own, places in rows.items():
        there = sum(
            cells.values[i] is not None and str(cells.values[i]).strip().lower() not in NO_VALUE for i in places
        )
        if there and np.isfinite(cells.numbers[places]).sum() >= _NUMBERS * there:
            good.append(own)
    return good


def _of_tables(table: Table, name: str, inside: Sequence[str]) -> Long | None:
    """Return the long form whose values are tables: the channels are called name:key."""
    value = inside[0].rsplit(".", 1)[0]
    keys = [own for own in inside if own.rsplit(".", 1)[0] == value]
    found: dict[str, None] = {}
    for own in keys:
        for word, number in zip(table.columns[name], table.cells(own).numbers, strict=True):
            if word is not None and np.isfinite(number):
                found[f"{word}:{own.rsplit('.', 1)[1]}"] = None
    if len({channel.split(":")[0] for channel in found}) < 2:
        return None
    why = f"each row has values in '{value}' of what '{name}' names: {listed(found, most=4)}"
    return Long(name, value, tuple(found), Guess(name, why))


def widened(
    table: Table, long: Long, stream: str | Sequence[str] | None, seconds: Floats | None
) -> tuple[Table, Floats, Ints]:
    """Return a table with a column per channel, one row per stream and time, with the times and streams of its rows."""
    codes = table.streams(stream)
    t = seconds if seconds is not None else np.arange(len(table), dtype=np.float64)
    places: dict[tuple[int, float], int] = {}
    wanted, values = set(long.names), table.columns.get(long.value)
    rows: list[dict[str, object]] = []
    for i, own in enumerate(table.columns[long.name]):
        if own is None or not np.isfinite(t[i]):
            continue
        if values is None:
            inside = {
                f"{own}:{last(name)}": table.columns[name][i]
                for name in table.names
                if name.startswith(f"{long.value}.")
            }
        else:
            inside = {str(own): values[i]}
        key = (int(codes[i]), float(t[i]))
        for channel in inside.keys() & wanted:
            if key not in places:
                places[key] = len(rows)
                rows.append({})
            rows[places[key]][channel] = inside[channel]
    columns = {own: [row.get(own) for row in rows] for own in long.names}
    keys = list(places)
    wide = Table(table.where, columns, [code for code, _ in keys], table.whole)
    return wide, np.array([time for _, time in keys]), np.array([code for code, _ in keys], np.int64)


def _names(table: Table, name: str) -> bool:
    cells = table.cells(name)
    few = len(table) <= _FEW or cells.distinct < max(2, len(table) / 2)
    return not cells.is_number and 1 <= len(cells.texts) <= _MOST and few
