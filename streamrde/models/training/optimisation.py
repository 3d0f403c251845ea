"""The training loop: AdamW, a warm-up and a cosine decay, gradient clipping, averaged weights, early stopping."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from streamrde.errors import ParameterError
from streamrde.inference.fields import MLP
from streamrde.models.neural_rde import NeuralRDE
from streamrde.models.training.config import TrainingConfig
from streamrde.models.training.examples import Batch, Example, collate
from streamrde.models.training.history import Epoch, History
from streamrde.models.training.progress import Reporter

# Share of the steps over which the learning rate rises from 0; AdamW's second moments need some to settle.
_WARM_UP = 0.05


def optimise(
    model: NeuralRDE,
    variants: Callable[[int], list[Example]],
    validation: Sequence[Example],
    config: TrainingConfig,
    *,
    device: torch.device,
    console: Console,
) -> History:
    """Fit `model` in place; it ends with the weights of the history's best epoch.

    With validation streams these are the weights with the least validation loss, else the last ones. Ctrl-C stops after
    the first epoch with what there is.

    Args:
        variants: epoch -> the training streams as they are in that epoch.
        validation: streams whose loss decides; may be empty.
    Raises:
        ParameterError: the loss is not finite: the training diverged.
    """
    rng = np.random.default_rng(config.seed)
    size = config.batch_size
    steps = math.ceil(len(variants(0)) / size) * config.epochs
    # A rate that is drawn to 0 would let its component of an endless stream's state grow without end.
    rates = [] if model.decay is None else [model.decay]
    weights = [parameter for parameter in model.parameters() if all(parameter is not rate for rate in rates)]
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": rates, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
    averaged = copy.deepcopy(model) if config.averaging else model
    best, best_loss, best_weights = 0, math.inf, None
    epoch, epochs = 0, []
    try:
        with Reporter(console, config.epochs) as reporter:
            for epoch in range(1, config.epochs + 1):
                began = time.perf_counter()
                examples = variants(epoch)
                order = rng.permutation(len(examples))
                total, rate = 0.0, 0.0
                norms: list[float] = []
                for start in range(0, len(order), size):
                    batch = collate([examples[i] for i in order[start : start + size]], device)
                    loss = batch_loss(model, batch, label_smoothing=config.label_smoothing, dropout=config.dropout)
                    total += float(loss.detach()) * len(batch.x0)
                    optimiser.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), config.gradient_norm)))
                    rate = float(schedule.get_last_lr()[0])
                    optimiser.step()
                    schedule.step()
                    if averaged is not model:
                        _average(averaged, model, config.averaging)
                validated = _validation_loss(averaged, validation, config, device) if validation else None
                _check_finite(total + (validated or 0.0), epoch, config)
                better = validated is not None and validated < best_loss
                if validated is not None and better:
                    best, best_loss, best_weights = epoch, validated, copy.deepcopy(averaged.state_dict())
                epochs.append(
                    Epoch(
                        number=epoch,
                        loss=total / max(1, len(examples)),
                        validation_loss=validated,
                        monitored=validated,
                        learning_rate=rate,
                        gradient_norm=float(np.mean(norms)),
                        seconds=time.perf_counter() - began,
                    )
                )
                reporter.epoch(epochs[-1], best=better)
                if validation and config.patience and epoch - best >= config.patience:
                    console.print(f"no better validation loss for {config.patience} epochs: stopped", highlight=False)
                    break
    except KeyboardInterrupt:
        if epoch <= 1:
            raise
        console.print(f"interrupted in epoch {epoch}: keeping the best weights so far", highlight=False)
    if best_weights is None:
        best, best_weights = epoch, averaged.state_dict()
    model.load_state_dict(best_weights)
    return History(monitor="loss", epochs=tuple(epochs), best=best)


def batch_loss(model: NeuralRDE, batch: Batch, *, label_smoothing: float = 0.0, dropout: float = 0.0) -> Tensor:
    """Mean over streams of the mean over their windows of the cross entropy, or of the squared scaled error.

    Every window counts, so that the answer is right early and stays right; of a model that speaks only when a stream
    ends, the last one.
    """
    mask = None
    if dropout and isinstance(model.header.field, MLP):
        # One mask per stream for all windows: fresh ones would be noise that the state sums up.
        keep = model.readout.weight.new_full((len(batch.x0), model.header.field.width), 1 - dropout)
        mask = torch.bernoulli(keep) / keep
    y = model.outputs(model.pooled(model.hidden_states(batch.x0, batch.logsigs, mask=mask)[:, 1:]))
    if model.header.task == "classification":
        losses = nn.functional.cross_entropy(
            y.flatten(0, 1), batch.target.flatten(), reduction="none", label_smoothing=label_smoothing
        ).reshape(batch.target.shape)
    else:
        losses = ((y - batch.target.to(y.dtype)) / model.output_scale.to(y.dtype)) ** 2
    weight = batch.weight.to(losses.dtype)
    if model.header.emit == "last":
        # Only the last window that has a target is served.
        weight = weight * (weight.flip(1).cumsum(1).flip(1) == weight)
    # A batch may have no target at all; its loss is then 0.
    loss: Tensor = (losses * weight).sum() / weight.sum().clamp(min=1e-12)
    return loss


@torch.no_grad()
def _validation_loss(
    model: NeuralRDE, examples: Sequence[Example], config: TrainingConfig, device: torch.device
) -> float:
    total = 0.0
    for start in range(0, len(examples), config.batch_size):
        batch = collate(examples[start : start + config.batch_size], device)
        total += float(batch_loss(model, batch)) * len(batch.x0)
    return total / len(examples)


def _rate(step: int, steps: int) -> float:
    """Share of the learning rate at a step."""
    warm = max(1.0, _WARM_UP * steps)
    return min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps))))


@torch.no_grad()
def _average(averaged: NeuralRDE, model: NeuralRDE, decay: float) -> None:
    for mean, value in zip(averaged.parameters(), model.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)


def _check_finite(loss: float, epoch: int, config: TrainingConfig) -> None:
    if not math.isfinite(loss):
        raise ParameterError(
            f"training diverged: the loss is {loss} in epoch {epoch}; lower training.learning_rate "
            f"({config.learning_rate:g}) or training.gradient_norm ({config.gradient_norm:g}), or shorten the windows"
        )
