"""What happened in a training run, epoch by epoch, and what it came to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from streamrde.arrays import Floats
from streamrde.inference.bundle import Bundle
from streamrde.models.training.examples import Example
from streamrde.models.training.verdict import Verdict

_LESS_IS_BETTER = ("loss", "log_loss", "calibration", "rmse", "mae")


def less_is_better(monitor: str) -> bool:
    """Whether the smaller of two values of a measure is the better one."""
    return monitor.startswith(_LESS_IS_BETTER)


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """One pass over the training streams."""

    number: int
    """Counts from 1."""
    loss: float
    """Mean of the training loss over the streams of the steps that were taken; NaN: none was."""
    validation_loss: float | None
    """Mean loss of the validation streams with the weights that would be kept; None: no such streams."""
    monitored: float | None
    """The validation streams' value of `History.monitor`."""
    learning_rate: float
    """Of the epoch's last step."""
    gradient_norm: float
    """Mean length of the gradients over the steps taken, before they were shortened."""
    seconds: float
    """Wall-clock time of the epoch, validation included."""
    skipped: int = 0
    """Steps that were not taken, because their loss or gradient was not finite or far out of line."""
    rewound: bool = False
    """Whether the epoch diverged: its steps were then undone, and the learning rate halved."""


class History(msgspec.Struct, frozen=True, kw_only=True):
    """The epochs of a run."""

    monitor: str
    """What decided which epoch's weights are kept: "loss" or another measure of the validation streams."""
    epochs: tuple[Epoch, ...]
    best: int
    """Number of the epoch whose weights were kept: the best by `monitor`, without validation streams the last."""
    interrupted: bool = False
    """Whether it was stopped before its end."""


class Predicted(NamedTuple):
    """A part of the data (training, validation or test streams) and what the kept weights say of it."""

    examples: Sequence[Example]
    outputs: list[Floats]
    """For each example in turn, (K, outputs): logits (classification) or values in the targets' units."""


class Fitted(NamedTuple):
    """A trained model and how it came about."""

    bundle: Bundle
    histories: tuple[History, ...]
    """One per member."""
    parts: dict[str, Predicted]
    """Of "train", "validation" and "test"."""
    verdict: Verdict
    """Judgement of the fitted model by the measures."""
