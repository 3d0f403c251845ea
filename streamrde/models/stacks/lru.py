"""The linear recurrent unit in torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from streamrde.inference.stacks.lru import FLOOR, LRU
from streamrde.models.compiled_residual import Branch
from streamrde.models.scans import linear_scan
from streamrde.models.torch_recurrence import TorchRecurrence, draw_angles, draw_rates


class TorchLRU(TorchRecurrence):
    """See `streamrde.inference.stacks.lru.LRU`."""

    def __init__(self, spec: LRU, width: int, *, dtype: torch.dtype) -> None:
        super().__init__()
        count = spec.count(width)
        self.rate = nn.Parameter(draw_rates(count, dtype).log())
        self.angle = nn.Parameter(draw_angles(count, dtype).log())
        self.drive = nn.Linear(width, 2 * count, bias=False, dtype=dtype)
        self.out = nn.Linear(2 * count, width, bias=False, dtype=dtype)
        self.skip = nn.Parameter(torch.ones(width, dtype=dtype))

    def run(self, state: Tensor, u: Tensor, time: Tensor, *, through: bool) -> tuple[Tensor, Tensor]:
        """See TorchRecurrence."""
        exponent, angle = -self.rate.exp() * time, self.angle.exp() * time
        gain = (FLOOR - torch.expm1(2 * exponent)).sqrt()
        real, imaginary = (gain * part for part in self.drive(u).chunk(2, dim=-1))
        before = state.chunk(2, dim=-1)
        size = exponent.exp()
        cosine, sine = size * angle.cos(), size * angle.sin()
        if len(u) == 1:  # without complex numbers, which ONNX does not have
            moved = (
                cosine * before[0] - sine * before[1] + real,
                sine * before[0] + cosine * before[1] + imaginary,
            )
        else:
            states = linear_scan(
                torch.complex(cosine, sine), torch.complex(real, imaginary), torch.complex(before[0], before[1])
            )
            moved = states.real, states.imag
        joined = torch.cat(moved, dim=-1)
        return joined, self.out(joined) + self.skip * u

    def branch(self) -> Branch:
        """See TorchRecurrence."""
        vectors = -self.rate.exp(), self.angle.exp(), self.skip
        return Branch("lru", (self.drive.weight, None), out=(self.out.weight, None), vectors=vectors)
