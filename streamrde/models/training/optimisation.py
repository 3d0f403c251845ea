"""The training loop: epochs until nothing improves, with checkpoints to resume from."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec
import torch
from rich.console import Console

from streamrde.errors import ConfigError
from streamrde.models.neural_rde import NeuralRDE
from streamrde.models.training.checkpoint import Checkpoint
from streamrde.models.training.config import TrainingConfig
from streamrde.models.training.examples import Example, Examples
from streamrde.models.training.history import History
from streamrde.models.training.losses import Objective
from streamrde.models.training.progress import Reporter
from streamrde.models.training.trainer import Trainer
from streamrde.tables import say


def optimise(
    model: NeuralRDE,
    variants: Callable[[int], Examples],
    validation: Sequence[Example],
    config: TrainingConfig,
    *,
    objective: Objective,
    device: torch.device,
    console: Console,
    name: str = "",
    checkpoint: Checkpoint | None = None,
    resume: bool = False,
) -> History:
    """Fit `model` in place. It ends with the weights of the history's best epoch.

    With validation streams these are the best weights by `monitor`, and among equals those with the least loss.
    Without, they are the last ones. Ctrl-C stops the training and keeps the best weights so far, if an epoch has ended.

    Args:
        variants: maps an epoch's number to its training streams.
        validation: streams that select the best epoch. May be empty.
        name: the member's name in an ensemble.
        checkpoint: file for the state after an epoch, or None.
        resume: resume from the checkpoint, if it exists. The model is the same as without the stop.
    Raises:
        ParameterError: the training diverged more than `rewinds` times.
        ConfigError: the validation streams do not define the measure to be monitored, or there is no checkpoint to
            resume from.
        StateError: the checkpoint is damaged or belongs to another run.
    """
    trainer = Trainer(model, config, objective, device)
    if resume:
        _resume(trainer, checkpoint, console)
    written, interrupted = time.monotonic(), False
    try:
        with Reporter(console, config.epochs, monitor=config.monitor, name=name) as reporter:
            while len(trainer.epochs) < config.epochs:
                if validation and config.patience and trainer.waited >= config.patience:
                    say(console, f"no better validation {config.monitor} for {config.patience} epochs: stopped")
                    break
                better = trainer.epoch(variants(len(trainer.epochs) + 1), validation)
                reporter.epoch(trainer.epochs[-1], best=better)
                if checkpoint is not None and time.monotonic() - written >= checkpoint.seconds:
                    checkpoint.write(trainer.state)
                    written = time.monotonic()
    except KeyboardInterrupt:
        if not trainer.epochs:
            raise
        interrupted = True
        say(console, f"interrupted after epoch {len(trainer.epochs)}: keeping the best weights so far")
        if checkpoint is not None:
            say(console, f"checkpoint written to {checkpoint.path}: use --resume to continue")
    if checkpoint is not None:
        checkpoint.write(trainer.state)
    history = msgspec.structs.replace(trainer.finish(), interrupted=interrupted)
    skipped, rewound = sum(e.skipped for e in history.epochs), sum(e.rewound for e in history.epochs)
    if skipped or rewound:
        text = (
            f"skipped {skipped} steps, whose gradients were not finite or far too long; undid {rewound} epochs, which "
            "diverged"
        )
        say(console, text)
    return history


def _resume(trainer: Trainer, checkpoint: Checkpoint | None, console: Console) -> None:
    if checkpoint is None:
        raise ConfigError("nothing to resume from: set training.checkpoint to a file's path")
    state = checkpoint.read()
    if state is None:
        say(console, f"no checkpoint at {checkpoint.path} yet: starting from scratch")
        return
    trainer.restore(state)
    say(console, f"resuming after epoch {len(trainer.epochs)} from {checkpoint.path}")
