"""Solve a window's equation with an estimate of the error, for NumPy arrays and torch tensors alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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
    z: Any,
    drift: Callable[[Any], Any],
    first: Callable[[Any], Any] | None,
    fading: Callable[[float], Any] | None,
    *,
    estimate: bool,
    distance: Callable[[Any, Any], Any] = step_error,
    where: Callable[[Any, Any, Any], Any] = np.where,
) -> tuple[Any, Any]:
    """Return states (..., hidden) after a window, and estimates of their errors, (...). None: not estimated.

    Args:
        header: the solver, its substeps, and the tolerance if these are "auto".
        z, drift, first, fading: as of `log_ode_step`. `first` replaces `drift` in the first stage.
        estimate: False leaves the error at None, unless the substeps depend on it.
        distance: `step_error`, for the arrays of z.
        where: of NumPy, or of torch.
    """

    def solution(substeps: int, first_drift: Callable[[Any], Any] | None) -> Any:
        return log_ode_step(z, drift, header.solver, first_drift=first_drift, substeps=substeps, fading=fading)

    # A first stage that sees the window before lowers the order of the step. The finer step of the comparison
    # therefore sees its own window only: it converges at the solver's order, to what the step is to come near.
    power = 2.0 ** TABLEAUX[header.solver].order
    if header.substeps != "auto":
        coarse = solution(header.substeps, first)
        if not estimate:
            return coarse, None
        return coarse, distance(coarse, solution(2 * header.substeps, None)) * power / (power - 1)
    coarse, n = solution(1, None), 2
    accepted: Any = None
    done: Any = None
    while True:
        fine = moved = solution(n, None)
        estimated = distance(coarse, fine) / (power - 1)
        if first is not None:
            moved = solution(n, first)
            estimated = estimated + distance(moved, fine)
        if accepted is None:
            accepted, error = moved, estimated
        else:
            accepted, error = where(done[..., None], accepted, moved), where(done, error, estimated)
        # NaN is accepted: more steps would not mend it.
        done = ~(error > header.tolerance)
        if bool(done.all()) or 2 * n > MOST_SUBSTEPS:
            return accepted, error
        coarse, n = fine, 2 * n
