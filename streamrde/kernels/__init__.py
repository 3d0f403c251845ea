"""Everything that is compiled, on plain NumPy arrays, and what runs where no compiler built it.

    reference.py    NumPy twins of the functions below: their specification, and the oracle of the tests
    outcome.py      what the loops return; layout.py checks that C++ numbers and lays out things as Python does
    _native.pyi     the extension's functions and classes, with shapes; module.cpp makes the module
    algebra, registers, variant        signatures: fold samples into one, take its logarithm
    accumulator, paths                 LogSignature, and whole paths at once
    ordering, settling, walk, loop     samples through order, gaps and window edges, with policies/, plain and shares;
                                       fleet_loop is their Python object
    stepper, sequence                  the log-ODE step for live streams, and for training with its gradients
    stack, residual, closing           the step of a stack, and over a sequence half a block and the end, with gradients
    cells                              elementwise parts of recurrences and perceptrons, for both
    products, vectors, matrices        matrix products, elementwise functions and small exponentials for these
    names, observe, novelty            slots of streams, what samples show of them, p-values of windows
    kalman                             readouts that learn from labels
    pooling                            random features of tokens, pooled over streams' lives
    arrays, threads, layout, word_table    what these files share

Files named `-inl.hpp` and `_variant.cpp` are compiled once for each instruction set: baseline, avx2, avx512. The best
one that the processor has runs. The environment variable STREAMRDE_KERNELS chooses another, or the reference.

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

from streamrde.arrays import Reals
from streamrde.errors import ParameterError
from streamrde.kernels.reference import chen, level_slices, signature_channels

if TYPE_CHECKING:
    from streamrde.kernels import _native


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
    from streamrde.kernels.reference import Accumulator, Names, fold, kalman, log_words, observe, path_signatures
    from streamrde.kernels.reference import chen as join

    # Kernels whose references are built of several modules; None if these run.
    Loop: type[_native.Loop] | None = None
    """Twin of windowing.loop.ReferenceLoop."""
    Stepper: type[_native.Stepper] | None = None
    """Twin of inference.steppers.ArrayStepper."""
    Stack: type[_native.Stack] | None = None
    """Twin of inference.fields.stack, for the recurrences that it has."""
    Novelty: type[_native.Novelty] | None = None
    """Twin of inference.novelty.Novelty."""
    Pooling: type[_native.Pooling] | None = None
    """Twin of features.pooling.ReferencePooling."""
    sequence_forward: Callable[..., tuple[Reals, Reals]] | None = None
    sequence_backward: Callable[..., tuple[Reals, list[tuple[Reals, Reals]], Reals, Reals, Reals | None]] | None = None
    """Twins of models.NeuralRDE's steps over all windows, and of their gradients."""
    residual_forward: Callable[..., tuple[Reals, Reals, Reals]] | None = None
    residual_backward: Callable[..., tuple[Any, ...]] | None = None
    """Twins of models.fields.stack's blocks over all tokens, half a block at a time, and of their gradients."""
    closing_forward: Callable[..., Reals] | None = None
    closing_backward: Callable[..., tuple[Any, ...]] | None = None
    """Twins of what follows the blocks, and of its gradients."""
    LAYOUT: dict[str, str] = {}
    """Text of the C++ declarations that Python has too, by name; see layout.py."""
else:
    from streamrde.kernels._native import (
        LAYOUT,
        Accumulator,
        Loop,
        Names,
        Novelty,
        Pooling,
        Stack,
        Stepper,
        closing_backward,
        closing_forward,
        fold,
        join,
        kalman,
        log_words,
        observe,
        path_signatures,
        residual_backward,
        residual_forward,
        sequence_backward,
        sequence_forward,
    )

__all__ = [
    "IMPLEMENTATION",
    "LAYOUT",
    "Accumulator",
    "Implementation",
    "Loop",
    "Names",
    "Novelty",
    "Pooling",
    "Stack",
    "Stepper",
    "chen",
    "closing_backward",
    "closing_forward",
    "fold",
    "join",
    "kalman",
    "level_slices",
    "log_words",
    "observe",
    "path_signatures",
    "residual_backward",
    "residual_forward",
    "sequence_backward",
    "sequence_forward",
    "signature_channels",
]
