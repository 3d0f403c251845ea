"""Input and output scaling, fitted on training data only and stored with the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamrde.errors import ParameterError
from streamrde.signature.words import logsignature_channels, lyndon_words

Array = NDArray[np.float64]


class Scaling(NamedTuple):
    """What brings a model's inputs and outputs to order one; all float64."""

    x0_shift: Array
    """(C,), subtracted from the first sample."""
    x0_scale: Array
    """(C,), multiplies the shifted first sample."""
    logsig_scale: Array
    """(B,), multiplies a window's log-signature."""
    output_shift: Array
    """(outputs,), added to the scaled output."""
    output_scale: Array
    """(outputs,), multiplies the readout."""


def fit_inputs(
    x: Sequence[Array],
    logsigs: Sequence[Array],
    names: Sequence[str],
    *,
    channels: int,
    by: Literal["coefficient", "level"] = "coefficient",
) -> tuple[Array, Array, Array]:
    """Scales of the inputs, from the training streams.

    The first sample is standardised by each channel's mean and standard deviation over all samples; time, which is 0
    there, and channels that tell of missing values are left alone. A log-signature's coefficients differ by orders of
    magnitude (level k grows as the k-th power of the path's length): each is divided by its root mean square r, and all
    by sqrt(B): ``scale = 1 / (r sqrt(B))``. The scaled vector then has a mean square norm of 1 whatever depth and
    channels are. By level, each channel of the path is divided by the root mean square of its increments instead, which
    scales a word by the product over its letters, and then each level by the root mean square over its coefficients: of
    a level, small coefficients stay small, as those of two channels that move together. There is no shift: a window in
    which nothing happens must leave the state where it is.

    Args:
        x: each stream's samples, (L, data channels); NaN = not observed.
        logsigs: each stream's log-signatures, (K, B).
        names: names of the data channels, for errors.
        channels: C, channels of the path.
        by: what log-signatures are scaled by.
    Returns:
        x0_shift (C,), x0_scale (C,), logsig_scale (B,).
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
    windows = np.concatenate(logsigs)
    rms = np.sqrt((windows**2).mean(axis=0))
    # A coefficient that is rounding error in training must not be blown up to order one when it is served.
    rms = np.maximum(rms, 1e-9 * rms.max())
    shift, scale = np.zeros(channels), np.ones(channels)
    shift[1 : len(names) + 1], scale[1 : len(names) + 1] = mean, 1 / deviation
    factors = 1 / rms
    if by == "level":
        words = lyndon_words(channels, depth_of(channels, windows.shape[1]))
        letters = np.array([np.prod(factors[list(word)]) for word in words])
        factors = letters / _level_sizes(np.sqrt(((windows * letters) ** 2).mean(axis=0)), [len(w) for w in words])
    return shift, scale, factors / np.sqrt(windows.shape[1])


def _level_sizes(rms: Array, levels: Sequence[int]) -> Array:
    """The root mean square over the coefficients of each one's level, (B,)."""
    count = np.bincount(levels)
    size = np.sqrt(np.bincount(levels, weights=rms**2) / np.maximum(count, 1))
    # A level in which nothing ever happened is rounding error, as a coefficient may be.
    return np.asarray(np.maximum(size, 1e-9 * size.max())[levels])


def depth_of(channels: int, size: int) -> int:
    """The depth to which `channels` have `size` Lyndon words."""
    return next(depth for depth in range(1, size + 1) if logsignature_channels(channels, depth) == size)


def moments(x: Sequence[Array]) -> tuple[Array, Array, NDArray[np.int64]]:
    """Mean, standard deviation and number of each channel's observations over all streams, (data channels,) each.

    Stream by stream: overlapping excerpts share their samples, and together they would not fit into memory.

    Args:
        x: each stream's samples, (L, data channels); NaN = not observed. What is never observed has mean 0.
    """
    counts = sum((np.isfinite(own).sum(axis=0) for own in x), np.zeros(x[0].shape[1], np.int64))
    mean = sum(np.nansum(own, axis=0) for own in x) / np.maximum(counts, 1)
    squares = sum(np.nansum((own - mean) ** 2, axis=0) for own in x)
    return mean, np.sqrt(squares / np.maximum(counts, 1)), counts


def along_words(scale: Array, depth: int) -> Array:
    """The letters' scales multiplied along each Lyndon word, (B,): what scaling the path itself would do.

    A field whose higher terms are brackets of its own needs this; `scale`'s entries of longer words are not used.
    """
    channels = next(c for c in range(1, len(scale) + 1) if logsignature_channels(c, depth) == len(scale))
    return np.array([np.prod(scale[list(word)]) for word in lyndon_words(channels, depth)])


def fit_targets(targets: Sequence[Array], names: Sequence[str]) -> tuple[Array, Array]:
    """Mean and standard deviation of each target over the training windows that have one.

    Args:
        targets: each stream's targets per window, (K, outputs); NaN = none.
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
