"""Any torch module as a vector field."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from streamrde.errors import ShapeError
from streamrde.inference.fields import External
from streamrde.inference.header import Header
from streamrde.models.torch_field import SolvedTorchField


class ModuleField(SolvedTorchField):
    """A module z (N, hidden) -> F(z), (N, hidden, B) or (N, hidden * B).

    Args:
        module: the module; a torchcde field f(t, z) has its time left out first, as in ``lambda z: f(None, z)``.
        header: sizes of the state and of a window's log-signature.
    """

    def __init__(self, module: nn.Module, header: Header) -> None:
        super().__init__()
        self.module = module
        self._shape = header.hidden, header.logsig_channels

    def drift(
        self, logsig: Tensor, *, mask: Tensor | None = None, precontract: bool = True
    ) -> Callable[[Tensor], Tensor]:
        """See SolvedTorchField."""

        def drift(z: Tensor) -> Tensor:
            matrix = self.module(z)
            if tuple(matrix.shape[1:]) not in (self._shape, (self._shape[0] * self._shape[1],)):
                wanted = (z.shape[0], *self._shape)
                raise ShapeError(f"the field returned {tuple(matrix.shape)} for z {tuple(z.shape)}; expected {wanted}")
            return torch.bmm(matrix.reshape(-1, *self._shape), logsig.unsqueeze(-1)).squeeze(-1)

        return drift

    def description(self) -> External:
        """Describe the module by its class, and a digest of class and weights."""
        return described(self.module)


def described(module: nn.Module) -> External:
    """Describe a module that is not in a model file by its class, and a digest of class and weights."""
    name = type(module).__qualname__
    digest = hashlib.sha256(f"{type(module).__module__}.{name}".encode())
    inner = module
    while isinstance(getattr(inner, "inner", None), nn.Module):  # what streamrde wraps around a module of yours
        inner = cast(nn.Module, inner.inner)
        name = type(inner).__qualname__
        digest.update(f"{type(inner).__module__}.{name}".encode())
    for key, tensor in sorted(module.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return External(name=name, digest=digest.hexdigest())
