"""Window policies: how a stream's time is cut into windows. A property of the model, stored with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np

from streamrde.arrays import Floats
from streamrde.errors import ParameterError
from streamrde.floats import as_size
from streamrde.windowing.edges import edge
from streamrde.windowing.norms import passes

Interpolation: TypeAlias = Literal["linear", "hold"]

MAX_WINDOWS = 100_000
"""No silence is filled with more windows than these, whatever a model says: a wrong time must not fill memory."""
BRIDGE = 1000
"""Windows that a silence is filled with at most, where a model has no gap and says nothing else: a longer one cuts the
stream. It is more than any recipe of this project needs, and is worked off in a fraction of a second."""


class OpenWindow(NamedTuple):
    """What a policy may look at: the open window of a stream, at the time that its path has reached.

    Times are in seconds since the first sample of the stream (or of its segment, after a gap).
    """

    number: int
    """Number of the window, from 0, in the stream or segment."""
    t0: float
    """Time of that first sample, in the time of the samples."""
    start: float
    """Where the window begins."""
    now: float
    """How far the path reaches."""
    samples: int
    """Samples in the window, the one at its very begin not counted."""
    x: Floats
    """Value of the path's channels without time."""
    channels: int
    """Channels of the path, with time, C."""
    depth: int
    """Depth of the log-signature."""
    logsig: Callable[[], Floats]
    """The window's log-signature so far, words basis, (B,); computed when it is called."""


class WindowPolicy(msgspec.Struct, frozen=True, tag_field="policy", forbid_unknown_fields=True):
    """How windows close. Subclass it as a frozen struct and override `edge`, `closes`, or both.

    The answers may depend on the fields of the policy and on the `OpenWindow`, on nothing else: no clock, no memory of
    earlier calls. Then restoring a snapshot is a no-op, and training cuts as serving does. The fields are stored with
    the model; `load(path, policies=[...])` is handed the classes that are not built in.

    >>> class Swing(WindowPolicy, frozen=True, tag="swing"):
    ...     limit: float
    ...     def closes(self, window):
    ...         return abs(window.logsig()[1]) > self.limit  # channel 1 has moved so far
    """

    def edge(self, window: OpenWindow) -> float:
        """Time at which the window closes unless a sample has closed it before, after its start; inf = never."""
        return math.inf

    def closes(self, window: OpenWindow) -> bool:
        """Whether the window closes at the sample that has just been taken."""
        return False


class Every(WindowPolicy, frozen=True, tag="every"):
    """Windows of equal duration: edges at ``origin + k * seconds``.

    Args:
        seconds: duration of a window, > 0.
        align: ``"first"`` puts the origin at the stream's first sample (the windows of torchcde.logsig_windows);
            ``"epoch"`` puts it at time 0, so that the edges of all streams fall on the same wall-clock times and a
            stream's first window is short.
    """

    seconds: float
    align: Literal["first", "epoch"] = "first"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise ParameterError(f"Every(seconds={self.seconds}): a window's duration must be finite and > 0 seconds")
        msgspec.structs.force_setattr(self, "seconds", float(self.seconds))
        if self.align not in ("first", "epoch"):
            raise ParameterError(f"Every(align={self.align!r}): use 'first' or 'epoch'")

    def edge(self, window: OpenWindow) -> float:
        """The edge after the window's start."""
        return float(edge(self, np.float64(window.t0), np.int64(window.number + 1)))


class Count(WindowPolicy, frozen=True, tag="count"):
    """Windows of `n` increments each: window k runs from sample k*n to sample (k+1)*n.

    Args:
        n: increments per window, >= 1.
    """

    n: int

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "n", as_size("Count: n", self.n))

    def closes(self, window: OpenWindow) -> bool:
        """With the n-th sample."""
        return window.samples == self.n


class Adaptive(WindowPolicy, frozen=True, tag="adaptive"):
    """Windows that are short where much happens: one closes with the sample by which its log-signature grows large.

    Size is the homogeneous norm ``max over levels k of (max over Lyndon words w of length k of |l_w|)^(1/k)``, in which
    a path twice as large is twice as large at every level. One log-ODE step errs by O(norm^(depth + 1)), so a bound on
    the norm bounds the error of each step, up to what a single sample adds.

    Args:
        norm: a window closes when its norm passes this, > 0.
        min_seconds: but not before it has lasted so long, >= 0.
        max_seconds: it closes when it has lasted so long, whether a sample comes or not; None = never for that reason.
        scale: factor of each channel of the path, time first: their units differ, and 0 leaves a channel out. Empty:
            all 1.
    Reference: the error of the step: Morrill et al. 2021, section 3; the norm: Friz & Victoir 2010, section 7.5.
    """

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

    def edge(self, window: OpenWindow) -> float:
        """`max_seconds` after the window's start."""
        return math.inf if self.max_seconds is None else window.start + self.max_seconds

    def closes(self, window: OpenWindow) -> bool:
        """When it is long enough and its norm has passed the threshold."""
        # A part in 1e9: 0.3 - 0.2 must be 0.1.
        if window.now - window.start < self.min_seconds * (1 - 1e-9):
            return False
        return passes(self, window.logsig(), window.channels, window.depth)


if TYPE_CHECKING:
    Windows: TypeAlias = Every | Count | Adaptive | WindowPolicy
else:
    # What a file may name; a policy of the user's own is handed over as an object.
    Windows = Every | Count | Adaptive


def check_interpolation(interpolation: str) -> None:
    """Raise ParameterError unless `interpolation` is one that exists."""
    if interpolation not in ("linear", "hold"):
        raise ParameterError(f"interpolation={interpolation!r}: use 'linear' or 'hold'")


def window_length(windows: Windows) -> float:
    """Duration of a window that nothing closes earlier, in seconds; 0 where time alone closes none."""
    if isinstance(windows, Every):
        return windows.seconds
    return (windows.max_seconds or 0.0) if isinstance(windows, Adaptive) else 0.0
