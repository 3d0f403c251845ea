"""What a training run is told: one TOML file, one struct per table. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from streamrde.disk import read_tables
from streamrde.errors import ConfigError, StreamRDEError
from streamrde.inference.bundle import Depth, Emit, Pooling
from streamrde.inference.fields import MLP, Linear, LogNCDE
from streamrde.inference.fields.motion import Positive
from streamrde.inference.solvers import FirstStage, Solver, Substeps
from streamrde.models.training.inputs import DataConfig
from streamrde.models.training.overrides import override
from streamrde.windowing.gaps import Gap
from streamrde.windowing.missing import Missing
from streamrde.windowing.order import Order
from streamrde.windowing.policies import Every, Interpolation, Windows
from streamrde.windowing.rows import Partition

NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Values = tuple[str | int, ...]


class SplitConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which streams train, which decide when to stop, and which are only measured at the end.

    `validation` and `test` are either lists of the values of `column`, or shares of the groups, drawn at random.
    Streams with the same value of `column` are never divided; without `column` each recording, with all its
    segments, is a group.
    """

    column: str = ""
    validation: Share | Values = 0.15
    test: Share | Values = 0.15
    seed: int = 0


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Neural RDE; see `streamrde.NeuralRDE`."""

    depth: Depth = 2
    hidden: Positive = 32
    field: MLP | LogNCDE | Linear = MLP()
    solver: Solver = "rk4"
    first_stage: FirstStage = "own"
    substeps: Substeps = 1
    tolerance: Annotated[float, msgspec.Meta(gt=0)] = 1e-3
    decay: NotNegative = 0.0
    """Rate per second at which the state decays when training starts; learned from there; 0: no decay."""
    pooling: Pooling = "state"
    emit: Emit = "every"
    interpolation: Interpolation = "linear"
    dtype: Literal["float32", "float64"] = "float32"
    description: str = ""
    notes: str = ""
    """What the model is meant for and where its limits are; stored with it, as the description."""


class AugmentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes made to the training streams, drawn anew in every epoch. Everything is off by default."""

    crop: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    """A stream becomes a random contiguous part of itself, at least this share of its samples."""
    rotate: tuple[tuple[str, str, str], ...] = ()
    """Triples of channels that are vectors of one body: all are turned by one random rotation per stream."""
    degrees: Annotated[float, msgspec.Meta(ge=0, le=180)] = 15.0
    """Largest angle of that rotation; its axis is uniform on the sphere."""
    flip: tuple[tuple[str, ...], ...] = ()
    """Sets of channels; with probability 1/2 a set changes its signs, as some do between left and right hand."""
    tempo: Share = 0.0
    """Time is stretched by a factor uniform in [1 - tempo, 1 + tempo]."""
    gain: Share = 0.0
    """Each channel (each triple of `rotate` as one) is multiplied by a factor uniform in [1 - gain, 1 + gain]."""
    noise: NotNegative = 0.0
    """White noise added to every sample, in standard deviations of its channel."""

    @property
    def active(self) -> bool:
        """Whether anything is changed at all."""
        return (
            self.crop < 1
            or bool(self.rotate and self.degrees)
            or bool(self.flip or self.tempo or self.gain or self.noise)
        )


class TrainingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the weights are found: AdamW with a warm-up and a cosine decay of the learning rate."""

    epochs: Positive = 200
    batch_size: Positive = 32
    learning_rate: Annotated[float, msgspec.Meta(gt=0)] = 3e-3
    weight_decay: NotNegative = 1e-4
    label_smoothing: Share = 0.0
    dropout: Share = 0.0
    """Share of the field's hidden features that a training stream goes without, the same ones in all its windows."""
    gradient_norm: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    """Gradients longer than this are shortened to it."""
    start: Literal["sample", "random"] = "sample"
    """Weights to begin with; "sample": the state's first components carry the current sample (see `carry_sample`),
    where the field is a perceptron with nothing after its last layer; other fields begin at random."""
    field_gain: Annotated[float, msgspec.Meta(gt=0)] = 0.3
    """Factor on the field's random last layer; the smaller, the gentler the dynamics that training starts from."""
    averaging: Share = 0.0
    """Decay per step of the running average of the weights that is validated and kept; 0 = no average."""
    patience: Annotated[int, msgspec.Meta(ge=0)] = 50
    """Epochs without a better validation loss before training stops; 0 = never."""
    seed: int = 0
    logsignatures: Literal["own", "pysiglib"] = "own"
    device: str = "cpu"


class OutputConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is written; paths are relative to the current working directory, "" writes nothing."""

    model: str = ""
    metrics: str = ""
    seconds: tuple[Annotated[float, msgspec.Meta(gt=0)], ...] = ()
    """Times since a stream's start at which accuracy is measured too (classification)."""


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A training run."""

    data: DataConfig
    split: SplitConfig = SplitConfig()
    windows: Windows = Every(1.0)
    missing: Missing = Missing()
    gap: Gap | None = None
    order: Order = Order()
    """Of the rows that are read; "error" in `duplicates` also stops at a row that is late."""
    model: ModelConfig = ModelConfig()
    augment: AugmentConfig = AugmentConfig()
    training: TrainingConfig = TrainingConfig()
    output: OutputConfig = OutputConfig()

    def partition(self, fills: Iterable[float]) -> Partition:
        """How streams become windows, channels beginning at `fills`."""
        model = self.model
        return Partition(tuple(fills), model.depth, self.windows, model.interpolation, self.missing, self.gap)

    def check(self) -> None:
        """Raise ConfigError where fields contradict each other."""
        self.data.check()
        names = [channel.name for channel in self.data.channels]
        for key in ("rotate", "flip"):
            for name in (name for members in getattr(self.augment, key) for name in members):
                if name not in names:
                    raise ConfigError(f"augment.{key} names '{name}', which is not in data.channels {names}")
        if self.training.dropout and not isinstance(self.model.field, MLP):
            raise ConfigError(
                f"training.dropout={self.training.dropout}: only field 'mlp' has features to drop; set it to 0"
            )
        listed = [isinstance(part, tuple) and bool(part) for part in (self.split.validation, self.split.test)]
        if any(listed) and not self.split.column:
            raise ConfigError("split.validation and split.test list values: set split.column to the column they are of")


def load_train_config(path: str | os.PathLike[str], settings: Sequence[str] = ()) -> TrainConfig:
    """Read a training run's TOML file.

    Args:
        settings: keys that are set anew, such as ``training.epochs=5``; see `override`.
    Raises:
        ConfigError: as `read_toml`; names the file, and the settings.
    """
    tables = read_tables(path)
    try:
        return as_train_config(tables, settings)
    except ConfigError as error:
        where = f"{path} with {' '.join(settings)}" if settings else path
        raise ConfigError(f"{where}: {error}") from None


def as_train_config(tables: Mapping[str, Any], settings: Sequence[str] = ()) -> TrainConfig:
    """A TrainConfig from tables, some of their keys set anew; raises ConfigError with the key's path."""
    try:
        config = msgspec.convert(override(tables, settings), TrainConfig)
    except (msgspec.ValidationError, StreamRDEError) as error:
        raise ConfigError(str(error)) from None
    config.check()
    return config
