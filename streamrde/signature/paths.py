"""Signatures and log-signatures of whole paths."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamrde.errors import SampleError, ShapeError
from streamrde.floats import as_floats
from streamrde.kernels import chen, fold_points, log_words, signature_channels
from streamrde.signature.words import (
    Basis,
    check_basis,
    check_size,
    last_letter_fastest,
    word_indices,
    words_to_brackets,
)

# Doubles in the widest vector, and the pieces from which cutting a path pays for joining its parts.
_LANES, _LONG = 8, 1024


def signature(path: ArrayLike, depth: int) -> NDArray[np.float64]:
    """Signature of the piecewise linear path through the given points, truncated at `depth`.

    Level k is the k-fold iterated integral ``int_(s_1<...<s_k) dX_(s_1) (x) ... (x) dX_(s_k)``; computed piece by piece
    by Chen's identity. The bits are those of LogSignature, but for paths of more than 1,024 points, which are cut into
    parts that are joined: 1e-12 relative.

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
    signatures = _signatures(path, depth)
    channels = np.shape(path)[-1]
    return signatures[..., last_letter_fastest(channels, depth)]


def logsignature(path: ArrayLike, depth: int, basis: Basis = "words") -> NDArray[np.float64]:
    """Log-signature of the piecewise linear path through the given points, truncated at `depth`.

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
    signatures = _signatures(path, depth)
    channels = np.shape(path)[-1]
    flat = log_coordinates(signatures.reshape(-1, signatures.shape[-1]), channels, depth, basis)
    return flat.reshape(*signatures.shape[:-1], flat.shape[1])


def log_coordinates(
    signatures: NDArray[np.float64], channels: int, depth: int, basis: Basis = "words"
) -> NDArray[np.float64]:
    """Log-signatures (rows, B) of signatures (rows, C + ... + C^depth)."""
    words = log_words(signatures, channels, depth, word_indices(channels, depth))
    return words if basis == "words" else words_to_brackets(channels, depth).apply(words)


def _signatures(path: ArrayLike, depth: int) -> NDArray[np.float64]:
    """Signatures in the kernels' order of words."""
    points = np.ascontiguousarray(_checked(path))
    *batch, length, channels = points.shape
    check_size(channels, depth)
    rows, pieces = int(np.prod(batch)), length - 1
    # One long path leaves the vector unit's other lanes idle: cut it in time, and join the parts by Chen's identity.
    parts = 1 if rows >= _LANES or pieces < _LONG else 1 << (_LANES // max(1, rows)).bit_length() - 1
    cuts = np.arange(parts + 1) * pieces // parts
    signatures = np.zeros((rows * parts, signature_channels(channels, depth)))
    if rows and pieces:
        starts = (np.arange(rows)[:, None] * length + cuts[:-1]).ravel()
        fold_points(signatures, points.reshape(-1, channels), starts, np.tile(np.diff(cuts), rows), depth)
    while parts > 1:
        signatures = chen(signatures[::2], signatures[1::2], channels, depth)
        parts //= 2
    return signatures.reshape(*batch, signatures.shape[1])


def _checked(path: ArrayLike) -> NDArray[np.float64]:
    points = as_floats("path", path)
    if points.ndim < 2 or points.shape[-2] < 1 or points.shape[-1] < 1:
        raise ShapeError(f"path has shape {points.shape}: give (..., points, channels) with at least one of each")
    if not np.isfinite(points).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(points))[0])
        raise SampleError(f"path[{where}] is {points[where]}: fill missing values first (logsig_windows can hold them)")
    return points
