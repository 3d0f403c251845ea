"""Treatment of channels that were not observed. A property of the model, stored with it."""

from __future__ import annotations

import math

import msgspec

from streamrde.errors import ParameterError


class Missing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules for channels that a sample has not observed (NaN).

    Before its first observation a channel has the model's fill value. Later, with hold, it keeps its last value. With
    linear it is straight between its observations, so samples wait for the next observation of each channel: at most
    `wait_samples` of them and no longer than `wait_seconds`. After that the channel counts as constant so far.

    Args:
        wait_samples: most samples that may wait for an observation (linear), >= 1.
        wait_seconds: longest time from the first waiting sample to the latest one (linear), >= 0. None: no limit.
        counts: add to the path, per data channel, the number of its observations so far.
        elapsed: add to the path, per data channel, the seconds since its last observation, or since the first sample,
            of the stream or after a gap. With hold it grows as time moves and falls back to 0 at an observation.
    Reference: counts: Kidger et al. 2020, Neural CDEs, section 3 (observational intensity); elapsed: Che et al. 2018.
    """

    wait_samples: int = 256
    wait_seconds: float | None = None
    counts: bool = False
    elapsed: bool = False

    def __post_init__(self) -> None:
        if not self.wait_samples >= 1:
            raise ParameterError(f"Missing(wait_samples={self.wait_samples}): it must be at least 1")
        if self.wait_seconds is not None and not (math.isfinite(self.wait_seconds) and self.wait_seconds >= 0):
            raise ParameterError(f"Missing(wait_seconds={self.wait_seconds}): it must be finite and >= 0")
