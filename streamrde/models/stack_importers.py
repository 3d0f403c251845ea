"""Import stacks of recurrences that were trained elsewhere, from their state dicts by the names of their parts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from streamrde.errors import ParameterError
from streamrde.inference.ends import Blank
from streamrde.inference.fields.stack import Perceptron, Pool, Stack
from streamrde.inference.header import Emit, Task
from streamrde.inference.recurrence import Recurrence
from streamrde.models.importers import Imported
from streamrde.models.neural_rde import NeuralRDE
from streamrde.models.stack_layouts import READERS, Layout, State, read
from streamrde.windowing.policies import Windows
from streamrde.windowing.tokens import Token

PARTS = ("input", "readout", "before", "recurrence", "between", "up", "down")
"""Parts of a stack that must be named. `last`, the norm before the readout, may be."""
SLICES = {
    "input": "embedding",
    "before": "layers.{}.norm1",
    "recurrence": "layers.{}.slice",
    "between": "layers.{}.norm2",
    "up": "layers.{}.token_mlp.0",
    "down": "layers.{}.token_mlp.2",
    "readout": "linear",
}
"""Names of the parts of a `StackedSLiCE`."""
_TOKEN = Token()


def from_stack(
    state: State,
    parts: Mapping[str, str],
    layout: Layout,
    *,
    channels: int,
    depth: int,
    windows: Windows,
    token: Token = _TOKEN,
    perceptron: Perceptron = "swiglu",
    pool: Pool = "last",
    names: Sequence[str] | None = None,
    fills: Sequence[float] | None = None,
    task: Task = "regression",
    labels: Sequence[str] = (),
    emit: Emit = "every",
) -> Imported:
    """Import a stack of recurrences that was trained elsewhere, on the tokens of `sr.logsig_windows`.

    The original must have streamrde's blocks: ``x <- x + R(norm(x))``, ``x <- x + W_down f(W_up norm(x))``, with norms
    by the root mean square plus 1e-6. Each entry of `parts` is the part's prefix in the state dict, with ``{}`` for the
    number of the block: ``{"input": "embedding", "before": "layers.{}.norm1", ...}``. A layer without a bias gets
    zeros. See docs/own-model.md for the tensors that each layout reads.

    Args:
        state: the state dict.
        parts: prefixes of input, readout, before, recurrence, between, up, down, and last if a norm precedes the
            readout.
        layout: names of the recurrence's tensors.
        channels: C, channels of the path, with time.
        depth: depth of the log-signatures.
        windows: the windows that tokens are of. Each counts as one step of the original.
        token: the rest of the tokens.
        perceptron: "swiglu": silu(p) q, "glu": p sigmoid(q) with (p, q) = W_up norm(x), or "gelu": gelu(p).
        pool: input of the readout: the last output, their running mean, or the mean and then the last.
        names, fills, task, labels, emit: as for NeuralRDE.
    Raises:
        ParameterError: a part or tensor is missing, is left over, or has another shape. The message says which.
    """
    if layout not in READERS:
        raise ParameterError(f"layout={layout!r}: use one of {', '.join(READERS)}")
    tensors, recurrence, blocks = _collected(state, parts, layout)
    weight = tensors["field.input.weight"]
    field = Stack(
        width=len(weight),
        blocks=blocks,
        recurrence=recurrence,
        gate_width=tensors["field.blocks.0.down.weight"].shape[1],
        perceptron=perceptron,
        last_norm="last" in parts,
        pool=pool,
        window=0.0 if windows.fixed_length else 1.0,
    )
    model = NeuralRDE(
        channels,
        depth,
        field.state_size,
        len(tensors["readout.weight"]),
        field=field,
        initial=Blank(),
        windows=windows,
        token=token,
        names=names,
        fills=fills,
        task=task,
        labels=labels,
        emit=emit,
        dtype=weight.dtype,
    )
    # The stack multiplies scaled tokens by the root of their size, and the original does not.
    tensors["field.input.weight"] = weight / math.sqrt(model.header.logsig_channels)
    for name, parameter in model.named_parameters():
        if name not in tensors or tensors[name].shape != parameter.shape:
            given = tuple(tensors[name].shape) if name in tensors else "nothing"
            raise ParameterError(f"{name}: the state dict gives {given}; expected {tuple(parameter.shape)}")
        with torch.no_grad():
            parameter.copy_(tensors[name])
    differences = []
    if field.unit(model.header) and recurrence.tag not in ("gru", "lstm"):
        differences.append(
            "the recurrence follows time: a window that is shorter than usual, as a stream's last one may be, counts "
            "as a part of a step"
        )
    return Imported(model, tuple(differences))


def from_slices(
    module: nn.Module,
    *,
    channels: int,
    depth: int,
    windows: Windows,
    token: Token = _TOKEN,
    names: Sequence[str] | None = None,
    fills: Sequence[float] | None = None,
    task: Task = "regression",
    labels: Sequence[str] = (),
    emit: Emit = "every",
) -> Imported:
    """Import a `StackedSLiCE` of torch-slices that was trained on the tokens of `sr.logsig_windows`.

    Args:
        module: the stack, with tokens=False, path_mode="increments", transition_mode="matrix_exp", blocks of at most 4
            rows, and one head.
        channels, depth, windows, token, names, fills, task, labels, emit: as for `from_stack`.
    Raises:
        ParameterError: an option of the stack cannot be served. The message says which, and the value that can.
    """
    layers = list(getattr(module, "layers", ()))
    if not layers or not hasattr(layers[0], "slice"):
        raise ParameterError(f"{type(module).__name__} is not a StackedSLiCE")
    layer, inner = layers[0], layers[0].slice
    wanted = (
        (module, "tokens", (False,)),
        (inner, "path_mode", ("increments",)),
        (inner, "transition_mode", ("matrix_exp",)),
        (inner, "diagonal_dense", (False,)),
        (inner, "input_dependent_init", (False,)),
        (layer, "norm_type", ("rmsnorm",)),
        (layer, "prenorm", (True,)),
        (layer, "ff_style", ("mlp",)),
        (layer, "ff_activation", ("gelu", "glu")),
        (layer.norm1, "eps", (1e-6,)),
    )
    for owner, name, values in wanted:
        if (found := getattr(owner, name)) not in values:
            served = " or ".join(map(repr, values))
            raise ParameterError(f"{name}={found!r}: only {served} can be served; train with that")
    state = dict(module.state_dict())
    for block, own in enumerate(layers):
        for name in (f"layers.{block}.slice.{part}.weight" for part in ("vf_A", "vf_B")):
            if name in state:
                state[name] = state[name] * own.slice.scale  # of the inputs, and of the channel of ones
    return from_stack(
        state,
        SLICES,
        "slice",
        channels=channels,
        depth=depth,
        windows=windows,
        token=token,
        perceptron=layer.ff_activation,
        names=names,
        fills=fills,
        task=task,
        labels=labels,
        emit=emit,
    )


def _collected(state: State, parts: Mapping[str, str], layout: Layout) -> tuple[dict[str, Tensor], Recurrence, int]:
    """Return the tensors under streamrde's names, the recurrence, and the number of blocks."""
    for part in (*PARTS, *parts):
        if part not in parts or part not in (*PARTS, "last"):
            raise ParameterError(
                f"parts: {part!r} is missing or unknown; name {', '.join(PARTS)}, and last if it exists"
            )
    for part in ("before", "recurrence", "between", "up", "down"):
        if "{}" not in parts[part]:
            raise ParameterError(f"parts[{part!r}]={parts[part]!r}: put {{}} where the number of the block stands")
    tensors: dict[str, Tensor] = {}
    recurrences: list[Recurrence] = []
    used: set[str] = set()
    while own := _under(state, prefix := parts["recurrence"].format(len(recurrences))):
        found = read(own, layout)
        before = f"field.blocks.{len(recurrences)}.recurrence"
        tensors |= {f"{before}.{name}": tensor for name, tensor in found.tensors.items()}
        recurrences.append(found.recurrence)
        used |= {f"{prefix}.{name}" for name in own}
    if not recurrences:
        raise ParameterError(f"parts['recurrence']={parts['recurrence']!r}: no tensor's name begins with {prefix!r}")
    for part, pattern in parts.items():
        if part == "recurrence":
            continue
        for block in range(len(recurrences) if "{}" in pattern else 1):
            inside = f"blocks.{block}." if "{}" in pattern else ""
            name = part if part == "readout" else f"field.{inside}{part}"
            own = _under(state, prefix := pattern.format(block))
            if "weight" not in own:
                raise ParameterError(f"parts[{part!r}]: {prefix}.weight is not in the state dict")
            used |= {f"{prefix}.{key}" for key in ("weight", "bias")}
            tensors[f"{name}.weight"] = own["weight"].detach()
            if part not in ("before", "between", "last"):
                tensors[f"{name}.bias"] = own.get("bias", torch.zeros(len(own["weight"])).to(own["weight"])).detach()
            elif "bias" in own:
                raise ParameterError(f"{prefix}.bias: a norm by the root mean square has no bias")
    if left := [name for name in state if name not in used]:
        raise ParameterError(
            f"{left[0]} and {len(left) - 1} more tensors belong to no part; name the parts they are of"
        )
    return tensors, recurrences[0], len(recurrences)


def _under(state: State, prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with the prefix, without it."""
    return {name.removeprefix(f"{prefix}."): own for name, own in state.items() if name.startswith(f"{prefix}.")}
