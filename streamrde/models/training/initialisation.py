"""Weights that training starts from."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from streamrde.errors import ParameterError
from streamrde.inference.header import Header
from streamrde.models.fields.mlp import MLPField
from streamrde.models.neural_rde import NeuralRDE


@torch.no_grad()
def shrink_field(model: NeuralRDE, gain: float) -> None:
    """Multiply the last layer of the field by `gain`."""
    for weight in model.field.last_weights():
        weight.mul_(gain)


def carries_sample(header: Header) -> bool:
    """Return True if `carry_sample` can be applied: tokens begin with the window's own log-signature."""
    return header.field.plain_activations is not None and header.token.window_depth(header.depth) > 0


@torch.no_grad()
def carry_sample(model: NeuralRDE) -> None:
    """Let the state's first components, one per data channel, carry the current sample, standardised as x0 is.

    A window's log-signature tells how the path moved, not where it is; that only the state can know. The field's bias
    adds the increments (level 1) to what the initial layer read from x0, exactly:
    ``z_i(k) = (x_i(t_k) - x0.shift_i) x0.scale_i``, so that F depends on the sample from the first epoch on. These are
    starting values: training moves them. Components beyond `hidden` are left out. If tokens are clipped, so are the
    increments. Needs the model's scaling.
    """
    features = model.header.logsig_channels
    # Channels that count observations grow without end, as time does, and are not carried either.
    carried = range(min(1 + len(model.header.channels), model.header.hidden))
    last = cast(MLPField, model.field).last
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


# Of the samples that are averaged, in standard deviations: tanh is within 5 % of a straight line up to 1 / this.
_SLOPE = 0.4


@torch.no_grad()
def carry_average(model: NeuralRDE, seconds: float) -> None:
    """Let the components after those of `carry_sample` carry the integral of each data channel's sample over time.

    Feature i of the field becomes ``tanh(0.4 z_i)``, and the field's weight for time adds it up:
    ``z_(C+i)(t) = 1 / (0.4 seconds) int_0^t tanh(0.4 z_i(s)) ds``, which after `seconds` is the average of the
    standardised samples, outliers weighing less. As many channels as `width` and `hidden` have room for. Needs the
    model's scaling, and `carry_sample` before.

    Raises:
        ParameterError: the field is no perceptron with one hidden layer, of tanh.
    """
    if model.header.field.plain_activations != ("tanh",):
        raise ParameterError(
            f"training.start='average' with field {model.header.field}: it takes field 'mlp' with layers = 1 and "
            "last_activation = 'tanh'; or use start = 'sample'"
        )
    hidden, data = model.header.hidden, len(model.header.channels)
    features = model.header.logsig_channels
    field = cast(MLPField, model.field)
    first, last = cast(nn.Linear, field[0]), field.last
    weight, bias = last.weight.view(hidden, features, -1), last.bias.view(hidden, features)
    for i in range(min(data, first.out_features, hidden - data - 1)):
        first.weight[i] = 0.0
        first.weight[i, 1 + i] = _SLOPE
        first.bias[i] = 0.0
        place = 1 + data + i
        model.initial.weight[place] = 0.0
        model.initial.bias[place] = 0.0
        weight[place] = 0.0
        bias[place] = 0.0
        weight[place, 0, i] = 1 / (_SLOPE * seconds * float(model.logsig_scale[0]))
