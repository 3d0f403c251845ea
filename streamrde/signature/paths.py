"""Signatures and log-signatures of whole paths."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from streamrde.arrays import Floats, Indices
from streamrde.errors import SampleError, ShapeError
from streamrde.floats import as_floats, swapped
from streamrde.kernels import log_words, path_signatures
from streamrde.signature.words import (
    Basis,
    check_basis,
    check_room,
    last_letter_fastest,
    word_indices,
    words_to_brackets,
)


def signature(path: ArrayLike, depth: int) -> Floats:
    """Return the signature of the piecewise linear path through the given points, truncated at `depth`.

    Level k is the k-fold iterated integral ``int_(s_1<...<s_k) dX_(s_1) (x) ... (x) dX_(s_k)``; computed piece by piece
    by Chen's identity. The bits are those of LogSignature, but where the processor has no AVX-512: there a path of more
    than 1,024 points is cut into parts that are joined, and agrees to 1e-12 relative.

    Args:
        path: points, (..., L, C), L >= 1, finite.
        depth: truncation depth, >= 1.
    Returns:
        levels 1 to depth, flat, the last letter running fastest: (..., C + C^2 + ... + C^depth), float64.
    Raises:
        ShapeError: path has fewer than two axes, no points or no channels.
        SampleError: a value is not finite.
    Reference: Kidger & Lyons 2021 (Signatory), sections 2 and 5.
    """
    taken, channels = _take(path, depth, None)
    return taken[..., last_letter_fastest(channels, depth)]


def logsignature(path: ArrayLike, depth: int, basis: Basis = "words") -> Floats:
    """Return the log-signature of the piecewise linear path through the given points, truncated at `depth`.

    The tensor logarithm of the signature, a Lie element, in coordinates of size B = logsignature_channels(C, depth).

    Args:
        path: points, (..., L, C), L >= 1, finite.
        depth: truncation depth, >= 1.
        basis: ``"words"``: its coefficients at the Lyndon words, by length, then lexicographically (signatory's mode
            "words", torchcde's basis). ``"brackets"``: its coordinates in the basis of Lyndon brackets.
    Returns:
        (..., B), float64.
    Raises:
        ShapeError, SampleError: as `signature`.
    Reference: Kidger & Lyons 2021 (Signatory), section 4.

    >>> logsignature([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]], depth=2)
    array([1. , 1. , 0.5])
    """
    check_basis(basis)
    words, channels = _take(path, depth, word_indices)
    return words if basis == "words" else words_to_brackets(channels, depth).apply(words)


def log_coordinates(signatures: Floats, channels: int, depth: int, basis: Basis = "words") -> Floats:
    """Return log-signatures (rows, B) of signatures (rows, C + ... + C^depth)."""
    words = log_words(signatures, channels, depth, word_indices(channels, depth))
    return words if basis == "words" else words_to_brackets(channels, depth).apply(words)


def _take(path: ArrayLike, depth: int, places: Callable[[int, int], Indices] | None) -> tuple[Floats, int]:
    """Return C and the signatures, (..., C + ... + C^depth), or their logarithms at places of (C, depth)."""
    points = as_floats("path", path)
    if points.ndim < 2 or points.shape[-2] < 1 or points.shape[-1] < 1:
        raise ShapeError(f"path has shape {points.shape}: give (..., points, channels) with at least one of each")
    *batch, length, channels = points.shape
    check_room(channels, depth, hint=swapped("path", points.shape) if length < channels else "")
    paths = np.ascontiguousarray(points).reshape(-1, length, channels)
    finite, taken = path_signatures(paths, depth, None if places is None else places(channels, depth))
    if not finite and not np.isfinite(points).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(points))[0])
        raise SampleError(f"path[{where}] is {points[where]}: fill missing values first (logsig_windows can hold them)")
    return taken.reshape(*batch, taken.shape[1]), channels
