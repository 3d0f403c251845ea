"""Join what a model says of windows: policy, interpolation, missing values and gaps."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, TypeAlias

from streamrde.errors import ParameterError
from streamrde.windowing.gaps import Gap
from streamrde.windowing.missing import Missing
from streamrde.windowing.policies import Windows
from streamrde.windowing.tokens import Places, Token

Interpolation: TypeAlias = Literal["linear", "hold"]

MAX_WINDOWS = 100_000
"""Most windows that any silence is filled with, whatever a model says: a wrong time must not fill memory."""
BRIDGE = 1000
"""Most windows that a silence is filled with if the model has no gap and says nothing else. A longer silence cuts the
stream. It is more than any recipe of this project needs, and takes a fraction of a second."""


class Partition(NamedTuple):
    """Rules by which a model cuts samples into windows."""

    fills: tuple[float, ...]
    """Value of each data channel before it is first observed."""
    depth: int
    windows: Windows
    interpolation: Interpolation
    missing: Missing = Missing()
    gap: Gap | None = None
    time: bool = True
    """Whether time is channel 0 of the path."""
    bridge: int = BRIDGE
    """Windows that a silence is filled with at most, where there is no `gap`."""
    token: Token = Token()
    """Inputs of the model after each window."""

    @property
    def channels(self) -> int:
        """Return the number of data channels of a sample."""
        return len(self.fills)

    @property
    def path_channels(self) -> int:
        """Return C, the number of channels of the path: time, data, and those that `missing` adds."""
        return self.time + self.channels * (1 + self.missing.counts + self.missing.elapsed)

    @property
    def token_size(self) -> int:
        """Return the number of entries of a token."""
        return self.places.size

    @property
    def places(self) -> Places:
        """Return where a token has its parts."""
        channels = self.path_channels
        return self.token.places(channels, channels - self.time, self.channels, self.depth)

    @property
    def hold(self) -> bool:
        """True if interpolation is "hold"."""
        return self.interpolation == "hold"

    @property
    def flags(self) -> bool:
        """True if it matters which channels a sample observed."""
        return self.missing.counts or self.missing.elapsed or self.token.observes

    @property
    def longest_gap(self) -> float:
        """Return the longest time between two samples of one segment, seconds."""
        windows = min(MAX_WINDOWS, self.bridge) if self.gap is None else MAX_WINDOWS
        bound = windows * self.windows.length if self.windows.length else math.inf
        return bound if self.gap is None else min(bound, self.gap.seconds)

    @property
    def holds(self) -> float:
        """Return the seconds for which the last value holds at the end of a segment."""
        return 0.0 if self.gap is None else self.longest_gap

    @property
    def carry(self) -> bool:
        """True if the model's state and the last values outlive a gap."""
        return self.gap is not None and self.gap.state == "carry"

    @property
    def resumes(self) -> bool:
        """True if they outlive an end after which the stream returns."""
        return self.gap is None or self.carry


def check_interpolation(interpolation: str) -> None:
    """Raise ParameterError unless `interpolation` is one that exists."""
    if interpolation not in ("linear", "hold"):
        raise ParameterError(f"interpolation={interpolation!r}: use 'linear' or 'hold'")
