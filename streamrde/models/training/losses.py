"""Losses, and the weights of windows, classes and targets in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from streamrde.errors import ConfigError
from streamrde.inference.header import Header
from streamrde.models.neural_rde import NeuralRDE
from streamrde.models.training.config import TrainingConfig
from streamrde.models.training.examples import Batch, Example


class Objective:
    """Compute the loss of a model's outputs.

    Classification: the cross entropy times the class's weight. Regression, for the error e in standard deviations of
    its target: ``e^2``, or Huber's loss, ``e^2`` up to `huber` and ``2 huber |e| - huber^2`` beyond, times the target's
    weight. Weights of targets are divided by their mean. Outputs and targets are scaled before they are subtracted, so
    that no offset costs digits.

    Args:
        config: `loss`, `loss_on`, `class_weights`, `target_weights`, `label_smoothing`.
        header: the model's header.
        train: the training streams, for "balanced" weights of classes.
        device: the model's device.
    Raises:
        ConfigError: weights for unknown classes.
    """

    def __init__(
        self, config: TrainingConfig, header: Header, train: Sequence[Example], *, device: torch.device
    ) -> None:
        self._config = config
        self._classify = header.task == "classification"
        self._on = config.loss_on
        if self._on == "served":
            self._on = "last" if header.emit == "last" else "every"
        weights = _class_weights(config, header, train) if self._classify else _target_weights(config)
        self._weights = None if weights is None else torch.as_tensor(weights, device=device)

    def weights(self, batch: Batch) -> Tensor:
        """Weight each window and each of its targets, as `Batch.weight`. Weights sum to 1 per stream.

        Every window counts the same, so that the answer is right early and stays right. With "ramp" it counts in
        proportion to its number, from 1. With "last" only the last one that has a target counts.
        """
        weight = batch.weight
        if self._on == "last":
            # Only for the last window does the sum from there on equal its own weight.
            weight = weight * (weight.flip(1).cumsum(1).flip(1) == weight)
        elif self._on == "ramp":
            number = torch.arange(1, weight.shape[1] + 1, dtype=weight.dtype, device=weight.device)
            weight = weight * number.reshape(-1, *[1] * (weight.ndim - 2))
        total = weight.flatten(1).sum(dim=1).reshape(-1, *[1] * (weight.ndim - 1))
        return weight / total.clamp(min=1e-12)

    @torch.no_grad()
    def undo_weights(self, model: NeuralRDE) -> None:
        """Remove the classes' weights from a trained model's odds.

        The weighted loss is least if class c has the probability ``w_c p_c / sum(w p)``. Its logit is too high by
        ``log w_c`` (Elkan 2001, "The foundations of cost-sensitive learning", theorem 2).
        """
        if self._classify and self._weights is not None:
            model.readout.bias.sub_(self._weights.log().to(model.readout.bias.dtype))

    def loss(
        self,
        y: Tensor,
        target: Tensor,
        weight: Tensor,
        *,
        shift: Tensor | float = 0.0,
        scale: Tensor | float = 1.0,
        smoothing: float = 0.0,
    ) -> Tensor:
        """Return the weighted mean of the windows' losses, or 0 if there is no target at all.

        Args:
            y: readouts, (N, K, outputs): logits, or scaled values.
            target: as `Batch.target`.
            weight: as from `weights`.
            shift, scale: means and standard deviations of the targets, (outputs,), float64. For a regression only.
            smoothing: share of a class's probability that is spread over all classes.
        """
        if self._classify:
            losses = nn.functional.cross_entropy(
                y.flatten(0, 1), target.flatten(), reduction="none", label_smoothing=smoothing
            ).reshape(target.shape)
            if self._weights is not None:
                losses = losses * self._weights.to(losses.dtype)[target]
        else:
            # A missing target is 0, which may be any number of deviations away: mask it.
            error = (y - ((target - shift) / scale).to(y.dtype)).masked_fill(weight == 0, 0.0)
            losses = error**2
            if self._config.loss == "huber":
                size, knee = error.abs(), self._config.huber
                losses = torch.where(size <= knee, losses, 2 * knee * size - knee**2)
            if self._weights is not None:
                losses = losses * self._weights.to(losses.dtype)
        weight = weight.to(losses.dtype)
        loss: Tensor = (losses * weight).sum() / weight.sum().clamp(min=1e-12)
        return loss


def _class_weights(config: TrainingConfig, header: Header, train: Sequence[Example]) -> np.ndarray | None:
    """Return the given weights of classes, or balanced ones with mean 1 over the training streams, (classes,)."""
    given = config.class_weights
    if given == "equal":
        return None
    counts = np.zeros(header.outputs)
    for example in train:
        known = example.target[example.target >= 0]
        counts += np.bincount(known, minlength=header.outputs) / max(1, len(known))
    if given == "balanced":
        return np.asarray(counts.sum() / (header.outputs * np.maximum(counts, 1)))
    assert isinstance(given, dict)  # noqa: S101 (the only type left)
    for label in given:
        if label not in header.labels:
            raise ConfigError(
                f"training.class_weights names '{label}', which is not a class of the training streams: "
                f"{', '.join(header.labels)}"
            )
    return np.array([given.get(label, 1.0) for label in header.labels])


def _target_weights(config: TrainingConfig) -> np.ndarray | None:
    weights = np.array(config.target_weights)
    return np.asarray(weights / weights.mean()) if len(weights) else None
