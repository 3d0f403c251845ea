"""The tokens and pooled features of streams as columns, for models of other kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from streamrde.errors import ParameterError
from streamrde.features.names import token_names
from streamrde.inference.bundle import Bundle
from streamrde.inference.fleet import Fleet
from streamrde.inference.states import Feature
from streamrde.inference.table import OnFault
from streamrde.inference.vector_field import RowField
from streamrde.windowing.order import Order

Columns: TypeAlias = Literal["features", "tokens"]
_KEYS = ("stream", "window", "t_start", "t_end")


class Features:
    """Turn samples of many streams into rows of numbers, one row per closed window.

    Recorded and live streams give the same bits, however they are cut into calls.

    Args:
        bundle: a model, from `load` or `fit`. Its windows, its tokens and its random features are used, not its
            readout.
        of: columns after the window's own. "features": the features pooled over the stream's life so far, of a
            reservoir. "tokens": the window's token, not standardised, NaN for what was not observed.
        faults: treatment of a row that is late, a repeat, or not finite, as of `Fleet`.
        order: rules for late and repeated samples. None: they are faults.
        threads: number of threads for the streams of large calls.
    Raises:
        ParameterError: the model has no pooled features.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        of: Columns = "features",
        faults: OnFault = "error",
        order: Order | None = None,
        threads: int = 1,
    ) -> None:
        if of not in ("features", "tokens"):
            raise ParameterError(f"of={of!r}: use 'features' or 'tokens'")
        header = msgspec.structs.replace(bundle.header, emit="every")
        self._bundle, self._of = Bundle(header, bundle.tensors), of
        self._options: dict[str, Any] = {"faults": faults, "order": order, "threads": threads}
        self._field: RowField | None = None
        if of == "features":
            if not header.field.in_rows:
                raise ParameterError(f"field '{header.field.tag}' has no pooled features: use of='tokens'")
            field = header.field.build("field", header, bundle.tensors)
            assert isinstance(field, RowField)  # noqa: S101 (as `in_rows` says)
            self._field = field
        channels = [channel.name for channel in header.channels]
        self.names: tuple[str, ...] = (
            token_names(header.partition, channels) if of == "tokens" else header.field.feature_names(header)
        )
        """Names of the columns after those of the window. They say how each number is made."""
        keys = [("stream", pa.string()), ("window", pa.int64()), ("t_start", pa.float64()), ("t_end", pa.float64())]
        self.schema = pa.schema([*keys, *((name, pa.float64()) for name in self.names)])
        """Schema of the record batches."""
        self._fleet = self._new_fleet()

    def _new_fleet(self) -> Fleet:
        wanted: tuple[Feature, ...] = ("logsignature",) if self._of == "tokens" else ("state",)
        return Fleet(self._bundle, features=wanted, **self._options)

    def push(self, streams: pa.Array | Sequence[str] | NDArray[Any], t: ArrayLike, x: ArrayLike) -> pa.RecordBatch:
        """Take rows of samples, as `Fleet.push`, and return a row per window that closed."""
        return self._batch(self._fleet.push(streams, t, x))

    def advance(self, t: float, streams: Iterable[str] | None = None) -> pa.RecordBatch:
        """Let time reach t, as `Fleet.advance`, and return a row per window that closed."""
        return self._batch(self._fleet.advance(t, streams))

    def flush(self, streams: Iterable[str] | None = None) -> pa.RecordBatch:
        """End streams, as `Fleet.flush`, and return a row for each one's last window."""
        return self._batch(self._fleet.flush(streams))

    def table(self, streams: pa.Array | Sequence[str] | NDArray[Any], t: ArrayLike, x: ArrayLike) -> pa.Table:
        """Return the rows of whole recordings. Live streams are not touched.

        Args:
            streams, t, x: as of `Fleet.push`.
        """
        fleet = self._new_fleet()
        batches = [fleet.push(streams, t, x), fleet.flush()]
        return pa.Table.from_batches([self._batch(batch) for batch in batches], self.schema)

    def snapshot(self, streams: Iterable[str] | None = None) -> dict[str, bytes]:
        """Return the states of live streams, by name."""
        return self._fleet.snapshot(streams)

    def restore(self, snapshots: Mapping[str, bytes]) -> None:
        """Continue streams from their snapshots."""
        self._fleet.restore(snapshots)

    def _batch(self, closed: pa.RecordBatch) -> pa.RecordBatch:
        column = closed.column("logsignature" if self._field is None else "state")
        values = column.flatten().to_numpy().reshape(len(closed), -1) if len(closed) else np.empty((0, len(self.names)))
        if self._field is not None and len(closed):
            values = self._field.features(values)
        columns = [closed.column(key) for key in _KEYS]
        return pa.record_batch([*columns, *(pa.array(own) for own in np.ascontiguousarray(values.T))], self.schema)
