"""Find the targets of a stream, as values along it or one for all of it, and of its windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamrde.arrays import Floats, Indices
from streamrde.errors import DataError


@dataclass(frozen=True, eq=False)
class Target:
    """Hold the targets of a stream."""

    values: Floats
    """(M, outputs), NaN = not known; of classes the number in `classes`, (M, 1)."""
    t: Floats | None
    """Their times, ascending, seconds, (M,); None: they hold at all times, and M is 1."""
    classes: tuple[str, ...] = ()
    """All classes of the data set in alphabetical order; empty where the targets are numbers."""

    @property
    def labels(self) -> set[str]:
        """Return the classes that occur."""
        return {self.classes[int(code)] for code in np.unique(self.values[np.isfinite(self.values)])}

    def between(self, first: float, last: float) -> Target:
        """Return a view without the values before `first` or after `last`."""
        if self.t is None:
            return self
        own = slice(np.searchsorted(self.t, first), np.searchsorted(self.t, last, side="right"))
        return replace(self, values=self.values[own], t=self.t[own])

    def single(self, stream: str, names: Sequence[str], where: str) -> Target:
        """Return a target with one value that holds at all times.

        Raises:
            DataError: there are two different ones, or the stream has no class.
        """
        if self.t is None:
            return self
        values = np.full((1, self.values.shape[1]), np.nan)
        for j, name in enumerate(names):
            found = np.unique(self.values[np.isfinite(self.values[:, j]), j])
            if len(found) > 1 or (self.classes and not len(found)):
                shown = ", ".join(repr(self.classes[int(v)]) if self.classes else f"{v:g}" for v in found[:3])
                raise DataError(
                    f"{where}: stream '{stream}' has {shown or 'no value'} in column '{name}': it must be one value "
                    "per stream with data.target_at = 'stream', as it is by default for classes; where it changes "
                    "along a stream set data.target_at = 'window'",
                    path=where,
                    column=name,
                )
            values[0, j] = found[0] if len(found) else np.nan
        return replace(self, values=values, t=None)

    def at(self, start: Floats, end: Floats) -> Floats:
        """Return the last known value in each of the windows (start, end], seconds, (K,): (K, outputs), NaN = none."""
        if self.t is None:
            return np.repeat(self.values, len(end), axis=0)
        result = np.full((len(end), self.values.shape[1]), np.nan)
        stops = np.searchsorted(self.t, end, side="right")
        starts = np.searchsorted(self.t, start, side="right")
        for j, column in enumerate(self.values.T):
            known = np.flatnonzero(np.isfinite(column))
            if known.size:
                last = known[np.maximum(np.searchsorted(known, stops) - 1, 0)]
                result[:, j] = np.where((last >= starts) & (last < stops), column[last], np.nan)
        return result


def texts(column: pa.ChunkedArray) -> tuple[Indices, list[str]]:
    """Return a column as numbers of its distinct values, -1 = null, and these values as text in alphabetical order."""
    encoded = pc.cast(column, pa.string()).combine_chunks().dictionary_encode()
    found = encoded.dictionary.to_pylist()
    order = sorted(range(len(found)), key=found.__getitem__)
    rank = np.empty(len(found) + 1, np.intp)
    rank[order], rank[-1] = np.arange(len(found)), -1
    return rank[encoded.indices.fill_null(-1).to_numpy()], [found[i] for i in order]


def as_target(columns: Sequence[pa.ChunkedArray], names: Sequence[str], where: str, *, classify: bool) -> Target:
    """Return columns of a table as targets without times.

    Raises:
        DataError: a column has no numbers where numbers are asked for.
    """
    if classify:
        codes, classes = texts(columns[0])
        return Target(np.where(codes < 0, np.nan, codes)[:, None], None, tuple(classes))
    values = []
    for name, column in zip(names, columns, strict=True):
        try:
            values.append(pc.cast(column, pa.float64()).to_numpy())
        except pa.ArrowException:
            raise DataError(
                f"{where}: target '{name}' is {column.type}, not numbers; "
                'choose another column or set task = "classification"',
                path=where,
                column=name,
            ) from None
    return Target(np.stack(values, axis=1).astype(np.float64), None)
