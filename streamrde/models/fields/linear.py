"""Linear vector fields in torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from streamrde.inference.fields import Linear


class LinearField(nn.Module):
    """``dz/ds = sum_j l_j A_j z``, dense or block-diagonal, whose flow is a matrix exponential.

    See `streamrde.inference.fields.Linear`.

    Args:
        spec: size of the blocks.
        hidden: size of the state z.
        features: B, size of a window's log-signature.
        dtype: dtype of the weights.
    """

    def __init__(self, spec: Linear, *, hidden: int, features: int, dtype: torch.dtype) -> None:
        super().__init__()
        size = spec.block or hidden
        self.weight = nn.Parameter(torch.randn(features, hidden // size, size, size, dtype=dtype) / size**0.5)

    def flow(self, z: Tensor, logsig: Tensor, fading: Tensor | None) -> Tensor:
        """z after one window.

        Args:
            z: (N, hidden).
            logsig: scaled log-signature, (N, B).
            fading: decay times the window's duration, (N, hidden), or None.
        """
        generator = torch.einsum("nb,bkij->nkij", logsig, self.weight)
        blocks, size = generator.shape[1], generator.shape[2]
        if fading is not None:
            generator = generator - torch.diag_embed(fading.reshape(-1, blocks, size))
        return (torch.matrix_exp(generator) @ z.reshape(-1, blocks, size, 1)).reshape(z.shape)
