"""`streamrde.Features`: tokens and pooled features of live streams and of recorded files, as the same columns."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from streamrde.errors import ConfigError, ParameterError
from streamrde.inference.feature_rows import FeatureRows
from streamrde.scoring.entry import Settings, Source, score

if TYPE_CHECKING:
    from streamrde.scoring.lazily import ArrowStream

_OF_PREDICTIONS = ("truth", "features", "novelty", "intervals", "state_in", "state_out", "state_identity")
"""Settings of `score` about predictions and their streams' states."""


class Features(FeatureRows):
    """Turn samples of many streams into rows of numbers, one row per closed window.

    Recorded and live streams give the same bits, however they are cut into calls.

    Args:
        model: a model, from `load` or `fit`, whose windows, tokens and random features are used, not its readout. Or a
            `Header`, which has the same settings without the tensors. None: the keywords from `channels` on say them.
        of: columns after the window's own. "features": the features pooled over the stream's life so far. "tokens":
            the window's token, not standardised, NaN for what was not observed.
        emit: "every": a row after each window. "last": one row when the stream ends.
        channels: names of the data channels, or `Channel` with the value that each has before it is observed.
        windows: the base windows. None: `Every(1.0)`, a second each.
        scales: numbers of base windows that are joined, or pairs (windows, depth), or `Scale`. None: the window alone.
        depth: of the log-signatures. None: 2.
        ends: add the values of the path where the window ends. None: True.
        summaries: add summaries of each channel's observations, see `Token`. None: False.
        interpolation: of the path between samples, "linear" (None) or "hold".
        pools: pools of the token's entries as they are, in single precision; what was not observed counts as 0. None:
            the mean, the largest and the last of each.
        faults: treatment of a row that is late, a repeat, or not finite, as of `Fleet`.
        order: rules for late and repeated samples. None: they are faults.
        threads: number of threads for the streams of large calls.
    Raises:
        ParameterError: the settings contradict each other, or a model has no pooled features.
    """

    def table(
        self,
        source: Source | pa.Array | Sequence[str] | NDArray[Any],
        t: ArrayLike | None = None,
        x: ArrayLike | None = None,
        **settings: Unpack[Settings],
    ) -> pa.Table:
        """Return the rows of whole recordings. Live streams are not touched.

        Args:
            source: files, folders or globs, or any object with ``__arrow_c_stream__``, of pyarrow, polars, duckdb,
                pandas, as for `score`. With t and x: the stream of each row, as for `Fleet.push`.
            t, x: times (n,) and data channels (n, channels) of rows in memory.
            settings: those of `score` about columns, rows and files, such as ``stream="id", time_unit="ms"``.
        Raises:
            ConfigError: settings that cannot work, or that are about predictions.
            DataError: a file or a row that cannot be used. It names the file, the column and, where it is one, the row.
        """
        if (t is None) != (x is None):
            raise ParameterError("t and x belong together: give both, with the stream of each row, or neither")
        if t is not None and x is not None:
            if settings:
                raise ConfigError(f"{', '.join(settings)}: rows in memory have no columns; leave it out")
            return self.rows(source, t, x)
        if wrong := [name for name in _OF_PREDICTIONS if name in settings]:
            raise ConfigError(f"{', '.join(wrong)}: features have no predictions; leave it out, or use score")
        options: dict[str, Any] = {name: self._options[name] for name in ("faults", "order")} | dict(settings)
        given: str | os.PathLike[str] | Sequence[str] | ArrowStream = source  # type: ignore[assignment]
        with score(given, self.bundle, features=(self.feature,), jobs=self._options["threads"], **options) as closed:
            return pa.Table.from_batches([self.batch(batch) for batch in closed], self.schema)
