"""Streams made ready for the model: first sample, log-signatures and targets, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamrde.models.training.augmentation import Variant, augment
from streamrde.models.training.config import TrainConfig
from streamrde.models.training.recordings import Recording, pysiglib_logsigs
from streamrde.models.training.targets import Target
from streamrde.windowing.recorded import window_recordings

Array = NDArray[np.float64]

# Samples that are windowed together: some 10 MB a channel.
_ROWS = 1 << 20


class Example(NamedTuple):
    """A stream, or the part of one that a state of the model lives through."""

    stream: str
    x0: Array
    """First sample with time, (C,)."""
    ends: Array
    """Ends of its windows since it began, seconds, (K,)."""
    logsigs: Array
    """(K, B)."""
    target: NDArray[Any]
    """Of each window the number of its class, (K,) int64, -1 = unknown; or the numbers to predict, (K, outputs), NaN =
    unknown."""


class Batch(NamedTuple):
    """Streams padded to the same number of windows."""

    x0: Tensor
    """(N, C), float64."""
    logsigs: Tensor
    """(N, K, B), float64; 0 where padded."""
    target: Tensor
    """(N, K) int64 or (N, K, outputs) float64."""
    weight: Tensor
    """(N, K) or (N, K, outputs); 0 where padded or unknown, the rest sums to 1 per stream."""


class Variation(NamedTuple):
    """What random variants of training streams are drawn from."""

    rng: np.random.Generator
    deviation: Array
    """Standard deviation of each data channel, (C-1,)."""


def prepare(
    recordings: Sequence[Recording],
    config: TrainConfig,
    *,
    fills: Array,
    classes: Sequence[str],
    variation: Variation | None = None,
) -> list[Example]:
    """Window streams, or random variants of them, as serving will; what has no window is left out.

    A stream in which the model's state begins anew after a gap becomes several examples.
    """
    if not recordings:
        return []
    variants = [Variant(recording.t, recording.x, 1.0) for recording in recordings]
    if variation is not None:
        names = [channel.name for channel in config.data.channels]
        variants = [
            augment(v.t, v.x, config.augment, names=names, deviation=variation.deviation, rng=variation.rng)
            for v in variants
        ]
    logarithm = pysiglib_logsigs if config.training.logsignatures == "pysiglib" else None
    partition = config.partition(fills)
    examples = []
    for some in _shares([len(variant.t) for variant in variants]):
        ts, xs = [variant.t for variant in variants[some]], [variant.x for variant in variants[some]]
        for windowed in window_recordings(ts, xs, partition, logarithm=logarithm):
            if len(windowed.logsigs):
                place = some.start + windowed.stream
                start, end = (variants[place].original(t) for t in (windowed.start, windowed.end))
                target = _target(recordings[place].target, start, end, classes)
                first, ends = np.append(0.0, windowed.first), windowed.end - windowed.start[0]
                examples.append(Example(recordings[place].stream, first, ends, windowed.logsigs, target))
    return examples


def _shares(lengths: Sequence[int]) -> Iterator[slice]:
    """Neighbouring streams to be windowed together: samples are laid one after the other for the kernels, which takes
    memory, and overlapping excerpts of one recording would take a multiple of it."""
    start = rows = 0
    for i, length in enumerate(lengths):
        if i > start and rows + length > _ROWS:
            yield slice(start, i)
            start, rows = i, 0
        rows += length
    yield slice(start, len(lengths))


def _target(target: Target, start: Array, end: Array, classes: Sequence[str]) -> NDArray[Any]:
    values = target.at(start, end)
    if not classes:
        return values
    # Classes are numbered over all the data; the model knows those of training.
    number = np.array([classes.index(name) if name in classes else -1 for name in (*target.classes, "")])
    return number[np.where(np.isfinite(values[:, 0]), values[:, 0], -1).astype(np.int64)]


def collate(examples: Sequence[Example], device: torch.device) -> Batch:
    """Pad examples into a batch."""
    lengths = np.array([len(example.logsigs) for example in examples])
    real = np.arange(lengths.max()) < lengths[:, None]

    def padded(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        flat = np.concatenate(arrays)
        result = np.zeros((*real.shape, *flat.shape[1:]), flat.dtype)
        result[real] = flat
        return result

    target = padded([example.target for example in examples])
    known = real & (target >= 0) if target.ndim == 2 else real[:, :, None] & np.isfinite(target)
    counts = known.reshape(len(examples), -1).sum(axis=1).reshape(-1, *[1] * (known.ndim - 1))
    arrays = (
        np.stack([example.x0 for example in examples]),
        padded([example.logsigs for example in examples]),
        np.where(known, target, 0),
        known / np.maximum(counts, 1),
    )
    return Batch(*(torch.as_tensor(array, device=device) for array in arrays))
