"""A trained model on disk: safetensors with a JSON header. Reading one needs numpy only: no torch, no pickle."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import numpy as np
import safetensors.numpy

from streamrde.arrays import Floats, Reals
from streamrde.disk import replace_file
from streamrde.errors import BundleError, ParameterError
from streamrde.inference.fields import MLP, External, Field, Linear
from streamrde.inference.fields.motion import Positive as Positive
from streamrde.inference.layers import End, Layers
from streamrde.inference.novelty import TrainingWindows, novelty_fault, novelty_shapes
from streamrde.inference.solvers import FirstStage, Solver, Substeps
from streamrde.inference.statistics import StreamStatistics
from streamrde.signature.words import logsignature_channels
from streamrde.windowing.gaps import Gap
from streamrde.windowing.missing import Missing
from streamrde.windowing.norms import norm_limits
from streamrde.windowing.policies import BRIDGE, MAX_WINDOWS, Adaptive, Every, Interpolation, WindowPolicy, Windows
from streamrde.windowing.rows import Partition

FORMAT = 4
"""1: perceptrons, one step a window, one output. 2: families of fields, substeps, decay, hidden range, heads. 3: how
the model was trained, notes, the distribution of its training windows, members. 4: statistics of the training streams,
how long a silence is filled with windows, perceptrons and modules at the model's ends."""
_READABLE = (1, 2, 3, 4)
_KEY = "streamrde"
# A header is a few kB and a model some MB; a file that claims more is not one of ours.
_MAX_HEADER = 16 << 20
_MAX_FILE = 4 << 30

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
        """True if the one output is the probability of the second of two classes, which is the sigmoid of one logit."""
        return self.task == "classification" and self.outputs == 1

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, "0", "1", ... where the model gives none; empty for regression."""
        if self.task != "classification":
            return ()
        if self.is_binary and len(self.labels) == 1:
            return (f"not {self.labels[0]}", self.labels[0])
        return self.labels or tuple(str(i) for i in range(max(2, self.outputs)))

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, one each. Empty if the model gives none."""
        return self.labels[-1:] if self.is_binary else self.labels


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything about a model that is not a tensor."""

    format: int = FORMAT
    channels: tuple[Channel, ...]
    """Data channels in the order of x; time is channel 0 of the path and not listed."""
    depth: Depth
    hidden: Positive
    outputs: Positive
    field: Field = MLP()
    initial: End = Layers()
    """Part of the model that makes the first state from a first sample, scaled."""
    readout: End = Layers()
    """Part of the model that reads the outputs out of a state."""
    members: Members = 1
    """Equal parts of the state, each with a field of its own that sees nothing of the others: the members of an
    ensemble (see inference.ensemble). The readout sees them all."""
    solver: Solver = "rk4"
    first_stage: FirstStage = "own"
    substeps: Substeps = 1
    """Steps of the solver per window; "auto": doubled until the estimated error is within `tolerance`."""
    tolerance: Annotated[float, msgspec.Meta(gt=0)] = 1e-3
    """What the error of a step, relative to 1 + the state's size, should not exceed."""
    decay: bool = False
    """Whether the state decays: the tensor `decay` has each component's rate per second."""
    hidden_range: bool = False
    """Whether the tensors `range.low` and `range.high` say where the state was in training."""
    range_margin: Annotated[float, msgspec.Meta(ge=0)] = 0.5
    """Share of that range's width by which a component may leave it before the state is called out of range."""
    novelty: TrainingWindows | None = None
    """Where the tensors `novelty.*` say how the windows of training were distributed: of which windows."""
    statistics: StreamStatistics | None = None
    """Summary of the streams of training: rate, times, silences, values. None if the model was written without one."""
    windows: Windows = Every(1.0)
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
    """Units of the targets (regression), one per output; may be empty."""
    heads: tuple[Head, ...] = ()
    """Several predictions from one state, their outputs one after the other; empty: one, as the fields above say."""
    pooling: Pooling = "state"
    """What is read out: the state, or the mean of the states after all windows so far."""
    emit: Emit = "every"
    """Predictions after every window, or only when the stream ends."""
    target_at: TargetAt = ""
    """What a window's output is to be: the value of its stream, or the last one known within the window (plus
    `horizon`); "": not told."""
    horizon: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Seconds by which the targets lie ahead of their windows."""
    dtype: Literal["float32", "float64"] = "float32"
    value_dtype: Literal["", "float64"] = ""
    """Dtype of predictions. "" means as `dtype`. Training makes it float64 if targets lie so far from 0 that float32
    would lose their digits. Their offset is then added in float64."""
    versions: dict[str, str] = {}
    """Versions of the software that made the file."""
    metrics: dict[str, float] = {}
    """What training measured, e.g. ``{"test_accuracy": 0.95}``."""
    training: dict[str, str] = {}
    """How the model was trained, for people: data, split, seed, epochs, digest of the configuration."""
    description: str = ""
    notes: str = ""
    """What the model is meant for and where its limits are."""

    @property
    def path_channels(self) -> int:
        """C, the channels of the path: time, the data channels, and what `missing` adds."""
        return self.partition.path_channels

    @property
    def partition(self) -> Partition:
        """How the model makes windows of samples."""
        fills = tuple(channel.fill for channel in self.channels)
        return Partition(
            fills, self.depth, self.windows, self.interpolation, self.missing, self.gap, bridge=self.bridge
        )

    @property
    def logsig_channels(self) -> int:
        """B, the size of a window's log-signature."""
        return logsignature_channels(self.path_channels, self.depth)

    @property
    def member_hidden(self) -> int:
        """Size of one member's part of the state."""
        return self.hidden // self.members

    def check(self) -> None:
        """Raise ParameterError where fields contradict each other."""
        if not self.channels:
            raise ParameterError("channels is empty: a model needs at least one data channel")
        names = [channel.name for channel in self.channels]
        if len(set(names)) < len(names):
            raise ParameterError(f"channels {names} has a name twice: give each channel a name of its own")
        if isinstance(self.windows, Adaptive):
            norm_limits(self.windows, self.path_channels, self.depth)
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
        if self.members > 1 and isinstance(self.field, External):
            raise ParameterError(
                f"members={self.members}: a field that is not in the file has one; make them one module"
            )
        for name, end in (("initial", self.initial), ("readout", self.readout)):
            if isinstance(end, Layers):
                end.check(name)
            if self.members > 1 and not (isinstance(end, Layers) and end.is_linear):
                raise ParameterError(f"members={self.members}: their {name} is one linear layer, and this is another")
        self.field.check(self.member_hidden, self.path_channels, self.depth)
        if isinstance(self.field, Linear) and (self.first_stage != "own" or self.substeps != 1):
            raise ParameterError(
                f"first_stage={self.first_stage!r}, substeps={self.substeps!r}: field 'linear' is stepped exactly; "
                "leave them at 'own' and 1"
            )

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, one each. Empty if the model gives none or has heads."""
        return () if self.heads else self.parts[0].output_names

    @property
    def of_values(self) -> np.dtype[Any]:
        """The dtype of predictions."""
        return np.dtype(self.value_dtype or self.dtype)

    @property
    def parts(self) -> tuple[Head, ...]:
        """The heads; one without a name where the model has none."""
        return self.heads or (
            Head(name="", task=self.task, outputs=self.outputs, labels=self.labels, units=self.units),
        )

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
        for name, end, inputs, outputs in (
            ("initial", self.initial, channels, hidden),
            ("readout", self.readout, hidden, self.outputs),
        ):
            shapes |= end.shapes(name, inputs, outputs) if isinstance(end, Layers) else {}
        if self.decay:
            shapes["decay"] = (hidden,)
        if self.hidden_range:
            shapes["range.low"] = shapes["range.high"] = (hidden,)
        if self.novelty is not None:
            shapes |= novelty_shapes(channels, self.depth)
        own = self.field.shapes(self.member_hidden, channels, self.depth)
        for member in range(self.members):
            shapes |= {self.field_tensor(name, member): shape for name, shape in own.items()}
        return shapes

    def field_tensor(self, name: str, member: int) -> str:
        """The name in the file of a tensor ``field.*`` of a member: ``field.MEMBER.*`` where there are several."""
        return name if self.members == 1 else f"field.{member}.{name.removeprefix('field.')}"


# What may differ between two models of which one takes over the other's streams.
_OF_NO_STATE = (
    *("format", "field", "initial", "readout", "solver", "target_at", "horizon", "novelty", "statistics", "bridge"),
    *("versions", "metrics", "training", "description", "notes"),
)


def header_differences(old: Header, new: Header) -> list[str]:
    """What keeps a model with header `new` from going on with the state of streams of `old`, in words."""
    return [
        f"{name} was {getattr(old, name)!r} and is {getattr(new, name)!r}"
        for name in Header.__struct_fields__
        if name not in _OF_NO_STATE and getattr(old, name) != getattr(new, name)
    ]


# Scales multiply float64 log-signatures before these are rounded to the model's dtype, hence their own.
_SCALES = frozenset({"x0.shift", "x0.scale", "logsig.scale", "output.shift", "output.scale"})
_FLOAT64 = _SCALES | {"range.low", "range.high"}
# What is told of a window beside its prediction: no part of the fingerprint, and may come and go.
_NOVELTY = "novelty."


def _is_float64(name: str) -> bool:
    return name in _FLOAT64 or name.startswith(_NOVELTY)


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained model: header and tensors, checked against each other.

    A stream's path is ``(t - t0, x)``. The initial state is ``z0 = initial.weight ((x0 - x0.shift) * x0.scale) +
    initial.bias``; a window's log-signature enters the field as ``l * logsig.scale``; an output leaves as
    ``activation(readout.weight z + readout.bias)``, for regression times `output.scale` plus `output.shift`, for
    classification through softmax, or through the sigmoid where there is one output. Both ends have more layers where
    the header says so. Where it says so, the state decays by the rates `decay` per second, and was between `range.low`
    and `range.high` in training, and the tensors `novelty.*` say how its windows were distributed (see
    inference.novelty).

    Raises:
        BundleError: a tensor is missing, superfluous, or has another shape or dtype than the header asks for.
    """

    header: Header
    tensors: Mapping[str, Reals] = field(repr=False)

    def __post_init__(self) -> None:
        try:
            self.header.check()
        except ParameterError as error:
            raise BundleError(f"header: {error}") from None
        shapes = self.header.shapes()
        for name in sorted(shapes.keys() | self.tensors.keys()):
            if name not in self.tensors:
                raise BundleError(f"tensor '{name}' is missing; the header asks for shape {shapes[name]}")
            if name not in shapes:
                raise BundleError(f"tensor '{name}' is not part of a model with this header")
            tensor = self.tensors[name]
            dtype = "float64" if _is_float64(name) else self.header.dtype
            if tensor.shape != shapes[name] or tensor.dtype != dtype:
                raise BundleError(
                    f"tensor '{name}' is {tensor.dtype} {tensor.shape}; the header asks for {dtype} {shapes[name]}"
                )
            if not np.isfinite(tensor).all():
                raise BundleError(f"tensor '{name}' has a value that is not finite: the training diverged; train again")
        if self.header.decay and (self.tensors["decay"] < 0).any():
            raise BundleError("tensor 'decay' has a negative rate: the state would grow without end; make it 0")
        if self.header.novelty is not None and (fault := novelty_fault(self.tensors)):
            raise BundleError(f"{fault}: it was not written by streamrde; add the novelty again")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what decides a prediction (tensors, and the header without what tells of it), hexadecimal.

        What is told beside a prediction, its novelty, is no part of it: see `novelty_fingerprint`.
        """
        header = msgspec.structs.replace(
            self.header,
            format=FORMAT,
            target_at="",
            novelty=None,
            statistics=None,
            metrics={},
            versions={},
            training={},
        )
        header = msgspec.structs.replace(header, description="", notes="")
        # A field at its default is left out, so that a later format's new fields do not change an old model's.
        told = {
            f.name: value for f in msgspec.structs.fields(header) if (value := getattr(header, f.name)) != f.default
        }
        digest = hashlib.sha256(msgspec.json.encode(told, order="deterministic"))
        self._add(digest, [name for name in self.tensors if not name.startswith(_NOVELTY)])
        return digest.hexdigest()

    @cached_property
    def novelty_fingerprint(self) -> str:
        """SHA-256 of what decides the windows' p-values, hexadecimal; "" where the model has none."""
        if self.header.novelty is None:
            return ""
        digest = hashlib.sha256(msgspec.json.encode(self.header.novelty, order="deterministic"))
        self._add(digest, [name for name in self.tensors if name.startswith(_NOVELTY)])
        return digest.hexdigest()

    def _add(self, digest: Any, names: Sequence[str]) -> None:
        for name in sorted(names):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.tensors[name]).tobytes())

    def with_novelty(self, told: TrainingWindows, tensors: Mapping[str, Floats]) -> Bundle:
        """The same model, knowing how the windows of training were distributed, in place of what it knew of that."""
        own = {name: tensor for name, tensor in self.tensors.items() if not name.startswith(_NOVELTY)}
        return Bundle(msgspec.structs.replace(self.header, format=FORMAT, novelty=told), own | dict(tensors))

    @property
    def parameters(self) -> int:
        """Trained numbers, the scales not counted."""
        return sum(tensor.size for name, tensor in self.tensors.items() if not _is_float64(name))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file under a temporary name beside `path`, sync it, and rename it."""
        data = safetensors.numpy.save(
            {name: np.ascontiguousarray(tensor) for name, tensor in self.tensors.items()},
            metadata={_KEY: msgspec.json.encode(self.header).decode()},
        )
        replace_file(path, data)


def load(path: str | os.PathLike[str], *, policies: Sequence[type[WindowPolicy]] = ()) -> Bundle:
    """Read a model file written by `save`. Needs numpy only: no torch, no pickle.

    Args:
        policies: classes of window policies that are not built in; a file names its policy and cannot bring code.
    Raises:
        BundleError: the file is missing, cut, no streamrde model, of another format version, or its tensors do not fit.
    """
    try:
        size = Path(path).stat().st_size
        if size > _MAX_FILE:
            raise BundleError(f"{path}: {size} bytes, more than a model of this package may have ({_MAX_FILE})")
        data = Path(path).read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path}: {error.strerror or error}; give the path of a model written by streamrde train"
        ) from None
    try:
        return _parse(data, policies)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None


def _parse(data: bytes, policies: Sequence[type[WindowPolicy]]) -> Bundle:
    try:
        tensors = safetensors.numpy.load(data)
        (size,) = struct.unpack_from("<Q", data)
        if size > _MAX_HEADER:
            raise BundleError(f"its header claims {size} bytes, more than any model of this package has")
        metadata = json.loads(data[8 : 8 + size]).get("__metadata__", {})
    except (safetensors.SafetensorError, struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"not a whole safetensors file ({error}); copy it again or train again") from None
    if _KEY not in metadata:
        raise BundleError(f"a safetensors file, but not a streamrde model: its metadata has no '{_KEY}' entry")
    try:
        start = msgspec.json.decode(metadata[_KEY], type=_Start)
        if start.format not in _READABLE:
            raise BundleError(
                f"format {start.format}, and this streamrde reads up to {FORMAT}: install the streamrde that wrote it"
            )
        known = {kind.__struct_config__.tag: kind for kind in policies}
        name = start.windows.get("policy")
        if name in known:
            fields = msgspec.json.decode(metadata[_KEY], type=dict[str, Any])
            windows = msgspec.convert(fields.pop("windows"), known[name])
            header = msgspec.structs.replace(msgspec.convert(fields, Header), windows=windows)
        elif name in (None, "every", "count", "adaptive"):
            header = msgspec.json.decode(metadata[_KEY], type=Header)
        else:
            raise BundleError(f"its windows are of policy {name!r}, which is not built in: load(..., policies=[...])")
    except msgspec.DecodeError as error:
        raise BundleError(f"header: {error}") from None
    return Bundle(header, tensors)


class _Start(msgspec.Struct):
    format: int
    windows: dict[str, Any] = {}
