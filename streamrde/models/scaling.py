"""Fit the scaling of inputs and outputs on training data. It is stored with the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from streamrde.arrays import Floats, Ints
from streamrde.errors import ParameterError
from streamrde.signature.words import logsignature_channels, lyndon_words
from streamrde.windowing.partition import Partition


class Scaling(NamedTuple):
    """Shifts and scales that bring a model's inputs and outputs to order one, all float64."""

    x0_shift: Floats
    """(C,), subtracted from the first sample."""
    x0_scale: Floats
    """(C,), multiplies the shifted first sample."""
    logsig_scale: Floats
    """(B,), multiplies a window's token: its log-signature, or more."""
    output_shift: Floats
    """(outputs,), added to the scaled output."""
    output_scale: Floats
    """(outputs,), multiplies the readout."""
    token_shift: Floats | None = None
    """(B,), subtracted from a token before it is scaled. None: the token is a log-signature alone."""


class Inputs(NamedTuple):
    """Fields of a `Scaling` that concern a model's inputs."""

    x0_shift: Floats
    x0_scale: Floats
    logsig_scale: Floats
    token_shift: Floats | None


def fit_inputs(
    x: Sequence[Floats],
    tokens: Sequence[Floats],
    names: Sequence[str],
    *,
    partition: Partition,
    by: Literal["coefficient", "level"] = "coefficient",
) -> Inputs:
    """Fit the scales of the inputs to the training streams.

    The first sample is standardised by each channel's mean and standard deviation over all samples. Time, which is 0
    there, and channels that mark missing values stay as they are. A log-signature's coefficients differ by orders of
    magnitude (level k grows as the k-th power of the path's length). Each is divided by its root mean square r, and all
    by sqrt(B): ``scale = 1 / (r sqrt(B))``. The scaled vector then has a mean square norm of 1 at any depth and number
    of channels. By level, each channel of the path is divided by the root mean square of its increments instead, which
    scales a word by the product over its letters, and then each level by the root mean square over its coefficients.
    Within a level, small coefficients stay small, such as those of two channels that move together. There is no shift:
    a window in which nothing happens must not move the state. A root mean square counts as at least its rounding error
    (see `rounding_of`), which depends only on the channels of its word. So the unit of a channel never changes a scaled
    log-signature.

    If a token has several log-signatures, each is scaled so, with B the size of the token. Its other entries are
    standardised by their mean and standard deviation, and divided by sqrt(B) too. One that never changes becomes 0.

    Args:
        x: each stream's samples, (L, data channels). NaN = not observed.
        tokens: each stream's tokens, (K, B). Summaries may be NaN.
        names: names of the data channels, for errors.
        partition: rules by which the streams became tokens.
        by: scale log-signatures by coefficient or by level.
    Raises:
        ParameterError: a channel never changes or is never observed.
    """
    mean, deviation, counts = moments(x)
    for j, name in enumerate(names):
        if counts[j] == 0:
            raise ParameterError(f"channel '{name}' has no value in the training streams; remove it from data.channels")
    for j, name in enumerate(names):
        if deviation[j] <= 1e-12 * max(abs(mean[j]), 1e-300):
            raise ParameterError(
                f"channel '{name}' is {mean[j]:g} in every sample of the training streams; remove it from data.channels"
            )
    channels, token, places = partition.path_channels, partition.token, partition.places
    shift, scale = np.zeros(channels), np.ones(channels)
    shift[1 : len(names) + 1], scale[1 : len(names) + 1] = mean, 1 / deviation
    windows = np.concatenate(tokens)
    token_shift, token_scale = np.zeros(places.size), np.empty(places.size)
    for own, length, depth in zip(places.scales, token.scales, token.depths(partition.depth), strict=True):
        letters, rms = _sizes(x, windows[:, own], channels, depth, length.windows, by=by)
        token_scale[own] = letters / (rms * np.sqrt(places.size))
    rest = slice(places.ends.start, places.size)
    token_shift[rest], spread = _moments_of(windows[:, rest])
    token_scale[rest] = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1.0), 0.0) / np.sqrt(places.size)
    return Inputs(shift, scale, token_scale, None if token.plain else token_shift)


def _sizes(
    x: Sequence[Floats],
    windows: Floats,
    channels: int,
    depth: int,
    length: int,
    *,
    by: Literal["coefficient", "level"],
) -> tuple[Floats, Floats]:
    """Return factors on the coefficients of a scale's log-signatures, and the usual sizes of the products, (words,).

    Args:
        windows: log-signatures of `length` windows each, (n, words).
    """
    lengths = path_lengths(x, _rms(windows)[:channels], len(windows) / length)
    # Scale by channel first: the rest is of order 1, and its squares cannot overflow.
    letters = 1 / _along(lengths, channels, depth)
    rms = _rms(windows * letters)
    largest, data = np.zeros(channels), x[0].shape[1]
    for own in x:
        sizes = np.abs(np.where(np.isfinite(own), own, 0.0)).max(axis=0, initial=0.0)
        largest[1 : data + 1] = np.maximum(largest[1 : data + 1], sizes)
    floor = rounding_of(largest / lengths, channels, depth)
    # A coefficient that is only rounding error in training must not be scaled up to order one.
    rms = np.maximum(rms, floor)
    if by == "level":
        moved = _along(rms[:channels], channels, depth)
        levels = np.array([len(word) for word in lyndon_words(channels, depth)])
        sizes = [np.sqrt(np.mean((rms / moved)[levels == k] ** 2)) for k in range(1, depth + 1)]
        rms = moved * np.array(sizes)[levels - 1]
    return letters, rms


def _moments_of(entries: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of each entry's finite values, (n, m) -> (m,). Rounding counts as 0."""
    known = np.isfinite(entries)
    counts = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, entries, 0.0).sum(axis=0) / counts
    spread = np.sqrt((np.where(known, entries - mean, 0.0) ** 2).sum(axis=0) / counts)
    return mean, np.where(spread > 1e-12 * np.abs(mean), spread, 0.0)


ROUNDINGS = 1000
"""Assumed bound on the rounding errors in a sum of many pieces, in units of the last place."""


def path_lengths(x: Sequence[Floats], moved: Floats, windows: float) -> Floats:
    """Return the mean distance that each channel of the path travels within a window, back and forth, (C,).

    Args:
        x: each stream's samples, (L, data channels); NaN = not observed.
        moved: root mean square of each channel's increments over windows, (C,).
        windows: number of windows that the samples divide into.
    """
    lengths = np.array(moved)
    # Time since an observation falls back by as much as it has grown.
    lengths[1 + x[0].shape[1] :] = np.maximum(lengths[1 + x[0].shape[1] :], 2 * moved[0])
    for own in x:
        for j, column in enumerate(own.T):
            lengths[1 + j] += np.abs(np.diff(column[np.isfinite(column)])).sum() / windows
    return np.where(lengths > 0, lengths, 1.0)


def rounding_of(offsets: Floats, channels: int, depth: int) -> Floats:
    """Return the rounding error to expect in the coefficients of words, (B,).

    It is relative to the product of their letters' path lengths.

    Args:
        offsets: magnitude of each channel's values, (C,), in path lengths. A channel that moves by 1e-6 around 1e8 has
            few digits.
    """
    words = lyndon_words(channels, depth)
    return np.array([np.spacing(1.0) * (ROUNDINGS + 10 * offsets[list(word)].sum()) for word in words])


def _along(letters: Floats, channels: int, depth: int) -> Floats:
    """Multiply the letters' numbers along each Lyndon word, (B,)."""
    return np.array([np.prod(letters[list(word)]) for word in lyndon_words(channels, depth)])


def _rms(windows: Floats) -> Floats:
    """Return the root mean square of each coefficient, (n, B) -> (B,), without overflow or underflow."""
    largest = np.abs(windows).max(axis=0, initial=0.0)
    largest = np.where(largest > 0, largest, 1.0)
    return np.asarray(largest * np.sqrt(((windows / largest) ** 2).mean(axis=0)))


def moments(x: Sequence[Floats]) -> tuple[Floats, Floats, Ints]:
    """Return mean, standard deviation and count of each channel's observations over all streams, (data channels,).

    They are computed stream by stream, since overlapping excerpts share samples and together may not fit into memory.

    Args:
        x: each stream's samples, (L, data channels); NaN = not observed. A channel that never is has mean 0.
    """
    counts = sum((np.isfinite(own).sum(axis=0) for own in x), np.zeros(x[0].shape[1], np.int64))
    mean = sum(np.nansum(own, axis=0) for own in x) / np.maximum(counts, 1)
    squares = sum(np.nansum((own - mean) ** 2, axis=0) for own in x)
    return mean, np.sqrt(squares / np.maximum(counts, 1)), counts


def far_from_zero(scaling: Scaling) -> bool:
    """Return True if float32 would round outputs visibly: by more than 1e-5 of their deviation."""
    spacing = np.finfo(np.float32).eps * np.abs(scaling.output_shift)
    return bool((spacing > 1e-5 * np.abs(scaling.output_scale)).any())


def along_words(scale: Floats, depth: int) -> Floats:
    """Multiply the letters' scales along each Lyndon word, (B,), as if the path itself were scaled.

    A field whose higher terms are its own Lie brackets needs this. Only the entries of `scale` for letters are used.
    """
    channels = next(c for c in range(1, len(scale) + 1) if logsignature_channels(c, depth) == len(scale))
    return _along(scale, channels, depth)


def fit_targets(targets: Sequence[Floats], names: Sequence[str]) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of each target over the training windows that have one.

    Args:
        targets: each stream's targets per window, (K, outputs). NaN = none.
        names: names of the targets, for errors.
    Raises:
        ParameterError: a target has no value or never changes in the training streams.
    """
    values = np.concatenate(targets)
    shift, scale = np.zeros(len(names)), np.ones(len(names))
    for j, name in enumerate(names):
        known = values[np.isfinite(values[:, j]), j]
        if known.size == 0:
            raise ParameterError(f"target '{name}' has no value in any window of the training streams")
        shift[j], scale[j] = known.mean(), known.std()
        if scale[j] <= 1e-12 * max(abs(shift[j]), 1e-300):
            raise ParameterError(
                f"target '{name}' is {shift[j]:g} in every window of the training streams: nothing to learn"
            )
    return shift, scale
