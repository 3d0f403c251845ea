"""The contract of a vector field in torch, for training: the twin of streamrde.inference.vector_field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from streamrde.inference.header import Header
from streamrde.inference.perceptron import PerceptronField
from streamrde.inference.solving import solve
from streamrde.inference.vector_field import VectorField
from streamrde.models.activations import ACTIVATIONS


class Window(NamedTuple):
    """A window of N streams as a field sees it."""

    logsig: Tensor
    """Scaled log-signatures, (N, B)."""
    previous: Tensor | None
    """Those of the windows before, which drive the solver's first stage. None: `logsig` does."""
    seconds: Tensor
    """Durations, (N, 1)."""
    exponent: Tensor | None
    """Decay times duration, (N, hidden). None: the state does not decay."""
    mask: Tensor | None
    """Factors on the hidden features that dropout drops, (N, width). None: 1."""
    precontract: bool
    """Contract the field with the log-signature once per window, if the field can."""
    estimate: bool
    """False leaves the error at 0, unless the substeps depend on it."""


class TorchField(nn.Module):
    """A vector field with weights, made from its description and the header: ``TorchField(description, header)``."""

    def advance(self, header: Header, z: Tensor, window: Window) -> tuple[Tensor, Tensor]:
        """Return the states (N, hidden) after a window, and estimates of the step's errors, (N,)."""
        raise NotImplementedError

    def last_weights(self) -> Sequence[Tensor]:
        """Return the weights of the last layer, which `training.field_gain` multiplies."""
        raise NotImplementedError

    def description(self) -> VectorField:
        """Describe a field whose weights are not in the model file, as the header does."""
        raise NotImplementedError

    def undecayed(self) -> Sequence[Tensor]:
        """Return the weights that weight decay leaves alone. By default there are none."""
        return []


class SequenceTorchField(TorchField):
    """A field that moves states over all windows of a sequence at once."""

    def states(self, z: Tensor, logsigs: Tensor, seconds: Tensor, mask: Tensor | None, *, through: bool) -> Tensor:
        """Return the states at every window edge, (N, K+1, hidden).

        Args:
            z: states before the first window, (N, hidden).
            logsigs: scaled tokens, (N, K, B).
            seconds: durations of the windows, (N, K, 1).
            mask: factors on what dropout drops, (N, width). None: 1.
            through: False leaves gradients out of the parts of the state that are not read out.
        """
        raise NotImplementedError

    def advance(self, header: Header, z: Tensor, window: Window) -> tuple[Tensor, Tensor]:
        """Move the states over a sequence of one window. See TorchField."""
        moved = self.states(z, window.logsig[:, None], window.seconds[:, None], window.mask, through=True)[:, 1]
        return moved, torch.zeros_like(moved[:, 0])


class SolvedTorchField(TorchField):
    """A vector field that the header's solver steps."""

    def drift(
        self, logsig: Tensor, *, mask: Tensor | None = None, precontract: bool = True
    ) -> Callable[[Tensor], Tensor]:
        """Return the function z (N, hidden) -> F(z) l for one window. The arguments are those of `Window`."""
        raise NotImplementedError

    def advance(self, header: Header, z: Tensor, window: Window) -> tuple[Tensor, Tensor]:
        """Solve the window's equation. See TorchField."""
        mask, precontract, previous = window.mask, window.precontract, window.previous
        drift = self.drift(window.logsig, mask=mask, precontract=precontract)
        first = None if previous is None else self.drift(previous, mask=mask, precontract=precontract)
        fading, exponent = None, window.exponent
        if exponent is not None:
            fading = lambda share: torch.exp(-exponent * share)  # noqa: E731
        moved, error = solve(
            header, z, drift, first, fading, estimate=window.estimate, distance=_distance, where=torch.where
        )
        return moved, torch.zeros_like(moved[:, 0]) if error is None else error


class PerceptronTorchField(SolvedTorchField, nn.ModuleList):
    """A field that ends in a perceptron's linear layer: the twin of `streamrde.inference.perceptron`."""

    def __init__(self, spec: PerceptronField, header: Header) -> None:
        self.shape = header.member_hidden, spec.columns(header)
        sizes = [self.shape[0]] + [spec.width] * spec.layers + [self.shape[0] * self.shape[1]]
        super().__init__(nn.Linear(a, b, dtype=getattr(torch, header.dtype)) for a, b in pairwise(sizes))
        self.activations = [ACTIVATIONS[name] for name in spec.activations]
        self.final = ACTIVATIONS[spec.final_activation]

    @property
    def last(self) -> nn.Linear:
        """Return the final linear layer."""
        return cast(nn.Linear, self[-1])

    def last_weights(self) -> Sequence[Tensor]:
        """Return weight and bias of the final linear layer."""
        return list(self.last.parameters())

    def features(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return h(z), the output of the last hidden layer, times `mask`, (..., width)."""
        for layer, activation in zip(self, self.activations, strict=False):
            z = activation(layer(z))
        return z if mask is None else z * mask


def _distance(coarse: Tensor, fine: Tensor) -> Tensor:
    """See streamrde.inference.solving.step_error."""
    return (((fine - coarse) / (1 + fine.abs())) ** 2).mean(dim=1).sqrt()
