"""One log-ODE step by an explicit Runge-Kutta method, for NumPy arrays and torch tensors alike.

Over one window the hidden state follows ``dz/ds = F(z) l`` for s in [0, 1] with the window's log-signature l held
fixed (Morrill et al. 2021, equation 6). A solver is its Butcher tableau; the tableaux are torchdiffeq's, so that a
model trained through torchcde.cdeint with a step of one window is served with the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

from streamrde.errors import ParameterError

Solver: TypeAlias = Literal["euler", "midpoint", "rk4"]
FirstStage: TypeAlias = Literal["own", "previous"]


class Tableau(NamedTuple):
    """Stage i starts from ``z + sum_j stages[i][j] k_j``; the step is ``z + sum_i weights[i] k_i``.

    Stage i stands at ``nodes[i] / parts`` of the step; the error of a step of length h is O(h^(order + 1)).
    """

    order: int
    parts: int
    nodes: tuple[int, ...]
    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]


TABLEAUX: dict[str, Tableau] = {
    "euler": Tableau(1, 1, (0,), ((),), (1.0,)),
    "midpoint": Tableau(2, 2, (0, 1), ((), (1 / 2,)), (0.0, 1.0)),
    # Kutta's 3/8 rule, which is what torchdiffeq calls rk4.
    "rk4": Tableau(4, 3, (0, 1, 2, 3), ((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)), (1 / 8, 3 / 8, 3 / 8, 1 / 8)),
}


def check_solver(solver: str) -> None:
    """Raise ParameterError unless `solver` has a tableau."""
    if solver not in TABLEAUX:
        raise ParameterError(f"solver={solver!r}: use one of {', '.join(map(repr, TABLEAUX))}")


def check_first_stage(first_stage: str) -> None:
    """Raise ParameterError unless `first_stage` is one that exists."""
    if first_stage not in ("own", "previous"):
        raise ParameterError(
            f"first_stage={first_stage!r}: use 'own' (the textbook step) or 'previous' (torchcde's default)"
        )


def log_ode_step(
    z: Any, drift: Callable[[Any], Any], solver: str, *, first_drift: Callable[[Any], Any] | None = None
) -> Any:
    """Advance the hidden state over one window.

    Args:
        z: hidden state, (..., hidden).
        drift: z -> F(z) l with the window's own log-signature.
        solver: a key of TABLEAUX.
        first_drift: replaces `drift` in the first stage. torchcde's piecewise-linear control has a left-continuous
            derivative, so with its defaults (perturb=False) the first stage of a window sees the window before.
    """
    tableau = TABLEAUX[solver]
    slopes: list[Any] = []
    for row in tableau.stages:
        start = z
        for a, k in zip(row, slopes, strict=True):
            start = start + a * k
        slopes.append((first_drift or drift)(start) if not slopes else drift(start))
    for b, k in zip(tableau.weights, slopes, strict=True):
        if b:
            z = z + b * k
    return z
