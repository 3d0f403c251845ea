"""Read recordings whose channels are spread over several files of a folder, such as one file per sensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from streamrde.arrays import Ints
from streamrde.connectors.columns import ALL, Columns
from streamrde.connectors.files.formats import suffix_of
from streamrde.connectors.files.together import cut
from streamrde.connectors.samples import Samples
from streamrde.errors import ParameterError


def member_of(column: str) -> tuple[str, str]:
    """Return the file and the column that a name such as ``Accelerometer.csv:x`` has. ("", name): it has no file."""
    file, colon, own = column.partition(":")
    return (file, own) if colon and own and suffix_of(file) is not None else ("", column)


def members_of(channels: Sequence[str]) -> tuple[str, ...]:
    """Return the files that channels are spread over, or () if all channels are in one file.

    Raises:
        ParameterError: only some channels name a file.
    """
    members = tuple(dict.fromkeys(member_of(channel)[0] for channel in channels))
    if "" in members and len(members) > 1:
        own = next(channel for channel in channels if not member_of(channel)[0])
        file = next(member for member in members if member)
        raise ParameterError(
            f"channels: {own!r} names no file, and others do: write FILE:COLUMN for each, such as {file}:{own}"
        )
    return () if members in ((), ("",)) else members


def columns_of(columns: Columns, member: str) -> tuple[list[int], Columns]:
    """Return the places of a file's channels among all, and the description of its columns."""
    if columns.stream is not None or columns.name:
        key = "stream" if columns.stream is not None else "name"
        raise ParameterError(
            f"columns.{key} = {getattr(columns, key)!r}, and the channels are spread over several files: a stream is "
            f'then a folder, and each file has a column per channel; set {key} = ""'
        )
    places = [i for i, channel in enumerate(columns.channels) if member_of(channel)[0] == member]
    names = {columns.channels[i]: member_of(columns.channels[i])[1] for i in places}
    missing = columns.missing
    if isinstance(missing, dict):
        missing = {names.get(key, key): own for key, own in missing.items() if key in names or key == ALL}
    fields = {name: getattr(columns, name) for name in columns.__struct_fields__}
    return places, Columns(**fields | {"channels": tuple(names.values()), "missing": missing})


def widened(samples: Samples, places: Sequence[int], width: int, extra: Sequence[str], member: str) -> Samples:
    """Return a file's samples with all channels, NaN where they are of other files, and all further columns."""
    x = np.full((len(samples.t), width), np.nan)
    x[:, places] = samples.x
    if not extra:
        return samples._replace(x=x)
    own = samples.extra
    arrays = []
    for name in extra:
        file, column = member_of(name)
        here = own is not None and file in ("", member)
        arrays.append(own.column(column) if own is not None and here else pa.nulls(len(samples.t)))
    return samples._replace(x=x, extra=pa.RecordBatch.from_arrays(arrays, names=list(extra)))


def merged(parts: Sequence[Iterator[Samples]], start: int = 0) -> Iterator[tuple[Samples, Ints, int]]:
    """Merge the samples of several files by time, those of earlier files first at the same time.

    Where a file is not in order of time, its rows and those that follow come as they are: whoever takes them sorts.

    Args:
        parts: samples of each file.
        start: number of merged rows to leave out.
    Yields:
        samples, the number of each row, and the number after the last.
    """
    heads = [_next(part) for part in parts]
    last = [-np.inf] * len(heads)
    in_order = all(_follows(head, before) for head, before in zip(heads, last, strict=True))
    row = 0
    while any(head is not None for head in heads):
        if in_order:
            bound, first = min((float(head.t[-1]), i) for i, head in enumerate(heads) if head is not None)
        ready: list[Samples] = []
        for i, head in enumerate(heads):
            if head is None:
                continue
            stop = len(head.t)
            if in_order:
                stop = int(np.searchsorted(head.t, bound, side="right" if i <= first else "left"))
            ready.append(cut(head, 0, stop))
            heads[i] = cut(head, stop, len(head.t)) if stop < len(head.t) else None
            if heads[i] is None:
                last[i] = float(head.t[-1])
        for i, head in enumerate(heads):
            if head is None and (found := _next(parts[i])) is not None:
                in_order = in_order and _follows(found, last[i])
                heads[i] = found
        samples = _sorted(ready)
        skip = min(max(0, start - row), len(samples.t))
        rows = np.arange(row + skip, row + len(samples.t))
        row += len(samples.t)
        if skip < len(samples.t):
            yield cut(samples, skip, len(samples.t)), rows, row


def _next(part: Iterator[Samples]) -> Samples | None:
    return next((samples for samples in part if len(samples.t)), None)


def _follows(samples: Samples | None, before: float) -> bool:
    return samples is None or bool(samples.t[0] >= before and (np.diff(samples.t) >= 0).all())


def _sorted(parts: Sequence[Samples]) -> Samples:
    """Return samples of one stream in order of time."""
    t = np.concatenate([part.t for part in parts])
    order = np.argsort(t, kind="stable")
    extras = [pa.Table.from_batches([part.extra]) for part in parts if part.extra is not None]
    extra = None
    if extras:
        table = pa.concat_tables(extras, promote_options="default").combine_chunks().take(pa.array(order))
        arrays = [column.combine_chunks() for column in table.columns]
        extra = pa.RecordBatch.from_arrays(arrays, names=table.column_names)
    streams = pa.DictionaryArray.from_arrays(np.zeros(len(t), np.int32), parts[0].streams.dictionary)
    return Samples(streams, t[order], np.concatenate([part.x for part in parts])[order], extra)
