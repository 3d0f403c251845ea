"""The contract of a recurrence in torch, for training: the twin of streamrde.inference.recurrence."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from streamrde.models.compiled_residual import Branch


class TorchRecurrence(nn.Module):
    """A recurrence with weights, made from its description: ``TorchRecurrence(description, width, dtype=...)``."""

    def run(self, state: Tensor, u: Tensor, time: Tensor, *, through: bool) -> tuple[Tensor, Tensor]:
        """Return the states after each token, (K, N, state), and the outputs, (K, N, width).

        Args:
            state: states before the first token, (N, state).
            u: what the block gives of the tokens, (K, N, width).
            time: durations of the tokens' windows in usual windows, (K, N, 1).
            through: False promises that no gradient is asked for of the states, but of the outputs alone.
        """
        raise NotImplementedError

    def branch(self) -> Branch | None:
        """Return the recurrence as the compiled kernels take it. None: they do not have it."""
        return None


def draw_rates(count: int, dtype: torch.dtype) -> Tensor:
    """Draw decays per window for training to start from, ``-log u``, (count,).

    Half of the u, the share that a window leaves of a state, is uniform in (0.1, 0.9), and half in (0.9, 0.999):
    half-lives of a third of a window to 700 windows.
    """
    half = count // 2
    kept = torch.cat([torch.empty(half).uniform_(0.1, 0.9), torch.empty(count - half).uniform_(0.9, 0.999)])
    return -kept.to(dtype).log()


def inverse_softplus(rates: Tensor) -> Tensor:
    """Return v with softplus(v) = rates."""
    return rates + torch.log(-torch.expm1(-rates))


def draw_angles(count: int, dtype: torch.dtype) -> Tensor:
    """Draw frequencies for training to start from, radians per window, (count,), equally often in every octave.

    From one period in 600 windows to one in two, the fastest that windows tell of.
    """
    return torch.empty(count, dtype=dtype).uniform_(math.log(0.01), math.log(math.pi)).exp()
