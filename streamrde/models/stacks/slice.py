"""The structured linear controlled differential equation in torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from streamrde.inference.stacks.slice import FLOOR, HALVINGS, TAYLOR, SLiCE, largest_norm
from streamrde.models.compiled_residual import Branch
from streamrde.models.scans import matrix_scan
from streamrde.models.torch_recurrence import TorchRecurrence, draw_rates

TRACED = 16
"""Halvings in a graph, which cannot look how many are needed: enough for norms of 32,768 in float32."""


class TorchSLiCE(TorchRecurrence):
    """See `streamrde.inference.stacks.slice.SLiCE`."""

    def __init__(self, spec: SLiCE, width: int, *, dtype: torch.dtype) -> None:
        super().__init__()
        states, self._block = spec.state_size(width), spec.block
        self.generator = nn.Linear(width, spec.block * states, dtype=dtype)
        self.value = nn.Linear(width, states, dtype=dtype)
        self.out = nn.Linear(states, width, bias=False, dtype=dtype)
        self.rate = nn.Parameter(draw_rates(spec.count(width), dtype).log()) if spec.damped else None
        self.start = nn.Parameter(torch.zeros(states, dtype=dtype)) if spec.started else None
        with torch.no_grad():
            # A norm is 1 in the mean: turns of some tenths of a radian per usual window.
            self.generator.weight.normal_(0.0, 0.2 / math.sqrt(width * spec.block))
            self.generator.bias.zero_()
            if self.rate is not None:
                # Slow blocks sum more windows, and are driven less.
                self.value.weight.mul_((2 * self.rate.exp()).clamp(max=1).sqrt().repeat(spec.block)[:, None])

    def run(self, state: Tensor, u: Tensor, time: Tensor, *, through: bool) -> tuple[Tensor, Tensor]:
        """See TorchRecurrence."""
        size = self._block
        matrices = self.generator(u).reshape(*u.shape[:2], size, size, -1).movedim(-1, 2)  # (K, N, blocks, s, s)
        if self.rate is not None:
            stretch = (matrices + matrices.mT) / 2
            damping = self.rate.exp() + (stretch.square().sum(dim=(-2, -1)) + FLOOR).sqrt()
            matrices = matrices - damping[..., None, None] * torch.eye(size, dtype=u.dtype, device=u.device)
        flow = exponential(matrices * time[..., None, None])
        values = (self.value(u) * time).reshape(*u.shape[:2], size, -1).mT
        if self.start is not None:
            state = state + self.start
        states = matrix_scan(flow, values, state.reshape(u.shape[1], size, -1).mT).mT.flatten(2)
        return states if self.start is None else states - self.start, self.out(states)

    def branch(self) -> Branch:
        """See TorchRecurrence."""
        token = (
            torch.cat([self.generator.weight, self.value.weight]),
            torch.cat([self.generator.bias, self.value.bias]),
        )
        zeros = self.value.bias.new_zeros(self.value.out_features // self._block)
        damping = (zeros, zeros) if self.rate is None else (torch.ones_like(zeros), self.rate.exp())
        # The state is without `start`, which the output has.
        bias = None if self.start is None else self.out.weight @ self.start
        start = (zeros,) * self._block if self.start is None else self.start.chunk(self._block)
        return Branch("slice", token, out=(self.out.weight, bias), vectors=(*damping, *start), option=self._block)


def exponential(matrices: Tensor) -> Tensor:
    """Return the exponential of small matrices, (..., s, s): see `streamrde.inference.stacks.slice.exponential`."""
    traced = torch.compiler.is_compiling() or torch.compiler.is_exporting()
    most = largest_norm(matrices.dtype == torch.float64)
    with torch.no_grad():
        norm = matrices.abs().sum(dim=-1).amax(dim=-1)[..., None, None]
        scale, times = torch.ones_like(norm), 0
        while times < TRACED if traced else times < HALVINGS and bool((norm * scale > most).any()):
            scale, times = torch.where(norm * scale > most, scale / 2, scale), times + 1
    (p, q), r, (b, c, d, e), f = TAYLOR
    a = matrices * scale
    eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    a2 = a @ a
    a4 = a2 @ (p * a + q * a2)
    power = eye + a + f * a2 + (r * a2 + a4) @ (b * eye + c * a + d * a2 + e * a4)
    for _ in range(times):
        power, scale = torch.where(scale < 1, power @ power, power), scale * 2
    return power
