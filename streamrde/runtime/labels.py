"""Labels that come with the samples, in columns of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from streamrde.arrays import Floats, Indices
from streamrde.connectors.samples import Samples
from streamrde.inference.fleet import Fleet
from streamrde.inference.labels import class_numbers


class Turn(NamedTuple):
    """Rows that can be taken together: no stream has a sample in them that comes before one of its labels."""

    labels: Samples | None
    """Rows with labels as x, at most one of each stream, to be learned first. None: there is none."""
    samples: Samples
    """Rows with the model's channels."""


class LabelColumns:
    """Parts rows whose last columns are labels into labels and samples.

    A stream learns a row's label before it takes the row's sample and after the samples of the rows before. So its
    predictions do not depend on how rows are cut into batches. A row with a label and without any channel is no sample.

    Args:
        channels: number of the model's channels, which come first.
        together: all streams learn one correction, and no row is taken before an earlier one of any stream.
    """

    def __init__(self, channels: int, *, together: bool = False) -> None:
        self._channels, self._together = channels, together

    def turns(self, samples: Samples) -> Iterator[Turn]:
        """Yield the rows in turns. There is at least one."""
        x, labels = samples.x[:, : self._channels], samples.x[:, self._channels :]
        labelled = np.asarray(~np.isnan(labels).all(axis=1))
        sampled = ~(labelled & np.isnan(x).all(axis=1))
        if not labelled.any():
            yield Turn(None, samples._replace(x=np.ascontiguousarray(x)))
            return
        turn = np.cumsum(labelled & np.append(False, sampled[:-1])) if self._together else _turns(samples, labelled)
        for number in range(int(turn.max()) + 1):
            own = turn == number
            given, rows = np.flatnonzero(own & labelled), np.flatnonzero(own & sampled)
            first = None if not len(given) else _take(samples, given, labels)
            yield Turn(first, _take(samples, rows, x))


def learn(fleet: Fleet, rows: Samples) -> pa.RecordBatch:
    """Give the fleet the labels of rows, (n, columns). Numbers that are no class count as labels without a number."""
    header, values, begin = fleet.header, {}, 0
    for head in header.parts:
        width = 1 if head.classes else head.outputs
        own = rows.x[:, begin : begin + width]
        begin += width
        values[head.name] = _places(class_numbers(head.classes), own[:, 0]) if head.classes else own
    return fleet.label(rows.streams, values if header.heads else values[""], t=rows.t)


def _places(numbers: dict[float, int], values: Floats) -> Floats:
    """Return the classes' places, NaN for what is none."""
    return np.array([numbers.get(value, np.nan) for value in values.tolist()])


def _take(samples: Samples, rows: Indices, x: np.ndarray) -> Samples:
    return Samples(samples.streams.take(pa.array(rows)), samples.t[rows], np.ascontiguousarray(x[rows]))


def _turns(samples: Samples, labelled: np.ndarray) -> Indices:
    """Return for each row the number of its stream's labels up to it, its own included."""
    codes, names = samples.by_code()
    # Two codes may have the same name.
    streams = np.asarray(names.dictionary_encode().indices)[codes]
    order = np.argsort(streams, kind="stable")
    total = labelled[order].cumsum()
    leads = np.flatnonzero(np.diff(streams[order], prepend=-1))
    before = np.repeat(total[leads] - labelled[order][leads], np.diff(np.append(leads, len(order))))
    turn = np.empty(len(order), dtype=np.intp)
    turn[order] = total - before
    return turn
