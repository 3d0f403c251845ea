"""Windows of equal duration."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import msgspec
import numpy as np

from streamrde.arrays import Floats
from streamrde.errors import ParameterError
from streamrde.windowing.policies.policy import OpenWindow, WindowPolicy
from streamrde.windowing.tolerance import edge_tolerance


class Every(WindowPolicy, frozen=True, tag="every"):
    """Windows of equal duration: edges at ``origin + k * seconds``.

    Args:
        seconds: duration of a window, > 0.
        align: ``"first"`` puts the origin at the stream's first sample (the windows of torchcde.logsig_windows);
            ``"epoch"`` puts it at time 0, so that the edges of all streams fall on the same wall-clock times and a
            stream's first window is short.
    """

    extent: ClassVar[str] = "seconds"
    fixed_length: ClassVar[bool] = True
    needs_logsig: ClassVar[bool] = False

    seconds: float
    align: Literal["first", "epoch"] = "first"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise ParameterError(f"Every(seconds={self.seconds}): a window's duration must be finite and > 0 seconds")
        msgspec.structs.force_setattr(self, "seconds", float(self.seconds))
        if self.align not in ("first", "epoch"):
            raise ParameterError(f"Every(align={self.align!r}): use 'first' or 'epoch'")

    @property
    def length(self) -> float:
        """Return the duration of a window, in seconds."""
        return self.seconds

    def edge(self, window: OpenWindow) -> float:
        """Return the edge after the window's start."""
        return self._anchor(window.t0) + (window.number + 1) * self.seconds

    def find_edges(
        self, window: OpenWindow, t: float, u: float, most: float = math.inf
    ) -> tuple[list[float], float, bool]:
        """Find the edges that close up to time t: all multiples of `seconds`, counted from the same origin."""
        anchor = self._anchor(window.t0)
        where = (u - anchor) / self.seconds
        nearest = round(where)
        at = anchor + nearest * self.seconds
        near = abs(u - at) <= edge_tolerance(self.seconds, window.t0, t)
        reached = nearest if near else math.floor(where)
        last = int(min(reached, window.number + most))
        edges = [anchor + k * self.seconds for k in range(window.number + 1, last + 1)]
        return edges, at if near else u, bool(near and edges and last == reached)

    def edge_time(self, window: OpenWindow, at: float) -> float:
        """Return the time of the edge that ends the window. With "epoch" it is an exact multiple of `seconds`."""
        k = window.number + 1
        if self.align == "first":
            return window.t0 + k * self.seconds
        return (round((window.t0 + self._anchor(window.t0)) / self.seconds) + k) * self.seconds

    def explain_too_long(self, seconds: float, samples: int) -> str:
        """Say that a stream of this length ends in its first window."""
        if seconds >= self.seconds * (1 - 1e-9):
            return ""
        return (
            f"windows.seconds = {self.seconds:g}, and the longest training stream lasts {seconds:.4g} s: no window "
            f"closes before its stream ends; set windows.seconds = {seconds / 10:.2g}, say, or check data.time_unit"
        )

    def describe(self) -> str:
        """Describe length and origin."""
        origin = "the first sample" if self.align == "first" else "time 0"
        return f"{self.seconds:g} s each, counted from {origin}"

    def numbers(self, channels: int, depth: int) -> Floats:
        """Return the duration, and 1 if the edges are aligned to time 0."""
        return np.array([self.seconds, self.align == "epoch"])

    def _anchor(self, t0: float) -> float:
        """Return the time of edge 0 since t0: the latest edge that is not after the first sample."""
        if self.align == "first":
            return 0.0
        into = t0 % self.seconds
        tolerance = edge_tolerance(self.seconds, t0, t0)
        return 0.0 if self.seconds - into <= tolerance or into <= tolerance else -into
