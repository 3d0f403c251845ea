"""Weights that training starts from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from streamrde.errors import ParameterError
from streamrde.inference.fields import MLP
from streamrde.models.fields import LinearField, LogNCDEField, MLPField
from streamrde.models.neural_rde import NeuralRDE


@torch.no_grad()
def shrink_field(model: NeuralRDE, gain: float) -> None:
    """Multiply the field by `gain`, where it is a last layer of weights."""
    weights = [last_weight(model)] if isinstance(model.field, LinearField) else list(last_layer(model).parameters())
    for weight in weights:
        weight.mul_(gain)


def last_weight(model: NeuralRDE) -> Tensor:
    """The field's weights by which the log-signature is multiplied.

    Raises:
        ParameterError: the field is a module of its own, of which they are not known.
    """
    return model.field.weight if isinstance(model.field, LinearField) else last_layer(model).weight


def carries_samples(model: NeuralRDE) -> bool:
    """Whether `carry_sample` works for the model's field."""
    spec = model.header.field
    return isinstance(spec, MLP) and spec.final_activation == "identity"


def last_layer(model: NeuralRDE) -> nn.Linear:
    """The field's final linear layer.

    Raises:
        ParameterError: it has none.
    """
    if not isinstance(model.field, (MLPField, LogNCDEField)):
        raise ParameterError(f"field {model.header.field}: it has no last layer; use start='random'")
    return model.field.last


@torch.no_grad()
def carry_sample(model: NeuralRDE) -> None:
    """Let the state's first components, one per data channel, carry the current sample, standardised as x0 is.

    A window's log-signature tells how the path moved, not where it is; that only the state can know. The field's bias
    adds the increments (level 1) to what the initial layer read from x0, exactly:
    ``z_i(k) = (x_i(t_k) - x0.shift_i) x0.scale_i``, so that F depends on the sample from the first epoch on. These are
    starting values: training moves them. Components beyond `hidden` are left out. Needs the model's scaling.
    """
    features = model.header.logsig_channels
    # Channels that count observations grow without end, as time does, and are not carried either.
    carried = range(min(1 + len(model.header.channels), model.header.hidden))
    last = last_layer(model)
    weight = last.weight.view(model.header.hidden, features, -1)
    bias = last.bias.view(model.header.hidden, features)
    # Time grows without end and is no sample to carry: component 0 stays as it was drawn.
    for i in carried[1:]:
        model.initial.weight[i] = 0.0
        model.initial.weight[i, i] = 1.0
        model.initial.bias[i] = 0.0
        weight[i] = 0.0
        bias[i] = 0.0
        bias[i, i] = model.x0_scale[i] / model.logsig_scale[i]
