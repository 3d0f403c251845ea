"""What a codec of samples does."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from streamrde.arrays import Floats
from streamrde.connectors.samples import Columns
from streamrde.errors import PayloadError

MAX_BYTES = 1 << 20


class Codec(Protocol):
    """Samples of one stream as the payload of a message."""

    def decode(self, payload: bytes) -> tuple[Floats, Floats]:
        """The samples of a payload: t in seconds, (n,), finite, and x, (n, channels), finite or NaN = not observed.

        There is at least one, and each has the field of some channel: a payload without any is not a sample. Where
        `columns.sequence` names a field, x has its numbers in one more column.

        Raises:
            PayloadError: whatever else the payload is; nothing else is ever raised.
        """

    def encode_samples(self, t: ArrayLike, x: ArrayLike) -> bytes:
        """Samples as a payload that `decode` reads back.

        Args:
            t: seconds, (n,), finite.
            x: (n, channels), finite or NaN.
        Raises:
            SampleError: a value that the format cannot carry.
        """


def check_size(payload: bytes, max_bytes: int) -> None:
    """Raise PayloadError, before anything is parsed, where a payload is longer than `max_bytes`."""
    if len(payload) > max_bytes:
        raise PayloadError(f"payload of {len(payload)} bytes, more than max_bytes = {max_bytes}; send smaller batches")


def check_samples(t: Floats, x: Floats, columns: Columns) -> None:
    """Raise PayloadError where there is no sample, a time is not finite, or a value infinite."""
    if not len(t):
        raise PayloadError("no sample in it: send at least one")
    if columns.time and not np.isfinite(t).all():
        raise PayloadError(f"field {columns.time!r} is not finite in sample {int(np.isfinite(t).argmin())}")
    if np.isinf(x).any():
        sample, channel = np.argwhere(np.isinf(x))[0]
        name = columns.values[channel]
        raise PayloadError(f"field {name!r} is infinite in sample {sample}; send null where it was not observed")
