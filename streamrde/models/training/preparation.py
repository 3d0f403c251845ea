"""The data of a training run: windows of all streams, classes, and the scaling of inputs and targets."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from rich.console import Console

from streamrde.arrays import Floats
from streamrde.errors import ConfigError
from streamrde.fitting.recordings import Recording
from streamrde.inference.fields import Stack
from streamrde.inference.header import TargetAt
from streamrde.inference.statistics import bridge_of
from streamrde.models.scaling import Scaling, along_words, fit_inputs, fit_targets, moments
from streamrde.models.training.config import TrainConfig
from streamrde.models.training.examples import Example, Examples, prepare
from streamrde.models.training.preflight import check_classes, say_windows
from streamrde.models.training.splits import Split
from streamrde.tables import say


class Prepared(NamedTuple):
    """Windows of all streams, with the classes, fills and scales of the training streams."""

    target_at: TargetAt
    """What the targets are of."""
    classes: tuple[str, ...]
    fills: Floats
    """Value of each data channel before it is observed, (C-1,)."""
    deviation: Floats
    """Standard deviation of each data channel, (C-1,)."""
    examples: dict[str, Examples]
    scaling: Scaling
    """Of the path, the log-signatures and the targets."""


def with_bridge(config: TrainConfig, parts: Split, console: Console) -> TrainConfig:
    """Return the configuration with how long a silence the model bridges.

    If the configuration does not say it, the training streams do. Streams that are cut are reported.
    """
    ts = [recording.t for recording in parts.train]
    if config.bridge is None:
        config = msgspec.structs.replace(config, bridge=bridge_of(ts, config.windows))
    bridged = config.partition([0.0] * len(config.data.channels)).longest_gap
    longest = np.array([max(np.diff(t), default=0.0) for t in ts])
    if config.gap is None and (cut := int((longest > bridged).sum())):
        say(
            console,
            f"{cut:,} of {len(ts):,} training streams have a silence of more than {bridged:g} s ({config.bridge:,} "
            f"windows; the longest is {longest.max():g} s) and are cut there; [gap] and bridge decide otherwise",
        )
    return config


def with_usual_window(config: TrainConfig, train: Examples) -> TrainConfig:
    """Return the configuration with the duration of a usual window, where a stack needs it and nothing else says it."""
    field, depth = config.model.field, config.model.depth
    if not isinstance(field, Stack) or field.window or config.windows.fixed_length:
        return config
    if not config.token.token.window_depth(depth):
        return config
    model = msgspec.structs.replace(
        config.model, field=msgspec.structs.replace(field, window=usual_window(config, train))
    )
    return msgspec.structs.replace(config, model=model)


def usual_window(config: TrainConfig, train: Examples) -> float:
    """Return the seconds of a usual window: the policy's, or the mean of those of training.

    Tokens must begin with the window's own log-signature, whose first entry is its duration.
    """
    return config.windows.length if config.windows.fixed_length else float(train.logsigs[:, 0].mean())


def prepare_data(config: TrainConfig, parts: Split, console: Console) -> Prepared:
    """Cut the streams of each part into windows, and fit the scaling to those of training."""
    check_classes(config, parts)
    classes = _classes(parts, config)
    fills, deviation, _ = moments([recording.x for recording in parts.train])

    examples = {
        part: prepare(recordings, config, fills=fills, classes=classes) for part, recordings in parts._asdict().items()
    }
    for part, recordings in parts._asdict().items():
        short = without_window(recordings, examples[part])
        if short:
            say(console, f"{part}: {short:,} of {len(recordings):,} streams are too short for a window and left out")
    if not examples["train"]:
        raise ConfigError("no training stream has a window: shorten windows, or use longer recordings")
    say_windows(config, parts, examples["train"].lengths, functools.partial(say, console))
    at: TargetAt = "stream" if parts.train[0].target.t is None else "window"
    return Prepared(
        at, classes, fills, deviation, examples, fit_scaling(config, parts.train, fills, classes, examples["train"])
    )


def without_window(recordings: Sequence[Recording], examples: Sequence[Example]) -> int:
    """Count the streams that are too short for a window."""
    return len(recordings) - len({example.stream for example in examples})


def fit_scaling(
    config: TrainConfig, train: Sequence[Recording], fills: Floats, classes: Sequence[str], examples: Sequence[Example]
) -> Scaling:
    """Fit the scaling to the training streams and their windows."""
    partition = config.partition(fills)
    inputs = fit_inputs(
        [recording.x for recording in train],
        [example.logsigs for example in examples],
        [channel.name for channel in config.data.channels],
        partition=partition,
        by=config.training.scaling,
    )
    if config.model.field.scaled_along_words:
        depths = partition.token.depths(partition.depth)
        for own, depth in zip(partition.places.scales, depths, strict=True):
            inputs.logsig_scale[own] = along_words(inputs.logsig_scale[own], depth)
    outputs = np.zeros(len(classes)), np.ones(len(classes))
    if not classes:
        outputs = fit_targets([example.target for example in examples], config.data.targets)
    return Scaling(*inputs[:3], *outputs, inputs.token_shift)


def _classes(parts: Split, config: TrainConfig) -> tuple[str, ...]:
    """Return the training streams' labels in alphabetical order. Empty for regression."""
    if config.data.task == "regression":
        return ()
    classes = tuple(sorted(set().union(*(recording.target.labels for recording in parts.train))))
    if len(classes) < 2:
        raise ConfigError(f"all training streams have the label '{classes[0]}': a classifier needs at least two")
    for part in ("validation", "test"):
        for recording in getattr(parts, part):
            for label in sorted(recording.target.labels.difference(classes)):
                raise ConfigError(
                    f"split.{part}: stream '{recording.stream}' has the label '{label}', which no training stream has "
                    f"({', '.join(classes)}); choose another split"
                )
    return classes
