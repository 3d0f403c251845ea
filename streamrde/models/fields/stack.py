"""Stacks of recurrences and gated perceptrons in torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from streamrde.inference.fields.stack import FLOOR, MEMORY, Stack, state_parts
from streamrde.inference.header import Header
from streamrde.models.compiled_residual import Branch, are_compiled, closing, is_compiled, residual
from streamrde.models.scans import linear_scan
from streamrde.models.stacks import make_recurrence
from streamrde.models.torch_field import SequenceTorchField


class _Norm(nn.Module):
    """Divide rows by their root mean square, and multiply by learned factors."""

    def __init__(self, width: int, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.square().mean(dim=-1, keepdim=True) + FLOOR).sqrt() * self.weight


class _Block(nn.Module):
    def __init__(self, spec: Stack, *, dtype: torch.dtype) -> None:
        super().__init__()
        width = spec.width
        self.before, self.between = _Norm(width, dtype=dtype), _Norm(width, dtype=dtype)
        self.recurrence = make_recurrence(spec.recurrence, width, dtype=dtype)
        self._perceptron = spec.perceptron
        self.up = nn.Linear(width, spec.units * (1 + spec.gated), dtype=dtype)
        self.down = nn.Linear(spec.units, width, dtype=dtype)

    def forward(
        self, x: Tensor, state: Tensor, time: Tensor, keep: Sequence[Tensor] | None, *, through: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the states after each token, (K, N, state), and what the next block takes, (K, N, width)."""
        masks = (None, None) if keep is None else keep
        branch = self.recurrence.branch()
        if branch is not None and is_compiled(branch, x, time):
            x, states = residual(branch, self.before.weight, x, keep=masks[0], time=time, state=state)
        else:
            states, output = self.recurrence.run(state, self.before(x), time, through=through)
            x = x + (output if masks[0] is None else output * masks[0])
        units = Branch(self._perceptron, (self.up.weight, self.up.bias), out=(self.down.weight, self.down.bias))
        if is_compiled(units, x, None):
            return states, residual(units, self.between.weight, x, keep=masks[1])[0]
        output = self.down(self._units(self.up(self.between(x))))
        return states, x + (output if masks[1] is None else output * masks[1])

    def _units(self, p: Tensor) -> Tensor:
        """Return the outputs of the perceptron's units from those of its first layer."""
        if self._perceptron == "gelu":
            return nn.functional.gelu(p)
        inner, gate = p.chunk(2, dim=-1)
        return inner * gate.sigmoid() if self._perceptron == "glu" else nn.functional.silu(inner) * gate


class StackField(SequenceTorchField):
    """See `streamrde.inference.fields.Stack`. Linear recurrences are scanned, the others run token by token."""

    def __init__(self, spec: Stack, header: Header) -> None:
        super().__init__()
        dtype = getattr(torch, header.dtype)
        self._spec, self._unit = spec, spec.unit(header)
        self._pooled, self._states = state_parts(spec)
        self._gain = header.logsig_channels**0.5
        self.input = nn.Linear(header.logsig_channels, spec.width, dtype=dtype)
        self.blocks = nn.ModuleList(_Block(spec, dtype=dtype) for _ in range(spec.blocks))
        self.last = _Norm(spec.width, dtype=dtype) if spec.last_norm else nn.Identity()

    def last_weights(self) -> Sequence[Tensor]:
        """Return nothing: residuals start as they are drawn."""
        return []

    def undecayed(self) -> Sequence[Tensor]:
        """Return all vectors: biases, the factors of norms, and rates."""
        return [weight for weight in self.parameters() if weight.ndim < 2]

    def states(self, z: Tensor, logsigs: Tensor, seconds: Tensor, mask: Tensor | None, *, through: bool) -> Tensor:
        """See SequenceTorchField."""
        tokens = logsigs.transpose(0, 1)
        time = seconds.transpose(0, 1) / self._unit if self._unit else torch.ones_like(seconds.transpose(0, 1))
        x = self.input(tokens * self._gain)
        keep = None if mask is None else mask.reshape(len(mask), len(self.blocks), 2, -1)
        carried: list[Tensor] = []
        for i, (block, own) in enumerate(zip(self.blocks, self._states, strict=True)):
            kept = None if keep is None else keep[:, i].unbind(1)
            states, x = cast(_Block, block)(x, z[:, own], time, kept, through=through)
            carried.append(states if through else states.detach())
        norm = self.last.weight if isinstance(self.last, _Norm) else None
        if are_compiled(x, z, norm, *carried):
            return closing(norm, x, z, carried, pool=self._spec.pool, through=through)
        moved = torch.cat([*self._pool(z, self.last(x)), *carried], dim=-1)
        return torch.cat([z[:, None], moved.transpose(0, 1)], dim=1)

    def _pool(self, z: Tensor, x: Tensor) -> list[Tensor]:
        """Return the pooled columns of the states after each token: running mean, last, and number of windows."""
        counter = self._spec.counter
        if counter is None:
            return [x]
        own = torch.arange(1, len(x) + 1, dtype=z.dtype, device=z.device)
        count = (z[:, counter] + own[:, None]).clamp(max=MEMORY)[..., None]
        # In float64: the factors 1 - 1 / n, rounded to float32, would shift the mean of many windows.
        weight = 1 / count.double()
        mean = z[:, self._pooled[0]].double()
        means = linear_scan((1 - weight).expand(x.shape), weight * x, mean).to(x.dtype)
        return [means, count] if self._spec.pool == "mean" else [means, x, count]
