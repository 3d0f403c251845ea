"""Gaps: silences after which a stream's path begins anew. A property of the model, stored with it."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from streamrde.errors import ParameterError


class Gap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A jump of time by more than `seconds` cuts the path: nothing is interpolated across it.

    The open window ends at the sample before the gap (with hold, edges within `seconds` of it close first), and the
    sample after it begins a segment: a base point, edges counted from it, window numbers going on.

    Args:
        seconds: a longer time between two samples is a gap, > 0.
        state: of the model after a gap. ``"reset"``: it begins anew from the sample after it, and so does what was
            last observed. ``"carry"``: state and last values go on.
    """

    seconds: float
    state: Literal["reset", "carry"] = "reset"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise ParameterError(f"Gap(seconds={self.seconds}): it must be finite and > 0")
        if self.state not in ("reset", "carry"):
            raise ParameterError(f"Gap(state={self.state!r}): use 'reset' or 'carry'")
