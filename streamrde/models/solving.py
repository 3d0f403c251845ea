"""Solve a window's equation in torch, with an estimate of the error: the twin of inference.solving."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from streamrde.inference.header import Header
from streamrde.inference.solvers import MOST_SUBSTEPS, TABLEAUX, log_ode_step


def solve(
    header: Header,
    z: Tensor,
    drift: Callable[[Tensor], Tensor],
    first: Callable[[Tensor], Tensor] | None,
    fading: Callable[[float], Tensor] | None,
    *,
    estimate: bool,
) -> tuple[Tensor, Tensor]:
    """Return states (N, hidden) after a window, and estimates of their errors, (N,).

    Args:
        header: the solver, its substeps, and the tolerance where these are "auto".
        drift, first, fading: as of `log_ode_step`; `first` replaces `drift` in the first stage.
        estimate: False leaves the error at 0, unless the substeps depend on it.
    """

    def solution(substeps: int, first_drift: Callable[[Tensor], Tensor] | None) -> Tensor:
        return log_ode_step(z, drift, header.solver, first_drift=first_drift, substeps=substeps, fading=fading)  # type: ignore[no-any-return]

    # As in inference.solving, the finer step of a comparison sees its own window only.
    power = 2 ** TABLEAUX[header.solver].order
    if header.substeps != "auto":
        coarse = solution(header.substeps, first)
        if not estimate:
            return coarse, torch.zeros_like(coarse[:, 0])
        return coarse, _distance(coarse, solution(2 * header.substeps, None)) * power / (power - 1)
    coarse, n = solution(1, None), 2
    accepted, error = coarse, torch.full_like(coarse[:, 0], torch.inf)
    done = torch.zeros(len(z), dtype=torch.bool, device=z.device)
    while True:
        fine = moved = solution(n, None)
        estimated = _distance(coarse, fine) / (power - 1)
        if first is not None:
            moved = solution(n, first)
            estimated = estimated + _distance(moved, fine)
        accepted = torch.where(done[:, None], accepted, moved)
        error = torch.where(done, error, estimated)
        done = ~(error > header.tolerance)
        if bool(done.all()) or 2 * n > MOST_SUBSTEPS:
            return accepted, error
        coarse, n = fine, 2 * n


def _distance(coarse: Tensor, fine: Tensor) -> Tensor:
    """See inference.solving.step_error."""
    return (((fine - coarse) / (1 + fine.abs())) ** 2).mean(dim=1).sqrt()
