"""Transform streams into log-signatures, behind scikit-learn's interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from streamrde.arrays import Floats
from streamrde.errors import ParameterError
from streamrde.signature import logsignature_channels
from streamrde.signature.words import lyndon_words
from streamrde.sklearn.panels import Fitted, Layout, Panel, Streams, read_panel
from streamrde.windowing import Every, logsig_windows

_ALL = Every(1.0)
"""Windows of a stream whose duration is counted in parts."""


class LogSignatureTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Transform each stream into the log-signatures of its path, a row of numbers.

    The path is piecewise linear through (time, channels); NaN is interpolated, and before a channel's first observation
    stands its mean over the streams of `fit`. A stream of a single sample has the log-signature of a point, 0.

    Args:
        depth: truncation depth, 1 or more.
        parts: parts of equal duration that each stream is cut into, 1 or more. The row has the log-signature of each.
        add_time: make the time since the stream's first sample, in seconds, the path's channel 0.
        stream, time, channels, step: as of `NeuralRDEClassifier`.
    Attributes:
        fill_: mean of each channel over all streams of `fit`, (channels,).
        channels_: names of the channels.
        n_features_in_: number of columns of a table, else of channels.
    Reference: Morrill et al. 2021, section 3.1.
    """

    def __init__(
        self,
        depth: int = 2,
        *,
        parts: int = 1,
        add_time: bool = True,
        stream: str | None = None,
        time: str | None = None,
        channels: Sequence[str] = (),
        step: float = 1.0,
    ) -> None:
        self.depth = depth
        self.parts = parts
        self.add_time = add_time
        self.stream = stream
        self.time = time
        self.channels = channels
        self.step = step

    _fitted: Fitted
    fill_: Floats
    channels_: tuple[str, ...]
    n_features_in_: int

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        return tags

    def _panel(self, X: Streams) -> Panel:
        layout = Layout(self.stream, self.time, tuple(self.channels), self.step)
        return read_panel(X, layout, estimator=type(self).__name__, fitted=getattr(self, "_fitted", None))

    def fit(self, X: Streams, y: object = None) -> Self:
        """Learn the channels and their means.

        Args:
            X: the streams, see `streamrde.sklearn.panels.Streams`.
            y: not used.
        Raises:
            ParameterError: depth or parts is below 1.
        """
        if hasattr(self, "_fitted"):
            del self._fitted
        if not isinstance(self.parts, int | np.integer) or self.parts < 1:
            raise ParameterError(f"parts={self.parts!r}: give the number of parts of each stream, 1 or more")
        panel = self._panel(X)
        logsignature_channels(len(panel.channels) + bool(self.add_time), self.depth)
        rows = np.concatenate(panel.x)
        known = np.isfinite(rows)
        self.fill_ = np.where(known, rows, 0.0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
        self._fitted = Fitted(panel.channels, panel.width)
        self.channels_, self.n_features_in_ = panel.channels, panel.features
        return self

    def transform(self, X: Streams) -> NDArray[np.float64]:
        """Return the log-signatures, (streams, parts * B), float64."""
        check_is_fitted(self)
        panel = self._panel(X)
        return np.array([self._row(t, x) for t, x in zip(panel.t, panel.x, strict=True)])

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return the names of the columns: "1:t.c0" is the coefficient of the word (t, c0) in the first part."""
        check_is_fitted(self)
        path = ("t",) * bool(self.add_time) + self.channels_
        words = [".".join(path[letter] for letter in word) for word in lyndon_words(len(path), self.depth)]
        return np.array([f"{part + 1}:{word}" for part in range(self.parts) for word in words], dtype=object)

    def _row(self, t: Floats, x: Floats) -> Floats:
        fill = self.fill_
        if self.add_time:
            x, fill = np.column_stack([t - t[0], x]), np.append(0.0, fill)
        size = logsignature_channels(x.shape[1], self.depth)
        if len(t) < 2:
            return np.zeros(self.parts * size)
        # The last sample is exactly at `parts`, so that there are as many windows.
        place = (t - t[0]) / (t[-1] - t[0]) * self.parts
        _, rows = logsig_windows(place, x, self.depth, _ALL, fill=fill)
        return rows.ravel()
