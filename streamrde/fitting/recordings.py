"""Read recorded files into recordings to learn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import pyarrow as pa

from streamrde.arrays import Floats, Indices
from streamrde.connectors.files.reading import SampleReader
from streamrde.connectors.files.restarts import Restart, explain, find_restarts, part_name, parts_of
from streamrde.connectors.samples import Samples
from streamrde.errors import DataError
from streamrde.fitting.inputs import DataConfig
from streamrde.fitting.sources import Rows
from streamrde.fitting.targets import Target, as_target, texts
from streamrde.times.plausible import Expectation, suspect_recordings
from streamrde.windowing.logsigs import explain_unusable
from streamrde.windowing.order import Order
from streamrde.windowing.ordering import Fault
from streamrde.windowing.recorded import InOrder, put_in_order

Say = Callable[[str], None]
_REASONS = {Fault.LATE: "late", Fault.DUPLICATE: "repeated", Fault.REJECTED: "unusable"}


@dataclass(frozen=True, eq=False)
class Recording:
    """Hold a recorded stream, or a part of one that is treated as a stream of its own."""

    stream: str
    t: Floats
    """Seconds, ascending, (L,)."""
    x: Floats
    """Data channels, (L, C-1); NaN = not observed."""
    target: Target
    group: str
    """What must not be divided between training and test."""
    source: str
    """Name of the recording that it is, or is a part of."""
    given: str = ""
    """What the column says by which parts are listed."""


def read_recordings(
    data: DataConfig,
    *,
    group: str = "",
    given: str = "",
    order: Order | None = None,
    targets: Sequence[str] | None = None,
    streams: Collection[str] | None = None,
    say: Say = lambda text: None,
    expected: Expectation | None = None,
    held: Rows | None = None,
) -> list[Recording]:
    """Read all recordings of a data set, ordered by name, with the targets of their rows.

    Args:
        data: files and columns.
        group: column whose value a recording belongs to; "" makes each recording its own group.
        given: column whose values divide the recordings; "" = none.
        order: of the rows of a recording, as serving puts them into it; None: as they are.
        targets: columns to read as targets; None: those of `data`.
        streams: names of the streams wanted. None: all.
        say: receives notes on rows that are left out or split.
        expected: what the times between samples are judged by; None: times are judged by their size alone.
        held: rows in memory, instead of the files of `data`.
    Raises:
        DataError: no file, a missing column, a value that is infinite, a row that is late or, where `order` calls it a
            fault, a repeat; a recording with two values of `group` or `given`.
    """
    targets = data.targets if targets is None else targets
    extra = tuple(dict.fromkeys((*targets, *(name for name in (group, given) if name))))
    numbers = targets if data.task == "regression" else ()
    reader = SampleReader(
        data.columns(),
        extra=extra,
        filters=data.filters,
        conversion=data.conversion(),
        units=data.told_units(),
        faults=data.faults,
        numbers=numbers,
    )
    batches = _read(reader, data, say, streams) if held is None else list(held.samples(reader))
    where = str(data.files)
    if not sum(len(batch.t) for batch in batches):
        passes = f"no row passes data.filters {list(data.filters)}"
        remedy = passes if data.filters else "no rows; give files with samples"
        raise DataError(f"{where}: {remedy}", path=where)
    names, stream = _streams(batches)
    t = np.concatenate([batch.t for batch in batches])
    x = np.concatenate([batch.x for batch in batches])
    columns_read = {
        name: pa.chunked_array([batch.extra.column(name) for batch in batches if batch.extra is not None])
        for name in extra
    }
    del batches
    target = Target(np.empty((len(t), 0)), None)
    if targets:
        chosen = [columns_read[name] for name in targets]
        target = as_target(chosen, targets, where, classify=data.task == "classification")
    keys = {name: texts(columns_read[name]) for name in (group, given) if name}

    if (np.diff(stream) < 0).any():
        # Stable: a recording's rows keep the order in which they were recorded.
        rows = np.argsort(stream, kind="stable")
        t, x, target = t[rows], x[rows], replace(target, values=target.values[rows])
        keys = {name: (codes[rows], values) for name, (codes, values) in keys.items()}
    order = order or Order()
    if reader.is_partial:
        order = msgspec.structs.replace(order, merge=True)
    recordings = []
    unused: Counter[str] = Counter()
    stops = np.cumsum(np.bincount(stream)).tolist()
    for name, start, stop in zip(names, [0, *stops], stops, strict=False):
        of = {column: _single(codes[start:stop], found, name, column, where) for column, (codes, found) in keys.items()}
        own_x = x[start:stop] if reader.is_partial else None
        for part, rows in _parts(name, t[start:stop], own_x, data, where):
            if part != name and part in names:
                raise DataError(f"{where}: '{part}' is another stream's name already; rename that one", path=where)
            rows = rows + start
            ordered = put_in_order(t[rows], x[rows], order)
            if data.faults == "drop":
                unused.update(_REASONS[v.fault] for _, v in ordered.unused if v.fault in _REASONS)
            else:
                _check_used(ordered, t[rows], x[rows], part, order, where, data.time_column)
            own = replace(target, values=target.values[rows][ordered.row], t=ordered.t)
            recordings.append(Recording(part, ordered.t, ordered.x, own, of.get(group, name), part, of.get(given, "")))
        if recordings[-1].stream != name:
            say(f"stream '{name}' begins again: it is split, up to '{recordings[-1].stream}'")
    if unused:
        say("left out: " + ", ".join(f"{count:,} {reason} rows" for reason, count in unused.items()))
    for channel, count in reader.implausible.items():
        say(f"{count:,} values of '{channel}' are outside of its limits, and count as not observed")
    if data.time_check == "error":
        times = [recording.t for recording in recordings]
        if reason := suspect_recordings(times, expected or Expectation(), data.time_unit):
            raise DataError(f"{where}: column '{data.time_column}': {reason}", path=where, column=data.time_column)
    return recordings


def _read(reader: SampleReader, data: DataConfig, say: Say, streams: Collection[str] | None) -> list[Samples]:
    """Return the samples of all files, without files that cannot be used and may be left out."""
    batches: list[Samples] = []
    skipped: list[str] = []
    for recording in data.find():
        if streams is not None and not data.stream and recording.stream not in streams:
            continue
        before = Counter(reader.dropped), Counter(reader.nameless)
        try:
            batches += [samples for _, samples in reader.read(recording, streams=streams)]
        except DataError as error:
            if data.on_error == "stop":
                raise
            skipped.append(str(error))
            reader.dropped, reader.nameless = before
    for reason in skipped:
        say(f"left out: {reason}")
    if skipped and not batches:
        raise DataError(f"no file can be used: {'; '.join(skipped)}", path=str(data.files))
    for reason, count in (reader.dropped + reader.nameless).items():
        say(f"left out: {count:,} row{'s' if count > 1 else ''}: {reason}")
    return batches


def _parts(name: str, t: Floats, partial: Floats | None, data: DataConfig, where: str) -> list[tuple[str, Indices]]:
    """Return a recording's rows in order, or those of its parts if it begins again and is to be split.

    Args:
        partial: the channels where rows may have only some of them: each then has an order of its own.
    """
    rows = np.arange(len(t))
    if not (t[1:] < t[:-1]).any():
        return [(name, rows)]
    if data.restarts == "sort":
        return [(name, np.argsort(t, kind="stable"))]
    places = find_restarts(t)
    if partial is not None:
        for _, own in parts_of(partial, rows):
            if inner := find_restarts(t[own]):
                at = own[inner[0]]
                raise DataError(
                    f"{where}: stream '{name}' begins again at {t[at]:.12g} s: divide the file, or set "
                    "data.restarts = 'sort'",
                    path=where,
                    column=data.time_column,
                )
        return [(name, np.argsort(t, kind="stable"))]
    if not places:
        return [(name, rows)]
    if data.restarts == "error":
        before = np.maximum.accumulate(t)
        found = [Restart(name, place, "", float(before[place - 1]), float(t[place])) for place in places]
        raise DataError(f"{where}: {explain(found, 'data.restarts =')}", path=where, column=data.time_column)
    return [(part_name(name, i), own) for i, own in enumerate(np.split(rows, places))]


def _streams(batches: Sequence[Samples]) -> tuple[list[str], Indices]:
    """Return the names of the recordings in alphabetical order, and every row's place among them."""
    numbers: dict[str, int] = {}
    parts = []
    for batch in batches:
        streams = batch.streams if pa.types.is_dictionary(batch.streams.type) else batch.streams.dictionary_encode()
        indices, used = streams.indices.to_numpy(), streams.dictionary.to_pylist()
        number = np.zeros(len(used), np.intp)
        for i in np.unique(indices).tolist():
            number[i] = numbers.setdefault(used[i], len(numbers))
        parts.append(number[indices])
    names = sorted(numbers)
    rank = np.empty(len(names), np.intp)
    rank[[numbers[name] for name in names]] = np.arange(len(names))
    return names, rank[np.concatenate(parts)]


def _check_used(ordered: InOrder, t: Floats, x: Floats, stream: str, order: Order, where: str, column: str) -> None:
    """Raise DataError at a row that serving would not use either, unless it is a repeat that `order` allows."""
    for row, verdict in ordered.unused:
        if verdict.fault == Fault.REJECTED:
            why = explain_unusable(row, verdict.column, t, x)
            raise DataError(f"{where}: stream '{stream}': {why}", path=where)
        if verdict.fault == Fault.LATE or order.duplicates == "error":
            raise DataError(
                f"{where}: stream '{stream}' has time {t[row]} after {verdict.bound}; sort the file by '{column}' and "
                "drop repeats, or set order.lateness and order.duplicates",
                path=where,
                column=column,
            )


def _single(codes: Indices, values: Sequence[str], stream: str, column: str, where: str) -> str:
    """Return the single value that a recording has in `column`."""
    found: list[int] = np.unique(codes).tolist()
    if len(found) > 1 or found[0] < 0:
        shown = ", ".join(repr(values[code]) if code >= 0 else "none" for code in found[:3])
        raise DataError(
            f"{where}: stream '{stream}' has {shown} in column '{column}'; it must be one value per stream",
            path=where,
            column=column,
        )
    return values[found[0]]
