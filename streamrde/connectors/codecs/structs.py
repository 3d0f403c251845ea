"""Structs of msgspec for the payloads of a shape, so that plain numbers are read without dicts.

A layout reads a payload only where it is sure to give what `Shape` gives. For all others it returns None.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import chain, groupby
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET

from streamrde.connectors.codecs.paths import is_special
from streamrde.connectors.codecs.shapes import Shape
from streamrde.connectors.columns import path_of
from streamrde.connectors.ends import Rows

_VALUE: Any = float | list[float | None] | None


class Slot(NamedTuple):
    """A field that a layout reads."""

    path: tuple[str, ...]
    """Names of the objects that it is in, and its own."""
    kind: Any
    """Type of its value."""
    default: Any = UNSET


class _Tree:
    """Fields of an object, and those of the objects in it."""

    def __init__(self) -> None:
        self.leaves: dict[str, Slot] = {}
        self.inner: dict[str, _Tree] = {}

    def add(self, slot: Slot) -> bool:
        """Add a field. Return False if it is an object too, so that no struct can have it."""
        tree = self
        for name in slot.path[:-1]:
            if name in tree.leaves:
                return False
            tree = tree.inner.setdefault(name, _Tree())
        if slot.path[-1] in tree.inner:
            return False
        tree.leaves.setdefault(slot.path[-1], slot)
        return True

    def struct(self) -> tuple[Any, dict[tuple[str, ...], str]]:
        """Return the struct, and the attribute of each path."""
        fields: list[Any] = []
        names: dict[str, str] = {}
        attributes: dict[tuple[str, ...], str] = {}
        for i, (name, slot) in enumerate(self.leaves.items()):
            fields.append((f"f{i}", slot.kind, slot.default))
            names[f"f{i}"], attributes[(name,)] = name, f"f{i}"
        for i, (name, tree) in enumerate(self.inner.items(), len(fields)):
            kind, inside = tree.struct()
            fields.append((f"f{i}", kind | None, None))
            names[f"f{i}"] = name
            attributes |= {(name, *path): f"f{i}.{attribute}" for path, attribute in inside.items()}
        return msgspec.defstruct("Fields", fields, rename=names, gc=False), attributes


class Layout(ABC):
    """Read parsed structs of payloads.

    Args:
        shape: see `layout_of`.
        record: the fields of a record.
        slots: those that are read, the time first if there is one.
        guards: fields that must be absent, for else they would be read instead.
    Attributes:
        type: the type of a payload, for msgspec's decoders.
    """

    def __init__(self, shape: Shape, record: _Tree, slots: Sequence[Slot], guards: Sequence[Slot]) -> None:
        columns = shape.columns
        self._shape, self._timed = shape, bool(columns.time)
        self._width, self._channels = len(columns.values), len(columns.channels)
        row, attributes = record.struct()
        self._get = _getter([attributes[slot.path] for slot in (*slots, *guards)])
        if not record.inner and list(record.leaves.values()) == [*slots]:
            self._get = msgspec.structs.astuple
        self._count = len(slots)
        self._row = row
        self._guards = (UNSET,) * len(guards)
        self._path = path_of(columns.records)
        # Type of payloads that are one record, in which nothing else is to be looked for.
        self._alone = None if self._path or guards else row
        self.type: Any = row | list[row]  # type: ignore[valid-type]
        if self._path:
            self.type = self._around(row, list(dict.fromkeys(slot.path[0] for slot in (*slots, *guards))))

    def _around(self, row: Any, heads: list[str]) -> Any:
        """Return the type of the object around the records. It may have the time, and no other field of theirs."""
        time = self._shape.columns.time
        tree, names = _Tree(), [str(step) for step in self._path]
        scopes = [tuple(names[:i]) for i in range(len(names))]
        tree.add(Slot(tuple(names), list[row], None))
        wanted = {*heads, *([time] if time else [])}
        if not all(tree.add(Slot((*scope, name), Any)) for scope in scopes for name in wanted):
            raise _NoLayoutError
        kind, attributes = tree.struct()
        self._records = attrgetter(attributes[tuple(names)])
        inner_first = scopes[::-1]
        self._times = _getter([attributes[(*scope, time)] for scope in inner_first]) if time else None
        others = [attributes[(*scope, name)] for scope in inner_first for name in heads if name != time]
        self._strays = _getter(others) if others else None
        return kind

    def read(self, decoded: Any) -> Rows | None:
        """Return the rows of a payload that was decoded as `type`, or None if only `Shape` can tell."""
        time: Any = UNSET
        try:
            if type(decoded) is self._alone:
                return self._rows([self._get(decoded)], time)
            if self._path:
                rows = self._records(decoded)
                strays = () if self._strays is None else self._strays(decoded)
                if not rows or any(one is not UNSET for one in strays):
                    return None
                if self._times is not None:
                    time = next((one for one in self._times(decoded) if one is not UNSET), UNSET)
            else:
                rows = decoded if type(decoded) is list else [decoded]
            found = [*map(self._get, rows)]
            if self._guards and any(one[self._count :] != self._guards for one in found):
                return None
            return self._rows(found, time)
        # AttributeError: an object on the way is missing. NotATimeError is a ValueError.
        except (AttributeError, ValueError, TypeError, OverflowError):
            return None

    def read_together(self, decoded: Sequence[Any]) -> Rows | None:
        """Return one row for each payload, or None unless each of them is one record with a time of its own.

        Args:
            decoded: at least one payload, decoded as `type`.
        """
        return None

    @abstractmethod
    def _rows(self, found: list[tuple[Any, ...]], time: Any) -> Rows | None:
        """Return the rows that have these slots.

        Args:
            found: values of the slots, and behind them those of the guards, which are absent.
            time: that around the records, UNSET if there is none.
        """


class LongLayout(Layout):
    """Read payloads whose records have one channel each."""

    def __init__(self, shape: Shape, record: _Tree, slots: Sequence[Slot], guards: Sequence[Slot]) -> None:
        super().__init__(shape, record, slots, guards)
        self._by_name = {name: i for i, name in enumerate(shape.columns.channels)}
        self._refuses = shape.columns.others == "refuse"

    def _rows(self, found: list[tuple[Any, ...]], time: Any) -> Rows | None:
        by_name, width, unused = self._by_name, self._width, 0
        seconds = self._shape.seconds([time if one[0] is UNSET else one[0] for one in found]).tolist()
        rows: list[list[float]] = []
        times: list[float] = []
        open_rows: dict[float, list[float]] = {}
        for t, (_, name, value, *_) in zip(seconds, found, strict=True):
            if type(name) is not str or not name:
                return None
            i = by_name.get(name)
            if i is None:
                unused += 1
                continue
            if value is UNSET:
                return None
            row = open_rows.get(t)
            if row is None or row[i] == row[i]:  # has a value already, which is not NaN
                row = open_rows[t] = [math.nan] * width
                rows.append(row)
                times.append(t)
            row[i] = math.nan if value is None else value
        if not rows or (unused and self._refuses):
            return None
        return Rows(np.array(times), np.array(rows), unused=unused)


class WideLayout(Layout):
    """Read payloads whose records have all channels."""

    def __init__(self, shape: Shape, record: _Tree, slots: Sequence[Slot], guards: Sequence[Slot]) -> None:
        super().__init__(shape, record, slots, guards)
        columns, paths = shape.columns, [slot.path for slot in slots]
        self._seconds = columns.time_form().seconds
        first = 1 if self._timed else 0
        own = [path_of(name) for name in columns.values]
        places = [(paths.index(_names(steps), first), steps[-1]) for steps in own]
        self._picks = [(slot, step if isinstance(step, int) else None) for slot, step in places]
        self._plain = self._timed and self._picks == [(slot, None) for slot in range(1, len(slots))]
        # Neighbours in one list are taken at once.
        runs = [(slot, [place for _, place in run]) for slot, run in groupby(self._picks, lambda pick: pick[0])]
        self._groups = [(slot, _places(places)) for slot, places in runs]

    def read_together(self, decoded: Sequence[Any]) -> Rows | None:
        """See `Layout.read_together`."""
        if self._path or {*map(type, decoded)} != {self._row}:
            return None
        try:
            found = [*map(self._get, decoded)]
            if self._guards and any(one[self._count :] != self._guards for one in found):
                return None
            return self._several(found, UNSET)
        except (AttributeError, ValueError, TypeError, OverflowError):
            return None

    def _rows(self, found: list[tuple[Any, ...]], time: Any) -> Rows | None:
        return self._one(found[0], time) if len(found) == 1 else self._several(found, time)

    def _one(self, row: tuple[Any, ...], time: Any) -> Rows | None:
        """Return the samples of one row, which may have lists in its fields."""
        t = np.empty(1)
        if self._timed:
            time = time if row[0] is UNSET else row[0]
            if type(time) is list:
                return self._columns(time, self._picked(row))
            t[0] = self._seconds(time)
        else:
            t[0] = math.nan
        values = row[1 : self._count] if self._plain else self._picked(row)
        # A channel that is null and one that is absent are the same here, and a row needs one that is not absent. The
        # first comparison is nearly always false, and spares the slice.
        most = self._channels
        if list in map(type, values) or (values.count(None) >= most and values[:most].count(None) == most):
            return None
        x = np.empty((1, self._width))
        x[0] = values  # None becomes NaN
        return Rows(t, x)

    def _several(self, rows: list[tuple[Any, ...]], time: Any) -> Rows | None:
        """Return the samples of no row, or of more than one."""
        if not self._timed or not rows:
            return None
        times = [time if row[0] is UNSET else row[0] for row in rows]
        values = [row[1 : self._count] for row in rows] if self._plain else map(self._picked, rows)
        flat = np.array([*chain.from_iterable(values)], dtype=np.float64)
        if flat.ndim != 1:
            return None
        x = flat.reshape(len(rows), self._width)
        if np.isnan(x).any() and np.isnan(x[:, : self._channels]).all(axis=1).any():
            return None
        return Rows(self._shape.seconds(times), x)

    def _picked(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the values of a row, some of which are places in lists."""
        try:
            return tuple([value for slot, places in self._groups for value in places(row[slot])])
        except (TypeError, IndexError):  # a list is absent, or short
            return tuple([_at(row[slot], place) for slot, place in self._picks])

    def _columns(self, time: list[Any], values: Sequence[Any]) -> Rows | None:
        """Return the samples of an object of lists."""
        if values[: self._channels].count(None) == self._channels:
            return None
        x = np.full((len(time), self._width), math.nan)
        for i, (name, column) in enumerate(zip(self._shape.columns.values, values, strict=True)):
            if name == self._shape.columns.sequence and isinstance(column, float):
                x[:, i] = column  # the message's own number
            elif isinstance(column, list) and len(column) == len(time):
                x[:, i] = column
            elif column is not None:
                return None
        return Rows(self._shape.seconds(time), x)


def layout_of(shape: Shape) -> Layout | None:
    """Return the layout of a shape, or None if no struct has it.

    A shape has one if its fields stand at paths of names, with a place in a list at the end of channels' at most, its
    records are a list below such a path, and its streams come from the topic.
    """
    columns = shape.columns
    if columns.date or columns.sender or is_special(columns.time) or is_special(columns.name):
        return None
    tree, slots, guards = _Tree(), list[Slot](), list[Slot]()
    wanted: list[tuple[str, Any, Any]] = [(columns.time, Any, UNSET)] if columns.time else []
    if not columns.name:
        wanted += [(name, _VALUE, None) for name in columns.values]
    else:
        wanted += [(columns.name, Any, UNSET), (columns.value, float | None, UNSET)]
        if not columns.time or columns.sequence or any(":" in name for name in columns.channels):
            return None
    if not columns.name and columns.others == "ignore":
        return None
    for name, kind, default in wanted:
        steps = path_of(name)
        names = _names(steps)
        if not names or len(steps) - len(names) > (kind is _VALUE) or not all(isinstance(own, str) for own in names):
            return None
        vector: Any = list[float | None] | None
        slot = Slot(names, vector if len(steps) > len(names) else kind, default)
        if slot not in slots:
            slots.append(slot)
        if (name,) != steps:
            guards += [Slot(way, Any) for way in _literals(name)]
    records = path_of(columns.records)
    if any(isinstance(step, int) or step == "*" for step in records) or (records and (columns.time,) != slots[0].path):
        return None
    kinds = {slot.path: slot.kind for slot in slots}
    if any(kinds[slot.path] != slot.kind for slot in slots) or not all(map(tree.add, (*slots, *guards))):
        return None
    guards = [guard for guard in dict.fromkeys(guards) if guard.path not in kinds]
    try:
        return (LongLayout if columns.name else WideLayout)(shape, tree, slots, guards)
    except _NoLayoutError:
        return None


class _NoLayoutError(Exception):
    """No struct has the fields of a shape."""


def _names(steps: tuple[str | int, ...]) -> tuple[Any, ...]:
    """Return a path without a place in a list at its end."""
    return steps[:-1] if steps and isinstance(steps[-1], int) else steps


def _literals(name: str) -> list[tuple[str, ...]]:
    """Return the ways to a field whose own name has dots or brackets, which wins over a path."""
    names = name.split(".")
    return [(*names[:i], ".".join(names[i:])) for i in range(len(names)) if i < len(names) - 1 or "[" in names[-1]]


def _at(value: Any, place: int | None) -> Any:
    if place is None or value is None:
        return value
    return value[place] if place < len(value) else None


def _places(places: Sequence[int | None]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that gives a value itself, or what is at these places in it, as a tuple."""
    first, *others = places
    if first is None:
        return lambda value: (value,)
    return itemgetter(*places) if others else lambda value: (value[first],)


def _getter(attributes: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that gives several attributes as a tuple."""
    get = attrgetter(*attributes)
    return get if len(attributes) > 1 else lambda row: (get(row),)
