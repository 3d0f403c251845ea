"""Read streams from what scikit-learn, aeon, sktime and data frames call a panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.utils import check_array

from streamrde.arrays import Floats
from streamrde.errors import DataError, ParameterError, ShapeError
from streamrde.fitting.discovery import find_roles, find_time_unit
from streamrde.fitting.inputs import ChannelConfig, DataConfig
from streamrde.fitting.recordings import read_recordings
from streamrde.fitting.sources import Rows, as_source
from streamrde.floats import swapped
from streamrde.nearest import listed

Streams: TypeAlias = Any
"""Streams in one of these forms:

- an array (streams, channels, time), as in aeon and sktime;
- a table (streams, time) of one channel, whose number of columns is that of `fit`, as everywhere in scikit-learn;
- a list with an array (channels, time), an array (time,), or a data frame with the rows of each stream;
- a data frame, or anything else that `streamrde.fit` takes in memory, with a row per sample and a column of streams.

NaN is not observed. Time points at the end of an array where no channel is observed are padding and left out.
"""
AXES = "(streams, channels, time)"


class Layout(NamedTuple):
    """Columns of data frames, and the time between the time points of arrays."""

    stream: str | None = None
    """Column of the stream's name. None: found by its usual names."""
    time: str | None = None
    """Column of the time. None: found by its usual names. "": rows are `step` apart."""
    channels: tuple[str, ...] = ()
    """Columns of the channels. (): all other columns of numbers."""
    step: float = 1.0
    """Seconds."""


class Panel(NamedTuple):
    """Streams with the same channels."""

    names: tuple[str, ...]
    """Name of each stream. Those of arrays and lists are "0", "1", ..."""
    t: list[Floats]
    """Times of each stream's samples, seconds, (L,), ascending."""
    x: list[Floats]
    """(L, channels), NaN = not observed."""
    channels: tuple[str, ...]
    width: int = 0
    """Time points of an array (streams, time), scikit-learn's table. 0: it is none."""

    @property
    def features(self) -> int:
        """Return the number of features in scikit-learn's terms: a table's columns, else the channels."""
        return self.width or len(self.channels)

    @property
    def samples(self) -> int:
        """Return the number of samples of all streams."""
        return sum(map(len, self.t))


class Fitted(NamedTuple):
    """Channels and columns of the streams of `fit`."""

    channels: tuple[str, ...]
    width: int
    """Columns of its table. 0: it was none."""


def read_panel(X: Streams, layout: Layout, *, estimator: str, fitted: Fitted | None = None) -> Panel:
    """Return streams of any of the forms that `Streams` lists.

    Args:
        X: the streams.
        layout: columns, and the time between time points.
        estimator: name of the estimator, for messages.
        fitted: what the estimator was fitted to. None: it is to be fitted.
    Raises:
        DataError: a column is missing, or a row cannot be used.
        ParameterError: X is of another kind, or step is not above 0.
        ShapeError: X has another number of axes or channels.
        ValueError: a value of an array is infinite, or no number.
    """
    if not 0 < layout.step < np.inf:
        raise ParameterError(f"step={layout.step!r}: give the seconds between time points, above 0")
    if fitted is not None:
        layout = layout._replace(channels=fitted.channels)
    if is_frame(X):
        return _of_frame(X, layout)
    as_list = isinstance(X, list | tuple)
    panel = _of_list(X, layout, estimator) if as_list else _of_array(_time_last(X), layout, estimator)
    return panel if fitted is None else _checked(panel, fitted, X, estimator)


def is_frame(X: Any) -> bool:
    """Return True for rows of samples: data frames, Arrow tables, and mappings of names to columns.

    A data frame whose columns have no names, only numbers from 0 on, is an array. So is a DataArray of xarray.
    """
    if hasattr(X, "toarray") or (hasattr(X, "dims") and not hasattr(X, "data_vars")):
        return False
    if hasattr(X, "iloc") and list(X.columns) == list(range(X.shape[1])):
        return False
    if isinstance(X, Mapping | pa.Table | pa.RecordBatch | pa.RecordBatchReader):
        return True
    return hasattr(X, "__arrow_c_stream__") or (hasattr(X, "to_dataframe") and hasattr(X, "data_vars"))


def _checked(panel: Panel, fitted: Fitted, X: Any, estimator: str) -> Panel:
    """Return the panel, if it has the channels that were fitted, and a table their time points.

    Raises:
        ShapeError: it has others.
    """
    if panel.width and fitted.width and panel.width != fitted.width:
        raise ShapeError(
            f"X has {panel.width} features, but {estimator} is expecting {fitted.width} features as input: in a table "
            "(streams, time) each column is a time point; for a part of each stream give (streams, 1, time)"
        )
    if len(panel.channels) == len(fitted.channels):
        return panel
    shape = (*np.shape(X),) if not isinstance(X, list | tuple) else (len(X), len(panel.channels), len(panel.t[0]))
    turned = len(shape) == 3 and shape[2] == len(fitted.channels)
    raise ShapeError(
        f"X has {len(panel.channels)} channels, but {estimator} is expecting {len(fitted.channels)} "
        f"({listed(fitted.channels, most=6)}): X is {AXES}" + (f"; {swapped('X', shape)}" if turned else "")
    )


def _time_last(X: Any) -> Any:
    """Return an xarray.DataArray with its dimension "time" at the end, and anything else as it is."""
    dims = getattr(X, "dims", ())
    if isinstance(dims, tuple) and "time" in dims and dims[-1] != "time":
        return X.transpose(*(name for name in dims if name != "time"), "time")
    return X


def _of_array(X: Any, layout: Layout, estimator: str) -> Panel:
    array = check_array(
        X, allow_nd=True, ensure_all_finite="allow-nan", dtype=np.float64, estimator=estimator, input_name="X"
    )
    if array.ndim not in (2, 3):
        raise ShapeError(f"X has shape {array.shape}: give {AXES}, or (streams, time) for one channel")
    if array.ndim == 2:
        return _of_arrays(list(array[:, None, :]), layout, estimator)._replace(width=array.shape[1])
    return _of_arrays(list(array), layout, estimator)


def _of_list(X: Sequence[Any], layout: Layout, estimator: str) -> Panel:
    """Return the streams of a list of arrays, which may have different lengths, or of data frames."""
    if X and all(map(is_frame, X)):
        return _of_frames(X, layout)
    try:
        arrays = [np.asarray(_time_last(own), dtype=np.float64) for own in X]
    except (TypeError, ValueError):
        return _of_array(X, layout, estimator)  # which says what is wrong
    if len({own.shape for own in arrays}) < 2:
        return _of_array(np.array(arrays), layout, estimator)
    streams: list[Floats] = []
    for i, own in enumerate(arrays):
        one = own[None] if own.ndim == 1 else own
        if one.ndim != 2 or not one.size:
            raise ShapeError(f"X[{i}] has shape {own.shape}: give (channels, time), or (time,) for one channel")
        if streams and len(one) != len(streams[0]):
            raise ShapeError(
                f"X[{i}] has {len(one)} channels and X[0] has {len(streams[0])}: a stream is (channels, time)"
                + (f"; {swapped(f'X[{i}]', one.shape)}" if one.shape[1] == len(streams[0]) else "")
            )
        if np.isinf(one).any():
            raise ValueError(
                f"Input X contains infinity: X[{i}] has it; {estimator} takes NaN for what is not observed"
            )
        streams.append(one)
    return _of_arrays(streams, layout, estimator)


def _of_arrays(arrays: Sequence[Floats], layout: Layout, estimator: str) -> Panel:
    """Return streams of (channels, time), without the padding at their ends."""
    t: list[Floats] = []
    x: list[Floats] = []
    for own in arrays:
        observed = np.flatnonzero(~np.isnan(own).all(axis=0))
        stop = int(observed[-1]) + 1 if len(observed) else 1
        t.append(np.arange(stop, dtype=np.float64) * layout.step)
        x.append(np.ascontiguousarray(own[:, :stop].T))
    count = len(arrays[0])
    named = layout.channels if len(layout.channels) == count else ()
    return Panel(tuple(map(str, range(len(arrays)))), t, x, named or tuple(f"c{i}" for i in range(count)))


def _of_frames(frames: Sequence[Any], layout: Layout) -> Panel:
    """Return the streams of a list that has the rows of each one."""
    panels = []
    for i, frame in enumerate(frames):
        try:
            own = _of_frame(frame, layout._replace(stream=""))
        except DataError as error:
            raise DataError(f"X[{i}]: {error}", path=error.path, column=error.column) from None
        layout = layout._replace(channels=own.channels)
        panels.append(own)
    t, x = [own.t[0] for own in panels], [own.x[0] for own in panels]
    return Panel(tuple(map(str, range(len(panels)))), t, x, panels[0].channels)


def _of_frame(frame: Any, layout: Layout) -> Panel:
    """Return the streams of rows, in ascending order of the column that names them."""
    source = as_source(frame)
    if not isinstance(source, Rows):
        raise ParameterError(f"X is {type(frame).__name__}: give an array {AXES}, a list of arrays, or a data frame")
    roles = find_roles(source, (), stream=layout.stream, time=layout.time, channels=layout.channels, group="", split="")
    if layout.stream is None and not roles.stream:
        raise DataError(
            f"X has rows of samples and no column of streams that is known by its name; it has {listed(source.names)}: "
            "name the column with stream, or give X.to_numpy() if each row is a stream of one channel",
            path=source.where,
        )
    config = DataConfig(
        files=source.where,
        channels=tuple(ChannelConfig(name=name) for name in roles.channels),
        target="",
        stream=roles.stream,
        time=roles.time,
        time_unit=find_time_unit(source, roles.time)[0] if roles.time else "s",
        rate=1.0 if roles.time else 1 / layout.step,
    )
    read = {own.stream: own for own in read_recordings(config, targets=(), held=source)}
    names = tuple(read) if not roles.stream else _in_order(source.column(roles.stream), set(read))
    recordings = [read[name] for name in names]
    return Panel(names, [r.t for r in recordings], [r.x for r in recordings], roles.channels)


def _in_order(column: pa.ChunkedArray, read: set[str]) -> tuple[str, ...]:
    """Return the names of streams in ascending order: of numbers if they are numbers."""
    if pa.types.is_dictionary(column.type):
        column = pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks])
    if pa.types.is_string_view(column.type):  # which cannot be sorted
        column = pc.cast(column, pa.string())
    unique = pc.unique(column).drop_null()
    names = tuple(pc.cast(unique.take(pc.sort_indices(unique)), pa.string()).to_pylist())
    return names if set(names) == read else tuple(sorted(read))
