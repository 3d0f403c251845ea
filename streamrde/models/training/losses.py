"""What training minimises: losses, and how much each window, class and target counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from streamrde.errors import ConfigError
from streamrde.inference.bundle import Header
from streamrde.models.neural_rde import NeuralRDE
from streamrde.models.training.config import TrainingConfig
from streamrde.models.training.examples import Batch, Example


class Objective:
    """The loss of a model's outputs.

    Classification: the cross entropy, times its class's weight. Regression: of the error e in standard deviations of
    its target ``e^2``, or Huber's loss, ``e^2`` up to `huber` and linear beyond, ``2 huber |e| - huber^2``, times its
    target's weight; weights of targets are divided by their mean. Outputs and targets are scaled before they are
    subtracted, so that no offset costs digits.

    Args:
        config: `loss`, `loss_on`, `class_weights`, `target_weights`, `label_smoothing`.
        header: of the model.
        train: the training streams, from which "balanced" weights of classes are made.
        device: where the model is.
    Raises:
        ConfigError: weights for classes that there are not.
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
        """How much each window, and each target in it, counts in the loss, as `Batch.weight`; sums to 1 per stream.

        Every window counts the same, so that the answer is right early and stays right; or in proportion to its number,
        counted from 1 ("ramp"); or only the last one that has a target.
        """
        weight = batch.weight
        if self._on == "last":
            # From the last one on the sum over the windows to come is its own weight.
            weight = weight * (weight.flip(1).cumsum(1).flip(1) == weight)
        elif self._on == "ramp":
            number = torch.arange(1, weight.shape[1] + 1, dtype=weight.dtype, device=weight.device)
            weight = weight * number.reshape(-1, *[1] * (weight.ndim - 2))
        total = weight.flatten(1).sum(dim=1).reshape(-1, *[1] * (weight.ndim - 1))
        return weight / total.clamp(min=1e-12)

    @torch.no_grad()
    def undo_weights(self, model: NeuralRDE) -> None:
        """Take the classes' weights out of a trained model's odds.

        The weighted loss is least where class c has the probability ``w_c p_c / sum(w p)``: its logit is too high by
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
        """Mean of the windows' losses by their weight; 0 where there is no target at all.

        Args:
            y: readouts, (N, K, outputs): logits, or scaled values.
            target: as `Batch.target`.
            weight: as of `weights`.
            shift, scale: means and standard deviations of the targets, (outputs,), float64; read for a regression only.
            smoothing: share of a class's probability that is spread over all.
        """
        if self._classify:
            losses = nn.functional.cross_entropy(
                y.flatten(0, 1), target.flatten(), reduction="none", label_smoothing=smoothing
            ).reshape(target.shape)
            if self._weights is not None:
                losses = losses * self._weights.to(losses.dtype)[target]
        else:
            # Where there is no target, 0 stands for it, which may be any number of deviations away.
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
    """Weights whose mean over the training streams is 1, or as they are given, (classes,)."""
    given = config.class_weights
    if given == "equal":
        return None
    counts = np.zeros(header.outputs)
    for example in train:
        known = example.target[example.target >= 0]
        counts += np.bincount(known, minlength=header.outputs) / max(1, len(known))
    if given == "balanced":
        return np.asarray(counts.sum() / (header.outputs * np.maximum(counts, 1)))
    assert isinstance(given, dict)  # noqa: S101 (what else the type allows)
    for label in given:
        if label not in header.labels:
            raise ConfigError(
                f"training.class_weights names '{label}', which is no class of the training streams: "
                f"{', '.join(header.labels)}"
            )
    return np.array([given.get(label, 1.0) for label in header.labels])


def _target_weights(config: TrainingConfig) -> np.ndarray | None:
    weights = np.array(config.target_weights)
    return np.asarray(weights / weights.mean()) if len(weights) else None
