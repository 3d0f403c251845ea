"""Gaps: silences after which a stream's path starts again. A property of the model, stored with it."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from streamrde.errors import ParameterError


class Gap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A jump of time by more than `seconds` cuts the path: nothing is interpolated across it.

    The open window ends at the sample before the gap (with hold, edges within `seconds` of it close first). The sample
    after it starts a segment: it is the base point, edges count from it, and window numbers continue.

    Args:
        seconds: a longer time between two samples is a gap, > 0.
        state: the model's state after a gap. ``"reset"``: state and last observations start again at the next sample.
            ``"carry"``: state and last values continue.
    """

    seconds: float
    state: Literal["reset", "carry"] = "reset"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise ParameterError(f"Gap(seconds={self.seconds}): it must be finite and > 0")
        if self.state not in ("reset", "carry"):
            raise ParameterError(f"Gap(state={self.state!r}): use 'reset' or 'carry'")
