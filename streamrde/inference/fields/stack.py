"""Stacks of recurrences and gated perceptrons over tokens."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

import msgspec
import numpy as np

from streamrde.arrays import Reals
from streamrde.errors import ParameterError
from streamrde.inference.activations import ACTIVATIONS, sigmoid
from streamrde.inference.model_part import Positive, Shapes, Tensors
from streamrde.inference.recurrence import ArrayRecurrence, Recurrence
from streamrde.inference.stacks import RGLRU, AnyRecurrence
from streamrde.inference.vector_field import ArrayField, VectorField, Window

if TYPE_CHECKING:
    from streamrde.inference.header import Header

Pool: TypeAlias = Literal["both", "last", "mean"]
Perceptron: TypeAlias = Literal["swiglu", "glu", "gelu"]

MEMORY = 65536
"""Windows that the running mean goes back. After as many, each new one counts 1 / 65,536: in float32 the mean of more
would soon stand still."""
FLOOR = 1e-6
"""Added to the mean square that a norm divides by, so that a row of zeros stays zeros."""


class Stack(VectorField, frozen=True, kw_only=True, omit_defaults=True, tag="stack"):
    """A stack of blocks, each a recurrence and a gated perceptron with residuals around them.

    ``x = W_in s``, s the scaled token. In each block ``x <- x + R(norm(x))`` with R the recurrence, and
    ``x <- x + W_down (silu(p) q) + b_down`` with ``p, q = W_up norm(x) + b_up``. ``norm(x) = g x / rms(x)``. The
    readout takes the running mean of the last ``norm(x)``, the present one, or both. The state is what the readout
    takes, the number of windows, and the recurrences' states one after the other. It begins with zeros. An imported
    stack may have other perceptrons: ``W_down (p sigmoid(q))`` ("glu"), or ``W_down gelu(p)`` without gates ("gelu").

    Tokens say how the path moves. With `ends` they also say where it is, which a stack has no other way to know.

    Reference: De et al. 2024, "Griffin", section 2.1 (the block); Orvieto et al. 2023, "Resurrecting recurrent neural
    networks for long sequences" (linear recurrences in such blocks).
    """

    exact: ClassVar[bool] = True
    shifts_tokens: ClassVar[bool] = True
    begins_blank: ClassVar[bool] = True
    sweeps: ClassVar[tuple[str, ...]] = ("width",)

    width: Positive = 64
    """Size of what passes from block to block."""
    blocks: Annotated[int, msgspec.Meta(ge=1, le=64)] = 3
    """Number of blocks."""
    recurrence: AnyRecurrence = RGLRU()
    """Recurrence of each block: a kind of `streamrde.inference.stacks` by its name."""
    gate_width: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Units of each block's gated perceptron. 0: as many as width."""
    perceptron: Perceptron = "swiglu"
    """Units of the perceptrons."""
    last_norm: bool = True
    """Divide the last output by its root mean square."""
    pool: Pool = "both"
    """Input of the readout: the running mean, the last one, or both."""
    window: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Seconds of a usual window, which count as 1 for recurrences that follow time. 0: the policy's. Where that has no
    fixed length, training sets it to the mean."""

    @property
    def state_size(self) -> int:
        """Return the size of the state."""
        return self._pooled + (self.pool != "last") + self.blocks * self.recurrence.state_size(self.width)

    @property
    def _pooled(self) -> int:
        """Return the number of values that the readout takes of one member."""
        return (2 if self.pool == "both" else 1) * self.width

    @property
    def units(self) -> int:
        """Return the number of units of a block's perceptron."""
        return self.gate_width or self.width

    @property
    def gated(self) -> bool:
        """Return True if the perceptrons have gates, which double the units of their first layers."""
        return self.perceptron != "gelu"

    @property
    def dropout_width(self) -> int:
        """Return the number of residuals of all blocks."""
        return 2 * self.blocks * self.width

    def readout_inputs(self, header: Header) -> int:
        """Return the number of pooled values of all members."""
        return header.members * self._pooled

    def read_part(self, header: Header) -> slice:
        """Return the first columns, which hold the pooled values."""
        return slice(0, self._pooled)

    @property
    def counter(self) -> int | None:
        """Return the column of the state that counts windows. None: there is none."""
        return None if self.pool == "last" else self._pooled

    @property
    def counters(self) -> tuple[tuple[int, int], ...]:
        """See VectorField."""
        return () if self.counter is None else ((self.counter, MEMORY),)

    def state_part(self) -> object:
        """Return what says which number stands where in the state. Weights are learned, and may change."""
        return self.width, self.blocks, self.recurrence, self.pool

    def unit(self, header: Header) -> float:
        """Return the seconds that count as 1, or 0 if every token counts as 1: tokens do not say how long it lasted."""
        if not header.token.window_depth(header.depth):
            return 0.0
        return self.window or (header.windows.length if header.windows.fixed_length else 0.0)

    def check(self, name: str, header: Header) -> None:
        """Raise ParameterError if the header asks for what a stack does not have."""
        super().check(name, header)
        for field, wanted, instead in (
            ("hidden", header.members * self.state_size, ""),
            ("decay", False, ": its recurrences decay by themselves"),
            ("pooling", "state", ": use the field's pool"),
        ):
            if getattr(header, field) != wanted:
                raise ParameterError(
                    f"{field}={getattr(header, field)!r}: field 'stack' with these sizes has {wanted!r}{instead}"
                )
        if header.initial.tag != "blank":
            raise ParameterError("initial: field 'stack' begins with zeros; use initial = Blank()")
        if header.readout.tag != "layers":
            raise ParameterError("readout: that of field 'stack' is in its file; use readout = Layers()")
        if header.token.window_depth(header.depth) and not self.unit(header):
            raise ParameterError(
                "field.window=0: these windows have no fixed length; give the seconds that are usual, as training does"
            )

    def shapes(self, name: str, header: Header) -> Shapes:
        """Return name and shape of the tensors of all blocks."""
        width, units = self.width, self.units
        shapes: Shapes = {
            f"{name}.input.weight": (width, header.logsig_channels),
            f"{name}.input.bias": (width,),
        }
        if self.last_norm:
            shapes[f"{name}.last.weight"] = (width,)
        up = units * (1 + self.gated)
        own = self.recurrence.shapes(width)
        for block in range(self.blocks):
            before = f"{name}.blocks.{block}"
            shapes |= {f"{before}.{norm}.weight": (width,) for norm in ("before", "between")}
            shapes |= {f"{before}.recurrence.{part}": shape for part, shape in own.items()}
            shapes |= {f"{before}.up.weight": (up, width), f"{before}.up.bias": (up,)}
            shapes |= {f"{before}.down.weight": (width, units), f"{before}.down.bias": (width,)}
        return shapes

    def summary(self, header: Header) -> str:
        """Describe the blocks in a phrase for people."""
        blocks = f"{self.blocks} block{'s' if self.blocks > 1 else ''} of width {self.width}"
        pooled = {"both": "the running mean and the last", "last": "the last", "mean": "the running mean"}[self.pool]
        return f"stack of {blocks} with {self.recurrence.summary(self.width)}, read out from {pooled}"

    def build(self, name: str, header: Header, tensors: Tensors) -> ArrayField:
        """Make the stack on arrays."""
        return _Blocks(self, name, header, tensors)


def state_parts(spec: Stack) -> tuple[list[slice], list[slice]]:
    """Return the columns of the state that are pooled, first the running mean, and those of each block."""
    pooled = [slice(start, start + spec.width) for start in range(0, spec._pooled, spec.width)]
    start = spec._pooled + (spec.pool != "last")
    sizes = [spec.recurrence.state_size(spec.width)] * spec.blocks
    return pooled, [slice(a, b) for a, b in pairwise(accumulate(sizes, initial=start))]


class _Block:
    """One block's tensors on arrays."""

    def __init__(self, recurrence: Recurrence, width: int, name: str, tensors: Tensors) -> None:
        self.before, self.between = (tensors[f"{name}.{norm}.weight"] for norm in ("before", "between"))
        self.up, self.down = (
            (tensors[f"{name}.{layer}.weight"], tensors[f"{name}.{layer}.bias"]) for layer in ("up", "down")
        )
        own = {part: tensors[f"{name}.recurrence.{part}"] for part in recurrence.shapes(width)}
        self.recurrence: ArrayRecurrence = recurrence.build(width, own)


class _Blocks(ArrayField):
    def __init__(self, spec: Stack, name: str, header: Header, tensors: Tensors) -> None:
        self._spec, self._unit = spec, spec.unit(header)
        self._type = np.dtype(header.dtype).type
        self._pooled, self._states = state_parts(spec)
        # A scaled token has a mean square of one over its size. The blocks take entries of order 1.
        self._gain = self._type(header.logsig_channels**0.5)
        self._input = tensors[f"{name}.input.weight"], tensors[f"{name}.input.bias"]
        self._last = tensors[f"{name}.last.weight"] if spec.last_norm else None
        self._blocks = [
            _Block(spec.recurrence, spec.width, f"{name}.blocks.{block}", tensors) for block in range(spec.blocks)
        ]

    def advance(self, z: Reals, window: Window) -> tuple[Reals, float]:
        """Move the state over a token. The step is exact."""
        kind = self._type
        time = np.asarray(kind(window.seconds / self._unit) if self._unit else kind(1))
        weight, bias = self._input
        x: Reals = weight @ (window.logsig * self._gain) + bias
        moved = z.copy()
        # What is not finite stays so, and is seen in the state: no warnings of it.
        with np.errstate(over="ignore", invalid="ignore"):
            for block, own in zip(self._blocks, self._states, strict=True):
                moved[own], output = block.recurrence.advance(z[own], _norm(x, block.before), time)
                x = x + output
                weight, bias = block.up
                units = self._units(weight @ _norm(x, block.between) + bias)
                weight, bias = block.down
                x = x + (weight @ units + bias)
            if self._last is not None:
                x = _norm(x, self._last)
            self._pool(moved, x)
        return moved, 0.0

    def _units(self, p: Reals) -> Reals:
        """Return the outputs of a perceptron's units from those of its first layer."""
        if not self._spec.gated:
            return ACTIVATIONS["gelu"](p)
        inner, gate = p.reshape(2, -1)
        return inner * sigmoid(gate) if self._spec.perceptron == "glu" else inner * sigmoid(inner) * gate

    def _pool(self, moved: Reals, x: Reals) -> None:
        """Move the pooled columns of the state towards the last output."""
        if (counter := self._spec.counter) is not None:
            count = np.minimum(moved[counter] + 1, self._type(MEMORY))
            mean = moved[self._pooled[0]]
            moved[self._pooled[0]] = mean + (x - mean) / count
            moved[counter] = count
        if self._spec.pool != "mean":
            moved[self._pooled[-1]] = x


def _norm(x: Reals, weight: Reals) -> Reals:
    """Return x divided by its root mean square, times `weight`, (width,)."""
    return np.asarray(x / np.sqrt((x * x).mean() + x.dtype.type(FLOOR)) * weight)
