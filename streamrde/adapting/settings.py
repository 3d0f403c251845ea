"""Options for labels, and what training found out about labels of streams that the model had not seen."""

from __future__ import annotations

import math
from typing import Annotated, Literal, TypeAlias

import msgspec

from streamrde.errors import ParameterError
from streamrde.floats import as_size

Serve: TypeAlias = Literal["off", "frozen", "online", "last", "mean", "blend", "best"]
Inputs: TypeAlias = Literal["outputs", "state"]

MOST_PENDING = 4096
MOST_EARLY = 1024
MOST_INPUTS = 512
"""Numbers of a state that a correction takes. The covariance of so many has 1 MB, for each stream and output."""
_CHOICES = ("off", "frozen", "online", "last", "mean", "blend", "best")

NonNegative: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]
Positive: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]


class Adapt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Use of labels that come after their predictions."""

    serve: Serve = "best"
    """Prediction that is served.

    "off": the model's, and labels are refused. "frozen": the model's; labels count, and all others are computed beside
    it. "online": the model's with the correction that the stream has learned. "last": the stream's last label. "mean":
    the mean of its labels, which begins at that of training. "blend": a mix of the two. "best": for each stream and
    output a mix of all of these, in which those with small errors on its labels so far have most of the weight."""
    inputs: Inputs | None = None
    """Inputs of the correction of an output. "outputs": 1, the model's output, and the last known label. "state": 1,
    the hidden state (of a reservoir, its pooled features), and the last known label. None: "outputs", or "state" for
    a reservoir without training."""
    projection: Annotated[int, msgspec.Meta(ge=0)] = 0
    """With inputs = "state": number of random projections that take the state's place, drawn from `seed`. 0: the whole
    state, of 512 numbers at most."""
    seed: Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)] = 0
    """Seed of the projections."""
    share: bool = False
    """Learn one correction for all streams of a fleet together, in the place of one for each: it knows more of what
    streams have in common, and nothing of how they differ. What labels teach then depends on their order over all
    streams. Early labels are unknown."""
    pending: Annotated[int, msgspec.Meta(ge=0, le=MOST_PENDING)] = 0
    """Number of predictions of a stream that wait for their labels. A new one takes the place of the oldest, which
    counts as expired if it never got a label. 0: as many as the model's horizon covers, and 32."""
    early: Annotated[int, msgspec.Meta(ge=0, le=MOST_EARLY)] = 8
    """Number of labels of a stream that wait for predictions which are not there yet. A new one takes the place of the
    oldest, which then counts as unknown. 0: labels that come before their predictions are unknown."""
    within: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """Most seconds between a label's time and the time that a prediction is for. None: half a window if windows have
    one length, or else a microsecond."""
    noise: Positive | None = None
    """Variance R of a label around the best correction, in units of the targets' variance. None: the model's."""
    prior: Positive | None = None
    """Variance P0 of the weights of the correction before the first label. None: the model's."""
    memory: Positive | None = None
    """Time constant tau of the return of the weights to their start, seconds. None: the model's."""

    def __post_init__(self) -> None:
        if self.serve not in _CHOICES:
            raise ParameterError(f"adapt={self.serve!r}: use one of {', '.join(map(repr, _CHOICES))}")
        if self.inputs not in (None, "outputs", "state"):
            raise ParameterError(f"inputs={self.inputs!r}: use 'outputs', 'state', or None for the model's")
        for name, most in (("projection", MOST_INPUTS), ("pending", MOST_PENDING), ("early", MOST_EARLY)):
            if as_size(name, getattr(self, name), least=0) > most:
                raise ParameterError(f"{name}={getattr(self, name)}: use at most {most}")
        msgspec.structs.force_setattr(self, "seed", as_size("seed", self.seed, least=0))
        if self.projection and self.inputs != "state":
            raise ParameterError(
                f"projection={self.projection}: it is of the hidden state; add inputs='state' or leave it out"
            )
        if self.within is not None and not (self.within >= 0 and math.isfinite(self.within)):
            raise ParameterError(f"within={self.within!r}: give a number of seconds, at least 0")
        for name in ("noise", "prior", "memory"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ParameterError(f"{name}={value!r}: must be a positive number")

    def takes_state(self, learned: Learned | None) -> bool:
        """Return True if the inputs are the state, for a model with these findings."""
        return (self.inputs or (learned or Learned()).inputs) == "state"

    @classmethod
    def of(cls, asked: Adapt | str) -> Adapt:
        """Return the settings that the name of what is served stands for."""
        return asked if isinstance(asked, Adapt) else cls(serve=asked)  # type: ignore[arg-type]


class Learned(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Findings on streams that the model had not seen, per output. They are stored in the model's file.

    A model that was written without it has values that do no harm, in units of its targets' spread."""

    streams: int = 0
    """Number of streams that the model had not seen, from which the rest was found. 0: it was not."""
    labels: int = 0
    """Number of their labels."""
    shift: tuple[float, ...] = ()
    """Mean of the targets in training. Empty: the model's output scaling says it."""
    scale: tuple[Positive, ...] = ()
    """Standard deviation of the targets in training. Empty: the model's output scaling says it."""
    noise: tuple[Positive, ...] = ()
    prior: tuple[Positive, ...] = ()
    memory: NonNegative = 0.0
    """See `Adapt`. 0: a thousand windows, or a day if windows have no length."""
    blend: tuple[NonNegative, ...] = ()
    """Weight of the last label in the blend."""
    shrink: tuple[NonNegative, ...] = ()
    """Number of labels that the mean of training counts for in a stream's mean."""
    inputs: Inputs = "outputs"
    """Inputs of the correction unless `Adapt` names others. A reservoir without training has "state"."""
    errors: tuple[tuple[NonNegative, ...], ...] = ()
    """Mean squared errors of the model, the correction and the baselines, (5, outputs), in the targets' variance, of
    predictions that were made after a stream's first label."""
    errors_before: tuple[tuple[NonNegative, ...], ...] = ()
    """The same of predictions that were made before it. Empty: the model is served until then."""

    def check(self, outputs: int) -> None:
        """Raise ParameterError if an entry does not have one number per output."""
        for name in ("shift", "scale", "noise", "prior", "blend", "shrink"):
            values = getattr(self, name)
            if values and (len(values) != outputs or not all(map(math.isfinite, values))):
                raise ParameterError(f"learned.{name} has {len(values)} entries: give one finite number per output")
        for name in ("errors", "errors_before"):
            rows = getattr(self, name)
            if rows and (len(rows) != 5 or any(len(row) != outputs for row in rows)):
                raise ParameterError(f"learned.{name}: give five rows of one number per output")
        if max(self.blend, default=0.0) > 1:
            raise ParameterError(f"learned.blend={self.blend}: weights are at most 1")
