"""The homogeneous norm of a log-signature, by which `Adaptive` windows close."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from streamrde.arrays import Floats
from streamrde.errors import ParameterError
from streamrde.signature.words import lyndon_words

if TYPE_CHECKING:
    from streamrde.windowing.policies import Adaptive


@lru_cache(maxsize=64)
def norm_limits(windows: Adaptive, channels: int, depth: int) -> Floats:
    """The size each coefficient must pass for the norm to pass its threshold, (B,), words basis.

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


def passes(windows: Adaptive, logsig: Floats, channels: int, depth: int) -> bool:
    """Whether a log-signature, (B,), is larger than the policy's threshold."""
    return bool((np.abs(logsig) > norm_limits(windows, channels, depth)).any())
