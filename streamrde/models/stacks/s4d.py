"""The diagonal state space model S4D in torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from streamrde.inference.stacks.s4d import S4D
from streamrde.models.compiled_residual import Branch
from streamrde.models.scans import linear_scan
from streamrde.models.torch_recurrence import TorchRecurrence

STEPS = 0.002, 0.5
"""Steps per usual window that training starts from, equally often in every octave. With rates of 1/2 they are
half-lives of three to 700 windows."""


class TorchS4D(TorchRecurrence):
    """See `streamrde.inference.stacks.s4d.S4D`."""

    def __init__(self, spec: S4D, width: int, *, dtype: torch.dtype) -> None:
        super().__init__()
        self._modes = spec.modes
        steps = torch.empty(width, dtype=dtype).uniform_(*map(math.log, STEPS))
        self.rate = nn.Parameter(torch.full((spec.modes * width,), math.log(0.5), dtype=dtype))
        self.angle = nn.Parameter(frequencies(spec, dtype).repeat_interleave(width))
        self.step = nn.Parameter(steps)
        self.out = _Weight(torch.randn(2, spec.modes, width, dtype=dtype) * math.sqrt(0.5))
        self.skip = nn.Parameter(torch.randn(width, dtype=dtype))

    def run(self, state: Tensor, u: Tensor, time: Tensor, *, through: bool) -> tuple[Tensor, Tensor]:
        """See TorchRecurrence."""
        rate, angle = self.rate.exp().view(self._modes, -1), self.angle.view(self._modes, -1)
        duration = (self.step.exp() * time)[..., None, :]  # (K, N, 1, width)
        exponent, half = -rate * duration, angle * duration / 2
        less, sine = torch.expm1(exponent), half.sin()
        turn = 2 * sine * sine
        real = less * (1 - turn) - turn
        imaginary = (less + 1) * (2 * sine * half.cos())
        inputs = u[..., None, :]
        re, im = state.reshape(-1, 2, self._modes, u.shape[-1]).unbind(1)
        if len(u) == 1:  # without complex numbers, which ONNX does not have
            states = torch.stack(
                [
                    re + real * (re - inputs) - imaginary * im,
                    im + real * im + imaginary * (re - inputs),
                ],
                dim=2,
            )
        else:
            factor = torch.complex(1 + real, imaginary)
            driven = torch.complex(-real * inputs, -imaginary * inputs)
            scanned = linear_scan(factor, driven, torch.complex(re, im))
            states = torch.stack([scanned.real, scanned.imag], dim=2)
        return states.flatten(2), (states * self._read(rate, angle)).sum(dim=(2, 3)) + self.skip * u

    def branch(self) -> Branch:
        """See TorchRecurrence."""
        rate, angle, step = self.rate.exp().view(self._modes, -1), self.angle.view(self._modes, -1), self.step.exp()
        # The kernel needs the sine of half the angle.
        vectors = (*(-rate * step), *(angle * step / 2), *self._read(rate, angle).flatten(0, 1), self.skip)
        return Branch("s4d", vectors=vectors, option=self._modes)

    def _read(self, rate: Tensor, angle: Tensor) -> Tensor:
        """Return the weights of real and imaginary parts, (2, modes, width), of the real part of 2 c / -a h."""
        weight, size = self.out.weight, rate * rate + angle * angle
        return torch.stack(
            [
                2 * (weight[0] * rate - weight[1] * angle) / size,
                -2 * (weight[0] * angle + weight[1] * rate) / size,
            ]
        )


class _Weight(nn.Module):
    """Weights of modes, which decay in training as those of layers do."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)


def frequencies(spec: S4D, dtype: torch.dtype) -> Tensor:
    """Return the frequencies of a channel's modes that training starts from, (modes,): equations 8 and 9 of S4D."""
    n = torch.arange(spec.modes, dtype=dtype)
    if spec.start == "lin":
        return math.pi * n
    size = 2 * spec.modes
    return size / math.pi * (size / (2 * n + 1) - 1)
