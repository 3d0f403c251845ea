"""The incremental log-signature of one stream."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamrde import snapshots
from streamrde.errors import SampleError, ShapeError, SnapshotError
from streamrde.kernels import fold, signature_channels
from streamrde.signature.paths import log_coordinates
from streamrde.signature.words import Basis, check_basis, check_size


class _Header(msgspec.Struct, frozen=True, tag="logsignature", tag_field="kind", forbid_unknown_fields=True):
    channels: int
    depth: int
    basis: Basis
    started: bool


class LogSignature:
    """The log-signature of a path that grows by one sample at a time, in constant memory.

    State is the last sample and the signature since the last reset, float64. It never subtracts one prefix from
    another, so it does not lose digits however long the stream.

    Args:
        channels: C, >= 1.
        depth: truncation depth, >= 1.
        basis: ``"words"`` or ``"brackets"``, as in `logsignature`.
    Raises:
        ParameterError: one of them cannot work.

    >>> acc = LogSignature(channels=2, depth=2)
    >>> for point in [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)]:
    ...     acc.push(point)
    >>> acc.value()
    array([1. , 1. , 0.5])
    """

    __slots__ = ("_last", "_signature", "_started", "basis", "channels", "depth")

    def __init__(self, channels: int, depth: int, basis: Basis = "words") -> None:
        check_size(channels, depth)
        check_basis(basis)
        self.channels = int(channels)
        self.depth = int(depth)
        self.basis: Basis = basis
        self._started = False
        self._last = np.zeros((1, self.channels))
        self._signature = np.zeros((1, signature_channels(self.channels, self.depth)))

    def __repr__(self) -> str:
        return f"LogSignature(channels={self.channels}, depth={self.depth}, basis={self.basis!r})"

    def push(self, x: ArrayLike) -> None:
        """Fold one sample into the signature.

        Equals `S <- S (x) exp(x - last)`, truncated at `depth`; the first sample only sets the base point.

        Args:
            x: the sample, shape (channels,), finite; NaN is the windowing's to fill.
        Raises:
            ShapeError: x has another number of channels.
            SampleError: a value is not finite. The state is unchanged.
        Reference: Kidger & Lyons 2021 (Signatory), section 5 (fused multiply-exponentiate).
        """
        sample = np.asarray(x, dtype=np.float64)
        if sample.shape != (self.channels,):
            raise ShapeError(f"x has shape {sample.shape}: this accumulator takes samples of shape ({self.channels},)")
        self.push_many(sample[None])

    def push_many(self, X: ArrayLike) -> None:
        """Fold samples in order; the same bits as pushing them one by one.

        Args:
            X: the samples, shape (n, channels), finite.
        Raises:
            ShapeError: X has another shape.
            SampleError: a value is not finite. The state is unchanged.
        """
        samples = np.asarray(X, dtype=np.float64)
        if samples.ndim != 2 or samples.shape[1] != self.channels:
            raise ShapeError(
                f"X has shape {samples.shape}: this accumulator takes samples of shape (n, {self.channels})"
            )
        if not np.isfinite(samples).all():
            row, channel = (int(i) for i in np.argwhere(~np.isfinite(samples))[0])
            raise SampleError(
                f"sample {row}, channel {channel} is {samples[row, channel]}: fill or drop it before pushing", row=row
            )
        if not len(samples):
            return
        points = np.concatenate([self._last, samples]) if self._started else samples
        if len(points) > 1:
            increments = np.diff(points, axis=0)
            fold(self._signature, increments, np.zeros(1, np.intp), np.array([len(increments)]), self.depth)
        self._last = samples[-1:].copy()
        self._started = True

    def value(self) -> NDArray[np.float64]:
        """The log-signature since the last reset, (B,), float64; zeros before the second sample."""
        return log_coordinates(self._signature, self.channels, self.depth, self.basis).reshape(-1)

    def reset(self) -> None:
        """Start a new window: forget the path so far but keep the last sample as its base point."""
        self._signature[:] = 0.0

    def snapshot(self) -> bytes:
        """The whole state, as bytes that `restore` reads on any machine."""
        header = _Header(self.channels, self.depth, self.basis, self._started)
        return snapshots.pack(header, np.concatenate([self._last[0], self._signature[0]]))

    @classmethod
    def restore(cls, data: bytes) -> LogSignature:
        """The accumulator as it was when `snapshot` was called.

        Raises:
            SnapshotError: the bytes are damaged or no snapshot of a LogSignature.
        """
        header, values = snapshots.unpack(data, _Header)
        acc = cls(header.channels, header.depth, header.basis)
        if values.shape != (acc.channels + acc._signature.shape[1],):
            raise SnapshotError(f"the snapshot has {len(values)} values, which does not fit {acc!r}")
        acc._started = header.started
        acc._last[0], acc._signature[0] = values[: acc.channels], values[acc.channels :]
        return acc
