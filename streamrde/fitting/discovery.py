"""Find what the columns of data hold: streams, time, channels, groups, parts, and the kind of target."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamrde.errors import DataError
from streamrde.fitting.sources import Source
from streamrde.nearest import did_you_mean, either, listed
from streamrde.times import UNITS, to_seconds
from streamrde.times.plausible import LARGEST, suspect_size

# Usual names, the most telling first, in lower case.
STREAMS = ("stream_id", "stream", "series_id", "series", "recording_id", "recording", "device_id", "device", "id")
FURTHER_STREAMS = (
    "device_name",
    "deviceid",
    "dev_id",
    "deveui",
    "node",
    "node_id",
    "sensor_id",
    "sensor",
    "machine",
    "machine_id",
    "unit_id",
    "asset",
    "host",
    "serial",
    "trial",
    "run",
    "session",
    "session_id",
    "file",
    "episode",
)
"""Names of streams in a single file, if the column's values come again and again."""
TIMES = ("t", "time", "timestamp", "datetime", "date", "seconds")
GROUPS = ("subject", "subject_id", "patient", "patient_id", "person", "person_id", "participant", "group")
SPLITS = ("split", "set", "subset", "partition", "is_test", "fold")
_ROW_NUMBERS = re.compile(r"__index_level_\d+__|Unnamed: \d+")  # pandas' index, in a table and in a CSV file
MOST_CLASSES = 100
"""Whole numbers that are classes. More are taken for a quantity."""
_FEW = 10  # whole numbers that are classes, whatever they are


class Roles(NamedTuple):
    """Roles of a data set's columns."""

    stream: str
    """Column of the stream's name. "": each file is one stream."""
    time: str
    """Column of the time. "": rows are a second apart."""
    channels: tuple[str, ...]
    group: str
    notes: tuple[str, ...]
    """Guesses, one sentence each."""
    split: str = ""
    """Column that marks a test part, or folds. "": none."""


def find_roles(
    source: Source,
    targets: Sequence[str],
    *,
    stream: str | None = None,
    time: str | None = None,
    channels: Sequence[str] = (),
    drop: Sequence[str] = (),
    group: str | None = None,
    split: str | None = None,
    ahead: bool = False,
) -> Roles:
    """Find the role of each column by its name and type in the first rows. What is given is taken as it is.

    Args:
        targets: columns to predict.
        stream, time, group, split: names of columns, "" for none, None to find them.
        channels: columns of the channels; (): all other columns of numbers.
        drop: columns that are no channels.
        ahead: targets lie ahead, so that their values so far may be known. Those that are numbers are channels too.
    Raises:
        DataError: there is no such column, or no column of numbers is left.
    """
    names, where = source.names, source.where
    for given in (*targets, stream, time, group, split, *channels, *drop):
        if given and given not in names:
            raise DataError(
                f"{where}: has no column '{given}'{did_you_mean(given, names)}; it has {listed(names)}",
                path=where, column=given,
            )  # fmt: skip
    notes, guessed = [], stream is None
    free = [name for name in names if name not in (*targets, *channels)]
    if stream is None:
        stream = _first(free, STREAMS)
        note = f"streams: column '{stream}'" if stream else f"streams: {source.whole}"
        if not stream:
            stream, count = _repeated(source, free)
            note = f"streams: column '{stream}' has {count:,} values" if stream else note
        notes.append(note)
    if time is None:
        time = _first(free, TIMES)
        notes.append(_on_time(source, time))
    if group is None:
        group = _first([name for name in free if name != stream], GROUPS)
        if group:
            notes.append(f"groups: streams with the same '{group}' are kept together; it is no channel")
    if split is None:
        split = _first([name for name in free if name not in (stream, time, group)], SPLITS)
    if not channels:
        types = source.types
        roles = {stream, time, group, split, *drop} | (set() if ahead else set(targets))
        never = {*roles, *(name for name in names if _ROW_NUMBERS.fullmatch(name))}
        others = [name for name in names if name not in never and name.lower() not in (*GROUPS, *SPLITS)]
        channels = [name for name in others if _is_number(types.field(name).type)]
        notes.append(f"channels: {listed(channels, most=12)}")
        if left := [name for name in names if name not in (*roles, *targets, *channels)]:
            notes.append(f"not used: {listed(left, most=12)}")
            texts = [name for name in left if _is_text(types.field(name).type)]
            if texts and guessed and not stream:
                notes.append(f"if streams have their names in {either(texts[:3])}, say which: --stream {texts[0]}")
    if not channels:
        raise DataError(f"{where}: no column of numbers is left for channels; name them with channels", path=where)
    return Roles(stream, time, tuple(channels), group, tuple(notes), split)


def find_task(source: Source, targets: Sequence[str]) -> str:
    """Return "classification" for text, booleans and few whole numbers, else "regression".

    Few are 10 at the most, or up to 100 of an integer column that are numbered without gaps from 0 or 1 and come again
    and again.
    """
    if len(targets) > 1:
        return "regression"
    values = source.column(targets[0])
    if not _is_number(values.type) or pa.types.is_boolean(values.type):
        return "classification"
    found = pc.unique(values).drop_null().to_numpy(zero_copy_only=False).astype(np.float64)
    found = np.sort(found[np.isfinite(found)])
    if not len(found) or (found % 1 != 0).any():
        return "regression"
    if len(found) <= _FEW:
        return "classification"
    numbered = found[0] in (0, 1) and len(found) <= MOST_CLASSES and (np.diff(found) == 1).all()
    if not numbered or not pa.types.is_integer(values.type):
        return "regression"
    # A quantity that is counted moves from row to row; a class holds for all of a stream.
    codes = pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False)
    codes = codes[np.isfinite(codes)]
    changes = int((np.diff(codes) != 0).sum())
    return "classification" if changes < len(codes) / 5 and changes >= len(found) - 1 else "regression"


def _on_time(source: Source, time: str) -> str:
    """Return the note on a column of times that was found by its name."""
    if not time:
        return "time: rows are 1 s apart"
    seconds = "; numbers in it are taken for seconds" if _is_number(source.types.field(time).type) else ""
    return f"time: column '{time}'{seconds}"


def _repeated(source: Source, names: Sequence[str]) -> tuple[str, int]:
    """Return a column with a further name of streams whose values come again, and their number. "": there is none.

    Several files are left as they are: what they name may be the machine of several recordings.
    """
    by_name = {name.lower().strip(): name for name in reversed(names)}
    for name in [by_name[usual] for usual in FURTHER_STREAMS if usual in by_name] if source.single else ():
        kind = source.types.field(name).type
        if _is_text(kind) or pa.types.is_integer(kind):
            values = source.column(name).drop_null()
            count = len(pc.unique(values))
            if 1 < count <= len(values) / 3:
                return name, count
    return "", 0


def _first(names: Sequence[str], usual: Sequence[str]) -> str:
    by_name = {name.lower().strip(): name for name in reversed(names)}
    return next((by_name[name] for name in usual if name in by_name), "")


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def find_time_unit(source: Source, time: str) -> tuple[str, str]:
    """Return the unit of times that are numbers by their size, and a note if they are no seconds.

    Milliseconds, microseconds and nanoseconds since 1970 are known by it, as no second of a date is so large.
    """
    kind = source.types.field(time).type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return "s", ""
    values = source.column(time).slice(0, 1).to_pylist()
    if not values or values[0] is None or not abs(values[0]) >= LARGEST:
        return "s", ""
    for unit in ("ms", "us", "ns"):
        if suspect_size(float(to_seconds(np.array(float(values[0])), unit)), unit) is None:
            return unit, f"time: numbers in '{time}' are {UNITS[unit].name} since 1970, by their size"
    return "s", ""
