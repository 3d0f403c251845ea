"""Names of a fleet's streams, from rows of Arrow arrays to slots and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamrde.arrays import Indices
from streamrde.errors import ParameterError, ShapeError
from streamrde.kernels import Names


class StreamNames:
    """Which stream has which slot of a table. Some 50 bytes a stream, names included."""

    def __init__(self) -> None:
        self._names = Names()

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._names.find(*_buffers(pa.array([name])))[0] >= 0

    def __getitem__(self, slot: int) -> str:
        return self.names_of(np.array([slot], dtype=np.intp))[0].as_py()  # type: ignore[no-any-return]

    def add(self, names: pa.Array) -> tuple[Indices, Indices]:
        """Return the slots of the rows' streams, and the new ones among them in order of their first row.

        Args:
            names: strings, or a dictionary of strings, without nulls.
        """
        if not pa.types.is_dictionary(names.type):
            return self._names.add(*_buffers(names))
        indices = names.indices.to_numpy()
        # A dictionary may hold streams that no row names: a slice of a longer column does.
        used = np.zeros(len(names.dictionary), dtype=bool)
        used[indices] = True
        entries = np.flatnonzero(used)
        named = names.dictionary if len(entries) == len(used) else names.dictionary.take(pa.array(entries))
        slots = np.empty(len(used), dtype=np.intp)
        slots[entries], added = self._names.add(*_buffers(named))
        return slots[indices], added

    def find(self, streams: Iterable[str] | None) -> Indices:
        """Return the slots of streams, each once. None: all, in the order of their first samples.

        Raises:
            ParameterError: one is not live.
        """
        if streams is None:
            return self._names.live()
        names = list(dict.fromkeys([streams] if isinstance(streams, str) else streams))
        slots = self.look_up(pa.array(names, pa.string()))
        if (slots < 0).any():
            unknown = names[int(np.flatnonzero(slots < 0)[0])]
            raise ParameterError(f"stream {unknown!r} is not live; {len(self)} are, see Fleet.streams")
        return slots

    def live(self, streams: Sequence[str]) -> Indices:
        """Return the slots of those of the streams that are live."""
        slots = self.look_up(pa.array(streams, pa.string()))
        return slots[slots >= 0]

    def look_up(self, names: pa.StringArray) -> Indices:
        """Return the slot of each name, or -1 if there is none."""
        return self._names.find(*_buffers(names))

    def release(self, slots: Indices) -> None:
        """Make slots free for other streams."""
        self._names.release(slots)

    def names_of(self, slots: Indices) -> pa.StringArray:
        """Return the names of the streams in these slots."""
        offsets, data = self._names.names(np.ascontiguousarray(slots, dtype=np.intp))
        return pa.StringArray.from_buffers(len(slots), pa.py_buffer(offsets), pa.py_buffer(data))


def stream_column(streams: pa.Array | Sequence[str] | NDArray[Any]) -> pa.Array:
    """Return the names of the rows' streams, strings or a dictionary. Raise ShapeError if they are not names."""
    if isinstance(streams, str | bytes):
        raise ShapeError(
            f"streams={streams!r} is one name: give one per row, as in [{streams!r}] * len(t), or use a Predictor"
        )
    try:
        array = streams if isinstance(streams, pa.Array | pa.ChunkedArray) else pa.array(streams, from_pandas=True)
        if isinstance(array, pa.ChunkedArray):  # a column of pandas may be one as well
            array = array.combine_chunks()
        if pa.types.is_dictionary(array.type):
            array = array.cast(pa.dictionary(pa.int32(), pa.string()))
        elif pa.types.is_floating(array.type):
            raise pa.ArrowTypeError(f"they are {array.type}")
        else:
            array = array.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise ShapeError(f"streams are not names ({error}): give one string or integer per row") from None
    if array.null_count or (pa.types.is_dictionary(array.type) and array.dictionary.null_count):
        raise ShapeError("streams has a null: every row needs the name of its stream")
    return array


def _buffers(names: pa.Array) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Return the offsets and bytes of strings."""
    _, offsets, data = names.buffers()
    if offsets is None or not len(names):
        return np.zeros(1, dtype=np.int32), np.empty(0, dtype=np.uint8)
    ends = np.frombuffer(offsets, dtype=np.int32)[names.offset : names.offset + len(names) + 1]
    return ends, np.empty(0, dtype=np.uint8) if data is None else np.frombuffer(data, dtype=np.uint8)
