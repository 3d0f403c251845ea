"""The record of a training run, epoch by epoch, and its result."""

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
    """Return True if smaller values of a measure are better."""
    return monitor.startswith(_LESS_IS_BETTER)


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """One pass over the training streams."""

    number: int
    """Counts from 1."""
    loss: float
    """Mean training loss over the streams of the steps that were taken. NaN: none was."""
    validation_loss: float | None
    """Mean loss of the validation streams with the weights that would be kept. None: no such streams."""
    monitored: float | None
    """The validation streams' value of `History.monitor`."""
    learning_rate: float
    """Learning rate of the epoch's last step."""
    gradient_norm: float
    """Mean length of the gradients over the steps taken, before clipping."""
    seconds: float
    """Wall-clock time of the epoch, validation included."""
    skipped: int = 0
    """Steps that were skipped, because their loss or gradient was not finite or far too large."""
    rewound: bool = False
    """True if the epoch diverged. Its steps were then undone, and the learning rate halved."""


class History(msgspec.Struct, frozen=True, kw_only=True):
    """The epochs of a run."""

    monitor: str
    """Measure of the validation streams that selects the epoch whose weights are kept, such as "loss"."""
    epochs: tuple[Epoch, ...]
    best: int
    """Number of the epoch whose weights were kept: the best by `monitor`, or without validation streams the last."""
    interrupted: bool = False
    """True if the run was stopped before its end."""


class Predicted(NamedTuple):
    """A part of the data (training, validation or test streams) with the model's outputs."""

    examples: Sequence[Example]
    outputs: list[Floats]
    """Outputs of each example, (K, outputs): logits (classification) or values in the targets' units."""


class Fitted(NamedTuple):
    """A trained model with its history and its predictions."""

    bundle: Bundle
    histories: tuple[History, ...]
    """One per member."""
    parts: dict[str, Predicted]
    """Keys are "train", "validation" and "test"."""
    verdict: Verdict
    """Judgement of the fitted model by the measures."""
