"""The log-ODE step of a trained model on arrays: compiled if the kernels run its field, else in NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamrde.arrays import Floats, Indices, Reals
from streamrde.inference.bundle import Bundle
from streamrde.inference.steppers.arrays import ArrayStepper
from streamrde.inference.steppers.bundle import BundleStepper, Stepper
from streamrde.inference.steppers.compiled import CompiledStepper
from streamrde.inference.steppers.ensemble import EnsembleStepper
from streamrde.inference.steppers.rows import RowStepper
from streamrde.inference.steppers.single import single_stepper

__all__ = ["ArrayStepper", "BundleStepper", "RowStepper", "Stepper", "make_stepper", "step_in_rounds"]


def make_stepper(bundle: Bundle, *, threads: int = 1) -> Stepper:
    """Return the fastest stepper of a model. Its results are the same for any number of threads.

    Raises:
        ParameterError: a part of the model is not in its file.
    """
    if bundle.header.field.in_rows:
        return RowStepper(bundle)
    if bundle.header.members > 1:
        return EnsembleStepper(bundle, threads=threads)
    return single_stepper(bundle, threads=threads)


def step_in_rounds(
    stepper: Stepper,
    z: Reals,
    logsigs: Floats,
    previous: Floats | None,
    rounds: Sequence[Indices],
    before: Indices,
    error: Floats | None = None,
) -> Reals:
    """Step over many windows of the same streams, in an order in which each window comes after its predecessor.

    Args:
        z: states before the windows of the first round, (n, hidden).
        logsigs, previous: of all windows, (windows, B).
        rounds: places of the windows that are stepped together, every place once.
        before: the place of each window's predecessor; not looked at in the first round.
        error: is filled with an estimate of each step's error, (windows,). None: no estimate is made.
    Returns:
        states after all windows, (windows, hidden).
    """
    if error is None and isinstance(stepper, EnsembleStepper):
        moved = stepper.each(z, lambda member, own: step_in_rounds(member, own, logsigs, previous, rounds, before))
        return np.concatenate(moved, axis=1)
    if error is None and isinstance(stepper, CompiledStepper):
        return stepper.step_in_rounds(z, logsigs, previous, rounds, before)
    after = np.empty((len(logsigs), z.shape[1]), dtype=stepper.dtype)
    for turn, places in enumerate(rounds):
        z = after[before[places]] if turn else z
        own, own_previous = logsigs[places], None if previous is None else previous[places]
        if error is None:
            after[places] = stepper.step(z, own, own_previous)
        else:
            after[places], error[places] = stepper.step_with_error(z, own, own_previous)
    return after
