"""The arithmetic of the truncated tensor algebra on plain NumPy arrays.

`reference` is the NumPy implementation and the specification of every function here; `_native` is the compiled twin,
which runs where a compiler was found when the package was installed, in the variant that suits the processor. The
environment variable STREAMRDE_KERNELS chooses another: reference, baseline, avx2 or avx512.

A result has the same bits however samples are cut into calls and whatever else is in a batch, on one variant. Variants
differ in the last bits, because a fused multiply-add rounds once where a product and a sum round twice and because
vectors of other widths add in another order: log-signatures by at most 1e-13 of the largest coefficient, a step of a
float32 model by at most 1e-5 of 1 + the state's size. Where bits matter, continue a snapshot on the variant that made
it.

A signature is one row of float64: levels 1 to depth one after the other; level 0, always 1, is left out. Within a level
the first letter runs fastest: the word (w1, ..., wk) stands at w1 + w2 C + ... + wk C^(k-1). Multiplying from the right
by a vector, which is what a sample does, is then one scalar times a contiguous array per letter, whatever C is.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from streamrde.errors import ParameterError
from streamrde.kernels.reference import chen, level_slices, signature_channels


class Implementation(NamedTuple):
    """Say which kernels run, and why."""

    name: str
    """"reference", or the instruction set of the compiled ones: "baseline", "avx2", "avx512"."""
    reason: str
    available: tuple[str, ...] = ("reference",)
    """Everything that STREAMRDE_KERNELS may ask for on this machine, the best first."""


def _choose() -> Implementation:
    wanted = os.environ.get("STREAMRDE_KERNELS") or None
    asked = f"STREAMRDE_KERNELS={wanted} asks for it"
    try:
        native = importlib.import_module("streamrde.kernels._native")
    except ImportError as error:
        if wanted == "reference":
            return Implementation(wanted, asked)
        if wanted:
            raise ParameterError(f"{asked}, but the compiled kernels are not there ({error})") from None
        return Implementation(
            "reference", f"no compiled kernels ({error}): install again where there is a C++ compiler"
        )
    available = (*native.variants(), "reference")
    if wanted == "reference":
        return Implementation(wanted, asked, available)
    if wanted and wanted not in available:
        raise ParameterError(
            f"{asked}, and this machine has {', '.join(available)}: use one of these, or leave it unset"
        )
    reason = asked if wanted else "compiled; the best this processor has"
    return Implementation(native.choose(wanted), reason, available)


IMPLEMENTATION = _choose()

if TYPE_CHECKING or IMPLEMENTATION.name == "reference":
    from streamrde.kernels.reference import Accumulator, Names, fold, log_words, observe, take_paths

    Loop: type[Any] | None = None
    """The compiled twin of windowing.cutting and windowing.order; None: these run."""
    Stepper: type[Any] | None = None
    """The compiled twin of inference.steppers.arrays; None: that runs."""
    Novelty: type[Any] | None = None
    """The compiled twin of inference.novelty; None: that runs."""
    sequence_forward: Callable[..., Any] | None = None
    sequence_backward: Callable[..., Any] | None = None
    """The compiled twin of models.NeuralRDE's steps over all windows, and of its gradients; None: those run."""
else:
    from streamrde.kernels._native import (
        Accumulator,
        Loop,
        Names,
        Novelty,
        Stepper,
        fold,
        log_words,
        observe,
        sequence_backward,
        sequence_forward,
        take_paths,
    )

__all__ = [
    "IMPLEMENTATION",
    "Accumulator",
    "Implementation",
    "Loop",
    "Names",
    "Novelty",
    "Stepper",
    "chen",
    "fold",
    "level_slices",
    "log_words",
    "observe",
    "sequence_backward",
    "sequence_forward",
    "signature_channels",
    "take_paths",
]
