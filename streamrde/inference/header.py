"""The header of a model: everything about it that is not a tensor. A model is described here, and nowhere else."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import numpy as np

from streamrde.adapting.bands import Calibration, calibration_shapes
from streamrde.adapting.scores import Unit, units_of
from streamrde.adapting.settings import Learned
from streamrde.errors import ParameterError
from streamrde.floats import as_plain
from streamrde.inference.ends import Blank, End, Layers
from streamrde.inference.fields import MLP, Field
from streamrde.inference.model_part import PARTS, ModelPart, Positive
from streamrde.inference.novelty import TrainingWindows, novelty_shapes
from streamrde.inference.solvers import FirstStage, Solver, Substeps
from streamrde.inference.statistics import StreamStatistics
from streamrde.windowing.gaps import Gap
from streamrde.windowing.missing import Missing
from streamrde.windowing.partition import BRIDGE, MAX_WINDOWS, Interpolation, Partition
from streamrde.windowing.policies import Every, Windows
from streamrde.windowing.tokens import Token

FORMAT = 6
"""1: perceptrons, one step a window, one output. 2: families of fields, substeps, decay, hidden range, heads. 3: how
the model was trained, notes, the distribution of its training windows, members. 4: statistics of the training streams,
how long a silence is filled with windows, perceptrons and modules at the model's ends. 5: tokens of several scales,
shifted and clipped. 6: what streams that the model had not seen say about labels."""
_OF_FORMAT_6 = ("learned", "calibration")
"""Fields that a file of format 5 does not have."""
_OF_FORMAT_5 = ("token", "clip")
"""Fields that a file of format 4 does not have."""

Task: TypeAlias = Literal["regression", "classification"]
Pooling: TypeAlias = Literal["state", "mean"]
TargetAt: TypeAlias = Literal["", "stream", "window"]
Emit: TypeAlias = Literal["every", "last"]
# The bound keeps a hostile header from asking for an endless count of Lyndon words.
Depth: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=12)]
# And this one from asking for endlessly many tensors.
MOST_MEMBERS = 1000
Members: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MOST_MEMBERS)]


class Channel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One data channel of a model: its name, its unit, and the value it has before it is first observed."""

    name: str
    unit: str = ""
    fill: float = 0.0


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of several predictions of a model."""

    name: str
    outputs: Positive
    task: Task = "regression"
    labels: tuple[str, ...] = ()
    units: tuple[str, ...] = ()

    @property
    def is_binary(self) -> bool:
        """Return True if the one output is the probability of the second of two classes: one logit's sigmoid."""
        return self.task == "classification" and self.outputs == 1

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, or "0", "1", ... if the model has none. Empty for regression."""
        if self.task != "classification":
            return ()
        if self.is_binary and len(self.labels) == 1:
            return (f"not {self.labels[0]}", self.labels[0])
        return self.labels or tuple(str(i) for i in range(max(2, self.outputs)))

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs. Empty if the model has none."""
        return self.labels[-1:] if self.is_binary else self.labels


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything about a model that is not a tensor."""

    format: int = FORMAT
    channels: tuple[Channel, ...]
    """Data channels in the order of x. Time is channel 0 of the path and not listed."""
    depth: Depth
    hidden: Positive
    outputs: Positive
    field: Field = MLP()
    initial: End = Layers()
    """Part of the model that computes the first state from the scaled first sample."""
    readout: End = Layers()
    """Part of the model that computes the outputs from a state."""
    members: Members = 1
    """Equal parts of the state, each with its own field that does not see the others: the members of an ensemble
    (see inference.ensemble). The readout sees them all."""
    solver: Solver = "rk4"
    first_stage: FirstStage = "own"
    substeps: Substeps = 1
    """Steps of the solver per window; "auto": doubled until the estimated error is within `tolerance`."""
    tolerance: Annotated[float, msgspec.Meta(gt=0)] = 1e-3
    """Largest error of a step, relative to 1 + the state's size."""
    decay: bool = False
    """True if the state decays. The tensor `decay` has each component's rate per second."""
    hidden_range: bool = False
    """True if the tensors `range.low` and `range.high` hold the state's range in training."""
    range_margin: Annotated[float, msgspec.Meta(ge=0)] = 0.5
    """Share of that range's width by which a component may leave it before the state is called out of range."""
    novelty: TrainingWindows | None = None
    """Facts about the training windows, whose distribution the tensors `novelty.*` hold."""
    statistics: StreamStatistics | None = None
    """Summary of the streams of training: rate, times, silences, values. None if the model was written without one."""
    learned: Learned | None = None
    """How strongly to correct predictions by labels that come late. None: the model was written without it."""
    calibration: Calibration | None = None
    """Facts about held-out streams, whose scores the tensor `calibration.scores` holds. None: the model was written
    without it, and has no intervals."""
    windows: Windows = Every(1.0)
    token: Token = Token()
    """Inputs of the field after a window: its log-signature, or those of several scales and more."""
    clip: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Largest magnitude of an entry of a scaled token. 0: any."""
    interpolation: Interpolation = "linear"
    missing: Missing = Missing()
    gap: Gap | None = None
    bridge: Annotated[int, msgspec.Meta(ge=1, le=MAX_WINDOWS)] = BRIDGE
    """Most windows that a silence is filled with if there is no `gap`. A longer silence cuts the stream."""
    task: Task = "regression"
    labels: tuple[str, ...] = ()
    """Classes (classification) or names of the targets (regression), one per output. May be empty. A classification
    with one output, a logit, has two classes. Its output is the probability of the second."""
    units: tuple[str, ...] = ()
    """Units of the targets (regression), one per output. May be empty."""
    heads: tuple[Head, ...] = ()
    """Several predictions from one state, with their outputs one after the other. Empty: one, described by the
    fields above."""
    pooling: Pooling = "state"
    """Value that is read out: the state, or the mean of the states after all windows so far."""
    emit: Emit = "every"
    """Predictions after every window, or only when the stream ends."""
    target_at: TargetAt = ""
    """Target of a window's output: the value of its stream, or the last known value within the window (plus
    `horizon`). "": not known."""
    horizon: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Seconds by which the targets lie ahead of their windows."""
    dtype: Literal["float32", "float64"] = "float32"
    value_dtype: Literal["", "float64"] = ""
    """Dtype of predictions. "" means as `dtype`. Training makes it float64 if targets lie so far from 0 that float32
    would lose their digits. Their offset is then added in float64."""
    versions: dict[str, str] = {}
    """Versions of the software that made the file."""
    metrics: dict[str, float] = {}
    """Measures from training, such as ``{"test_accuracy": 0.95}``."""
    training: dict[str, str] = {}
    """Description of the training for people: data, split, seed, epochs, digest of the configuration."""
    description: str = ""
    notes: str = ""
    """Purpose and limits of the model, stored with it like the description."""

    @property
    def path_channels(self) -> int:
        """Return C, the number of channels of the path: time, the data channels, and what `missing` adds."""
        return self.partition.path_channels

    @property
    def partition(self) -> Partition:
        """Return the rules by which the model cuts samples into windows."""
        fills = tuple(channel.fill for channel in self.channels)
        return Partition(
            fills,
            self.depth,
            self.windows,
            self.interpolation,
            self.missing,
            self.gap,
            bridge=self.bridge,
            token=self.token,
        )

    @property
    def logsig_channels(self) -> int:
        """Return B, the size of a token: of what drives the field over a window."""
        return self.partition.token_size

    @property
    def shifts_tokens(self) -> bool:
        """True if tokens are shifted before they are scaled, by the tensor `token.shift`, and may be clipped."""
        return not self.token.plain or self.field.shifts_tokens

    def written(self) -> dict[str, Any]:
        """Return the header's fields as they are written to a file, in the oldest format that has all it needs."""
        fields: dict[str, Any] = msgspec.to_builtins(self, enc_hook=as_plain)
        if any(fields[name] is not None for name in _OF_FORMAT_6):
            return fields | {"format": 6}
        left_out = _OF_FORMAT_6 if self.shifts_tokens else _OF_FORMAT_6 + _OF_FORMAT_5
        return {name: fields[name] for name in fields if name not in left_out} | {
            "format": 5 if self.shifts_tokens else 4
        }

    def part(self, name: str) -> ModelPart:
        """Return the field, the initial layer or the readout, by its name."""
        return {"field": self.field, "initial": self.initial, "readout": self.readout}[name]

    def sizes(self, name: str) -> tuple[int, int]:
        """Return the number of inputs and of outputs of the initial layer or the readout."""
        if name == "readout":
            return self.field.readout_inputs(self), self.outputs
        return {"initial": (self.path_channels, self.hidden)}[name]

    @property
    def member_hidden(self) -> int:
        """Return the size of one member's part of the state."""
        return self.hidden // self.members

    def checked(self) -> Header:
        """Return the header as a file that is read again gives it.

        Raises:
            ParameterError: a value has another type than the file's, or values contradict each other.
        """
        try:
            header = msgspec.convert(msgspec.to_builtins(self, enc_hook=as_plain), Header)
        except msgspec.ValidationError as error:
            raise ParameterError(f"{error}") from None
        header.check()
        return header

    def check(self) -> None:
        """Raise ParameterError where fields contradict each other."""
        if not self.channels:
            raise ParameterError("channels is empty: a model needs at least one data channel")
        names = [channel.name for channel in self.channels]
        if len(set(names)) < len(names):
            raise ParameterError(f"channels {names} has a name twice: give each channel a name of its own")
        self.windows.check(self.path_channels, self.depth)
        self._check_token()
        if self.learned is not None:
            self.learned.check(self.outputs)
        for name in () if self.calibration is None else ("streams", "scales"):
            entries = len(getattr(self.calibration, name))
            if entries != len(self.thresholds) and (entries or name == "streams"):
                raise ParameterError(
                    f"calibration.{name} has {entries} entries: give one per output that is a number and one per head "
                    "of classes"
                )
        for head in self.parts:
            where = f"head '{head.name}': " if head.name else ""
            for name in ("labels", "units"):
                values = getattr(head, name)
                if head.is_binary and name == "labels":
                    if len(values) > 2:
                        raise ParameterError(
                            f"{where}labels has {len(values)} entries and outputs=1: one logit parts two classes; "
                            "give two labels, the second being the one whose probability it is, or one output per class"
                        )
                elif values and len(values) != head.outputs:
                    raise ParameterError(
                        f"{where}{name} has {len(values)} entries and outputs={head.outputs}: one per output, or none"
                    )
        names = [head.name for head in self.heads]
        if len(set(names)) < len(names) or not all(name.isidentifier() for name in names):
            raise ParameterError(f"heads {names}: give each a name of its own, of letters, digits and _")
        total = sum(head.outputs for head in self.parts)
        if total != self.outputs:
            raise ParameterError(f"heads have {total} outputs and outputs={self.outputs}: make it the sum")
        if not 1 <= self.members <= MOST_MEMBERS:
            raise ParameterError(f"members={self.members}: use a number from 1 to {MOST_MEMBERS}")
        if self.hidden % self.members:
            raise ParameterError(f"members={self.members} does not divide hidden={self.hidden}: they have equal parts")
        if self.members > 1 and not self.field.stored:
            raise ParameterError(
                f"members={self.members}: a field that is not in the file has one; make them one module"
            )
        for name in ("initial", "readout"):
            if self.members > 1 and self.part(name) not in (Layers(), Blank()):
                raise ParameterError(f"members={self.members}: their {name} is one linear layer, and this is another")
        for name in PARTS:
            self.part(name).check(name, self)

    def _check_token(self) -> None:
        self.token.check(self.depth)
        if self.clip and not self.shifts_tokens:
            raise ParameterError(
                f"clip={self.clip:g}: the log-signature of the window alone is not clipped; set it to 0"
            )
        for key, asked in (("decay", self.decay), ("novelty", self.novelty is not None)):
            if asked and not self.token.window_depth(self.depth):
                raise ParameterError(
                    f"{key} needs the window's own log-signature, and the first scale is the last "
                    f"{self.token.scales[0].windows} windows: name a scale of 1 window first, or turn {key} off"
                )

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs. Empty if the model has none or has heads."""
        return () if self.heads else self.parts[0].output_names

    @property
    def output_dtype(self) -> np.dtype[Any]:
        """The dtype of predictions."""
        return np.dtype(self.value_dtype or self.dtype)

    @property
    def parts(self) -> tuple[Head, ...]:
        """Return the heads, or if there are none, a nameless one."""
        return self.heads or (
            Head(name="", task=self.task, outputs=self.outputs, labels=self.labels, units=self.units),
        )

    @property
    def thresholds(self) -> tuple[Unit, ...]:
        """Return what has one threshold each: outputs that are numbers, and heads of classes."""
        return units_of((head.outputs, head.task == "classification") for head in self.parts)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor that belongs to this header."""
        channels, hidden = self.path_channels, self.hidden
        shapes: dict[str, tuple[int, ...]] = {
            "x0.shift": (channels,),
            "x0.scale": (channels,),
            "logsig.scale": (self.logsig_channels,),
            "output.shift": (self.outputs,),
            "output.scale": (self.outputs,),
        }
        if self.shifts_tokens:
            shapes["token.shift"] = (self.logsig_channels,)
        for name in ("initial", "readout"):
            shapes |= self.part(name).shapes(name, self)
        if self.calibration is not None:
            shapes |= calibration_shapes(len(self.thresholds), scaled=bool(self.calibration.scales))
        if self.decay:
            shapes["decay"] = (hidden,)
        if self.hidden_range:
            shapes["range.low"] = shapes["range.high"] = (hidden,)
        if self.novelty is not None:
            shapes |= novelty_shapes(channels, self.token.window_depth(self.depth))
        own = self.field.shapes("field", self)
        for member in range(self.members):
            shapes |= {self.field_tensor(name, member): shape for name, shape in own.items()}
        return shapes

    def field_tensor(self, name: str, member: int) -> str:
        """Return the name in the file of a member's ``field.*``: ``field.MEMBER.*`` if there are several members."""
        return name if self.members == 1 else f"field.{member}.{name.removeprefix('field.')}"


# What may differ between two models of which one takes over the other's streams.
_OF_NO_STATE = (
    *(
        "format",
        "field",
        "initial",
        "readout",
        "solver",
        "clip",
        "target_at",
        "horizon",
        "novelty",
        "statistics",
        "learned",
        "calibration",
    ),
    *("bridge", "versions", "metrics", "training", "description", "notes"),
)


def header_differences(old: Header, new: Header) -> list[str]:
    """List the differences that keep a model with header `new` from continuing streams of `old`."""
    return [
        f"{name} was {getattr(old, name)!r} and is {getattr(new, name)!r}"
        for name in Header.__struct_fields__
        if name not in _OF_NO_STATE and getattr(old, name) != getattr(new, name)
    ]
