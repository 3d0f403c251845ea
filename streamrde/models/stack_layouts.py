"""Tensors of recurrences from elsewhere, by the names that they have there, as streamrde's recurrences take them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from streamrde.errors import ParameterError
from streamrde.inference.recurrence import Recurrence
from streamrde.inference.stacks.gru import GRU
from streamrde.inference.stacks.lru import FLOOR, LRU
from streamrde.inference.stacks.lstm import LSTM
from streamrde.inference.stacks.min_gru import MinGRU
from streamrde.inference.stacks.s4d import S4D
from streamrde.inference.stacks.slice import SLiCE

Layout: TypeAlias = Literal["slice", "lru", "s5", "s4d", "min_gru", "gru", "lstm"]
State: TypeAlias = Mapping[str, Tensor]


class Read(NamedTuple):
    """A recurrence, and its tensors by their names within the block."""

    recurrence: Recurrence
    tensors: dict[str, Tensor]


def _slice(state: State) -> Read:
    """`SLiCE` of torch-slices, with path_mode="increments" and transition_mode="matrix_exp"."""
    generator, start = state["vf_A.weight"], state["init"]
    hidden = len(start)
    block = len(generator) // hidden
    if block > 4:
        raise ParameterError(f"block_size={block}: blocks of at most 4 rows are served")
    # Theirs stand block after block, each row by row. Here the block is the last index.
    a = generator.reshape(-1, block, block, generator.shape[1]).permute(1, 2, 0, 3).flatten(0, 2)
    value = state.get("vf_B.weight", torch.zeros(hidden, generator.shape[1]).to(generator))
    b = value.reshape(-1, block, value.shape[1]).transpose(0, 1).flatten(0, 1)
    eye = torch.eye(hidden).to(generator).reshape(hidden, -1, block).transpose(1, 2).flatten(1)
    # The first column multiplies the channel of ones.
    tensors = {
        "generator.weight": a[:, 1:],
        "generator.bias": a[:, 0],
        "value.weight": b[:, 1:],
        "value.bias": b[:, 0],
        "out.weight": eye,
        "start": start.reshape(-1, block).T.flatten(),
    }
    return Read(SLiCE(block=block, damped=False, started=True), tensors)


def _diagonal(poles: Tensor, drive: Tensor, out: Tensor, skip: Tensor) -> Read:
    """``h <- e^poles h + drive u``, output ``Re(out h) + skip u``, all complex, as an LRU."""
    # A mode that turns backwards is the conjugate of one that turns forwards.
    backwards = poles.imag < 0
    poles = torch.where(backwards, poles.conj(), poles)
    drive = torch.where(backwards[:, None], drive.conj(), drive)
    out = torch.where(backwards, out.conj(), out)
    if not bool((poles.real < 0).all()):
        raise ParameterError("a mode does not decay: its pole must have a negative real part")
    gain = (FLOOR - torch.expm1(2 * poles.real)).sqrt()
    drive = drive / gain[:, None]
    tensors = {
        "rate": (-poles.real).log(),
        # A mode that does not turn gets the slowest frequency that its logarithm can hold.
        "angle": poles.imag.clamp(min=torch.finfo(poles.real.dtype).tiny).log(),
        "drive.weight": torch.cat([drive.real, drive.imag]),
        "out.weight": torch.cat([out.real, -out.imag], dim=1),
        "skip": skip,
    }
    return Read(LRU(modes=len(poles)), tensors)


def _lru(state: State) -> Read:
    """`LRU` of its authors' minimal code, ported to torch under the same names."""
    poles = torch.complex(-state["nu_log"].exp(), state["theta_log"].exp())
    drive = torch.complex(state["B_re"], state["B_im"]) * state["gamma_log"].exp()[:, None]
    return _diagonal(poles, drive, torch.complex(state["C_re"], state["C_im"]), state["D"])


def _s5(state: State) -> Read:
    """`S5SSM` of s5-pytorch, of one direction, degree 1 and zero-order hold."""
    b, poles = state["B"], state["Lambda"]
    if not b.is_complex():
        b = torch.view_as_complex(b.contiguous())
    steps = state["log_step"].flatten().exp()
    drive = (torch.expm1(poles * steps) / poles)[:, None] * b
    return _diagonal(poles * steps, drive, state["C"], state["D"])


def _s4d(state: State) -> Read:
    """`S4D` of state-spaces' minimal code, its kernel and D. What follows them there belongs to the block."""
    rate, angle, c = (state[f"kernel.{name}"] for name in ("log_A_real", "A_imag", "C"))
    c = c if c.is_complex() else torch.view_as_complex(c.contiguous())
    tensors = {
        "rate": rate.T.flatten(),
        "angle": angle.T.flatten(),
        "step": state["kernel.log_dt"],
        "out.weight": torch.stack([c.real, c.imag]).transpose(1, 2),
        "skip": state["D"],
    }
    return Read(S4D(modes=rate.shape[1]), tensors)


def _min_gru(state: State) -> Read:
    """Read a minGRU as in its paper's section 3.1: `linear_z` and `linear_h`, each with or without a bias."""
    gate, value = state["linear_z.weight"], state["linear_h.weight"]
    zeros = torch.zeros(len(gate)).to(gate)
    tensors = {
        "gate.weight": gate,
        "gate.bias": state.get("linear_z.bias", zeros),
        "value.weight": value,
        "value.bias": state.get("linear_h.bias", zeros),
        "out.weight": torch.eye(len(gate)).to(gate),
    }
    return Read(MinGRU(), tensors)


def _cell(recurrence: Recurrence) -> Callable[[State], Read]:
    """`torch.nn.GRU` and `torch.nn.LSTM` of one layer."""
    names = [f"{kind}_{part}_l0" for kind in ("weight", "bias") for part in ("ih", "hh")]
    return lambda state: Read(recurrence, {f"cell.{name}": state[name] for name in names})


READERS: dict[str, Callable[[State], Read]] = {
    "slice": _slice,
    "lru": _lru,
    "s5": _s5,
    "s4d": _s4d,
    "min_gru": _min_gru,
    "gru": _cell(GRU()),
    "lstm": _cell(LSTM()),
}
"""Readers of recurrences' tensors by layout. Each names the module whose names it reads."""


def read(state: State, layout: Layout) -> Read:
    """Return a recurrence from its tensors.

    Raises:
        ParameterError: a tensor is missing, or cannot be served.
    """
    try:
        return READERS[layout](state)
    except KeyError as error:
        raise ParameterError(f"layout {layout!r} needs the tensor {error.args[0]!r}, which is not there") from None
