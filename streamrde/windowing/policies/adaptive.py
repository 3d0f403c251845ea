"""Windows that are short while much happens: a window closes at the sample that makes its log-signature large."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import ClassVar

import numpy as np

from streamrde.arrays import Floats
from streamrde.errors import ParameterError
from streamrde.signature.words import lyndon_words
from streamrde.windowing.policies.policy import OpenWindow, WindowPolicy


class Adaptive(WindowPolicy, frozen=True, tag="adaptive"):
    """Windows that are short while much happens: one closes at the sample that makes its log-signature large.

    Size is the homogeneous norm ``max over levels k of (max over Lyndon words w of length k of |l_w|)^(1/k)``, in which
    a path twice as large is twice as large at every level. One log-ODE step errs by O(norm^(depth + 1)), so a bound on
    the norm bounds the error of each step, up to what a single sample adds.

    Args:
        norm: a window closes when its norm exceeds this, > 0.
        min_seconds: least duration of a window, >= 0.
        max_seconds: greatest duration of a window, with or without a sample. None: no limit.
        scale: factor of each channel of the path, time first, since their units differ. 0 leaves a channel out. Empty:
            all 1.
    Reference: the error of the step: Morrill et al. 2021, section 3; the norm: Friz & Victoir 2010, section 7.5.
    """

    extent: ClassVar[str] = "norm"

    norm: float
    min_seconds: float = 0.0
    max_seconds: float | None = None
    scale: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.norm) and self.norm > 0):
            raise ParameterError(f"Adaptive(norm={self.norm}): it must be finite and > 0")
        if not (math.isfinite(self.min_seconds) and self.min_seconds >= 0):
            raise ParameterError(f"Adaptive(min_seconds={self.min_seconds}): it must be finite and >= 0")
        longest = self.max_seconds
        if longest is not None and not (math.isfinite(longest) and longest > 0 and longest >= self.min_seconds):
            raise ParameterError(
                f"Adaptive(max_seconds={longest}): it must be finite, > 0 and at least min_seconds={self.min_seconds}"
            )
        if not all(math.isfinite(factor) and factor >= 0 for factor in self.scale):
            raise ParameterError(f"Adaptive(scale={self.scale}): factors must be finite and >= 0")

    @property
    def length(self) -> float:
        """Return the longest duration of a window, in seconds. 0 if there is no such bound."""
        return self.max_seconds or 0.0

    def edge(self, window: OpenWindow) -> float:
        """Return the time `max_seconds` after the window's start."""
        return math.inf if self.max_seconds is None else window.start + self.max_seconds

    def closes(self, window: OpenWindow) -> bool:
        """Return True if the window is long enough and its norm passes the threshold."""
        if window.now - window.start < self._shortest:
            return False
        return bool((np.abs(window.logsig()) > norm_limits(self, window.channels, window.depth)).any())

    def check(self, channels: int, depth: int) -> None:
        """Raise ParameterError unless `scale` has one factor for each channel."""
        norm_limits(self, channels, depth)

    def numbers(self, channels: int, depth: int) -> Floats:
        """Return the longest and the shortest duration, then the limit of each coefficient."""
        return np.array([self.length, self._shortest, *norm_limits(self, channels, depth)])

    @property
    def _shortest(self) -> float:
        return self.min_seconds * (1 - 1e-9)  # 0.3 - 0.2 must be 0.1


@lru_cache(maxsize=64)
def norm_limits(windows: Adaptive, channels: int, depth: int) -> Floats:
    """Compute the size each coefficient must pass for the norm to pass its threshold, (B,), words basis.

    ``max |l_w|^(1/k) > norm`` asks for ``|l_w| > norm^k``: no root, hence the same answer on every machine.

    Raises:
        ParameterError: `scale` has another number of factors than the path has channels.
    """
    if windows.scale and len(windows.scale) != channels:
        raise ParameterError(
            f"Adaptive(scale=...) has {len(windows.scale)} factors and the path {channels} channels, time first: "
            "give one for each"
        )
    limits = []
    for word in lyndon_words(channels, depth):
        limit, factor = 1.0, 1.0
        for letter in word:
            limit *= windows.norm
            factor *= windows.scale[letter] if windows.scale else 1.0
        limits.append(limit / factor if factor else np.inf)
    array = np.array(limits)
    array.flags.writeable = False
    return array
