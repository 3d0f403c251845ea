"""The contract of a vector field in torch, for training: the twin of streamrde.inference.vector_field."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from streamrde.inference.header import Header
from streamrde.inference.vector_field import VectorField
from streamrde.models.solving import solve


class TorchField(nn.Module):
    """A vector field with weights, made from its description and the header: ``TorchField(description, header)``."""

    def advance(
        self,
        header: Header,
        z: Tensor,
        logsig: Tensor,
        previous: Tensor | None,
        exponent: Tensor | None,
        *,
        mask: Tensor | None = None,
        precontract: bool = True,
        estimate: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Return states (N, hidden) after a window, and estimates of their errors, (N,).

        Args:
            header: the solver, its substeps and tolerance.
            z: states before the window, (N, hidden).
            logsig: its log-signature, scaled, (N, B).
            previous: that of the window before, which drives the solver's first stage. None: `logsig` does.
            exponent: decay times the window's duration, (N, hidden). None: the state does not decay.
            mask: factors on the hidden features that dropout drops, (N, width). None: 1.
            precontract: contract the field with the log-signature once per window, if the field can.
            estimate: False leaves the error at 0, unless the substeps depend on it.
        """
        raise NotImplementedError

    def last_weights(self) -> Sequence[Tensor]:
        """Return the weights of the last layer, which `training.field_gain` multiplies."""
        raise NotImplementedError

    def description(self) -> VectorField:
        """Describe a field whose weights are not in the model file, as the header does."""
        raise NotImplementedError


class SolvedTorchField(TorchField):
    """A vector field that the header's solver steps."""

    def drift(
        self, logsig: Tensor, *, mask: Tensor | None = None, precontract: bool = True
    ) -> Callable[[Tensor], Tensor]:
        """Return the function z (N, hidden) -> F(z) l for one window. The arguments are those of `advance`."""
        raise NotImplementedError

    def advance(
        self,
        header: Header,
        z: Tensor,
        logsig: Tensor,
        previous: Tensor | None,
        exponent: Tensor | None,
        *,
        mask: Tensor | None = None,
        precontract: bool = True,
        estimate: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Solve the window's equation. See TorchField."""
        drift = self.drift(logsig, mask=mask, precontract=precontract)
        first = None if previous is None else self.drift(previous, mask=mask, precontract=precontract)
        fading = None if exponent is None else lambda share: torch.exp(-exponent * share)
        return solve(header, z, drift, first, fading, estimate=estimate)
