"""Rules for order in time within each stream: waiting, late and repeated samples."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import msgspec

from streamrde.errors import ParameterError

Duplicates: TypeAlias = Literal["first", "last", "error"]


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules that put the late samples of a stream into order, or refuse them.

    A stream's watermark is its latest time (of a sample, or from `advance`) less `lateness`. Samples up to it are taken
    in order of time, later ones are held. Samples that are shuffled by no more than that give the result of the sorted
    samples, bit for bit. A sample is late if a later one was already taken, or an edge after it closed.

    Args:
        lateness: seconds that a sample may come behind a later one, >= 0.
        lateness_samples: number of later samples that may come before it, >= 0. Set only one of the two. Passing time
            does not release these samples: they wait for later samples, or for the end of the stream.
        max_held: most samples that a stream holds, >= 1. Beyond that the earliest is taken early.
        duplicates: treatment of samples at the same time: use the "first" or the "last", or "error". "last" holds a
            sample until a later one is taken.
        merge: merge samples at the same time, channel by channel. `duplicates` then applies only to channels that both
            have. It holds a sample until a later one is taken.
    """

    lateness: float = 0.0
    lateness_samples: int = 0
    max_held: int = 4096
    duplicates: Duplicates = "error"
    merge: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lateness) and self.lateness >= 0):
            raise ParameterError(f"lateness={self.lateness}: it must be finite and >= 0 seconds")
        if self.lateness_samples < 0:
            raise ParameterError(f"lateness_samples={self.lateness_samples}: it must be >= 0")
        if self.lateness and self.lateness_samples:
            raise ParameterError(
                f"lateness={self.lateness} and lateness_samples={self.lateness_samples}: give one of the two"
            )
        if self.max_held < 1 or self.max_held < self.lateness_samples:
            raise ParameterError(f"max_held={self.max_held}: it must be at least 1 and at least lateness_samples")
        if self.duplicates not in ("first", "last", "error"):
            raise ParameterError(f"duplicates={self.duplicates!r}: use 'first', 'last' or 'error'")

    @property
    def strict(self) -> bool:
        """True if a sample at the watermark itself still waits for others of its time."""
        return self.merge or self.duplicates == "last"

    @property
    def holds(self) -> bool:
        """True if samples are held at all."""
        return bool(self.lateness or self.lateness_samples or self.strict)
