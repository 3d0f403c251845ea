"""Solve a window's equation on arrays, with an estimate of the error. Its twin in torch is models.solving."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from streamrde.arrays import Floats, Reals
from streamrde.inference.solvers import MOST_SUBSTEPS, TABLEAUX, log_ode_step

if TYPE_CHECKING:
    from streamrde.inference.header import Header


def step_error(coarse: Reals, fine: Reals) -> Floats:
    """Return the root mean square over the state of ``(fine - coarse) / (1 + |fine|)``, (..., hidden) -> (...)."""
    fine, coarse = fine.astype(np.float64), coarse.astype(np.float64)
    return np.asarray(np.sqrt((((fine - coarse) / (1 + np.abs(fine))) ** 2).mean(axis=-1)))


def solve(
    header: Header,
    z: Reals,
    drift: Callable[[Reals], Reals],
    first: Callable[[Reals], Reals] | None,
    fading: Callable[[float], Reals] | None,
    *,
    estimate: bool,
) -> tuple[Reals, float]:
    """Return the state (hidden,) after a window, and an estimate of its error.

    Args:
        header: the solver, its substeps, and the tolerance if these are "auto".
        drift, first, fading: as of `log_ode_step`. `first` replaces `drift` in the first stage.
        estimate: False leaves the error at 0, unless the substeps depend on it.
    """

    def solution(substeps: int, first_drift: Callable[[Reals], Reals] | None) -> Reals:
        return np.asarray(
            log_ode_step(z, drift, header.solver, first_drift=first_drift, substeps=substeps, fading=fading)
        )

    # A first stage that sees the window before lowers the order of the step. The finer step of the comparison
    # therefore sees its own window only: it converges at the solver's order, to what the step is to come near.
    power = 2.0 ** TABLEAUX[header.solver].order
    if header.substeps != "auto":
        coarse = solution(header.substeps, first)
        if not estimate:
            return coarse, 0.0
        return coarse, float(step_error(coarse, solution(2 * header.substeps, None)) * power / (power - 1))
    coarse, n = solution(1, None), 2
    while True:
        fine = moved = solution(n, None)
        error = step_error(coarse, fine) / (power - 1)
        if first is not None:
            moved = solution(n, first)
            error = error + step_error(moved, fine)
        # NaN is accepted: more steps would not mend it.
        if not error > header.tolerance or 2 * n > MOST_SUBSTEPS:
            return moved, float(error)
        coarse, n = fine, 2 * n
