"""Rows that are looked at, column by column, whatever they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from streamrde.arrays import Floats, Ints
from streamrde.looking.cells import Cells, judge


class Table:
    """Hold rows by column. It is a `fitting.sources.Source`, whose texts that are numbers have a type of numbers.

    Args:
        where: name of the data for messages.
        columns: values by column, all of one length.
        parts: for each row the number of the file or topic that it is from.
        whole: what one stream is where no column names it.
    """

    def __init__(
        self, where: str, columns: Mapping[str, Sequence[Any]], parts: Sequence[int], whole: str = "each file is one"
    ) -> None:
        self.where = where
        self.whole = whole
        self.single = len(set(parts)) < 2
        self.columns = dict(columns)
        self.parts: Ints = np.asarray(parts, np.int64)
        self._cells: dict[str, Cells] = {}

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def names(self) -> list[str]:
        """Return the names of the columns."""
        return list(self.columns)

    def cells(self, name: str) -> Cells:
        """Return a column's values as they were judged."""
        if name not in self._cells:
            self._cells[name] = judge(name, self.columns[name])
        return self._cells[name]

    @cached_property
    def types(self) -> pa.Schema:
        """Return the types of the columns: numbers, or text."""
        kinds = []
        for name in self.names:
            cells = self.cells(name)
            kind = pa.float64() if cells.is_number else pa.string()
            kinds.append(pa.int64() if cells.is_number and cells.whole else kind)
        return pa.schema(list(zip(self.names, kinds, strict=True)))

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column with the type that `types` says."""
        cells = self.cells(name)
        if cells.is_number:
            numbers = [float(number) if np.isfinite(number) else None for number in cells.numbers]
            array = pa.array(numbers, pa.float64())
            return pa.chunked_array(
                [
                    array.cast(pa.int64())
                    if cells.whole and np.abs(cells.numbers[np.isfinite(cells.numbers)]).max() < 2**53
                    else array
                ]
            )
        return pa.chunked_array(
            [pa.array([None if value is None else str(value) for value in cells.values], pa.string())]
        )

    def streams(self, stream: str | Sequence[str] | None) -> Ints:
        """Return a number for each row's stream: its part, and the values of the columns that name the stream."""
        keys: list[Any] = list(self.parts.tolist())
        for name in [stream] if isinstance(stream, str) and stream else (stream or ()):
            keys = list(zip(keys, map(str, self.columns[name]), strict=True))
        codes: dict[Any, int] = {}
        return np.array([codes.setdefault(key, len(codes)) for key in keys], np.int64)


def split_by(codes: Ints, values: Floats) -> list[Floats]:
    """Return the values of each code, in the order of the rows."""
    order = np.argsort(codes, kind="stable")
    places = np.flatnonzero(np.diff(codes[order])) + 1
    return np.split(values[order], places) if len(codes) else []
