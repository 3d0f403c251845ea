"""The training loop: AdamW, gradient clipping, averaged weights, early stopping, and a way back from divergence."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from streamrde.errors import ConfigError, ParameterError
from streamrde.inference.fields import MLP
from streamrde.models.neural_rde import NeuralRDE
from streamrde.models.training.batches import draw_batches
from streamrde.models.training.config import TrainingConfig
from streamrde.models.training.examples import Example, collate
from streamrde.models.training.history import Epoch, History
from streamrde.models.training.losses import Objective
from streamrde.models.training.measures import measure, unpadded
from streamrde.models.training.progress import Reporter
from streamrde.models.training.schedules import Plateau, rate_share
from streamrde.models.training.stability import Losses, Steps

Array = NDArray[np.float64]

# Measures of which less is better; of the others more is.
_LESS_IS_BETTER = ("loss", "log_loss", "calibration", "rmse", "mae")


def optimise(
    model: NeuralRDE,
    variants: Callable[[int], list[Example]],
    validation: Sequence[Example],
    config: TrainingConfig,
    *,
    objective: Objective,
    device: torch.device,
    console: Console,
) -> History:
    """Fit `model` in place; it ends with the weights of the history's best epoch.

    With validation streams these are the weights that are best by `monitor`, and of equal ones those with the least
    loss; else the last ones. Ctrl-C stops after the first epoch with what there is.

    Args:
        variants: epoch -> the training streams as they are in that epoch.
        validation: streams that decide; may be empty.
    Raises:
        ParameterError: the training diverged once more than `rewinds`.
        ConfigError: the validation streams do not define the measure to be monitored.
    """
    run = _Run(model, config, objective, device)
    try:
        with Reporter(console, config.epochs) as reporter:
            for number in range(1, config.epochs + 1):
                better = run.epoch(number, variants(number), validation)
                reporter.epoch(run.epochs[-1], best=better)
                if validation and config.patience and number - run.best >= config.patience:
                    console.print(
                        f"no better validation {config.monitor} for {config.patience} epochs: stopped", highlight=False
                    )
                    break
    except KeyboardInterrupt:
        if not run.epochs:
            raise
        console.print(f"interrupted after epoch {len(run.epochs)}: keeping the best weights so far", highlight=False)
    return run.finish(console)


class _Run:
    """A training under way."""

    def __init__(self, model: NeuralRDE, config: TrainingConfig, objective: Objective, device: torch.device) -> None:
        self.model, self.config, self.objective, self.device = model, config, objective, device
        self.rng = np.random.default_rng(config.seed)
        # A rate that is drawn to 0 would let its component of an endless stream's state grow without end.
        rates = [] if model.decay is None else [model.decay]
        weights = [parameter for parameter in model.parameters() if all(parameter is not rate for rate in rates)]
        groups: list[dict[str, Any]] = [{"params": weights}, {"params": rates, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(
            groups, lr=config.learning_rate, weight_decay=config.weight_decay, betas=config.betas
        )
        self.averaged = copy.deepcopy(model) if config.averaging else model
        self.updates = 0
        self.factor = 1.0
        """What the schedule's rate is multiplied by, after plateaus and rewinds."""
        self.steps, self.losses, self.plateau = Steps(), Losses(), Plateau()
        self.epochs: list[Epoch] = []
        self.best, self.score = 0, (-math.inf, -math.inf)
        self.best_weights: dict[str, Tensor] | None = None
        self.kept = self._keep()

    def epoch(self, number: int, examples: Sequence[Example], validation: Sequence[Example]) -> bool:
        """Pass over the training streams and validate; returns whether the weights are the best so far."""
        began = time.perf_counter()
        loss, norm, rate, skipped = self._pass(number, examples)
        rewound = self.losses.diverged(loss)
        if rewound:
            rewound = self._rewind(number, loss)
        measures = {} if rewound or not validation else self._validate(validation)
        monitored = measures.get(self.config.monitor)
        if measures and monitored is None:
            raise ConfigError(
                f"training.monitor='{self.config.monitor}' is not defined for the validation streams: choose another "
                'measure, or more streams (a curve needs both classes), or monitor = "loss"'
            )
        better = False
        if monitored is not None:
            sign = -1 if self.config.monitor.startswith(_LESS_IS_BETTER) else 1
            score = (sign * monitored, -measures["loss"])
            better = all(map(math.isfinite, score)) and score > self.score
            if better:
                self.best, self.score = number, score
                self.best_weights = copy.deepcopy(self.averaged.state_dict())
        if self.config.schedule == "plateau":
            judged = better if validation else loss <= self.losses.lowest
            if self.plateau.falls(better=judged, epochs=self.config.plateau_epochs):
                self.factor *= self.config.plateau_factor
        self.epochs.append(
            Epoch(
                number=number,
                loss=loss,
                validation_loss=measures.get("loss"),
                monitored=monitored,
                learning_rate=rate,
                gradient_norm=norm,
                seconds=time.perf_counter() - began,
                skipped=skipped,
                rewound=rewound,
            )
        )
        if not rewound:
            self.kept = self._keep()
        return better

    def finish(self, console: Console) -> History:
        """Give the model the best weights."""
        skipped, rewound = (sum(int(getattr(e, name)) for e in self.epochs) for name in ("skipped", "rewound"))
        if skipped or rewound:
            console.print(
                f"{skipped} steps were not taken, their gradients being not finite or far too long; {rewound} epochs "
                "diverged and were undone",
                highlight=False,
            )
        if self.best_weights is None:
            self.best, self.best_weights = len(self.epochs), self.averaged.state_dict()
        self.model.load_state_dict(self.best_weights)
        return History(monitor=self.config.monitor, epochs=tuple(self.epochs), best=self.best)

    def _pass(self, number: int, examples: Sequence[Example]) -> tuple[float, float, float, int]:
        """Mean loss of the steps taken, mean length of their gradients, the last rate, and the steps not taken."""
        config, done, skipped, rate = self.config, 0, 0, 0.0
        losses, counts, norms = [], [], []
        lengths = [len(example.logsigs) for example in examples]
        for members in draw_batches(lengths, size=config.batch_size, pool=config.length_pool, rng=self.rng):
            share = len(members) / len(examples)
            rate = config.learning_rate * self.factor
            rate *= rate_share(config, (number - 1 + done / len(examples)) / config.epochs, share / config.epochs)
            loss, norm = self._step([examples[i] for i in members], rate)
            done += len(members)
            if loss is None:
                skipped += 1
                if self.steps.lost:
                    return math.nan, math.nan, rate, skipped
                continue
            losses.append(loss)
            counts.append(len(members))
            norms.append(norm)
        if not losses:
            return math.nan, math.nan, rate, skipped
        return float(np.average(losses, weights=counts)), float(np.mean(norms)), rate, skipped

    def _step(self, examples: Sequence[Example], rate: float) -> tuple[float | None, float]:
        """Take one step; the loss, None where it was not taken, and the length of the gradient."""
        config, model = self.config, self.model
        batch = collate(examples, self.device)
        mask = None
        if config.dropout and isinstance(model.header.field, MLP):
            # One mask per stream for all windows: fresh ones would be noise that the state sums up.
            keep = model.readout.weight.new_full((len(batch.x0), model.header.field.width), 1 - config.dropout)
            mask = torch.bernoulli(keep) / keep
        y = model.outputs(model.pooled(model.hidden_states(batch.x0, batch.logsigs, mask=mask)[:, 1:]))
        loss = self.objective.loss(
            y, batch.target, self.objective.weights(batch), model.output_scale, smoothing=config.label_smoothing
        )
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(model.parameters(), config.gradient_norm))
        value = float(loss.detach())
        if not self.steps.takes(value, norm, spike=config.spike):
            return None, norm
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        if self.averaged is not model:
            self._average()
        return value, norm

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averaged weights towards the model's.

        The weights after update i have the share ``decay^(n-i) (1 - decay) / (1 - decay^n)`` in the average after n, so
        that the weights that training began from have none (as Kingma & Ba 2015, "Adam", section 3).
        """
        self.updates += 1
        decay = self.config.averaging
        share = (1 - decay) / (1 - decay**self.updates)
        means: list[Tensor] = list(self.averaged.parameters())
        torch._foreach_lerp_(means, list[Tensor](self.model.parameters()), share)

    @torch.no_grad()
    def _validate(self, examples: Sequence[Example]) -> dict[str, float]:
        """Loss and measures with the averaged weights."""
        outputs: list[Array] = []
        total = 0.0
        for start in range(0, len(examples), self.config.batch_size):
            part = examples[start : start + self.config.batch_size]
            batch = collate(part, self.device)
            y = self.averaged(batch.x0, batch.logsigs)
            weight = self.objective.weights(batch)
            total += float(self.objective.loss(y, batch.target, weight, self.model.output_scale)) * len(part)
            outputs += unpadded(y, part)
        return {"loss": total / len(examples)} | measure(examples, outputs)

    def _keep(self) -> dict[str, Any]:
        """A copy of what a divergence is undone to."""
        return copy.deepcopy(
            {
                "model": self.model.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "updates": self.updates,
            }
        )

    def _rewind(self, number: int, loss: float) -> bool:
        """Go back to the weights before this epoch, to go on at half the rate; False where that was done too often.

        Raises:
            ParameterError: it was, and the loss is not finite.
        """
        config = self.config
        if sum(epoch.rewound for epoch in self.epochs) >= config.rewinds:
            if math.isfinite(loss):
                return False
            raise ParameterError(
                f"training diverged: the loss is {loss} in epoch {number}, after {config.rewinds} rewinds; lower "
                f"training.learning_rate ({config.learning_rate:g}) or training.gradient_norm "
                f"({config.gradient_norm:g}), or shorten the windows"
            )
        self.model.load_state_dict(self.kept["model"])
        self.averaged.load_state_dict(self.kept["averaged"])
        self.optimiser.load_state_dict(copy.deepcopy(self.kept["optimiser"]))
        self.updates = self.kept["updates"]
        self.steps = Steps()
        self.factor /= 2
        return True
