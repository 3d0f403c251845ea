"""Half a block of a stack over all tokens, and its gradients, in C++: what training on a CPU runs.

The same numbers as the eager path to rounding. A chunk of tokens goes from the norm to the residual's sum while it is
in the processor's caches, recurrence included, where torch would read and write all tokens for each operation.

With a given number of threads the same inputs give the same bits: streams are dealt to threads in one order, and the
threads' gradients are added in one order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from streamrde import kernels
from streamrde.arrays import Reals
from streamrde.inference.fields.stack import MEMORY
from streamrde.inference.steppers.stack import CELLS

Layer: TypeAlias = tuple[Tensor, Tensor | None]
"""Weight and bias, as torch has them."""


class Branch(NamedTuple):
    """Part of a block between its norm and its sum, as the kernels take it: see kernels/stack.hpp."""

    name: str
    """A key of inference.steppers.stack.CELLS."""
    token: Layer | None = None
    """Takes the token."""
    carried: Layer | None = None
    """Takes the state before."""
    out: Layer | None = None
    """Takes the state, or the units of a perceptron."""
    vectors: tuple[Tensor, ...] = ()
    """Numbers of each component."""
    option: int = 1
    """Modes, or rows of a block."""


def is_compiled(branch: Branch | None, x: Tensor, time: Tensor | None) -> bool:
    """Return True if the kernels can run a branch on these tokens.

    They give no gradients to the windows' durations. They cannot run it under autocast, where the tokens have another
    dtype than the weights, nor where torch traces a graph.
    """
    if branch is None:
        return False
    weights = [own for layer in (branch.token, branch.carried, branch.out) if layer for own in layer]
    return not (time is not None and time.requires_grad) and are_compiled(x, time, *weights)


def are_compiled(x: Tensor, *others: Tensor | None) -> bool:
    """Return True if the kernels can run on these outputs of a block, with weights and whatever else they take."""
    return (
        kernels.residual_forward is not None
        and x.numel() > 0
        and x.dtype in (torch.float32, torch.float64)
        and all(own is None or (own.device.type == "cpu" and own.dtype == x.dtype) for own in (x, *others))
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.compiler.is_exporting()
    )


def residual(
    branch: Branch,
    norm: Tensor,
    x: Tensor,
    *,
    keep: Tensor | None,
    time: Tensor | None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return ``x + keep * branch(norm(x))``, (K, N, width), and the states after each token, (K, N, state).

    Both are differentiable in x, `state` and all weights.

    Args:
        branch: see `is_compiled`.
        norm: factors of the norm, (width,).
        x: tokens, (K, N, width).
        keep: factors on the branch's output, (N, width), which get no gradients. None: 1.
        time: durations of the tokens' windows in usual windows, (K, N, 1). None: the branch has no state.
        state: states before the first token, (N, state). None: the branch has no state.
    """
    layers = [layer or (None, None) for layer in (branch.token, branch.carried, branch.out)]
    weights = [own for layer in layers for own in layer]
    duration = None if time is None else time[..., 0]
    inputs = (x, state, norm, *weights, *branch.vectors)
    wanted = torch.is_grad_enabled() and any(own is not None and own.requires_grad for own in inputs)
    plan = _Plan(CELLS[branch.name], branch.option, wanted, torch.get_num_threads())
    kept = None if keep is None else keep.to(x.dtype)
    return _Residual.apply(plan, kept, duration, *inputs)  # type: ignore[no-any-return, no-untyped-call]


def closing(
    norm: Tensor | None, x: Tensor, z: Tensor, carried: Sequence[Tensor], *, pool: str, through: bool
) -> Tensor:
    """Return the states of a stack at every window edge, (N, K+1, hidden), as `StackField.states` does.

    They are differentiable in all arguments, but for the number of windows in z.

    Args:
        norm: factors of the last norm, (width,). None: there is none.
        x: outputs of the last block, (K, N, width).
        z: states before the first token, (N, hidden).
        carried: states of each block's recurrence, (K, N, state).
        pool: "both", "last" or "mean".
        through: False leaves gradients out of `carried`.
    """
    return _Closing.apply((pool != "last", pool != "mean", through), norm, x, z, *carried)  # type: ignore[no-any-return, no-untyped-call]


class _Closing(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: tuple[bool, bool, bool], norm: Tensor | None, x: Tensor, z: Tensor, *carried: Tensor
    ) -> Tensor:
        assert kernels.closing_forward is not None  # noqa: S101
        ctx.plan = plan
        ctx.save_for_backward(norm, x, z, *carried)
        return torch.from_numpy(kernels.closing_forward(*_ends(plan, norm, x, z, carried)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        assert kernels.closing_backward is not None  # noqa: S101
        norm, x, z, *carried = ctx.saved_tensors
        through = ctx.plan[2]
        given = _array(gradient), through
        of_x, of_z, of_norm, parts = kernels.closing_backward(*_ends(ctx.plan, norm, x, z, carried), *given)
        arrays = (None if norm is None else of_norm, of_x, of_z, *(parts if through else (None,) * len(carried)))
        return None, *(None if own is None else torch.from_numpy(own) for own in arrays)


def _ends(
    plan: tuple[bool, bool, bool], norm: Tensor | None, x: Tensor, z: Tensor, carried: Sequence[Tensor]
) -> tuple[Any, ...]:
    """Return (x, z, norm, states, mean, last, memory), as the kernels take them."""
    return _array(x), _array(z), _array(norm), tuple(map(_array, carried)), plan[0], plan[1], float(MEMORY)


class _Plan(NamedTuple):
    cell: int
    option: int
    keep: bool  # for gradients
    threads: int


class _Residual(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: _Plan, keep: Tensor | None, time: Tensor | None, x: Tensor, state: Tensor | None, *more: Tensor
    ) -> tuple[Tensor, Tensor]:
        assert kernels.residual_forward is not None  # noqa: S101 (see `is_compiled`)
        y, states, tape = kernels.residual_forward(*_model(plan, keep, time, x, state, more), plan.keep, plan.threads)
        moved = torch.from_numpy(states)
        ctx.plan, ctx.tape = plan, tape
        ctx.save_for_backward(moved, keep, time, x, state, *more)
        ctx.set_materialize_grads(False)
        return torch.from_numpy(y), moved

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_y: Tensor | None, of_states: Tensor | None) -> tuple[Tensor | None, ...]:
        assert kernels.residual_backward is not None  # noqa: S101
        states, keep, time, x, state, *more = ctx.saved_tensors
        found = kernels.residual_backward(
            *_model(ctx.plan, keep, time, x, state, more),
            _array(torch.zeros_like(x) if of_y is None else of_y),
            _array(of_states),
            _array(states),
            ctx.tape,
            ctx.plan.threads,
        )
        of_x, of_state, norm, layers, vectors = found
        arrays = [of_x, None if state is None else of_state, norm, *(own for pair in layers for own in pair), *vectors]
        return None, None, None, *(None if own is None else torch.from_numpy(own) for own in arrays)


def _model(
    plan: _Plan, keep: Tensor | None, time: Tensor | None, x: Tensor, state: Tensor | None, more: Any
) -> tuple[Any, ...]:
    """Return (data, cell, option, norm, layers, vectors), as the kernels take them."""
    norm, *weights = map(_array, more[:7])
    pairs = zip(weights[::2], weights[1::2], strict=True)
    layers = tuple(None if weight is None else (weight, bias) for weight, bias in pairs)
    data = tuple(map(_array, (x, keep, time, state)))
    return data, plan.cell, plan.option, norm, layers, tuple(map(_array, more[7:]))


def _array(tensor: Tensor | None) -> Reals | None:
    """Return the tensor's memory, or a contiguous copy."""
    return None if tensor is None else tensor.detach().contiguous().numpy()
