"""One log-ODE step by an explicit Runge-Kutta method, for NumPy arrays and torch tensors alike.

Over one window the hidden state follows ``dz/ds = F(z) l`` for s in [0, 1] with the window's log-signature l held
fixed (Morrill et al. 2021, equation 6). A solver is its Butcher tableau; the tableaux are torchdiffeq's, so that a
model trained through torchcde.cdeint with a step of one window is served with the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import msgspec

Solver: TypeAlias = Literal["euler", "midpoint", "rk4"]
FirstStage: TypeAlias = Literal["own", "previous"]
Substeps: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1024)] | Literal["auto"]

MOST_SUBSTEPS = 64
"""Where ``substeps="auto"`` stops although the tolerance is not met."""


class Tableau(NamedTuple):
    """Coefficients of a solver: stage i is at ``z + sum_j stages[i][j] k_j``, the step is ``z + sum_i weights[i] k_i``.

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


def log_ode_step(
    z: Any,
    drift: Callable[[Any], Any],
    solver: str,
    *,
    first_drift: Callable[[Any], Any] | None = None,
    substeps: int = 1,
    fading: Callable[[float], Any] | None = None,
) -> Any:
    """Advance the hidden state over one window.

    With decay the equation is ``dz/ds = F(z) l - d z``, d the decay times the window's duration. The method is then
    applied to ``exp(d s) z``, whose equation has no such term: the decay is exact in every solver, and a large d cannot
    make the step unstable (Lawson 1967, "Generalized Runge-Kutta processes for stable systems").

    Args:
        z: hidden state, (..., hidden).
        drift: z -> F(z) l with the window's own log-signature.
        solver: a key of TABLEAUX.
        first_drift: replaces `drift` in the first stage. torchcde's piecewise-linear control has a left-continuous
            derivative, so with its defaults (perturb=False) the first stage of a window sees the window before.
        substeps: steps of equal length that the window is divided into.
        fading: share of the window -> exp(-d share), (..., hidden); None: no decay.
    """
    tableau, h = TABLEAUX[solver], 1 / substeps
    faded = [fading(h * m / tableau.parts) for m in range(1, tableau.parts + 1)] if fading else []

    def fade(value: Any, nodes: int) -> Any:
        return value * faded[nodes - 1] if faded and nodes else value

    for n in range(substeps):
        slopes: list[Any] = []
        for node, row in zip(tableau.nodes, tableau.stages, strict=True):
            start = fade(z, node)
            for i, a in enumerate(row):
                start = start + (a * h) * fade(slopes[i], node - tableau.nodes[i])
            slopes.append(first_drift(start) if first_drift and not (slopes or n) else drift(start))
        z = fade(z, tableau.parts)
        for i, b in enumerate(tableau.weights):
            if b:
                z = z + (b * h) * fade(slopes[i], tableau.parts - tableau.nodes[i])
    return z
