"""Shrink predictions of numbers towards the mean, as far as streams that did not train say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from streamrde.arrays import Floats, Indices
from streamrde.models.neural_rde import NeuralRDE
from streamrde.models.training.examples import Example, in_turn
from streamrde.models.training.losses import Objective


def factors(true: Floats, predicted: Floats, weights: Floats, groups: Sequence[str] | Indices) -> Floats:
    """Return the factor on each output's distance from the mean, (outputs,), from 0 to 1.

    With t the true and p the predicted distance from the mean, the factor is ``c = sum w t p / sum w p^2``: it gives
    the least weighted squared error. Each group counts the same. If the prediction c p is better than the mean by less
    than one standard error over the groups, the factor is 0: nothing was learned that carries over to others. One group
    alone cannot tell: the factors are 1.

    Args:
        true, predicted: distances from the mean, (n, outputs).
        weights: (n, outputs). 0 where there is no target.
        groups: (n,).
    Reference: Breiman et al. 1984, "Classification and regression trees", section 3.4.3 (the standard error's rule).
    """
    _, number = np.unique(np.asarray(groups), return_inverse=True)
    count = int(number.max()) + 1
    if count == 1:
        return np.ones(true.shape[1])

    def sums(values: Floats) -> Floats:
        found = np.zeros((count, values.shape[1]))
        np.add.at(found, number, values)
        return found

    total = sums(weights)
    total = np.where(total > 0, total, 1.0)
    product, square = (sums(weights * value) / total for value in (true * predicted, predicted**2))
    whole = square.sum(axis=0)
    factor = np.clip(product.sum(axis=0) / np.where(whole > 0, whole, 1.0), 0.0, 1.0)
    better = 2 * factor * product - factor**2 * square
    error = better.std(axis=0, ddof=1) / np.sqrt(count)
    return np.where(better.mean(axis=0) > error, factor, 0.0)


@torch.no_grad()
def shrink(
    model: NeuralRDE, examples: Sequence[Example], groups: Sequence[str], objective: Objective, *, batch_size: int
) -> Floats:
    """Shrink a trained model's outputs, by its readout, and return the factors.

    Args:
        model: of a regression. Its scaled outputs are distances from the mean of the training targets.
        examples: streams that did not train.
        groups: the group of each.
        objective: says which windows count.
    """
    parts: tuple[list[Floats], ...] = ([], [], [])
    of: list[str] = []
    names = iter(groups)
    for own, batch in in_turn(examples, size=batch_size, device=model.device):
        y = model.readouts(batch.x0, batch.logsigs).double()
        target = (batch.target - model.output_shift) / model.output_scale
        for part, values in zip(parts, (target, y, objective.weights(batch)), strict=True):
            part.append(values.flatten(0, 1).cpu().numpy())
        of += [name for _, name in zip(own, names, strict=False) for _ in range(y.shape[1])]
    true, predicted, weights = (np.concatenate(part) for part in parts)
    found = factors(true, predicted, weights, of)
    share = torch.as_tensor(found, dtype=model.dtype, device=model.device)
    model.readout.weight.mul_(share[:, None])
    model.readout.bias.mul_(share)
    return found
