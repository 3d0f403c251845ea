"""A training under way: its epochs and steps, and its state."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from streamrde.arrays import Floats
from streamrde.errors import ConfigError, ParameterError
from streamrde.models.neural_rde import NeuralRDE
from streamrde.models.training.batches import draw_batches
from streamrde.models.training.checkpoint import State
from streamrde.models.training.config import TrainingConfig
from streamrde.models.training.examples import Example, Examples, collate, in_turn
from streamrde.models.training.history import Epoch, History, less_is_better
from streamrde.models.training.losses import Objective
from streamrde.models.training.measures import measure, unpadded
from streamrde.models.training.mixing import mix
from streamrde.models.training.propagation import Part, propagate
from streamrde.models.training.schedules import Plateau, rate_share
from streamrde.models.training.stability import ENOUGH, Losses, Steps


class _Place(msgspec.Struct, kw_only=True):
    """State of a training beside its tensors."""

    epochs: list[Epoch] = msgspec.field(default_factory=list)
    updates: int = 0
    """Of the averaged weights."""
    factor: float = 1.0
    """What the schedule's rate is multiplied by, after plateaus and rewinds."""
    steps: Steps = msgspec.field(default_factory=Steps)
    losses: Losses = msgspec.field(default_factory=Losses)
    plateau: Plateau = msgspec.field(default_factory=Plateau)
    best: int = 0
    score: tuple[float, float] = (-math.inf, -math.inf)
    """Of the best epoch: its monitored measure, more being better, and less its loss."""


class Trainer:
    """Train a model epoch by epoch.

    Args:
        model: is trained in place.
        config: how.
        objective: what is minimised.
        device: where the model is.
    """

    def __init__(self, model: NeuralRDE, config: TrainingConfig, objective: Objective, device: torch.device) -> None:
        self._model, self._config, self._objective, self._device = model, config, objective, device
        self._rng = np.random.default_rng(config.seed)
        # A rate that is drawn to 0 would let its component of an endless stream's state grow without end.
        rates = [*model.field.undecayed(), *([] if model.decay is None else [model.decay])]
        readout, share = list(model.readout.parameters()), config.state_rate
        apart = {id(parameter) for parameter in (*rates, *readout)}
        state = [parameter for parameter in model.parameters() if id(parameter) not in apart]
        groups: list[dict[str, Any]] = [
            # AdamW multiplies its decay by the rate: made as strong as that of the readout.
            {"params": state, "share": share, "weight_decay": config.weight_decay / share},
            {"params": rates, "share": share, "weight_decay": 0.0},
            {"params": readout, "share": 1.0},
        ]
        self._optimiser = torch.optim.AdamW(
            groups,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=config.betas,
            fused=device.type in ("cpu", "cuda"),
        )
        self._averaged = copy.deepcopy(model) if config.averaging else model
        # Listed once: to walk the modules in every step takes as long as to clip.
        self._weights: list[Tensor] = list(model.parameters())
        self._means: list[Tensor] = list(self._averaged.parameters())
        self._place = _Place()
        self._best_weights: dict[str, Tensor] = {}
        self.state = self._capture()
        """After the last epoch."""

    @property
    def epochs(self) -> Sequence[Epoch]:
        """Return the epochs so far."""
        return self._place.epochs

    @property
    def waited(self) -> int:
        """Return the number of epochs since the best one."""
        return len(self._place.epochs) - self._place.best

    def epoch(self, examples: Sequence[Example], validation: Sequence[Example]) -> bool:
        """Train on the streams once and validate. Return True if the weights are the best so far."""
        began = time.perf_counter()
        config, place, number = self._config, self._place, len(self._place.epochs) + 1
        loss, norm, rate, skipped = self._pass(number, Examples.join(examples))
        rewound = self._diverged(loss, len(examples)) and self._rewind(number, loss)
        measures = {} if rewound or not validation else self._validate(validation)
        better = self._judge(number, measures)
        if config.schedule == "plateau":
            judged = better if validation else loss <= place.losses.lowest
            if place.plateau.falls(better=judged, epochs=config.plateau_epochs):
                place.factor *= config.plateau_factor
        place.epochs.append(
            Epoch(
                number=number,
                loss=loss,
                validation_loss=measures.get("loss"),
                monitored=measures.get(config.monitor),
                learning_rate=rate,
                gradient_norm=norm,
                seconds=time.perf_counter() - began,
                skipped=skipped,
                rewound=rewound,
            )
        )
        self.state = self._capture()
        return better

    def finish(self) -> History:
        """Give the model the best weights, or the last ones where none were judged.

        Raises:
            ParameterError: the validation streams have no finite loss with any.
        """
        if not self._best_weights:
            if any(epoch.validation_loss is not None for epoch in self.epochs):
                raise ParameterError(
                    "training diverged: in no epoch is the loss of the validation streams finite; lower "
                    f"training.learning_rate ({self._config.learning_rate:g}), or see whether their values are of the "
                    "same kind as those of the training streams"
                )
            # Those after the last whole epoch: an interrupt may have left the weights within a step.
            last = "model" if self._averaged is self._model else "averaged"
            self._place.best, self._best_weights = len(self.epochs), _below(last, self.state.tensors)
        self._model.load_state_dict(self._best_weights)
        return History(monitor=self._config.monitor, epochs=tuple(self.epochs), best=self._place.best)

    def restore(self, state: State) -> None:
        """Go on from a state: all that follows is as if nothing had come between."""
        self._restore_weights(state.tensors)
        self._best_weights = _below("best", state.tensors)
        self._place = msgspec.convert(state.rest["place"], _Place)
        self._rng.bit_generator.state = state.rest["generator"]
        torch.set_rng_state(state.tensors["generator.cpu"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state.tensors["generator.cuda"], self._device)
        self.state = self._capture()

    def _pass(self, number: int, examples: Examples) -> tuple[float, float, float, int]:
        """Return mean loss and gradient length of the steps taken, the last rate, and the number of skipped steps."""
        config, done, skipped, rate = self._config, 0.0, 0, 0.0
        losses, counts, norms = [], [], []
        lengths = examples.lengths.tolist()
        for members in draw_batches(lengths, size=config.batch_size, pool=config.length_pool, rng=self._rng):
            batch = collate(examples[members], self._device)
            own = [lengths[i] for i in members]
            weight = self._objective.weights(batch)
            terms = [(batch.target, weight)]
            if config.mixup and len(own) > 1:
                batch, own, partner, first = mix(batch, own, beta=config.mixup, rng=self._rng)
                first = first.reshape(-1, *[1] * (weight.ndim - 1))
                terms = [(batch.target, weight * first), (batch.target[partner], weight[partner] * (1 - first))]
                weight = terms[0][1] + terms[1][1]
            share = len(members) / len(examples) / max(own)
            parts = propagate(
                self._model,
                batch,
                own,
                windows=config.truncate,
                weight=weight,
                mask=self._draw_mask(len(own), self._model.header.field.dropout_width, config.dropout),
                token_mask=self._draw_mask(len(own), self._model.header.logsig_channels, config.token_dropout),
            )
            for part in parts:
                at = (number - 1 + done + share * part.begin) / config.epochs
                step = share * (part.end - part.begin) / config.epochs
                rate = config.learning_rate * self._place.factor * rate_share(config, at, step)
                loss = self._loss(part, terms)
                value, norm = self._step(loss, rate)
                if value is None:
                    skipped += 1
                    if self._place.steps.lost:
                        return math.nan, math.nan, rate, skipped
                    continue
                losses.append(value)
                counts.append(float(part.select(weight).sum()))
                norms.append(norm)
            done += len(members) / len(examples)
        if not sum(counts):
            return math.nan, math.nan, rate, skipped
        return float(np.average(losses, weights=counts)), float(np.mean(norms)), rate, skipped

    def _loss(self, part: Part, terms: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Return the mean loss of a part over the targets of all terms, with their weights."""
        objective, model = self._objective, self._model
        losses, sums = [], []
        for target, weight in terms:
            losses.append(
                objective.loss(
                    part.y,
                    part.select(target),
                    part.select(weight),
                    shift=model.output_shift,
                    scale=model.output_scale,
                    smoothing=self._config.label_smoothing,
                )
            )
            sums.append(part.select(weight).sum())
        if len(terms) == 1:
            return losses[0]
        total = torch.stack(sums)
        return (torch.stack(losses) * (total / total.sum().clamp(min=1e-12)).to(losses[0].dtype)).sum()

    def _draw_mask(self, streams: int, width: int, dropped: float) -> Tensor | None:
        """Draw dropout's mask of each stream's features or tokens, (N, width)."""
        if not (dropped and width):
            return None
        # One mask per stream for all windows: fresh ones would be noise that the state sums up.
        keep: Tensor = self._model.readout.weight.new_full((streams, width), 1 - dropped)
        return torch.bernoulli(keep) / keep

    def _step(self, loss: Tensor, rate: float) -> tuple[float | None, float]:
        """Take one step. Return the loss, or None if it was skipped, and the length of the gradient."""
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(self._weights, self._config.gradient_norm))
        value = float(loss.detach())
        if not self._place.steps.takes(value, norm, spike=self._config.spike):
            return None, norm
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group["share"]
        self._optimiser.step()
        if self._averaged is not self._model:
            self._average()
        return value, norm

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averaged weights towards the model's.

        The weights after update i have the share ``decay^(n-i) (1 - decay) / (1 - decay^n)`` in the average after n, so
        that the weights that training began from have none (as Kingma & Ba 2015, "Adam", section 3).
        """
        self._place.updates += 1
        decay = self._config.averaging
        share = (1 - decay) / (1 - decay**self._place.updates)
        torch._foreach_lerp_(self._means, self._weights, share)

    @torch.no_grad()
    def _validate(self, examples: Sequence[Example]) -> dict[str, float]:
        """Return loss and measures with the averaged weights."""
        outputs: list[Floats] = []
        total = 0.0
        for part, batch in in_turn(examples, size=self._config.batch_size, device=self._device):
            y = self._averaged.readouts(batch.x0, batch.logsigs)
            weight = self._objective.weights(batch)
            shift, scale = self._model.output_shift, self._model.output_scale
            total += float(self._objective.loss(y, batch.target, weight, shift=shift, scale=scale)) * len(part)
            outputs += unpadded(self._averaged.in_units(y), part)
        return {"loss": total / len(examples)} | measure(examples, outputs)

    def _judge(self, number: int, measures: Mapping[str, float]) -> bool:
        """Keep the averaged weights if they are the best so far."""
        monitor, place = self._config.monitor, self._place
        if not measures:
            return False
        if monitor not in measures:
            raise ConfigError(
                f"training.monitor='{monitor}' is not defined for the validation streams: choose another measure, or "
                'more streams (a curve needs both classes), or monitor = "loss"'
            )
        sign = -1 if less_is_better(monitor) else 1
        score = (sign * measures[monitor], -measures["loss"])
        if not (all(map(math.isfinite, score)) and score > place.score):
            return False
        place.best, place.score = number, score
        self._best_weights = copy.deepcopy(self._averaged.state_dict())
        return True

    def _diverged(self, loss: float, streams: int) -> bool:
        enough = ENOUGH if self._config.draw else streams
        return self._place.losses.diverged(loss, streams=streams, enough=enough)

    def _rewind(self, number: int, loss: float) -> bool:
        """Return to the weights before this epoch, to continue at half the rate. False if that was done too often.

        Raises:
            ParameterError: it was, and the loss is not finite.
        """
        config = self._config
        if sum(epoch.rewound for epoch in self.epochs) >= config.rewinds:
            if math.isfinite(loss):
                return False
            raise ParameterError(
                f"training diverged: the loss is {loss} in epoch {number}, after {config.rewinds} rewinds; lower "
                f"training.learning_rate ({config.learning_rate:g}) or training.gradient_norm "
                f"({config.gradient_norm:g}), or shorten the windows"
            )
        self._restore_weights(self.state.tensors)
        self._place.updates = self.state.rest["place"]["updates"]
        self._place.steps = Steps()
        self._place.factor /= 2
        return True

    def _capture(self) -> State:
        """Copy everything."""
        tensors = _named("model", self._model.state_dict()) | _named("best", self._best_weights)
        if self._averaged is not self._model:
            tensors |= _named("averaged", self._averaged.state_dict())
        for i, moments in self._optimiser.state_dict()["state"].items():
            tensors |= _named(f"optimiser.{i}", moments)
        tensors["generator.cpu"] = torch.get_rng_state()
        if self._device.type == "cuda":
            tensors["generator.cuda"] = torch.cuda.get_rng_state(self._device)
        rest = {"place": msgspec.to_builtins(self._place), "generator": self._rng.bit_generator.state}
        return State({name: tensor.detach().clone() for name, tensor in tensors.items()}, rest)

    def _restore_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Set weights, averaged weights and the optimiser's moments."""
        self._model.load_state_dict(_below("model", tensors))
        if self._averaged is not self._model:
            self._averaged.load_state_dict(_below("averaged", tensors))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _below("optimiser", tensors).items():
            index, key = name.split(".")
            # A copy: the optimiser changes its moments in place.
            moments.setdefault(int(index), {})[key] = tensor.clone()
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": moments, "param_groups": groups})


def _named(above: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{above}.{name}": tensor for name, tensor in tensors.items()}


def _below(above: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{above}."): t for name, t in tensors.items() if name.startswith(f"{above}.")}
