"""Propose stacks and a Neural RDE that suit the data, from small to large."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np

from streamrde.fitting.examples import Examples
from streamrde.fitting.families.bands import find_bands, find_pulses
from streamrde.fitting.families.reservoir import window_seconds
from streamrde.fitting.inputs import ChannelConfig, DataConfig
from streamrde.inference.fields import MLP, Stack
from streamrde.inference.stacks import RECURRENCES
from streamrde.inference.statistics import bridge_of
from streamrde.inference.vector_field import VectorField
from streamrde.models.training.config import ModelConfig, TokenConfig, TrainConfig, TrainingConfig
from streamrde.signature.words import logsignature_channels
from streamrde.windowing.policies import Every

_STACKS = (("rg_lru", 2, 32), ("gru", 2, 32), ("s4d", 2, 32), ("gru", 1, 16), ("slice", 2, 32), ("rg_lru", 3, 64))
"""Recurrence, number of blocks and their width."""
_HIDDEN = 32
_WINDOWS = 64  # base windows in the median stream
_SCALES = (1, 4, 16)  # base windows of a scale
_LONGEST = 0.7  # of the median stream: a longer scale would nearly be the whole stream once more
_LARGEST = 150  # most entries of a scale of depth 2
_LINEAR, _SPARSE = 0.98, 0.9  # shares of values observed: from the first on linear interpolation, below the last sparse
_FEW = 400  # streams, up to which batches are small
_TRUNCATE = 256  # windows that gradients reach back along streams
_STEPS, _EPOCHS = 500, (10, 80)
"""Steps of the optimiser in a whole training, about, and limits of the epochs that make them."""


class Contender(NamedTuple):
    """A model that may be trained."""

    name: str
    kind: str
    """Contenders of one kind are as simple as each other."""
    config: TrainConfig

    def lasting(self, epochs: int) -> Contender:
        """Return the same model, trained for so many epochs."""
        training = msgspec.structs.replace(self.config.training, epochs=epochs)
        return Contender(
            f"{self.model}, {epochs} epochs", self.kind, msgspec.structs.replace(self.config, training=training)
        )

    @property
    def model(self) -> str:
        """Return the name without the epochs."""
        return self.name.rpartition(", ")[0]

    @property
    def epochs(self) -> int:
        """Return the epochs of its training."""
        return self.config.training.epochs


def contenders(examples: Examples, windows: Every | None = None) -> list[Contender]:
    """Return stacks and a Neural RDE for the examples, the smaller ones first.

    Args:
        examples: what they learn from.
        windows: base windows. None: about 64 in the median stream.
    """
    windows = windows or Every(window_seconds(examples, _WINDOWS))
    lengths = np.array([1 + float(own.t[-1] - own.t[0]) / windows.seconds for own in examples.recordings])
    batch = 16 if len(lengths) <= _FEW else 32
    truncate = _TRUNCATE if lengths.max() > 2 * _TRUNCATE else 0
    pieces = math.ceil(float(lengths.mean()) / truncate) if truncate else 1
    epochs = int(np.clip(_STEPS * batch / (len(lengths) * pieces), *_EPOCHS))
    shared: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch,
        "truncate": truncate,
        "seed": examples.seed,
        "loss_on": "every" if examples.along else "ramp",
        "class_weights": _class_weights(examples),
    }
    usual = float(np.median(lengths))
    stack = {
        **shared,
        "weight_decay": 0.05,
        "betas": (0.9, 0.98),
        "warm_up": 0.15,
        "dropout": 0.1,
        "token_dropout": 0.1,
        "averaging": 0.95,
        "label_smoothing": 0.1 if examples.labels else 0.0,
    }
    sparse = examples.observed[1] < _SPARSE
    scales = tuple(m for m in _SCALES if m == 1 or m <= _LONGEST * usual)
    token = TokenConfig(scales=scales, ends=True, summaries=sparse, pulses=find_pulses(examples, find_bands(examples)))
    found = []
    for kind, blocks, width in _STACKS:
        field = Stack(width=width, blocks=blocks, recurrence=RECURRENCES[kind]())
        name = f"stack, {kind}, {blocks} block{'s' if blocks > 1 else ''} of {width}, {epochs} epochs"
        found.append(Contender(name, "stack", _config(examples, windows, token, field, None, stack)))
    own = TokenConfig(summaries=sparse)
    found.append(
        Contender(
            f"Neural RDE, {_HIDDEN}, {epochs} epochs",
            "Neural RDE",
            _config(examples, windows, own, MLP(), _HIDDEN, {**shared, "dropout": 0.1, "weight_decay": 0.01}),
        )
    )
    return found


def _config(
    examples: Examples,
    windows: Every,
    token: TokenConfig,
    field: VectorField,
    hidden: int | None,
    training: Mapping[str, Any],
) -> TrainConfig:
    depth = 2 if logsignature_channels(1 + len(examples.channels), 2) <= _LARGEST else 1
    return TrainConfig(
        data=DataConfig(
            files="",
            channels=tuple(ChannelConfig(name=name) for name in examples.channels),
            target=examples.targets or "target",
            task="classification" if examples.labels else "regression",
            horizon=examples.horizon,
        ),
        windows=windows,
        # The windows of rows along streams were made with it.
        bridge=bridge_of([recording.t for recording in examples.recordings], windows),
        token=token,
        model=ModelConfig(
            depth=depth,
            hidden=hidden,
            field=field,
            interpolation="linear" if examples.observed[1] > _LINEAR else "hold",
        ),
        training=TrainingConfig(**training),
        novelty=False,
        compare=False,
    )


def _class_weights(examples: Examples) -> Any:
    """Return the weight of each class among the examples."""
    if examples.weights is None:
        return "equal"
    first = {label: int(np.flatnonzero(examples.codes == i)[0]) for i, label in enumerate(examples.labels)}
    return {label: float(examples.weights[row]) for label, row in first.items()}
