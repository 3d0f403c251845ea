"""Linear recurrences over a sequence, h_k = a_k h_(k-1) + b_k, and their gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def linear_scan(a: Tensor, b: Tensor, first: Tensor) -> Tensor:
    """Return all states of ``h_k = a_k h_(k-1) + b_k``, (K, N, S).

    On a CPU the states are computed one after the other, which is the least work. Elsewhere they are computed in
    pairs, in a number of passes that grows as log K. Both are differentiable in all arguments.

    Args:
        a: factors, (K, N, S), real or complex.
        b: what is added, (K, N, S).
        first: states before, (N, S).
    Reference: Blelloch 1990, "Prefix sums and their applications"; Martin & Cundy 2018, "Parallelizing linear
    recurrent neural nets over sequence length".
    """
    if len(b) == 1:
        return a * first + b
    return _Scan.apply(a, b, first)  # type: ignore[no-any-return, no-untyped-call]


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, first: Tensor) -> Tensor:
        states = b.clone(memory_format=torch.contiguous_format)
        states[0].addcmul_(a[0], first)
        _solve(a, states)
        ctx.save_for_backward(a, states, first)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, states, first = ctx.saved_tensors
        conjugate = a.conj().resolve_conj()
        # What reaches state k: its own gradient, and what state k + 1 passes on. The same recurrence, backwards.
        reached = gradient.flip(0)
        passed = torch.cat([torch.zeros_like(a[:1]), conjugate[1:].flip(0)])
        _solve(passed, reached)
        reached = reached.flip(0)
        before = torch.cat([first[None], states[:-1]])
        return reached * before.conj(), reached, conjugate[0] * reached[0]


def matrix_scan(a: Tensor, b: Tensor, first: Tensor) -> Tensor:
    """Return all states of ``h_k = a_k h_(k-1) + b_k`` with small matrices a_k, (K, N, blocks, s).

    Args:
        a: matrices, (K, N, blocks, s, s).
        b: what is added, (K, N, blocks, s).
        first: states before, (N, blocks, s).
    """
    if len(b) == 1:
        return (a @ first[..., None])[..., 0] + b
    return _MatrixScan.apply(a, b, first)  # type: ignore[no-any-return, no-untyped-call]


class _MatrixScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, first: Tensor) -> Tensor:
        states = torch.empty_like(b[..., None], memory_format=torch.contiguous_format)
        before = first[..., None]
        for matrix, added, state in zip(a.unbind(0), b[..., None].unbind(0), states.unbind(0), strict=True):
            before = torch.add(matrix @ before, added, out=state)
        ctx.save_for_backward(a, states, first)
        return states[..., 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, states, first = ctx.saved_tensors
        reached = gradient[..., None].clone(memory_format=torch.contiguous_format)
        after = reached[-1]
        for matrix, own in zip(reversed(a.unbind(0)), reversed(reached[:-1].unbind(0)), strict=False):
            after = own.add_(matrix.mT @ after)
        before = torch.cat([first[None, ..., None], states[:-1]])
        return reached @ before.mT, reached[..., 0], (a[0].mT @ reached[0])[..., 0]


def _solve(a: Tensor, b: Tensor) -> None:
    """Replace b by the states of the recurrence from zeros, in place. `a[0]` is not read."""
    if b.device.type == "cpu":
        in_turn(a, b)
    else:
        b.copy_(in_pairs(a, b))


def in_turn(a: Tensor, b: Tensor) -> None:
    """Replace b by the states, one after the other."""
    states, factors = b.unbind(0), a.unbind(0)
    for before, state, factor in zip(states, states[1:], factors[1:], strict=False):
        state.addcmul_(factor, before)


def in_pairs(a: Tensor, b: Tensor) -> Tensor:
    """Return the states, by joining neighbouring steps to one: half as many, and the others from these."""
    if len(b) == 1:
        return b
    half = len(b) // 2
    odd = in_pairs(a[1::2] * a[0::2][:half], torch.addcmul(b[1::2], a[1::2], b[0::2][:half]))
    states = torch.empty_like(b)
    states[0], states[1::2] = b[0], odd
    states[2::2] = torch.addcmul(b[2::2], a[2::2], odd[: len(b[2::2])])
    return states
