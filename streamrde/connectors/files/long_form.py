"""Read the long form of a table: each row has the name of a channel, and one value."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamrde.arrays import Bools, Floats, Ints
from streamrde.connectors.files.sample_file import SampleFile
from streamrde.connectors.values import Spellings
from streamrde.errors import DataError

_SHOWN = 10  # names that an error shows


class LongForm:
    """Find each row's channel by the column `name`, and its value in the column `value`.

    Args:
        channels: the names that stand in the column, with the spellings of each, in the model's order.
        others: rows that name no channel are left out; "refuse": each is an error. A file that has nothing else is one,
            but for "ignore".
    """

    def __init__(self, name: str, value: str, channels: Mapping[str, Spellings], *, others: str) -> None:
        self.name, self.value = name, value
        self.channels = dict(channels)
        self.others = others
        self._found = False
        self._others: dict[str, None] = {}
        self.reason = f"column {name!r}: the name of no channel"

    def places(self, batch: pa.RecordBatch, file: SampleFile) -> Ints:
        """Return the number of each row's channel, -1 where it is none.

        Raises:
            DataError: a name is that of no channel and is to be refused.
        """
        names = batch.column(self.name)
        if pa.types.is_binary(names.type):
            names = file.decoded(self.name, names)
        if not pa.types.is_dictionary(names.type):
            names = names.dictionary_encode()
        own = pc.index_in(names.dictionary.cast(pa.string()), pa.array(list(self.channels), pa.string()))
        known = np.append(pc.fill_null(own, -1).to_numpy(zero_copy_only=False), -1)
        places: Ints = known[pc.fill_null(names.indices, len(known) - 1).to_numpy(zero_copy_only=False)]
        if self.others == "refuse" and (bad := places < 0).any():
            shown = names[int(np.argmax(bad))].as_py()
            raise file.error(
                self.name, f'the name {shown!r} is that of no channel; drop the row, or set others = "count"', bad
            )
        return places

    def values(self, batch: pa.RecordBatch, file: SampleFile, places: Ints) -> Floats:
        """Return the values of the channels, (rows, channels), NaN for all but each row's channel."""
        x = np.full((batch.num_rows, len(self.channels)), np.nan)
        rows = np.arange(batch.num_rows)
        for own in dict.fromkeys(map(_key, self.channels.values())):
            alike = [i for i, one in enumerate(self.channels.values()) if _key(one) == own]
            values = batch.column(self.value)
            spelled = list(self.channels.values())[alike[0]]
            mine = np.isin(places, alike)
            if not mine.all():
                values = pc.if_else(pa.array(mine), values, pa.scalar(None, values.type))
            x[rows[mine], places[mine]] = file.as_numbers(self.value, values, spelled)[mine]
        return x

    def begin(self) -> None:
        """Begin a file."""
        self._found = False
        self._others.clear()

    def look(self, batch: pa.RecordBatch, own: Bools) -> None:
        """Note which rows name a channel, and some names of those that name none."""
        self._found |= bool(own.any())
        if not self._found and len(self._others) < _SHOWN:
            names = batch.column(self.name)
            names = names.dictionary_decode() if pa.types.is_dictionary(names.type) else names
            self._others.update(dict.fromkeys(map(str, names.unique().to_pylist()[:_SHOWN])))

    def check_found(self, path: str) -> None:
        """Raise DataError if the file has rows and none of them names a channel."""
        if self.others != "ignore" and self._others and not self._found:
            raise DataError(
                f"{path}: column {self.name!r} names none of the channels {', '.join(self.channels)}; it has "
                f"{', '.join(self._others)}: set columns.channels to the names that stand there",
                path=path,
                column=self.name,
            )


def _key(one: Spellings) -> tuple[frozenset[str], tuple[tuple[str, float], ...], tuple[str, ...]]:
    return one.texts, tuple(one.words.items()), one.classes
