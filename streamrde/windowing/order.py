"""Order in time within each stream: what is waited for, what is late, what repeats."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import msgspec

from streamrde.errors import ParameterError

Duplicates: TypeAlias = Literal["first", "last", "error"]


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules that put the late samples of a stream into order, or refuse them.

    A stream's watermark is its latest time (of a sample, or told by `advance`) less `lateness`: samples up to it are
    taken, in order of time, later ones are held. Whatever is shuffled by no more than that gives the result of the
    sorted samples, bit for bit. What comes after a later sample was taken, or an edge was closed, is late.

    Args:
        lateness: seconds that a sample may come behind a later one, >= 0.
        lateness_samples: or the number of later samples that may come before it, >= 0; only one of the two. Time that
            is told means nothing to it: what is held then waits for samples, or for the end of the stream.
        max_held: samples that a stream holds at most, >= 1; of more the earliest is taken before its turn.
        duplicates: of samples at one time, which counts: the "first" or the "last" to come; with "error" a repeat is a
            fault. "last" holds a sample until a later one is taken.
        merge: samples of one time become one, channel by channel; `duplicates` is then about channels that both have.
            Holds a sample until a later one is taken.
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
