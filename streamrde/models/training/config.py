"""The configuration of a training run: one TOML file, one struct per table. It does not need torch."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from streamrde.connectors.columns import ColumnKeys
from streamrde.disk import read_tables
from streamrde.errors import ConfigError, ParameterError
from streamrde.fitting.inputs import DataConfig, NotNegative, Share, SplitConfig
from streamrde.floats import as_plain
from streamrde.inference.ends import Blank
from streamrde.inference.fields import MLP, StoredField
from streamrde.inference.header import Channel, Depth, Emit, Header, Members, Pooling, TargetAt
from streamrde.inference.model_part import Positive
from streamrde.inference.solvers import FirstStage, Solver, Substeps
from streamrde.models.training.defaults import with_columns, with_usual_settings
from streamrde.models.training.overrides import override
from streamrde.settings import convert
from streamrde.windowing.gaps import Gap
from streamrde.windowing.missing import Missing
from streamrde.windowing.order import Order
from streamrde.windowing.partition import BRIDGE, MAX_WINDOWS, Interpolation, Partition
from streamrde.windowing.policies import Every, Windows
from streamrde.windowing.tokens import Bands, Pulses, Token, as_scales

AboveZero = Annotated[float, msgspec.Meta(gt=0)]
_OF_CLASSES = ("accuracy", "auc", "average_precision", "f1", "log_loss", "calibration")
_OF_STACKS = (
    ("hidden", None, "has a state whose size follows from its width and blocks"),
    ("decay", 0.0, "decays by its recurrences"),
    ("pooling", "state", "is read out as model.field.pool says"),
)
"""Keys of the model that a field with a state of its own does not have, what they are without one, and the reason."""
_MONITORS = {
    "classification": ("loss", *(f"{name}_{at}" for name in _OF_CLASSES for at in ("windows", "end"))),
    "regression": ("loss", *(f"{name}{at}" for name in ("rmse", "mae", "r2") for at in ("", "_end"))),
}


_HIDDEN = 32


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Neural RDE, or another field in its place. Each key is a field of `streamrde.Header`, but decay."""

    depth: Depth = 2
    """Depth of the log-signatures."""
    hidden: Positive | None = None
    """Size of the hidden state. By default 32. That of a stack follows from its width and blocks: leave it out."""
    field: StoredField = MLP()
    """Vector field: a kind of `streamrde.inference.fields` by its name, and its sizes."""
    solver: Solver = "rk4"
    """Solver of the log-ODE step."""
    first_stage: FirstStage = "own"
    """First stage of the solver: the textbook step, or torchcde's default."""
    substeps: Substeps = 1
    """Steps of the solver per window, or "auto": doubled until the estimated error is within tolerance."""
    tolerance: Annotated[float, msgspec.Meta(gt=0)] = 1e-3
    """Error of a step that auto allows, relative to 1 + the state's size."""
    decay: NotNegative = 0.0
    """Initial rate per usual window at which the state decays, whatever the unit of time. Training learns it further.
    0: no decay."""
    pooling: Pooling = "state"
    """Value that is read out: the state, or the mean of the states so far."""
    emit: Emit = "every"
    """Predict after every window, or only when the stream ends."""
    interpolation: Interpolation = "linear"
    """Path between samples: linear, or hold (causal)."""
    dtype: Literal["float32", "float64"] = "float32"
    """Dtype of the weights."""
    description: str = ""
    """Free text that is stored with the model."""
    notes: str = ""
    """Purpose and limits of the model, stored with it like the description."""

    @property
    def state_size(self) -> int:
        """Return the size of the hidden state of one member."""
        return self.field.state_size or self.hidden or _HIDDEN


class TokenConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Inputs of the vector field after each window. By default they are the window's log-signature."""

    scales: tuple[int | tuple[int, int], ...] = (1,)
    """Numbers of windows. The path over the last so many windows gives a log-signature each. A pair [windows, depth]
    gives a scale a smaller depth than the model's. For windows that overlap, make [windows] as long as their hop, and
    name one scale, such as [4]."""
    ends: bool = False
    """Add each channel's value at the window's end. For a stack: by default true."""
    summaries: bool = False
    """Add summaries of each channel's observations so far: number, first, last, mean, least and largest value,
    deviation, slope, seconds since the last one."""
    bands: Bands | None = None
    """Add each channel's oscillations so far in frequency bands: their number per second, and their share of the
    amplitude. For rates of what repeats, such as heart beats. Keys: low and high, Hz, and count."""
    pulses: Pulses | None = None
    """Add quantiles of how often the channels' activity has peaked so far, over all channels together. For the rate of
    what repeats in short beats. Keys: shortest and longest, seconds, and count."""
    clip: NotNegative = 8.0
    """Largest magnitude of an input, in its root mean squares over the training windows. 0: any. The window's
    log-signature alone is clipped for stacks only."""

    @property
    def token(self) -> Token:
        """Return what these inputs are."""
        scales = as_scales(self.scales)
        return Token(scales=scales, ends=self.ends, summaries=self.summaries, bands=self.bands, pulses=self.pulses)


class AugmentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Random changes to the training streams, drawn in every epoch. Everything is off by default."""

    crop: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    """A stream becomes a random contiguous part of itself, at least this share of its samples."""
    rotate: tuple[tuple[str, str, str], ...] = ()
    """Triples of channels that are vectors of one body. All are turned by one random rotation per stream."""
    degrees: Annotated[float, msgspec.Meta(ge=0, le=180)] = 15.0
    """Largest angle of that rotation, degrees. Its axis is uniform on the sphere."""
    flip: tuple[tuple[str, ...], ...] = ()
    """Sets of channels. With probability 1/2 a set changes its signs, as between left and right hand."""
    tempo: Share = 0.0
    """Time is stretched by a factor uniform in [1 - tempo, 1 + tempo]."""
    rates: tuple[str, ...] = ()
    """Targets that are rates of what the signal shows, such as a heart rate. The factor of tempo divides them."""
    gain: Share = 0.0
    """Each channel (each triple of `rotate` as one) is multiplied by a factor uniform in [1 - gain, 1 + gain]."""
    noise: NotNegative = 0.0
    """White noise added to every sample, in standard deviations of its channel."""

    @property
    def active(self) -> bool:
        """Return True if anything is changed at all."""
        return (
            self.crop < 1
            or bool(self.rotate and self.degrees)
            or bool(self.flip or self.tempo or self.gain or self.noise)
        )


class TrainingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Optimisation of the weights: AdamW with a schedule of the learning rate, and safeguards."""

    epochs: Positive = 200
    """Passes over the training streams, at most."""
    batch_size: Positive = 32
    """Streams per step."""
    draw: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Training streams per epoch, drawn anew in each. 0: all of them."""
    balance: Literal["streams", "groups"] = "streams"
    """Draw streams equally often, or groups (`split.group`): each then has the same share of an epoch, however many
    streams it has."""
    length_pool: Positive = 8
    """Number of batches that are drawn at once and made of streams of similar lengths. 1: batches are drawn one by
    one."""
    learning_rate: AboveZero = 3e-3
    """Highest learning rate."""
    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    """Learning rate after its rise: falls to 0 as a cosine, stays constant, or falls on plateaus."""
    warm_up: Share = 0.05
    """Share of the run over which the learning rate rises from 0, while AdamW's second moments settle. For a stack:
    by default 0.15."""
    plateau_epochs: Positive = 10
    """Epochs without improvement after which the rate of schedule "plateau" falls."""
    plateau_factor: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.5
    """Factor by which it then falls."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """AdamW's decays of the running means of the gradient and of its square. For a stack: by default [0.9, 0.98]."""
    weight_decay: NotNegative = 1e-4
    """AdamW's weight decay. It leaves a stack's vectors alone: biases, factors of norms, rates. For a stack: by default
    0.05."""
    truncate: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Windows that gradients reach back. Longer streams are trained part by part, a step after each, with the state
    carried over. 0: all windows."""
    loss: Literal["mse", "huber"] = "mse"
    """Loss of a regression: the squared error, or linear beyond `huber`. Classification uses the cross entropy."""
    huber: AboveZero = 1.0
    """Error beyond which Huber's loss is linear, in standard deviations of the target."""
    loss_on: Literal["served", "every", "last", "ramp"] = "served"
    """Windows that count in the loss: those whose predictions are served (see `ModelConfig.emit`), every window,
    only the last one that has a target, or every window in proportion to its number."""
    class_weights: Literal["equal", "balanced"] | dict[str, AboveZero] = "equal"
    """Factors on the loss of each class: equal (1), balanced (inverse to the number of its streams, with mean 1), or
    a table by class, with 1 for those not named."""
    undo_weights: bool = False
    """Remove the class_weights from the served model: training multiplies odds by them, and this divides again.
    Classes are learned as if they were as common as their weights, and served as common as they are."""
    target_weights: tuple[AboveZero, ...] = ()
    """Factors on the loss of each target of a regression; () = equal."""
    label_smoothing: Share = 0.0
    """Share of a target's probability that is spread over all classes."""
    dropout: Share = 0.0
    """Share of the field's hidden features, or of a stack's residuals, that are dropped for a training stream, the same
    ones in all its windows. For a stack: by default 0.1."""
    token_dropout: Share = 0.0
    """Share of the entries of tokens that are dropped for a training stream, the same ones in all its windows."""
    mixup: NotNegative = 0.0
    """Mix each training stream with another one of its batch: their tokens in the shares s and 1 - s, and their losses
    too, with s drawn from the Beta(mixup, mixup) distribution. 0: no mixing."""
    gradient_norm: AboveZero = 1.0
    """Largest length of gradients. Longer ones are clipped."""
    spike: NotNegative = 10.0
    """Skip a step whose gradient is this many times longer than the median of the last hundred. 0: skip only those
    that are not finite."""
    rewinds: Annotated[int, msgspec.Meta(ge=0)] = 3
    """Number of times that a diverged epoch is undone and the learning rate halved, before training gives up."""
    scaling: Literal["coefficient", "level"] = "coefficient"
    """Scaling of log-signatures: each coefficient alone, or the path's channels and then each level as a whole. See
    `fit_inputs`."""
    start: Literal["sample", "average", "random"] = "sample"
    """Initial weights. "sample": the state's first components carry the current sample (see `carry_sample`), if the
    field is a perceptron with nothing after its last layer; other fields start at random. "average": the next ones
    also carry the samples' average so far (see `carry_average`)."""
    field_gain: AboveZero = 0.3
    """Factor on the field's random last layer, which a stack does not have. Smaller is gentler dynamics at the start of
    training."""
    state_rate: AboveZero = 1.0
    """Factor on the learning rate of all weights but the readout's. With many channels and few streams, a small one
    keeps the state near its initial dynamics, and mostly the readout learns."""
    averaging: Share = 0.0
    """Decay per step of the running average of the weights, which is validated and kept. 0: no average. For a stack: by
    default 0.95."""
    monitor: str = "loss"
    """Measure of the validation streams that selects the epoch whose weights are kept: "loss", or a measure over all
    windows or at the streams' ends, such as "auc_end" or "rmse"."""
    patience: Annotated[int, msgspec.Meta(ge=0)] = 50
    """Epochs without improvement of `monitor` before training stops. 0: never."""
    shrink: Literal["none", "validation"] = "none"
    """Regression: shrink each target's predictions towards the mean of training by the factor that suits the validation
    streams best. All groups count the same. A target whose prediction is not better than the mean there by a standard
    error over the groups is answered by the mean. For a stack: by default "validation"."""
    members: Members = 1
    """Number of models that are trained one after the other, each with its own seed, and served as one: outputs are
    their mean. See inference.ensemble."""
    checkpoint: str = ""
    """File with the state of the training, for --resume. "": none."""
    checkpoint_seconds: NotNegative = 60.0
    """Least seconds between two writes of the checkpoint. It is written at the ends of epochs and when training
    ends."""
    seed: int = 0
    """Seed of weights, batches and augmentation."""
    logsignatures: Literal["own", "pysiglib"] = "own"
    """Kept for files that name it. Both values mean the serving kernels, with which pysiglib agrees to 1e-10."""
    device: str = "auto"
    """A torch device, or "auto": a GPU if there is one."""


class OutputConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Output files. Paths are relative to the current working directory. "" writes nothing."""

    model: str = ""
    """Model file."""
    metrics: str = ""
    """JSON file with all measures."""
    report: str = ""
    """HTML file: learning curves, quality, calibration, step errors, speed. See `write_report`."""
    test: str = ""
    """File with the test streams' samples and targets, for `streamrde score`. See `write_test`."""
    seconds: tuple[Annotated[float, msgspec.Meta(gt=0)], ...] = ()
    """Times since a stream's start at which accuracy is measured too (classification)."""


class ChoiceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Comparison of families of models, reservoirs, stacks and a Neural RDE, in a run without [model]."""

    minutes: AboveZero = 10.0
    """Minutes for all of them. Reservoirs are fitted first, in seconds. Others are trained while there is time."""
    name: str = ""
    """Name of the candidate to train, as the table of an earlier run has it. "": the best of all."""


class SweepConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Values that `streamrde sweep` tries. Training itself ignores them."""

    over: dict[str, Any] = {}
    """Keys of the configuration, as nested tables or dotted, each with a list of values. Empty: window length,
    depth, hidden, width and solver around those configured."""
    trials: Annotated[int, msgspec.Meta(ge=0)] = 24
    """Combinations to try, drawn at random if there are more. 0: all."""
    rungs: Annotated[int, msgspec.Meta(ge=1, le=5)] = 3
    """Rungs of successive halving: each trains for three times the epochs, with the best third of the trials, the
    last one for training.epochs. 1: every trial trains for all epochs."""
    folds: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Number of parts that the groups of training and validation are divided into. Each trial is trained once for
    each part, which then judges it, and the mean of the scores decides. 0: the validation part judges."""
    repeats: Positive = 1
    """Trainings of each trial, or of each of its folds, with consecutive seeds. The mean of their scores decides."""
    seed: int = 0
    """Seed of the draw and of the folds."""

    @property
    def trainings(self) -> int:
        """Return the number of trainings of each trial on a rung."""
        return self.repeats * max(1, self.folds)


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A training run."""

    data: DataConfig
    columns: ColumnKeys | None = None
    """Columns of the files, and how they are read. Payloads and [data] have the same keys, each to be given once."""
    split: SplitConfig = SplitConfig()
    windows: Windows = Every(1.0)
    missing: Missing = Missing()
    gap: Gap | None = None
    bridge: Annotated[int, msgspec.Meta(ge=1, le=MAX_WINDOWS)] | None = None
    """Most windows to fill a silence with, if there is no [gap]. A longer silence cuts the stream. By default 1,000,
    or twice the length of 999 in 1,000 silences in training, whichever is more."""
    order: Order = Order()
    """Of the rows that are read; "error" in `duplicates` also stops at a row that is late."""
    token: TokenConfig = TokenConfig()
    model: ModelConfig = ModelConfig()
    novelty: bool = True
    """Store the distribution of the training windows in the model file. See inference.novelty."""
    compare: bool = True
    """Measure models that take seconds beside the trained one: nearest stream, a linear model of summaries, and a
    fitted reservoir. They need one target per stream."""
    augment: AugmentConfig = AugmentConfig()
    training: TrainingConfig = TrainingConfig()
    output: OutputConfig = OutputConfig()
    choice: ChoiceConfig | None = None
    sweep: SweepConfig = SweepConfig()

    def partition(self, fills: Iterable[float]) -> Partition:
        """Return the rules by which streams are cut into windows, with channels that start at `fills`."""
        model = self.model
        return Partition(
            tuple(fills),
            model.depth,
            self.windows,
            model.interpolation,
            self.missing,
            self.gap,
            bridge=self.bridge or BRIDGE,
            token=self.token.token,
        )

    def header(self, fills: Iterable[float], classes: Sequence[str], target_at: TargetAt) -> Header:
        """Return the header of the model that is trained.

        Args:
            fills: value of each data channel before it is observed.
            classes: labels of the training streams. Empty for regression.
            target_at: what the targets are of.
        """
        data, labels = self.data, tuple(classes or self.data.targets)
        channels = zip(data.channels, fills, strict=True)
        partition = self.partition(fills)
        # A scaled entry's root mean square is one over the square root of their number.
        field, clip = self.model.field, self.token.clip / math.sqrt(partition.token_size)
        if partition.token.plain and not field.shifts_tokens:
            clip = 0.0
        model: dict[str, Any] = msgspec.structs.asdict(self.model)
        model |= {"decay": self.model.decay > 0, "hidden": self.model.state_size}
        if field.begins_blank:
            model["initial"] = Blank()
        return Header(
            channels=tuple(Channel(name=own.name, unit=data.unit_of(own), fill=float(fill)) for own, fill in channels),
            outputs=len(labels),
            windows=self.windows,
            token=partition.token,
            clip=clip,
            missing=self.missing,
            gap=self.gap,
            bridge=self.bridge or BRIDGE,
            task=data.task,
            labels=labels,
            units=tuple(data.target_units),
            target_at=target_at,
            horizon=data.horizon,
            **model,
        )

    def check(self) -> None:
        """Raise ConfigError where fields contradict each other."""
        self.data.check()
        self.split.check()
        names = [channel.name for channel in self.data.channels]
        for key in ("rotate", "flip"):
            for name in (name for members in getattr(self.augment, key) for name in members):
                if name not in names:
                    raise ConfigError(f"augment.{key} names '{name}', which is not in data.channels {names}")
        for name in self.augment.rates:
            if self.data.task != "regression" or name not in self.data.targets:
                raise ConfigError(
                    f"augment.rates names '{name}', which is not a number to predict: use one of data.target, of a "
                    "regression"
                )
        if self.training.dropout and not self.model.field.dropout_width:
            raise ConfigError(
                f"training.dropout={self.training.dropout}: field '{self.model.field.tag}' has no features to drop; "
                "set it to 0"
            )
        if self.model.field.state_size is not None:
            for key, wanted, instead in _OF_STACKS:
                if (value := getattr(self.model, key)) != wanted:
                    raise ConfigError(f"model.{key}={value!r}: field '{self.model.field.tag}' {instead}; leave it out")
        try:
            self.token.token.check(self.model.depth)
        except ParameterError as error:
            raise ConfigError(f"token.{error}") from None
        if self.model.decay and not self.token.token.window_depth(self.model.depth):
            raise ConfigError(
                f"model.decay={self.model.decay:g} needs the window's own log-signature: begin token.scales with 1, or "
                "set model.decay to 0"
            )
        if self.training.start == "average" and not self.token.token.window_depth(self.model.depth):
            raise ConfigError(
                "training.start='average' needs the window's own log-signature: begin token.scales with 1, or use "
                "start = 'random'"
            )
        self._check_training()

    def _check_training(self) -> None:
        training, task = self.training, self.data.task
        if training.monitor not in _MONITORS[task]:
            raise ConfigError(
                f"training.monitor='{training.monitor}': of a {task} use one of {', '.join(_MONITORS[task])}"
            )
        if task == "classification" and training.loss != "mse":
            raise ConfigError(f"training.loss='{training.loss}' is for regression: leave it out")
        if task == "classification" and training.target_weights:
            raise ConfigError("training.target_weights is for regression: see training.class_weights")
        if task == "regression" and training.class_weights != "equal":
            raise ConfigError("training.class_weights is for classification: see training.target_weights")
        if training.undo_weights and training.class_weights == "equal":
            raise ConfigError("training.undo_weights: there are no training.class_weights to undo; leave it out")
        if training.target_weights and len(training.target_weights) != len(self.data.targets):
            raise ConfigError(
                f"training.target_weights has {len(training.target_weights)} entries for {len(self.data.targets)} "
                "targets: give one for each"
            )


ConfigSource: TypeAlias = TrainConfig | Mapping[str, Any] | str | os.PathLike[str]
"""A training configuration: itself, its tables, or the path of a TOML file."""


def resolve_config(source: ConfigSource, settings: Sequence[str] = ()) -> TrainConfig:
    """Return a caller's configuration with some of its keys replaced, and checked.

    Raises:
        ConfigError: as `load_train_config` and `as_train_config`.
    """
    if isinstance(source, (str, os.PathLike)):
        return load_train_config(source, settings)
    return as_train_config(source if isinstance(source, Mapping) else msgspec.to_builtins(source), settings)


def given_tables(source: ConfigSource, settings: Sequence[str] = ()) -> dict[str, Any]:
    """Return the tables of a configuration as they were given, without defaults.

    A TrainConfig has all of them.

    Raises:
        ConfigError: as `read_toml`.
    """
    tables = read_tables(source) if isinstance(source, (str, os.PathLike)) else source
    return override(msgspec.to_builtins(tables, enc_hook=as_plain), settings)


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
    """Make a TrainConfig from tables with some of their keys replaced.

    Raises:
        ConfigError: names the key's path.
    """
    try:
        plain = msgspec.to_builtins(tables, enc_hook=as_plain)
    except TypeError as error:
        raise ConfigError(str(error)) from None
    config = convert(with_usual_settings(with_columns(override(plain, settings))), TrainConfig)
    config.check()
    return config
