"""Linear vector fields in torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from streamrde.inference.fields import Linear
from streamrde.inference.header import Header
from streamrde.models.torch_field import TorchField, Window


class LinearField(TorchField):
    """``dz/ds = sum_j l_j A_j z``, dense or block-diagonal, whose flow is a matrix exponential.

    See `streamrde.inference.fields.Linear`.
    """

    def __init__(self, spec: Linear, header: Header) -> None:
        super().__init__()
        size, dtype = spec.block or header.member_hidden, getattr(torch, header.dtype)
        shape = header.logsig_channels, header.member_hidden // size, size, size
        self.weight = nn.Parameter(torch.randn(*shape, dtype=dtype) / size**0.5)

    def last_weights(self) -> Sequence[Tensor]:
        """Return the matrices."""
        return [self.weight]

    def advance(self, header: Header, z: Tensor, window: Window) -> tuple[Tensor, Tensor]:
        """Multiply the states by the exponential of the window's matrices. See TorchField."""
        generator = torch.einsum("nb,bkij->nkij", window.logsig, self.weight)
        blocks, size = generator.shape[1], generator.shape[2]
        if window.exponent is not None:
            generator = generator - torch.diag_embed(window.exponent.reshape(-1, blocks, size))
        moved = (torch.matrix_exp(generator) @ z.reshape(-1, blocks, size, 1)).reshape(z.shape)
        return moved, torch.zeros_like(z[:, 0])
