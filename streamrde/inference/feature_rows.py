"""The tokens and pooled features of streams as columns, for models of other kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from streamrde.arrays import Floats, Reals
from streamrde.errors import ParameterError, ShapeError
from streamrde.features import FeatureSpec, Pool
from streamrde.features.names import token_names
from streamrde.inference.bundle import Bundle
from streamrde.inference.ends import Blank, Layers
from streamrde.inference.fields.reservoir import Reservoir
from streamrde.inference.fleet import Fleet
from streamrde.inference.header import Channel, Emit, Header
from streamrde.inference.states import Feature
from streamrde.inference.steppers.rows import RowStepper
from streamrde.inference.table import OnFault
from streamrde.windowing.order import Order
from streamrde.windowing.partition import Interpolation
from streamrde.windowing.policies import Every, Windows
from streamrde.windowing.tokens import Scale, Token, as_scales

Columns: TypeAlias = Literal["features", "tokens"]
KEYS = ("stream", "window", "t_start", "t_end")
"""Columns that say which window a row belongs to."""
POOLS = (Pool("mean", "token"), Pool("max", "token"), Pool("last", "token"))
"""Pools of tokens that have no model."""
_SECONDS = Every(1.0)
_UNLIMITED = 1e30  # a clip that no entry of a token reaches, and single precision still holds


class FeatureRows:
    """Turn rows of samples into rows of numbers. See `streamrde.Features`, which reads files too."""

    def __init__(
        self,
        model: Bundle | Header | None = None,
        *,
        of: Columns = "features",
        emit: Emit = "every",
        channels: Sequence[str | Channel] | None = None,
        windows: Windows | None = None,
        scales: Iterable[int | tuple[int, int] | Scale] | None = None,
        depth: int | None = None,
        ends: bool | None = None,
        summaries: bool | None = None,
        interpolation: Interpolation | None = None,
        pools: Sequence[Pool] | None = None,
        faults: OnFault = "error",
        order: Order | None = None,
        threads: int = 1,
    ) -> None:
        for name, value, known in (("of", of, ("features", "tokens")), ("emit", emit, ("every", "last"))):
            if value not in known:
                raise ParameterError(f"{name}={value!r}: use {known[0]!r} or {known[1]!r}")
        if of == "tokens" and emit == "last":
            raise ParameterError("emit='last': a token belongs to a window; use of='features', or emit='every'")
        keywords: dict[str, Any] = {
            "channels": channels,
            "windows": windows,
            "scales": scales,
            "depth": depth,
            "ends": ends,
            "summaries": summaries,
            "interpolation": interpolation,
            "pools": pools,
        }
        given = {name: value for name, value in keywords.items() if value is not None}
        if model is None:
            model = _described(**given)
        elif given:
            raise ParameterError(f"{', '.join(given)}: the model says these itself; leave them out, or the model")
        self.bundle = _without_readout(model, of, emit)
        """The model that the rows are made with: its readout is nothing."""
        header = self.bundle.header
        self.channels: tuple[str, ...] = tuple(channel.name for channel in header.channels)
        """Names of the data channels, in the order of x."""
        self.names: tuple[str, ...] = (
            token_names(header.partition, self.channels) if of == "tokens" else header.field.feature_names(header)
        )
        """Names of the columns after those of the window. They say how each number is made."""
        keys = [("stream", pa.string()), ("window", pa.int64()), ("t_start", pa.float64()), ("t_end", pa.float64())]
        self.schema = pa.schema([*keys, *((name, pa.float64()) for name in self.names)])
        """Schema of the record batches."""
        self.feature: Feature = "logsignature" if of == "tokens" else "state"
        """Column of a Fleet's predictions that the rows are made of."""
        self._stepper = RowStepper(self.bundle)
        self._options: dict[str, Any] = {"faults": faults, "order": order, "threads": threads}
        self._fleet = self._new_fleet()

    def _new_fleet(self) -> Fleet:
        return Fleet(self.bundle, features=(self.feature,), stepper=self._stepper, **self._options)

    def push(self, streams: pa.Array | Sequence[str] | NDArray[Any], t: ArrayLike, x: ArrayLike) -> pa.RecordBatch:
        """Take rows of samples, as `Fleet.push`, and return a row per window that closed."""
        return self.batch(self._fleet.push(streams, t, x))

    def advance(self, t: float, streams: Iterable[str] | None = None) -> pa.RecordBatch:
        """Let time reach t, as `Fleet.advance`, and return a row per window that closed."""
        return self.batch(self._fleet.advance(t, streams))

    def flush(self, streams: Iterable[str] | None = None) -> pa.RecordBatch:
        """End streams, as `Fleet.flush`, and return a row for each one's last window."""
        return self.batch(self._fleet.flush(streams))

    def rows(self, streams: pa.Array | Sequence[str] | NDArray[Any], t: ArrayLike, x: ArrayLike) -> pa.Table:
        """Return the rows of whole recordings in memory. Live streams are not touched.

        Args:
            streams, t, x: as of `Fleet.push`.
        """
        fleet = self._new_fleet()
        batches = [fleet.push(streams, t, x), fleet.flush()]
        return pa.Table.from_batches([self.batch(batch) for batch in batches], self.schema)

    def to_numpy(self, rows: pa.Table | pa.RecordBatch) -> Floats:
        """Return the numbers of rows without the columns of the window, (rows, len(names)), float64.

        Raises:
            ShapeError: the rows have other columns.
        """
        if missing := [name for name in self.names if name not in rows.schema.names]:
            raise ShapeError(
                f"rows have no column '{missing[0]}' ({len(missing)} of {len(self.names)} are missing): give rows that "
                "these features made"
            )
        found = np.empty((rows.num_rows, len(self.names)))
        for i, name in enumerate(self.names):
            found[:, i] = rows.column(name).to_numpy(zero_copy_only=False)
        return found

    def snapshot(self, streams: Iterable[str] | None = None) -> dict[str, bytes]:
        """Return the states of live streams, by name."""
        return self._fleet.snapshot(streams)

    def restore(self, snapshots: Mapping[str, bytes]) -> None:
        """Continue streams from their snapshots."""
        self._fleet.restore(snapshots)

    def batch(self, closed: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows of predictions that a Fleet or `score` made with `bundle` and `feature`."""
        column = closed.column(self.feature)
        values = column.flatten().to_numpy().reshape(len(closed), -1) if len(closed) else np.empty((0, len(self.names)))
        if self.feature == "state" and len(closed):
            values = self._stepper.features(values)
        columns = [closed.column(key) for key in KEYS]
        return pa.record_batch([*columns, *(pa.array(own) for own in np.ascontiguousarray(values.T))], self.schema)


def _described(
    *,
    channels: Sequence[str | Channel] = (),
    windows: Windows = _SECONDS,
    scales: Iterable[int | tuple[int, int] | Scale] = (1,),
    depth: int = 2,
    ends: bool = True,
    summaries: bool = False,
    interpolation: Interpolation = "linear",
    pools: Sequence[Pool] = POOLS,
) -> Header:
    """Return the header that keywords describe."""
    if isinstance(channels, str) or not len(channels):
        raise ParameterError(f"channels={channels!r}: give the names of the data channels, as ['a', 'b'], or a model")
    if not len(pools):
        raise ParameterError("pools is empty: give at least one, such as Pool('mean', 'token')")
    header = Header(
        channels=tuple(own if isinstance(own, Channel) else Channel(name=own) for own in channels),
        depth=depth,
        hidden=1,
        outputs=1,
        windows=windows,
        token=Token(scales=as_scales(scales), ends=ends, summaries=summaries),
        interpolation=interpolation,
    ).checked()
    return msgspec.structs.replace(header, field=Reservoir(features=FeatureSpec(pools=tuple(pools))))


class _Drawn(NamedTuple):
    """Hold the features that are made of tokens, and the tensors that they need."""

    spec: FeatureSpec
    clip: float
    tensors: dict[str, Reals]


def _without_readout(model: Bundle | Header, of: Columns, emit: Emit) -> Bundle:
    """Return a reservoir with the model's windows and features that reads out nothing."""
    header = model.header if isinstance(model, Bundle) else model
    drawn = _drawn(model, of)
    places = header.partition.places
    header = Header(
        channels=header.channels,
        depth=header.depth,
        hidden=drawn.spec.state_size(places),
        outputs=1,
        field=Reservoir(features=drawn.spec),
        initial=Blank(),
        readout=Layers(),
        windows=header.windows,
        token=header.token,
        clip=drawn.clip,
        interpolation=header.interpolation,
        missing=header.missing,
        gap=header.gap,
        bridge=header.bridge,
        statistics=header.statistics,
        emit=emit,
    )
    header.check()
    none = {name: np.zeros(header.shapes()[name]) for name in ("x0.shift", "output.shift", "readout.weight")}
    ones = {name: np.ones(header.shapes()[name]) for name in ("x0.scale", "output.scale")}
    return Bundle(header, {**none, **ones, "readout.bias": np.zeros(1), **drawn.tensors})


def _drawn(model: Bundle | Header, of: Columns) -> _Drawn:
    """Return the features of a reservoir, or pools of tokens as they are."""
    header = model.header if isinstance(model, Bundle) else model
    size, field = header.partition.places.size, header.field
    spec = FeatureSpec(pools=(Pool("last", "token"),))
    if of == "features":
        if not isinstance(field, Reservoir):
            raise ParameterError(f"field '{field.tag}' has no pooled features: use of='tokens'")
        if isinstance(model, Bundle):
            drawn = field.drawn("field", header, model.tensors)
            return _Drawn(field.features, header.clip, field.tensors("field", drawn))
        spec = field.features
    if spec.blocks:
        raise ParameterError(
            "random features need a model, which drew and scaled them: give one from fit, or leave out the blocks"
        )
    return _Drawn(spec, _UNLIMITED, {"token.shift": np.zeros(size), "logsig.scale": np.ones(size)})
