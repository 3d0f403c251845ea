"""Checks that every payload has to pass."""

from __future__ import annotations

import math

import numpy as np

from streamrde.arrays import Floats
from streamrde.connectors.columns import Columns
from streamrde.errors import PayloadError


def check_size(payload: bytes, max_bytes: int) -> None:
    """Raise PayloadError, before anything is parsed, where a payload is longer than `max_bytes`."""
    if len(payload) > max_bytes:
        raise PayloadError(f"payload of {len(payload)} bytes, more than max_bytes = {max_bytes}; send smaller batches")


def check_samples(t: Floats, x: Floats, columns: Columns) -> None:
    """Raise PayloadError where there is no sample, a time is not finite, or a value infinite."""
    if len(t) == 1 and math.isfinite(t[0]) and not any(map(math.isinf, x[0].tolist())):
        return  # the usual case, which NumPy makes slow
    if not len(t):
        raise PayloadError("no sample in it: send at least one")
    if columns.time and not np.isfinite(t).all():
        raise PayloadError(f"field {columns.time!r} is not finite in sample {int(np.isfinite(t).argmin())}")
    if np.isinf(x).any():
        sample, channel = np.argwhere(np.isinf(x))[0]
        name = columns.values[channel]
        raise PayloadError(f"field {name!r} is infinite in sample {sample}; send null where it was not observed")
