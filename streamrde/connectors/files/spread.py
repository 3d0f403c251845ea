"""Read recordings whose channels are spread over several files of a folder, such as one file per sensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

from streamrde.arrays import Ints
from streamrde.connectors.columns import ALL, Columns
from streamrde.connectors.files.formats import suffix_of
from streamrde.connectors.files.recordings import Recording
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
    """Return the places of a file's channels among all, and the description of its columns, without limits."""
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
    return places, Columns(**fields | {"channels": tuple(names.values()), "missing": missing, "limits": {}})


class MemberReader(Protocol):
    """Read one of the files. See `SampleReader`."""

    dropped: Counter[str]
    nameless: Counter[str]

    @property
    def extra_schema(self) -> pa.Schema | None:
        """Return the types of the further columns, or None before the first rows."""

    def read(self, recording: Recording) -> Iterator[tuple[int, Samples]]:
        """Yield the samples of a file."""

    def check(self, recording: Recording) -> pa.Schema:
        """Check a file's columns, and return its schema."""


class Spread:
    """Read the files that the channels are spread over as one.

    Args:
        columns: names of the channels, each with its file.
        members: names of the files.
        extra: further columns, each with its file, or in all files.
        reader: makes the reader of a file from its name, its channels' places among all, and its columns.
    """

    def __init__(
        self,
        columns: Columns,
        members: Sequence[str],
        extra: Sequence[str],
        reader: Callable[[str, list[int], Columns], MemberReader],
    ) -> None:
        self._width = len(columns.channels)
        self._extra = tuple(extra)
        self._parts: list[tuple[str, list[int], MemberReader]] = []
        for member in members:
            places, own = columns_of(columns, member)
            self._parts.append((member, places, reader(member, places, own)))

    def count_in(self, dropped: Counter[str], nameless: Counter[str]) -> None:
        """Count what is left out in these counters."""
        for _, _, reader in self._parts:
            reader.dropped, reader.nameless = dropped, nameless

    def check(self, files: Sequence[Recording]) -> pa.Schema:
        """Check the columns of all files, and return the first one's schema."""
        first, *_ = [reader.check(one) for one, (_, _, reader) in zip(files, self._parts, strict=True)]
        return first

    def read(self, files: Sequence[Recording], start: int) -> Iterator[tuple[Samples, Ints, int]]:
        """Yield the samples of all files in order of time, the number of each row, and the number after the last.

        Args:
            files: in the order of the members.
            start: number of rows to leave out.
        """
        parts = [self._samples(one, *part) for one, part in zip(files, self._parts, strict=True)]
        return ((self._typed(samples), rows, after) for samples, rows, after in merged(parts, start))

    def _samples(self, one: Recording, member: str, places: list[int], reader: MemberReader) -> Iterator[Samples]:
        for _, samples in reader.read(one):
            yield widened(samples, places, self._width, self._extra, member)

    def _typed(self, samples: Samples) -> Samples:
        """Give the further columns the types that they have in their files, of which each was begun."""
        if samples.extra is None:
            return samples
        schema = pa.schema(
            next(
                reader.extra_schema.field(column).with_name(name)
                for member, _, reader in self._parts
                if reader.extra_schema is not None and file in ("", member)
            )
            for name, (file, column) in zip(self._extra, map(member_of, self._extra), strict=True)
        )
        return samples._replace(extra=samples.extra.cast(schema))


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
