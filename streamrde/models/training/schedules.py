"""The learning rate over a run, as a share of the highest one."""

from __future__ import annotations

import math

import msgspec

from streamrde.models.training.config import TrainingConfig


def rate_share(config: TrainingConfig, done: float, step: float) -> float:
    """Return the share of the learning rate for a step that takes a run of length 1 from `done` to ``done + step``.

    It rises linearly over the first `warm_up` of the run. With "cosine" it then falls to 0 as half a period of a cosine
    (Loshchilov & Hutter 2017, "SGDR", one cycle).
    """
    warm = config.warm_up
    rise = min(1.0, (done + step) / warm) if warm else 1.0
    if config.schedule != "cosine":
        return rise
    return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, done - warm) / (1 - warm))))


class Plateau(msgspec.Struct, kw_only=True):
    """Count epochs without improvement, and decide when the rate falls."""

    waited: int = 0

    def falls(self, *, better: bool, epochs: int) -> bool:
        """Count an epoch. Return True if there was no improvement in `epochs` epochs since the last fall."""
        self.waited = 0 if better else self.waited + 1
        if self.waited < epochs:
            return False
        self.waited = 0
        return True
