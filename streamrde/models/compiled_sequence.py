"""The states of a Neural RDE over all windows, and their gradients, in C++: what training on a CPU runs.

The same numbers as the eager path to rounding. Per window the field's last layer is contracted with the log-signature
once forwards and once backwards, and its gradient is one outer product of the same size, whatever the solver; torch
would keep every window's contracted layer, and torchcde forms the whole field in each stage.

With a given number of threads the same inputs give the same bits: rows are dealt to threads in one order, and the
threads' gradients are added in one order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from streamrde import kernels
from streamrde.arrays import Reals
from streamrde.inference.activations import NUMBERS
from streamrde.inference.header import Header
from streamrde.inference.solvers import TABLEAUX


class _Plan(NamedTuple):
    """Settings of the kernels beside arrays."""

    activations: tuple[int, ...]
    tableau: tuple[Any, ...]
    substeps: int
    keep: bool  # for gradients
    threads: int


def is_compiled(header: Header, field: nn.Module, first: Tensor, *data: Tensor | None) -> bool:
    """Return True if the kernels can run a model from these states on these log-signatures, masks, ...

    They give no gradients to these. They cannot run it under autocast, where the states have another dtype than the
    weights, nor where torch traces a graph.
    """
    return (
        kernels.sequence_forward is not None
        and header.field.plain_activations is not None
        and header.substeps != "auto"
        and all(weight.device.type == "cpu" and weight.dtype == first.dtype for weight in field.parameters())
        and not any(tensor is not None and (tensor.requires_grad or tensor.device.type != "cpu") for tensor in data)
        and not torch.compiler.is_compiling()
    )


def compiled_states(
    header: Header,
    field: nn.Module,
    first: Tensor,
    logsigs: Tensor,
    *,
    rates: Tensor | None = None,
    seconds: Tensor | None = None,
    mask: Tensor | None = None,
    before: Tensor | None = None,
) -> Tensor:
    """Return the states at all window edges, (N, K+1, hidden).

    They are differentiable in `first`, `rates` and the field's weights.

    Windows at a row's end whose log-signatures are 0 cost nothing, forwards and backwards.

    Args:
        header: the solver, its substeps, and which window drives its first stage.
        field: see `is_compiled`.
        first: states before the first window, (N, hidden).
        logsigs: scaled log-signatures, (N, K, B), of the weights' dtype.
        rates: decay per second, (hidden,), at least 0; None: none.
        seconds: the windows' durations, (N, K); needed with `rates`.
        mask: factors on the field's last hidden layer in every window, (N, width); None: 1.
        before: scaled log-signatures of the windows before the first, (N, B), which drive its first stage where the
            header says so; None: its own does.
    """
    activations = header.field.plain_activations
    assert activations is not None  # noqa: S101 (see `is_compiled`)
    if header.first_stage == "own":
        before = None
    elif before is None and logsigs.shape[1]:
        before = logsigs[:, 0]
    weights = list(field.parameters())  # weight and bias of each layer
    tableau = TABLEAUX[header.solver]
    wanted = any(tensor is not None and tensor.requires_grad for tensor in (first, rates, *weights))
    plan = _Plan(
        tuple(NUMBERS[name] for name in activations),
        (tableau.order, tableau.parts, tableau.nodes, tableau.stages, tableau.weights),
        int(header.substeps),
        torch.is_grad_enabled() and wanted,
        torch.get_num_threads(),
    )
    seconds = seconds if rates is not None else None
    mask = None if mask is None else mask.to(first.dtype)
    return _States.apply(plan, first, logsigs, seconds, mask, before, rates, *weights)  # type: ignore[no-any-return, no-untyped-call]


class _States(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        plan: _Plan,
        first: Tensor,
        logsigs: Tensor,
        seconds: Tensor | None,
        mask: Tensor | None,
        before: Tensor | None,
        rates: Tensor | None,
        *weights: Tensor,
    ) -> Tensor:
        assert kernels.sequence_forward is not None  # noqa: S101
        given = logsigs, seconds, mask, before
        states, tape = kernels.sequence_forward(
            _array(first), *map(_array, given), *_model(plan, rates, weights), plan.keep, plan.threads
        )
        result = torch.from_numpy(states)
        ctx.plan, ctx.tape = plan, tape
        ctx.save_for_backward(result, *given, rates, *weights)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        assert kernels.sequence_backward is not None  # noqa: S101
        states, logsigs, seconds, mask, before, rates, *weights = ctx.saved_tensors
        first, layers, *last, decay = kernels.sequence_backward(
            _array(gradient),
            _array(states),
            ctx.tape,
            *map(_array, (logsigs, seconds, mask, before)),
            *_model(ctx.plan, rates, weights),
            ctx.plan.threads,
        )
        rows = [array for layer in layers for array in layer]
        own = [None if array is None else torch.from_numpy(array) for array in (first, decay, *rows, *last)]
        return None, own[0], None, None, None, None, *own[1:]


def _array(tensor: Tensor | None) -> Reals | None:
    """Return the tensor's memory, or a contiguous copy."""
    return None if tensor is None else tensor.detach().contiguous().numpy()


def _model(plan: _Plan, rates: Tensor | None, weights: Sequence[Tensor]) -> tuple[Any, ...]:
    """Return (layers, last, rates, tableau, substeps), as the kernels take them."""
    arrays = [_array(weight) for weight in weights]
    pairs = list(zip(arrays[::2], arrays[1::2], strict=True))
    layers = [(*pair, activation) for pair, activation in zip(pairs, plan.activations, strict=False)]
    return layers, pairs[-1], _array(rates), plan.tableau, plan.substeps
