"""Mix training streams with one another, and their losses in the same shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from streamrde.arrays import Ints
from streamrde.models.training.examples import Batch


class Mixed(NamedTuple):
    """A batch of mixed streams."""

    batch: Batch
    """Mixed inputs, with the targets of the first of each two streams."""
    lengths: list[int]
    """Windows of each mixed stream: as many as the longer of the two has."""
    partner: Ints
    """Place of each stream's partner, (N,)."""
    share: Tensor
    """Share of the first stream, (N,), float64. The partner has the rest."""


def mix(batch: Batch, lengths: Sequence[int], *, beta: float, rng: np.random.Generator) -> Mixed:
    """Mix each stream of a batch with another one, window by window.

    ``token = s token_1 + (1 - s) token_2`` with s from Beta(beta, beta). Where one of the two has ended, the other's
    tokens stand alone.

    Args:
        lengths: lengths of the streams, in windows.
        beta: both parameters of the distribution. Small ones leave most streams nearly as they are.
    Reference: Zhang et al. 2018, "mixup: beyond empirical risk minimization", equation 1.
    """
    count, device = len(lengths), batch.logsigs.device
    # A cycle through all: nobody is mixed with itself.
    order = rng.permutation(count)
    partner = np.empty(count, np.intp)
    partner[order] = np.roll(order, 1)
    share = torch.as_tensor(rng.beta(beta, beta, size=count), device=device)
    own, other = torch.as_tensor(np.asarray(lengths), device=device), torch.as_tensor(partner, device=device)
    steps = torch.arange(batch.logsigs.shape[1], device=device)
    lasts = steps < own[:, None]
    both, alone = lasts & lasts[other], lasts[other] & ~lasts
    s = share[:, None, None]
    mixed = torch.where(both[..., None], s * batch.logsigs + (1 - s) * batch.logsigs[other], batch.logsigs)
    mixed = torch.where(alone[..., None], batch.logsigs[other], mixed)
    x0 = share[:, None] * batch.x0 + (1 - share[:, None]) * batch.x0[other]
    longer = np.maximum(np.asarray(lengths), np.asarray(lengths)[partner]).tolist()
    return Mixed(batch._replace(x0=x0, logsigs=mixed), longer, partner, share)
