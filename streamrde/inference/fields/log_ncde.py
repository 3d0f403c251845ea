"""The vector field of Log-NCDEs: Lie brackets of a field of the path's channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from streamrde.arrays import Indices, Reals
from streamrde.inference.activations import ACTIVATIONS, DERIVATIVES, Activation, FinalActivation
from streamrde.inference.model_part import Tensors
from streamrde.inference.perceptron import PerceptronField, PerceptronOnArrays
from streamrde.inference.vector_field import SolvedField

if TYPE_CHECKING:
    from streamrde.inference.header import Header


class Drivers(NamedTuple):
    """Places in a token of what drives the vector fields V_i, and of what drives their brackets."""

    fields: Indices
    """Place of the entry that drives V_i, (V,)."""
    brackets: Indices
    """Place of the entry that drives [V_i, V_j], (brackets,)."""
    first: Indices
    """i, (brackets,)."""
    second: Indices
    """j > i, (brackets,)."""


def drivers(header: Header) -> Drivers:
    """Return the places in the model's token.

    A channel has a vector field of its own in each scale, and so has every further entry. Fields of one scale have
    brackets with each other if the scale has depth 2.
    """
    channels = header.path_channels
    places = header.partition.places
    scales, ends = places.scales, places.ends
    depths = header.token.depths(header.depth)
    rows, columns = np.triu_indices(channels, 1)
    # Words of two letters come in the order of the upper triangle's rows.
    deep = [i for i, depth in enumerate(depths) if depth > 1]
    return Drivers(
        np.concatenate(
            [np.arange(own.start, own.start + channels) for own in scales] + [np.arange(ends.start, places.size)]
        ),
        np.concatenate([np.arange(scales[i].start + channels, scales[i].stop) for i in deep] or [np.zeros(0, np.intp)]),
        np.concatenate([i * channels + rows for i in deep] or [np.zeros(0, np.intp)]),
        np.concatenate([i * channels + columns for i in deep] or [np.zeros(0, np.intp)]),
    )


class LogNCDE(PerceptronField, frozen=True, kw_only=True, tag="log_ncde"):
    """A perceptron with one vector field V_i per channel of the path, and their Lie brackets for depth 2.

    ``dz/ds = sum_i l_i V_i(z) + sum_{i<j} l_ij [V_i, V_j](z)`` with ``[V_i, V_j] = DV_j V_i - DV_i V_j``. All brackets
    together are ``sum_j DV_j U_j``, ``U_j = sum_i Omega_ij V_i``, Omega antisymmetric with l_ij above its diagonal: one
    Jacobian-vector product per channel. The scales of the log-signature must be those of the channels, multiplied
    along each word; else these would not be brackets of one field. Layers as of `MLP`, the last with hidden * C
    outputs. If a token has more than one log-signature, each one has vector fields and brackets of its own, and its
    other entries have one vector field each; see `drivers`.

    Reference: Walker et al. 2024, "Log neural controlled differential equations: the Lie brackets make a difference".
    """

    most_depth: ClassVar[int | None] = 2
    scaled_along_words: ClassVar[bool] = True
    activation: Activation = "silu"
    """Activation between hidden layers."""
    last_activation: Activation = "silu"
    """Activation after the last hidden layer."""
    final_activation: FinalActivation = "tanh"
    """Activation after the linear layer."""

    def columns(self, header: Header) -> int:
        """Return V, the number of vector fields: one per channel of the path, scale and further entry of a token."""
        return len(drivers(header).fields)

    def summary(self, header: Header) -> str:
        """Describe the layers in a phrase for people."""
        perceptron = f"{self.activation} perceptron, {self.layers_phrase()}"
        return f"Lie brackets of a {perceptron}, {self.final_activation} at its end"

    def build(self, name: str, header: Header, tensors: Tensors) -> SolvedField:
        """Make the field on arrays."""
        return _Brackets(self, header, tensors)


class _Brackets(PerceptronOnArrays):
    def __init__(self, spec: LogNCDE, header: Header, tensors: Tensors) -> None:
        super().__init__(spec, header, tensors)
        self._drivers = drivers(header)
        self._weight, self._bias = self.last[0].reshape(*self.shape, spec.width), self.last[1].reshape(self.shape)

    def drift(self, logsig: Reals) -> Callable[[Reals], Reals]:
        """See SolvedField."""
        where, count = self._drivers, self.shape[1]
        own = logsig[where.fields]
        omega = np.zeros((count, count), logsig.dtype)
        omega[where.first, where.second] = logsig[where.brackets]
        omega -= omega.T

        def drift(z: Reals) -> Reals:
            h, slopes = z, []
            for (weight, bias), name in zip(self.layers, self.names, strict=True):
                before = weight @ h + bias
                h = ACTIVATIONS[name](before)
                slopes.append(DERIVATIVES[name](before))
            last = self._weight @ h + self._bias  # (hidden, V)
            fields = ACTIVATIONS[self.final](last)
            moved = fields @ own
            if not len(where.brackets):
                return np.asarray(moved)
            tangents = fields @ omega  # U, (hidden, V): one direction per field
            for (weight, _), slope in zip(self.layers, slopes, strict=True):
                tangents = slope[:, None] * (weight @ tangents)
            brackets = np.einsum("hcw,wc->hc", self._weight, tangents)
            return np.asarray(moved + (DERIVATIVES[self.final](last) * brackets).sum(axis=1))

        return drift
