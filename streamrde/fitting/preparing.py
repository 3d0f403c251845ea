"""Make data ready for a fit: roles of the columns, streams with their targets, and the part that only measures."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from streamrde.arrays import Floats
from streamrde.connectors.columns import ColumnKeys, SharedKeys, dates_of, given_keys, streams_of
from streamrde.connectors.files.recogniser import Recognised
from streamrde.errors import ConfigError, DataError, ParameterError
from streamrde.fitting.discovery import Roles, find_roles, find_task, find_time_unit
from streamrde.fitting.inputs import ChannelConfig, DataConfig
from streamrde.fitting.recordings import Recording, read_recordings
from streamrde.fitting.sources import Files, Rows
from streamrde.fitting.splitting import Parts, divide
from streamrde.nearest import listed
from streamrde.settings import convert

Say = Callable[[str], None]
Task = Literal["auto", "classification", "regression"]


_UNITS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_AMOUNT = re.compile(r"\s*([0-9.eE+-]+)\s*([a-z]*)\s*")


def as_horizon(horizon: float | str) -> float:
    """Return a time in seconds, from a number or text such as "90 s", "24h" or "7d".

    Raises:
        ParameterError: it is no time, or below 0.
    """
    wrong = f"horizon={horizon!r}: give seconds, or a number with ms, s, min, h or d, such as '24h'"
    try:
        number, unit = horizon, "s"
        if isinstance(horizon, str):
            found = _AMOUNT.fullmatch(horizon)
            number, unit = (found[1], found[2] or "s") if found else ("", "")
        seconds = float(number) * _UNITS[unit]
    except (ValueError, TypeError, KeyError):
        raise ParameterError(wrong) from None
    if not 0 <= seconds < math.inf:
        raise ParameterError(wrong)
    return seconds


class Columns(NamedTuple):
    """Roles of the columns and settings, known before the streams are read."""

    roles: Roles
    config: DataConfig
    targets: tuple[str, ...]
    classify: bool
    horizon: float
    grouped: bool
    """True if groups were named or found."""
    split_given: bool
    """True if the caller named the column of the parts."""


class Prepared(NamedTuple):
    """Streams to fit and to test."""

    parts: Parts
    along: bool
    """True if the targets change along the streams, or lie ahead."""
    notes: tuple[str, ...]


class Keys(NamedTuple):
    """Keys of the columns, as they were given."""

    stream: str | tuple[str, ...] | None
    """None: to be found."""
    time: str | tuple[str, str] | None
    """None: to be found."""
    time_unit: str
    channels: tuple[str, ...]
    others: ColumnKeys
    """All other keys."""

    def in_dialect(self, found: Recognised, where: str, *, say: Say) -> Keys:
        """Return the keys for files in the dialect that the first of them is in, if there is no doubt, and say so."""
        shown = f"{where}: looks like {found.dialect.toml()} ({'; '.join(found.evidence)})"
        if found.doubts:
            say(f"{shown}, but that is not sure ({'; '.join(found.doubts)}): set csv in [columns]")
            return self
        say(shown)
        return self._replace(others=msgspec.structs.replace(self.others, csv=found.dialect))


def as_keys(columns: ColumnKeys | Mapping[str, Any] | None, own: dict[str, Any]) -> Keys:
    """Return the keys of a fit's columns from its arguments.

    Args:
        columns: keys of [columns].
        own: arguments of the same names: stream, time, time_unit and channels.
    Raises:
        ConfigError: a key has different values in both, or is unknown.
    """
    given = given_keys(columns) if isinstance(columns, ColumnKeys) else dict(columns or {})
    convert(given, ColumnKeys)
    usual = {"stream": None, "time": None, "time_unit": "s", "channels": ()}
    both = {key: as_tuple(given.pop(key)) for key in usual if key in given}
    asked = {key: as_tuple(value) for key, value in own.items()}
    for key, value in both.items():
        if asked[key] not in (usual[key], value):
            raise ConfigError(f"{key} is in columns and beside it: give it once")
    return Keys(**(asked | both), others=convert(given, ColumnKeys))


def as_tuple(value: Any) -> Any:
    """Return a list as a tuple, and other values as they are."""
    return tuple(value) if isinstance(value, list) else value


def find_columns(
    source: Files | Rows,
    targets: tuple[str, ...],
    *,
    task: Task,
    keys: Keys,
    drop: Sequence[str],
    group: str | None,
    split: str | None,
    horizon: float,
) -> Columns:
    """Find what the columns hold, and the kind of target.

    Raises:
        DataError: there is no such column, or several targets are not all numbers.
    """
    others, time_unit = keys.others, keys.time_unit
    stream, levels = streams_of(keys.stream)
    date, time = ("", None) if keys.time is None else dates_of(keys.time)
    if others.name and not keys.channels:
        raise ConfigError(f"columns.name = {others.name!r} without channels: list the names of the channels")
    roles = find_roles(
        source,
        targets,
        stream="" if keys.stream == "" else stream,
        time=time,
        channels=(others.value,) if others.name else keys.channels,
        drop=(*drop, *levels, *([date] if date else []), *([others.name] if others.name else [])),
        group=group,
        split=split,
        ahead=horizon > 0,
    )
    kind = find_task(source, targets) if task == "auto" else task
    if len(targets) > 1 and kind == "classification":
        raise DataError(
            f"targets {listed(targets)}: classes are one column; give one, or task = 'regression' for numbers",
            path=source.where,
        )
    if others.name:
        roles = roles._replace(channels=keys.channels)
    if time_unit == "s" and roles.time and not date:
        time_unit, why = find_time_unit(source, roles.time)
        roles = roles._replace(notes=(*roles.notes, why)) if why else roles
    keyed = {*others.units, *others.scale, *others.offset}
    told = {name: unit for name, unit in source.units.items() if name not in keyed} if isinstance(source, Files) else {}
    config = DataConfig(
        files=source.files if isinstance(source, Files) else source.where,
        channels=tuple(ChannelConfig(name=name, unit=told.get(name, "")) for name in roles.channels),
        target=targets if len(targets) > 1 else targets[0],
        task="classification" if kind == "classification" else "regression",
        stream=keys.stream if levels and keys.stream else roles.stream,
        time=(date, roles.time) if date else roles.time,
        restarts="split",
        faults="drop",
        **{name: getattr(others, name) for name in SharedKeys.__struct_fields__} | {"time_unit": time_unit},
    )
    return Columns(roles, config, targets, kind == "classification", horizon, bool(roles.group), bool(split))


def prepare(
    source: Files | Rows,
    columns: Columns,
    *,
    streams: Collection[str] | None = None,
    say: Say = lambda text: None,
) -> Prepared:
    """Read the streams, and divide them into those to fit and those to test.

    Args:
        source: the data.
        columns: see `find_columns`.
        streams: names of the streams wanted, of files. None: all.
        say: receives what was understood.
    Raises:
        DataError: a file or column cannot be used.
    """
    config, split, changing = columns.config, columns.roles.split, ""
    held = source if isinstance(source, Rows) else None
    try:
        read = read_recordings(config, group=columns.roles.group, given=split, streams=streams, held=held, say=say)
    except DataError as error:
        if not error.column or error.column != split:
            raise
        if columns.split_given:
            raise DataError(f"{error}; or set split = '' to leave it out", path=error.path, column=split) from None
        # Found by its name alone: it may mean something else.
        changing = f"warning: column '{split}' changes within streams and is not used as a split; all rows are fitted"
        split = ""
        read = read_recordings(config, group=columns.roles.group, streams=streams, held=held, say=say)
    parts, notes = divide(read, split)
    notes += [changing] * bool(changing)
    along = columns.horizon > 0 or any(_changes(recording) for recording in read)
    if not along:
        parts = parts._replace(train=_single(parts.train), test=_single(parts.test))
    known = [r for r in (*parts.train, *parts.test) if np.isfinite(r.target.values).any()]
    if len(known) < len(read):
        notes.append(f"left out: {len(read) - len(known):,} streams without a target")
    # A test asks for an answer to them all the same.
    fitted = [recording for recording in parts.train if np.isfinite(recording.target.values).any()]
    if short := sum(len(recording.t) < 2 for recording in (known if along else fitted)):
        notes.append(
            f"left out: {short:,} streams of a single sample: a window needs two; if rows of one stream have different "
            "names, give its column with stream"
        )
    names = ", ".join(f"'{name}'" for name in columns.targets)
    what = "classification" if columns.classify else "regression"
    at = "along the streams" if along else "one value per stream"
    if columns.horizon:
        at = f"{columns.horizon:g} s ahead"
    notes.append(f"target: {names}, {what}, {at}; {len(known):,} stream{'s' * (len(known) != 1)}")
    for note in notes:
        say(note)
    return Prepared(parts, along, tuple(notes))


def _changes(recording: Recording) -> bool:
    return any(len(np.unique(column[np.isfinite(column)])) > 1 for column in recording.target.values.T)


def _single(recordings: Sequence[Recording]) -> list[Recording]:
    """Return the recordings with one value for all of each."""
    found = []
    for recording in recordings:
        values = np.array([[_first_known(column) for column in recording.target.values.T]])
        found.append(replace(recording, target=replace(recording.target, values=values, t=None)))
    return found


def _first_known(column: Floats) -> float:
    known = column[np.isfinite(column)]
    return float(known[0]) if len(known) else np.nan
