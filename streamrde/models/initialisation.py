"""Weights that training starts from."""

from __future__ import annotations

import torch

from streamrde.models.neural_rde import NeuralRDE


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
    last = model.field.last
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
