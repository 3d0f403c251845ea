"""Analyse modules of models from elsewhere, and wrap them so that they can be served as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from streamrde.arrays import Floats
from streamrde.errors import ParameterError
from streamrde.models.structure import Step, UnprovenError, chain
from streamrde.signature.paths import logsignature
from streamrde.signature.words import logsignature_channels

_SCALES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
_ROWS = 4
_MOST_FEATURES = 2000
_CHANGING = (
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.RReLU),
    *(nn.modules.batchnorm._NormBase, nn.utils.parametrizations._SpectralNorm),
)


class Part(NamedTuple):
    """A field, an initial layer or a readout."""

    steps: list[Step] | None
    """Its layers, or None if it is not a chain of layers and is served as it is."""
    size: int
    """Numbers that it computes from a row. For a field, the size of the state."""
    module: nn.Module
    """A function of rows alone, (N, size) -> (N, ...)."""
    reason: str
    """Reason why it is not a chain of layers, or ""."""
    differences: tuple[str, ...]


class NoTime:
    """Stand-in for t in a field's forward. It raises when it is used."""

    def __getattr__(self, name: str) -> NoReturn:
        _refuse_time()

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> NoReturn:
        _refuse_time()


def _refuse_time(*_: Any) -> NoReturn:
    raise ParameterError("func depends on t: here a field is a function of z alone; put time into the path")


for _name in (
    *("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "pow", "rpow", "neg", "pos", "abs", "matmul"),
    *("mod", "floordiv", "lt", "le", "gt", "ge", "bool", "float", "int", "len", "iter", "getitem", "round", "index"),
    *("rmatmul", "rmod", "rfloordiv", "eq", "ne", "array", "format", "str", "complex", "trunc", "floor", "ceil"),
):
    setattr(NoTime, f"__{_name}__", _refuse_time)


class _Wrapped(nn.Module):
    """A module inside another one."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner


class WithoutTime(_Wrapped):
    """A torchcde field as a function of z alone."""

    def forward(self, z: Tensor) -> Tensor:
        """Map z, (N, hidden), to F(z)."""
        return self.inner(NoTime(), z)  # type: ignore[no-any-return]


class RowByRow(_Wrapped):
    """A module that is called with one row at a time, since its rows may depend on each other."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, size) to (N, ...)."""
        return torch.cat([self.inner(row) for row in torch.split(x, 1)])


class FirstChannels(_Wrapped):
    """An initial module of row 0 of logsig_windows, which is x0 and zeros, as a function of x0."""

    def __init__(self, inner: nn.Module, zeros: int) -> None:
        super().__init__(inner)
        self._zeros = zeros

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C) to (N, hidden)."""
        return self.inner(nn.functional.pad(x, (0, self._zeros)))  # type: ignore[no-any-return]


class Chosen(_Wrapped):
    """An initial module as a function of more channels, or of channels in another order."""

    def __init__(self, inner: nn.Module, order: list[int]) -> None:
        super().__init__(inner)
        self._order = order

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C) to (N, hidden)."""
        return self.inner(x[:, self._order])  # type: ignore[no-any-return]


class Reordered(_Wrapped):
    """A field of a log-signature in another order of channels: ``F(z) P``, where ``P l`` is the field's own."""

    places: Tensor

    def __init__(self, inner: nn.Module, places: Tensor) -> None:
        super().__init__(inner)
        self.register_buffer("places", places)

    def forward(self, z: Tensor) -> Tensor:
        """Map z, (N, hidden), to (N, hidden, B)."""
        return self.inner(z) @ self.places  # type: ignore[no-any-return]


class _Timed(_Wrapped):
    """Wrap a module that takes t, so that its hooks are called too."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.inner(*inputs)  # type: ignore[no-any-return]


@contextlib.contextmanager
def in_evaluation(*modules: nn.Module) -> Iterator[None]:
    """Put modules into evaluation mode within a with-block."""
    before = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for part, training in before:
            part.training = training


@torch.no_grad()
def inspect(module: nn.Module, name: str, size: int, shape: tuple[int, ...], *, timed: bool = False) -> Part:
    """Determine how a module can be served.

    Args:
        module: maps rows (N, size) to (N, *shape).
        name: its name in errors.
        timed: its first argument is t.
    Raises:
        ParameterError: it cannot be served: it depends on t, draws random numbers, changes its input, or fails.
    """
    differences = []
    for path, part in module.named_modules():
        if part.training and isinstance(part, _CHANGING) and getattr(part, "p", 1) != 0:
            where = f"{name}.{path}" if path else name
            differences.append(f"{where} ({type(part).__name__}) is in training mode: it is served in evaluation mode")
            break
    alone: nn.Module = WithoutTime(module) if timed else module
    reason = ""
    with in_evaluation(module):
        steps = None
        try:
            reference = next(iter(module.parameters()), torch.zeros(0))
            steps = chain(_Timed(module), (reference.new_zeros(()),) if timed else (), size)
        except UnprovenError as unproven:
            reason = str(unproven)
        except ParameterError as error:
            raise ParameterError(f"{name}: {error}") from None
        rows_apart = _check(alone, name, size, shape)
    if steps is None and (rows_apart or "written down" in reason):
        alone = RowByRow(alone)
        if rows_apart:
            differences.append(f"{name} lets rows of a batch affect each other; here each stream is alone")
    return Part(steps, shape[0], alone, reason, tuple(differences))


def places_of(order: list[int], channels: int, depth: int) -> Floats:
    """Return the matrix P such that ``P l`` is the log-signature of the channels in `order`, for l of the whole path.

    In the words basis each coefficient of one is a sum of coefficients of the other, with whole factors.

    Raises:
        ParameterError: there are too many coefficients.
    """
    features = logsignature_channels(channels, depth)
    if features > _MOST_FEATURES:
        raise ParameterError(
            f"time is not the first channel: {features} coefficients are too many to put in order (at most "
            f"{_MOST_FEATURES}); train with time first"
        )
    paths = np.random.default_rng(0).normal(size=(features + 16, depth + 3, channels))
    whole, part = logsignature(paths, depth), logsignature(paths[..., order], depth)
    return np.asarray(np.round(np.linalg.lstsq(whole, part, rcond=None)[0].T))


@torch.no_grad()
def width_of(module: nn.Module, name: str, size: int) -> int:
    """Return the number of outputs that a module computes from a row of `size`.

    Raises:
        ParameterError: the module fails, or does not return rows.
    """
    reference = next(iter(module.parameters()), torch.zeros(0))
    with in_evaluation(module):
        y = _called(module, name, reference.new_zeros(2, size))
    if y.ndim != 2 or len(y) != 2:
        raise ParameterError(f"{name} gives {tuple(y.shape)} for (2, {size}); expected two rows")
    return y.shape[1]


def _check(alone: nn.Module, name: str, size: int, shape: tuple[int, ...]) -> bool:
    """Call the module on states of many sizes. Return True if its rows depend on each other.

    Raises:
        ParameterError: see `inspect`.
    """
    reference = next(iter(alone.parameters()), torch.zeros(0))
    drawn = torch.randn(len(_SCALES) * _ROWS, size, generator=torch.Generator().manual_seed(0))
    x = (drawn * torch.tensor(_SCALES).repeat(_ROWS)[:, None]).to(reference)
    given = x.clone()
    together, again = _called(alone, name, given), _called(alone, name, x.clone())
    if together.shape != (len(x), *shape):
        raise ParameterError(f"{name} gives {tuple(together.shape)} for {(len(x), size)}; expected {(len(x), *shape)}")
    if together.dtype != x.dtype:
        raise ParameterError(f"{name} gives {together.dtype} for {x.dtype}: make all parts of the model one dtype")
    if not torch.equal(given, x):
        raise ParameterError(f"{name} changes its input in place: let it make a new tensor")
    if not torch.allclose(together, again, rtol=1e-4, atol=1e-6, equal_nan=True):
        raise ParameterError(f"{name} returns other values when called again: it draws random numbers or counts")
    apart = torch.cat([_called(alone, name, row.clone()) for row in torch.split(x, 1)])
    if apart.shape != together.shape:
        raise ParameterError(f"{name} gives {tuple(apart.shape[1:])} for one row and {shape} for several")
    return not torch.allclose(together, apart, rtol=1e-3, atol=1e-5, equal_nan=True)


def _called(module: nn.Module, name: str, x: Tensor) -> Tensor:
    try:
        y = module(x)
    except ParameterError:
        raise
    except Exception as error:  # whatever the module raises
        raise ParameterError(f"{name} fails with {tuple(x.shape)}: {str(error)[:200]}") from None
    if not isinstance(y, Tensor):
        raise ParameterError(f"{name} gives a {type(y).__name__}; expected a tensor")
    return y
