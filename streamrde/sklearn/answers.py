"""Ask a model for its answers to streams, as it is served."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from streamrde.arrays import Bools, Floats
from streamrde.inference.bundle import Bundle
from streamrde.inference.fleet import Fleet
from streamrde.sklearn.panels import Panel


class Answers(NamedTuple):
    """The last answer of a model to each stream."""

    value: Floats
    """Probabilities of the model's classes, or numbers, (streams, outputs). NaN without an answer."""
    silent: Bools
    """True for streams that closed no window, (streams,)."""


def all_answers(bundle: Bundle, panel: Panel) -> pa.Table:
    """Return the answers after all windows, the last of which the end of each stream closes, as a Fleet gives them.

    Rows are in the order of the streams, and of time within each.
    """
    fleet = Fleet(bundle, time_check="off")
    numbers = np.repeat(np.arange(len(panel.t)), [len(t) for t in panel.t])
    names = pa.DictionaryArray.from_arrays(numbers.astype(np.int32), pa.array(panel.names, pa.string()))
    pushed = fleet.push(names.dictionary_decode(), np.concatenate(panel.t), np.concatenate(panel.x))
    rows = pa.Table.from_batches([pushed, fleet.flush()]).combine_chunks()
    place = {name: i for i, name in enumerate(panel.names)}
    stream = np.array([place[name] for name in rows.column("stream").to_pylist()], np.intp)
    # A stream may begin again after a long silence, and then counts its windows on.
    return rows.take(np.lexsort((rows.column("window").to_numpy(), stream)))


def last_answers(bundle: Bundle, panel: Panel) -> Answers:
    """Return the answer of each stream's end."""
    rows = all_answers(bundle, panel)
    place = {name: i for i, name in enumerate(panel.names)}
    last = np.full(len(panel.names), -1, np.intp)
    # In order, the last one of each stream stays.
    last[[place[name] for name in rows.column("stream").to_pylist()]] = np.arange(rows.num_rows)
    found = np.full((len(last), bundle.header.outputs), np.nan)
    values = rows.column("value").combine_chunks()
    if rows.num_rows:
        found[last >= 0] = values.flatten().to_numpy().reshape(rows.num_rows, -1)[last[last >= 0]]
    if bundle.header.parts[0].is_binary:
        found = np.concatenate([1 - found, found], axis=1)
    return Answers(found, last < 0)
