"""Streams made ready for the model: first sample, log-signatures and targets, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamrde.models.training.augmentation import augment
from streamrde.models.training.config import TrainConfig
from streamrde.models.training.recordings import Recording, pysiglib_logsigs, targets_at
from streamrde.windowing.recorded import window_recordings

Array = NDArray[np.float64]


class Example(NamedTuple):
    """A stream, or the part of one that a state of the model lives through."""

    stream: str
    x0: Array
    """First sample with time, (C,)."""
    ends: Array
    """Ends of its windows since it began, seconds, (K,)."""
    logsigs: Array
    """(K, B)."""
    target: Array
    """Number of its class, () , or targets per window, (K, outputs)."""


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
    ts, xs = [recording.t for recording in recordings], [recording.x for recording in recordings]
    if variation is not None:
        names = [channel.name for channel in config.data.channels]
        pairs = [
            augment(t, x, config.augment, names=names, deviation=variation.deviation, rng=variation.rng)
            for t, x in zip(ts, xs, strict=True)
        ]
        ts, xs = [t for t, _ in pairs], [x for _, x in pairs]
    logarithm = pysiglib_logsigs if config.training.logsignatures == "pysiglib" else None
    examples = []
    for windowed in window_recordings(ts, xs, config.partition(fills), logarithm=logarithm):
        if len(windowed.logsigs):
            recording, start, end = recordings[windowed.stream], windowed.start, windowed.end
            target = np.array(classes.index(recording.label)) if classes else targets_at(recording, start, end)
            examples.append(
                Example(recording.stream, np.append(0.0, windowed.first), end - start[0], windowed.logsigs, target)
            )
    return examples


def collate(examples: Sequence[Example], device: torch.device) -> Batch:
    """Pad examples into a batch."""
    longest = max(len(example.logsigs) for example in examples)
    logsigs = np.zeros((len(examples), longest, examples[0].logsigs.shape[1]))
    shape = (len(examples), longest, *examples[0].target.shape[1:])
    classify = examples[0].target.ndim == 0
    target = np.zeros(shape, dtype=np.int64 if classify else np.float64)
    weight = np.zeros(shape)
    for i, example in enumerate(examples):
        count = len(example.logsigs)
        logsigs[i, :count] = example.logsigs
        known = np.isfinite(np.broadcast_to(example.target, (count, *shape[2:])))
        target[i, :count] = np.where(known, example.target, 0)
        weight[i, :count] = known / max(1, known.sum())
    arrays = (np.stack([example.x0 for example in examples]), logsigs, target, weight)
    return Batch(*(torch.as_tensor(array, device=device) for array in arrays))
