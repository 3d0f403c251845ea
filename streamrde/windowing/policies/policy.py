"""The contract of a window policy: all that the rest of the package asks of one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple, Self

import msgspec
import numpy as np

from streamrde.arrays import Floats
from streamrde.errors import ParameterError
from streamrde.windowing.tolerance import edge_tolerance


class OpenWindow(NamedTuple):
    """Describe the open window of a stream, at the time that its path has reached.

    Times are in seconds since the first sample of the stream (or of its segment, after a gap).
    """

    number: int
    """Number of the window, from 0, in the stream or segment."""
    t0: float
    """Time of that first sample, in the time of the samples."""
    start: float
    """Start of the window."""
    now: float
    """Time up to which the path is built."""
    samples: int
    """Number of samples in the window, without the one at its very start."""
    x: Floats
    """Value of the path's channels without time."""
    channels: int
    """Number of channels of the path, with time, C."""
    depth: int
    """Depth of the log-signature."""
    logsig: Callable[[], Floats]
    """Computes the window's log-signature so far, words basis, (B,)."""


class WindowPolicy(msgspec.Struct, frozen=True, tag_field="policy", forbid_unknown_fields=True):
    """A rule that closes windows. Subclass it as a frozen struct and override `edge`, `closes`, or both.

    The answers may depend on the fields of the policy and on the `OpenWindow`, on nothing else: no clock, no memory of
    earlier calls. Then restoring a snapshot is a no-op, and training cuts as serving does. The fields are stored with
    the model; `load(path, policies=[...])` is handed the classes that are not built in.

    >>> class Swing(WindowPolicy, frozen=True, tag="swing"):
    ...     limit: float
    ...     def closes(self, window):
    ...         return abs(window.logsig()[1]) > self.limit  # channel 1 has moved so far
    """

    extent: ClassVar[str] = ""
    """Field that a window's length is proportional to. "" if there is none."""
    fixed_length: ClassVar[bool] = False
    """True if every window lasts `length` seconds, unless the first sample or the stream's end cuts it short."""
    by_count: ClassVar[bool] = False
    """True if the number of samples alone closes windows. Then no time is an edge."""
    needs_logsig: ClassVar[bool] = True
    """True if `closes` asks for the log-signature, so that samples are folded one by one."""

    @property
    def length(self) -> float:
        """Return the duration of a window that nothing closes earlier, in seconds. 0 if time alone closes none."""
        return 0.0

    def edge(self, window: OpenWindow) -> float:
        """Return the time at which the window closes unless a sample has closed it before. inf means never."""
        return math.inf

    def closes(self, window: OpenWindow) -> bool:
        """Return True if the window closes at the sample that was added last."""
        return False

    def find_edges(
        self, window: OpenWindow, t: float, u: float, most: float = math.inf
    ) -> tuple[list[float], float, bool]:
        """Find the edges that close up to time t.

        A time within rounding of an edge is the edge (see `edge_tolerance`).

        Args:
            t: time of a sample, or another time that has come, in the time of the samples.
            u: the same time since the segment's first sample.
            most: number of edges after which to stop, so that a long silence is not walked again for every slice of it.
        Returns:
            the edges since the segment's first sample, u moved to the edge that it lies on, and True if the last of
            these edges is u itself.
        Raises:
            ParameterError: `edge` returned a time that is not after the window's start.
        """
        edges: list[float] = []
        tolerance = float(edge_tolerance(self.length, window.t0, np.float64(t)))
        while (at := float(self.edge(window))) - u <= tolerance:
            if not at > window.start:
                raise ParameterError(f"{self}: edge() gave {at} for the window that begins at {window.start}")
            edges.append(at)
            if abs(u - at) <= tolerance:
                return edges, at, True
            if len(edges) >= most:
                return edges, u, False
            start = float((window.t0 + at) - window.t0)  # as it is where the window is the open one
            window = window._replace(number=window.number + 1, start=start, now=at, samples=0)
        if at < math.inf and abs(u - window.start) <= tolerance:
            u = window.start
        return edges, u, False

    def edge_time(self, window: OpenWindow, at: float) -> float:
        """Return the time of the edge `at` that ends the window, in the time of the samples."""
        return window.t0 + at

    def scaled(self, factor: float) -> Self | None:
        """Return a policy whose windows are `factor` times as long, or None if there is none."""
        if not self.extent:
            return None
        return msgspec.structs.replace(self, **{self.extent: getattr(self, self.extent) * factor})

    def check(self, channels: int, depth: int) -> None:
        """Raise ParameterError if the policy does not suit a path of so many channels, or its depth."""

    def explain_too_long(self, seconds: float, samples: int) -> str:
        """Say that no window closes before a stream of this length ends, and what to set instead. "" if one does."""
        return ""

    def describe(self) -> str:
        """Describe the windows for people, in half a line."""
        return str(self)

    def numbers(self, channels: int, depth: int) -> Floats | None:
        """Return what the compiled twin in kernels/policies/ is built from. None if there is no such twin."""
        return None
