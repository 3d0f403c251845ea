"""The incremental log-signature of one stream."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from streamrde import snapshots
from streamrde.arrays import Floats
from streamrde.errors import SampleError, ShapeError, SnapshotError
from streamrde.floats import as_floats, swapped
from streamrde.kernels import Accumulator, signature_channels
from streamrde.signature.words import Basis, check_basis, check_room, word_indices, words_to_brackets


class _Header(msgspec.Struct, frozen=True, tag="logsignature", tag_field="kind", forbid_unknown_fields=True):
    channels: int
    depth: int
    basis: Basis
    started: bool


class LogSignature(Accumulator):
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

    __slots__ = ("basis", "channels", "depth")

    def __init__(self, channels: int, depth: int, basis: Basis = "words") -> None:
        check_room(channels, depth)
        check_basis(basis)
        self.channels = int(channels)
        self.depth = int(depth)
        self.basis: Basis = basis
        indices = word_indices(self.channels, self.depth)
        super().__init__(self.channels, self.depth, indices, basis == "brackets")

    def __repr__(self) -> str:
        return f"LogSignature(channels={self.channels}, depth={self.depth}, basis={self.basis!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).restore, (self.snapshot(),)

    def snapshot(self) -> bytes:
        """Return the whole state, as bytes that `restore` reads on any machine."""
        started, state = self.state()
        return snapshots.pack(_Header(self.channels, self.depth, self.basis, started), state)

    @classmethod
    def restore(cls, data: bytes) -> LogSignature:
        """Return an accumulator in the state of a snapshot.

        Raises:
            SnapshotError: the bytes are damaged or no snapshot of a LogSignature.
        """
        header, values = snapshots.unpack(data, _Header)
        acc = cls(header.channels, header.depth, header.basis)
        size = acc.channels + signature_channels(acc.channels, acc.depth)
        if values.shape != (size,):
            raise SnapshotError(f"the snapshot has {len(values)} values, which does not fit {acc!r}")
        acc.set_state(header.started, values)
        return acc

    def _push_checked(self, x: ArrayLike) -> None:
        sample = as_floats("x", x)
        if sample.shape != (self.channels,):
            raise ShapeError(f"x has shape {sample.shape}: this accumulator takes samples of shape ({self.channels},)")
        self._push_many_checked(sample[None])

    def _push_many_checked(self, X: ArrayLike) -> None:
        samples = as_floats("X", X)
        if samples.ndim != 2 or samples.shape[1] != self.channels:
            turned = samples.ndim == 2 and samples.shape[0] == self.channels
            raise ShapeError(
                f"X has shape {samples.shape}: this accumulator takes samples of shape (n, {self.channels})"
                + (f"; {swapped('X', samples.shape)}" if turned else "")
            )
        if not np.isfinite(samples).all():
            row, channel = (int(i) for i in np.argwhere(~np.isfinite(samples))[0])
            raise SampleError(
                f"sample {row}, channel {channel} is {samples[row, channel]}: fill or drop it before pushing", row=row
            )
        self._take(np.ascontiguousarray(samples))

    def _value_in_brackets(self, out: Floats | None) -> Floats:
        brackets = words_to_brackets(self.channels, self.depth).apply(self.words())
        if out is None:
            return brackets
        out[:] = brackets
        return out
