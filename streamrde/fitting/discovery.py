"""Find what the columns of recorded files hold: streams, time, channels, groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from streamrde.connectors.files.record_batches import read_batches, schema_of
from streamrde.connectors.files.recordings import find_recordings
from streamrde.errors import DataError
from streamrde.nearest import did_you_mean, listed

# Usual names, the most telling first, in lower case.
STREAMS = ("stream_id", "stream", "series_id", "series", "recording_id", "recording", "device_id", "device", "id")
TIMES = ("t", "time", "timestamp", "datetime", "date", "seconds")
GROUPS = ("subject", "subject_id", "patient", "patient_id", "person", "person_id", "participant", "group")
SPLITS = ("split", "set", "subset", "partition", "fold")


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


def find_roles(
    files: str | Sequence[str],
    target: str,
    *,
    stream: str | None = None,
    time: str | None = None,
    channels: Sequence[str] = (),
    drop: Sequence[str] = (),
    group: str | None = None,
) -> Roles:
    """Find the role of each column by its name and type in the first file. What is given is taken as it is.

    Args:
        stream, time, group: names of columns, "" for none, None to find them.
        channels: columns of the channels; (): all other columns of numbers.
        drop: columns that are no channels.
    Raises:
        DataError: the first file has no such column, or no column of numbers is left.
    """
    recording = find_recordings(files if isinstance(files, str) else list(files))[0]
    names, path = [*schema_of(recording).names, *recording.partitions], str(recording.path)
    for given in (target, stream, time, group, *channels, *drop):
        if given and given not in names:
            raise DataError(
                f"{path}: has no column '{given}'{did_you_mean(given, names)}; it has {listed(names)}",
                path=path, column=given,
            )  # fmt: skip
    _, head = next(read_batches(recording, names))
    notes = []
    free = [name for name in names if name not in (target, *channels)]
    if stream is None:
        stream = _first(free, STREAMS)
        notes.append(f"streams: column '{stream}'" if stream else "streams: each file is one")
    if time is None:
        time = _first(free, TIMES)
        notes.append(
            f"time: column '{time}'; numbers in it are taken for seconds" if time else "time: rows are 1 s apart"
        )
    if group is None:
        group = _first([name for name in free if name != stream], GROUPS)
        if group:
            notes.append(f"groups: streams with the same '{group}' are kept together; it is no channel")
    if not channels:
        roles = {target, stream, time, group, *drop}
        others = [name for name in names if name not in roles and name.lower() not in (*GROUPS, *SPLITS)]
        channels = [name for name in others if _is_number(head.schema.field(name).type)]
        notes.append(f"channels: {listed(channels, most=12)}")
        if left := [name for name in names if name not in (*roles, *channels)]:
            notes.append(f"not used: {listed(left, most=12)}")
    if parts := _first([name for name in free if name not in (stream, time, group)], SPLITS):
        notes.append(f"warning: column '{parts}' may mark a test part; all rows are fitted, none is kept for a test")
    if not channels:
        raise DataError(f"{path}: no column of numbers is left for channels; name them with channels", path=path)
    return Roles(stream, time, tuple(channels), group, tuple(notes))


def find_task(files: str | Sequence[str], target: str) -> str:
    """Return "classification" for text, booleans and at most 10 whole numbers in the first rows, else "regression"."""
    recording = find_recordings(files if isinstance(files, str) else list(files))[0]
    _, head = next(read_batches(recording, [target]))
    values = head.column(0)
    if not _is_number(values.type) or pa.types.is_boolean(values.type):
        return "classification"
    found = {value for value in values.unique().to_pylist() if value is not None and value == value}
    few = len(found) <= 10 and all(float(value).is_integer() for value in found)
    return "classification" if few else "regression"


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
