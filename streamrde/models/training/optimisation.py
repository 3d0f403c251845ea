"""The training loop: epoch after epoch until nothing gets better, with checkpoints to go on from."""

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
    """Fit `model` in place; it ends with the weights of the history's best epoch.

    With validation streams these are the weights that are best by `monitor`, and of equal ones those with the least
    loss; else the last ones. Ctrl-C stops after the first epoch with what there is.

    Args:
        variants: epoch -> the training streams as they are in that epoch.
        validation: streams that decide; may be empty.
        name: of what is trained, where it is one of several.
        checkpoint: where the state after an epoch is written; None: nowhere.
        resume: go on from there, if there is one; the same model comes out as if nobody had stopped.
    Raises:
        ParameterError: the training diverged once more than `rewinds`.
        ConfigError: the validation streams do not define the measure to be monitored, or there is no checkpoint to
            resume from.
        StateError: the checkpoint is damaged or of another run.
    """
    trainer = Trainer(model, config, objective, device)
    if resume:
        _resume(trainer, checkpoint, console)
    written, interrupted = time.monotonic(), False
    try:
        with Reporter(console, config.epochs, monitor=config.monitor, name=name) as reporter:
            while len(trainer.epochs) < config.epochs:
                if validation and config.patience and trainer.waited >= config.patience:
                    _say(console, f"no better validation {config.monitor} for {config.patience} epochs: stopped")
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
        _say(console, f"interrupted after epoch {len(trainer.epochs)}: keeping the best weights so far")
        if checkpoint is not None:
            _say(console, f"checkpoint written to {checkpoint.path}: --resume goes on from there")
    if checkpoint is not None:
        checkpoint.write(trainer.state)
    history = msgspec.structs.replace(trainer.finish(), interrupted=interrupted)
    skipped, rewound = sum(e.skipped for e in history.epochs), sum(e.rewound for e in history.epochs)
    if skipped or rewound:
        _say(
            console,
            f"{skipped} steps were not taken, their gradients being not finite or far too long; {rewound} epochs "
            "diverged and were undone",
        )
    return history


def _resume(trainer: Trainer, checkpoint: Checkpoint | None, console: Console) -> None:
    if checkpoint is None:
        raise ConfigError("there is nothing to resume from: set training.checkpoint to a file's path")
    state = checkpoint.read()
    if state is None:
        _say(console, f"there is no checkpoint at {checkpoint.path} yet: beginning anew")
        return
    trainer.restore(state)
    _say(console, f"going on after epoch {len(trainer.epochs)} from {checkpoint.path}")


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)
