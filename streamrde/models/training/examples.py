"""Make streams ready for the model: first sample, log-signatures and targets, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamrde.arrays import Floats, Indices
from streamrde.fitting.recordings import Recording
from streamrde.fitting.targets import Target
from streamrde.models.training.augmentation import Variant, augment
from streamrde.models.training.cache import cached_windows
from streamrde.models.training.config import TrainConfig
from streamrde.windowing.recorded import Windowed, window_recordings

# Samples that are windowed together: some 10 MB a channel.
_ROWS = 1 << 20


class Example(NamedTuple):
    """Hold a stream, or the part of one that is one episode of the model's state."""

    stream: str
    x0: Floats
    """First sample with time, (C,)."""
    ends: Floats
    """Ends of its windows since it began, seconds, (K,)."""
    logsigs: Floats
    """Tokens, (K, B)."""
    target: NDArray[Any]
    """Of each window the number of its class, (K,) int64, -1 = unknown; or the numbers to predict, (K, outputs), NaN =
    unknown."""


class Examples(Sequence[Example]):
    """Examples whose windows share arrays one after the other, W in all. Each one, a slice or a choice is a view.

    Args:
        streams: (N,), object.
        x0: (N, C).
        first: place of each one's first window, (N,).
        lengths: how many windows it has, K, (N,).
        ends, logsigs, target: of all windows, (W,), (W, B), (W,) or (W, outputs).
        padding: entries of a padded window's token, in which nothing happens: 0, or NaN where tokens are shifted (see
            `NeuralRDE.scaled`).
    """

    def __init__(
        self,
        streams: NDArray[np.object_],
        x0: Floats,
        first: Indices,
        lengths: Indices,
        *,
        ends: Floats,
        logsigs: Floats,
        target: NDArray[Any],
        padding: float = 0.0,
    ) -> None:
        self.padding = padding
        self.streams, self.x0, self.first, self.lengths = streams, x0, first, lengths
        self.ends, self.logsigs, self.target = ends, logsigs, target

    @classmethod
    def join(cls, examples: Sequence[Example], *, padding: float = 0.0) -> Examples:
        """Join examples by copying their windows together."""
        if isinstance(examples, Examples):
            return examples
        if not examples:
            none, nothing = np.zeros(0, np.intp), np.zeros((0, 0))
            return cls(np.zeros(0, object), nothing, none, none, ends=np.zeros(0), logsigs=nothing, target=np.zeros(0))
        lengths = np.array([len(example.logsigs) for example in examples])
        return cls(
            np.array([example.stream for example in examples], object),
            np.stack([example.x0 for example in examples]),
            np.cumsum(lengths) - lengths,
            lengths,
            ends=np.concatenate([example.ends for example in examples]),
            logsigs=np.concatenate([example.logsigs for example in examples]),
            target=np.concatenate([example.target for example in examples]),
            padding=padding,
        )

    def __len__(self) -> int:
        return len(self.first)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice | NDArray[np.integer]) -> Examples: ...
    def __getitem__(self, index: int | slice | NDArray[np.integer]) -> Example | Examples:
        if isinstance(index, slice | np.ndarray):
            shared: dict[str, Any] = {"ends": self.ends, "logsigs": self.logsigs, "target": self.target}
            shared["padding"] = self.padding
            return Examples(self.streams[index], self.x0[index], self.first[index], self.lengths[index], **shared)
        own = slice(self.first[index], self.first[index] + self.lengths[index])
        return Example(self.streams[index], self.x0[index], self.ends[own], self.logsigs[own], self.target[own])


class Batch(NamedTuple):
    """Hold streams, padded to the same number of windows."""

    x0: Tensor
    """(N, C), float64."""
    logsigs: Tensor
    """Tokens, (N, K, B), float64; where padded 0, or NaN (see `Examples`)."""
    target: Tensor
    """(N, K) int64 or (N, K, outputs) float64."""
    weight: Tensor
    """(N, K) or (N, K, outputs); 0 where padded or unknown, the rest sums to 1 per stream."""


class Variation(NamedTuple):
    """Source of random variants of training streams."""

    rng: np.random.Generator
    deviation: Floats
    """Standard deviation of each data channel, (C-1,)."""


def prepare(
    recordings: Sequence[Recording],
    config: TrainConfig,
    *,
    fills: Floats,
    classes: Sequence[str],
    variation: Variation | None = None,
) -> Examples:
    """Window streams, or random variants of them, as serving will. Streams without a window are left out.

    A stream in which the model's state begins anew after a gap becomes several examples.
    """
    variants = [Variant(recording.t, recording.x, 1.0) for recording in recordings]
    if variation is not None:
        names = [channel.name for channel in config.data.channels]
        variants = [
            augment(v.t, v.x, config.augment, names=names, deviation=variation.deviation, rng=variation.rng)
            for v in variants
        ]
    partition = config.partition(fills)

    def compute() -> list[Windowed]:
        found = []
        for some in _shares([len(variant.t) for variant in variants]):
            ts, xs = [variant.t for variant in variants[some]], [variant.x for variant in variants[some]]
            windowed = window_recordings(ts, xs, partition)
            found += [own._replace(stream=some.start + own.stream) for own in windowed]
        return found

    windows = cached_windows(recordings, config, partition, compute=compute) if variation is None else compute()
    rates = [config.data.targets.index(name) for name in config.augment.rates]
    examples = []
    for windowed in windows:
        if len(windowed.logsigs):
            recording, variant = recordings[windowed.stream], variants[windowed.stream]
            target = targets_of(recording.target, variant, windowed, config.data.horizon, classes)
            if rates:
                target[:, rates] /= variant.tempo
            first, ends = np.append(0.0, windowed.first), windowed.end - windowed.start[0]
            examples.append(Example(recording.stream, first, ends, windowed.logsigs, target))
    return Examples.join(examples, padding=0.0 if partition.token.plain else np.nan)


def _shares(lengths: Sequence[int]) -> Iterator[slice]:
    """Divide streams into neighbouring ones to be windowed together.

    Samples are laid one after the other for the kernels, which takes memory, and overlapping excerpts of one recording
    would take a multiple of it.
    """
    start = rows = 0
    for i, length in enumerate(lengths):
        if i > start and rows + length > _ROWS:
            yield slice(start, i)
            start, rows = i, 0
        rows += length
    if lengths:
        yield slice(start, len(lengths))


def targets_of(
    target: Target, variant: Variant, windowed: Windowed, horizon: float, classes: Sequence[str]
) -> NDArray[Any]:
    """Return the targets of a stream's windows, as `Example.target`. A window without a sample has none of its own."""
    start, end = (variant.original(t + horizon) for t in (windowed.start, windowed.end))
    values = target.at(start, end)
    if target.t is not None:
        reached, before = (np.searchsorted(variant.t, t, side="right") for t in (windowed.end, windowed.start))
        values[reached == before] = np.nan
    if not classes:
        return values
    # Classes are numbered over all the data; the model knows those of training.
    number = np.array([classes.index(name) if name in classes else -1 for name in (*target.classes, "")])
    return number[np.where(np.isfinite(values[:, 0]), values[:, 0], -1).astype(np.int64)]


def collate(examples: Sequence[Example], device: torch.device) -> Batch:
    """Pad examples into a batch. It is quick for `Examples`."""
    examples = Examples.join(examples)
    steps = np.arange(examples.lengths.max())
    real = steps < examples.lengths[:, None]
    # What is padded takes the last window's place, and its values are overwritten.
    places = examples.first[:, None] + np.minimum(steps, examples.lengths[:, None] - 1)
    logsigs, target = examples.logsigs[places], examples.target[places]
    if not real.all():
        logsigs[~real] = examples.padding
    known = (target >= 0) & real if target.ndim == 2 else np.isfinite(target) & real[..., None]
    counts = known.sum(axis=tuple(range(1, known.ndim)), keepdims=True)
    arrays = (examples.x0, logsigs, np.where(known, target, 0), known / np.maximum(1, counts))
    return Batch(*(torch.as_tensor(array, device=device) for array in arrays))


def in_turn(
    examples: Sequence[Example], *, size: int, device: torch.device
) -> Iterator[tuple[Sequence[Example], Batch]]:
    """Yield the examples in order, `size` at a time, each time with their batch."""
    for start in range(0, len(examples), size):
        part = examples[start : start + size]
        yield part, collate(part, device)
