"""Put rows together that have one stream and one time, each of which has only some of the channels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamrde.arrays import Floats, Indices, Ints
from streamrde.connectors.samples import Samples


def together(samples: Samples) -> Samples:
    """Return samples with the rows of one stream and time as one, in order of time if the rows are.

    A channel that has several values at a time has the first. Rows with others stay rows of their own: whoever takes
    the samples decides on repeated times.
    """
    if len(samples.t) < 2 or not (samples.t[1:] == samples.t[:-1]).any():
        return samples
    codes, names = samples.by_code()
    if len(names.unique()) < len(names):
        codes = names.dictionary_encode().indices.to_numpy()[codes]
    moment = np.cumsum(np.append(False, samples.t[1:] != samples.t[:-1]))
    # Stable: rows of one stream and time keep their order.
    order = np.lexsort((codes, moment))
    new = np.append(True, (np.diff(moment[order]) != 0) | (np.diff(codes[order]) != 0))
    seen = ~np.isnan(samples.x[order])
    new |= _repeated(seen, np.flatnonzero(new), np.cumsum(new) - 1)
    # A row that repeats stays alone, so what follows it begins with the next row that is new.
    group = np.cumsum(new) - 1
    first = np.flatnonzero(new)
    x = np.full((len(first), samples.x.shape[1]), np.nan)
    rows, channels = np.nonzero(seen)
    x[group[rows[::-1]], channels[::-1]] = samples.x[order[rows[::-1]], channels[::-1]]
    lead = order[first]
    extra = None if samples.extra is None else _firsts(samples.extra, order, group, first)
    return Samples(samples.streams.take(pa.array(lead)), samples.t[lead], x, extra)


def in_order_together(batches: Iterable[Samples]) -> Iterator[Samples]:
    """Put rows of one stream and time together across batches that are in order of time."""
    numbered = ((samples, np.zeros(len(samples.t), np.int64), 0) for samples in batches)
    return (samples for _, samples in numbered_together(numbered))


def numbered_together(batches: Iterable[tuple[Samples, Ints, int]]) -> Iterator[tuple[int, Samples]]:
    """Put rows of one stream and time together across batches, and yield the row at which to go on after each.

    The rows at the last time of a batch wait for the next batch. So memory holds the rows of one time beside a batch.

    Args:
        batches: samples, the row of the file of each, and the row after the batch.
    """
    held: list[Samples] = []
    end = 0
    for samples, rows, after in batches:
        t, end = samples.t, after
        if not len(t):
            continue
        lead = 0
        if held:
            others = np.flatnonzero(t != held[0].t[0])
            lead = int(others[0]) if len(others) else len(t)
            held.append(cut(samples, 0, lead))
            if lead == len(t):
                continue
            yield int(rows[lead]), together(_joined(held))
        tail = int(np.flatnonzero(t != t[-1])[-1]) + 1 if (t != t[-1]).any() else 0
        tail = max(tail, lead)
        if tail > lead:
            yield int(rows[tail]), together(cut(samples, lead, tail))
        held = [cut(samples, tail, len(t))]
    if held:
        yield end, together(_joined(held))


def _repeated(seen: Indices, starts: Indices, group: Indices) -> Indices:
    """Mark the rows with a channel that the rows before it in their group have already."""
    before = np.cumsum(seen, axis=0) - seen
    repeated = (seen & (before > before[starts[group]])).any(axis=1)
    return np.asarray(repeated)


def _firsts(extra: pa.RecordBatch, order: Indices, group: Indices, first: Indices) -> pa.RecordBatch:
    """Return of each group and column the first value that is not null."""
    arrays = []
    for column in extra.columns:
        place = order[first]
        nothing = column.is_null()
        if pa.types.is_string(column.type):  # a CSV file has empty text for no value
            nothing = pc.or_(nothing, pc.fill_null(pc.equal(column, ""), True))
        nothing = nothing.to_numpy(zero_copy_only=False)
        if nothing.any():
            known = np.flatnonzero(~nothing[order])[::-1]
            place[group[known]] = order[known]
        arrays.append(column.take(pa.array(place)))
    return pa.RecordBatch.from_arrays(arrays, schema=extra.schema)


def cut(samples: Samples, start: int, stop: int) -> Samples:
    """Return the rows [start, stop) of samples."""
    extra = None if samples.extra is None else samples.extra.slice(start, stop - start)
    return Samples(samples.streams.slice(start, stop - start), samples.t[start:stop], samples.x[start:stop], extra)


def _joined(parts: list[Samples]) -> Samples:
    if len(parts) == 1:
        return parts[0]
    names = [part.streams for part in parts]
    plain = [one.dictionary_decode() if pa.types.is_dictionary(one.type) else one for one in names]
    extras = [part.extra for part in parts if part.extra is not None]
    x: Floats = np.concatenate([part.x for part in parts])
    return Samples(
        pa.concat_arrays([one.cast(pa.string()) for one in plain]).dictionary_encode(),
        np.concatenate([part.t for part in parts]),
        x,
        pa.Table.from_batches(extras).combine_chunks().to_batches()[0] if extras else None,
    )
