"""The contract of a family of models: what it says of itself, and how it moves a state over a window, on arrays.

A family is named after its vector field F, or what stands in its place. It is one module of
streamrde.inference.fields, whose name is its tag in model files and in configurations. If it is trained, the module of
the same name in streamrde.models.fields is its twin for training, in torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from streamrde.arrays import Bools, Floats, Indices, Reals
from streamrde.errors import ParameterError
from streamrde.inference.activations import Activation
from streamrde.inference.model_part import ModelPart, Tensors
from streamrde.inference.solving import solve

if TYPE_CHECKING:
    from streamrde.inference.header import Header


class VectorField(ModelPart, frozen=True, kw_only=True):
    """Describe a vector field. Class attributes and properties answer what others need to know about it."""

    exact: ClassVar[bool] = False
    """True if a step is the exact flow. The solver, `first_stage` and `substeps` then play no part."""
    most_depth: ClassVar[int | None] = None
    """Depth of log-signatures up to which the field is defined. None: any."""
    scaled_along_words: ClassVar[bool] = False
    """True if log-signatures must be scaled as scaling the path's channels scales them."""
    shifts_tokens: ClassVar[bool] = False
    """True if also plain tokens are shifted before they are scaled, and may be clipped. Other tokens always are."""
    onnx_obstacle: ClassVar[str] = ""
    """Reason why the step has no ONNX graph. "" if it has one."""
    sweeps: ClassVar[tuple[str, ...]] = ()
    """Sizes that a sweep doubles by default."""
    trained: ClassVar[bool] = True
    """True if `streamrde train` fits it. False: it is fitted in closed form, and has no twin in torch."""
    in_rows: ClassVar[bool] = False
    """True if states move and are read out in place, in the rows of a table. `build` then returns a `RowField`."""
    begins_blank: ClassVar[bool] = False
    """True if the first state is zeros, whatever the first sample (see `inference.ends.Blank`)."""
    float64: ClassVar[tuple[str, ...]] = ()
    """Tensors of the model that are float64, whatever the model's dtype."""

    def state_tensors(self, header: Header) -> tuple[str, ...]:
        """Return the names of tensors that say what the state means, and must stay if another model goes on with it."""
        return ()

    def state_part(self) -> object:
        """Return what of the description decides the meaning of a state, as far as tensors do not."""
        return self

    def feature_names(self, header: Header) -> tuple[str, ...]:
        """Return the names of what the readout takes, if they have any."""
        return ()

    @property
    def state_size(self) -> int | None:
        """Return the size of the state if the field's own sizes decide it. None: the header decides it."""
        return None

    def readout_inputs(self, header: Header) -> int:
        """Return the number of values that the readout takes: by default the state."""
        return header.hidden

    def read_part(self, header: Header) -> slice:
        """Return the part of one member's state that the readout takes: by default all of it."""
        return slice(0, header.member_hidden)

    @property
    def plain_activations(self) -> tuple[Activation, ...] | None:
        """Return the activations after each hidden layer if the field is a perceptron that ends in a linear layer.

        The kernels run it, and training can begin with a state that carries the current sample. Its tensors are
        ``field.i.weight`` and ``field.i.bias``. Any other field returns None.
        """
        return None

    @property
    def counters(self) -> tuple[tuple[int, int], ...]:
        """Return the columns of one member's state that count windows, each with the number that it stops at."""
        return ()

    @property
    def dropout_width(self) -> int:
        """Return the number of hidden features that dropout can drop. 0: none."""
        return 0

    def check(self, name: str, header: Header) -> None:
        """Raise ParameterError if depth or solver do not fit the field."""
        if self.most_depth is not None and header.depth > self.most_depth:
            raise ParameterError(
                f"depth={header.depth}: field '{self.tag}' is defined up to depth {self.most_depth}; lower depth"
            )
        if self.exact and (header.first_stage != "own" or header.substeps != 1):
            raise ParameterError(
                f"first_stage={header.first_stage!r}, substeps={header.substeps!r}: field '{self.tag}' is stepped "
                "exactly; leave them at 'own' and 1"
            )

    def build(self, name: str, header: Header, tensors: Tensors) -> ArrayField | RowField:
        """Make the field on arrays. The header is that of a single model, not of an ensemble."""
        raise NotImplementedError


class Window(NamedTuple):
    """A window as a field sees it."""

    logsig: Reals
    """Scaled log-signature, (B,)."""
    previous: Reals | None
    """That of the window before, which drives the solver's first stage. None: `logsig` does."""
    seconds: float
    """Duration."""
    decay: Reals | None
    """Rate per second of each component of the state, (hidden,). None: the state does not decay."""
    estimate: bool
    """False leaves the error at 0, unless the substeps depend on it."""


class ArrayField(ABC):
    """A vector field on arrays, for one stream at a time."""

    @abstractmethod
    def advance(self, z: Reals, window: Window) -> tuple[Reals, float]:
        """Return the state z (hidden,) after a window, and an estimate of the step's error."""


class RowField(ABC):
    """A family whose states are too large to be copied in every window: it moves them where they are.

    A stream's results do not depend on the others, nor on how its windows are cut into calls. The first state is zeros.
    """

    @abstractmethod
    def advance(self, rows: Floats, slots: Indices, tokens: Floats, *, read: bool) -> tuple[Bools, Floats | None]:
        """Move states over windows, in their order, in place.

        Args:
            rows: states, (streams, hidden), perhaps a part of wider rows.
            slots: row of each window's stream, (n,).
            tokens: unscaled, (n, T).
            read: read the state out after each window.
        Returns:
            for each window whether its token had a value that is not finite, (n,), and the readouts, (n, outputs).
        """

    @abstractmethod
    def read(self, rows: Floats, slots: Indices) -> Floats:
        """Return the readouts of streams in their present states, (n, outputs)."""

    @abstractmethod
    def features(self, states: Floats) -> Floats:
        """Return what the readout takes in states (n, hidden), (n, P)."""


class SolvedField(ArrayField):
    """A vector field that the header's solver steps."""

    def __init__(self, header: Header) -> None:
        self._header = header

    @abstractmethod
    def drift(self, logsig: Reals) -> Callable[[Reals], Reals]:
        """Return the function z (hidden,) -> F(z) l (hidden,) for one window's scaled log-signature l (B,)."""

    def advance(self, z: Reals, window: Window) -> tuple[Reals, float]:
        """Solve the window's equation. See ArrayField."""
        first = None if window.previous is None else self.drift(window.previous)
        fading, decay = None, window.decay
        if decay is not None:
            fading = lambda share: np.exp(decay * decay.dtype.type(-window.seconds * share))  # noqa: E731
        moved, error = solve(self._header, z, self.drift(window.logsig), first, fading, estimate=window.estimate)
        return np.asarray(moved), 0.0 if error is None else float(error)
