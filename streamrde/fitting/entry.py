"""`streamrde.fit`: recorded files in, a fitted model out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from streamrde.errors import DataError
from streamrde.fitting.discovery import Roles, find_roles, find_task
from streamrde.fitting.inputs import ChannelConfig, DataConfig
from streamrde.fitting.recipe import fit_recordings
from streamrde.fitting.recordings import read_recordings
from streamrde.inference.bundle import Bundle


class Report(NamedTuple):
    """A fitted model and how good it is."""

    bundle: Bundle
    measures: dict[str, float]
    """Measured on streams that were left out in turn, beside the plainest answer."""
    roles: Roles
    """Role of each column."""
    notes: tuple[str, ...]
    """Sentences on how the data was read."""


def fit(
    data: str | os.PathLike[str] | Sequence[str],
    target: str,
    *,
    task: Literal["auto", "classification", "regression"] = "auto",
    stream: str | None = None,
    time: str | None = None,
    time_unit: str = "s",
    channels: Sequence[str] = (),
    drop: Sequence[str] = (),
    group: str | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Report:
    """Fit a model to recorded streams with one target each. Needs no torch.

    Args:
        data: a file, folder or glob, or several.
        target: column of the class or number to predict, one value per stream.
        task: "auto" takes text and few whole numbers for classes.
        stream, time, group: columns; "" for none, None to find them by their usual names.
        time_unit: unit of times that are numbers.
        channels: columns of the channels; (): all other columns of numbers.
        drop: columns that are no channels.
        seed: of the random features and of the folds.
        out: the model's file; None: it is not written.
        say: receives what was understood.
    Raises:
        DataError: a file or column cannot be used, or a stream has two targets.
    """
    files = os.fspath(data) if isinstance(data, str | os.PathLike) else tuple(map(str, data))
    roles = find_roles(files, target, stream=stream, time=time, channels=channels, drop=drop, group=group)
    for note in roles.notes:
        say(note)
    chosen = find_task(files, target) if task == "auto" else task
    classify = chosen == "classification"
    config = DataConfig(
        files=files,
        channels=tuple(ChannelConfig(name=name) for name in roles.channels),
        target=target,
        task="classification" if classify else "regression",
        stream=roles.stream,
        time=roles.time,
        time_unit=time_unit,
        restarts="split",
        faults="drop",
    )
    read = read_recordings(config, group=roles.group, say=say)
    single = []
    for recording in read:
        found = np.unique(recording.target.values[np.isfinite(recording.target.values)])
        if len(found) > 1:
            raise DataError(
                f"stream '{recording.stream}' has {len(found)} values in column '{target}': fit needs one per stream",
                path=str(files), column=target,
            )  # fmt: skip
        if len(found):
            values = found.reshape(1, 1)
            single.append(replace(recording, target=replace(recording.target, values=values, t=None)))
    if len(single) < len(read):
        say(f"left out: {len(read) - len(single):,} streams without a target")
    notes = (*roles.notes, f"target: '{target}', {chosen}; {len(single):,} streams")
    say(notes[-1])
    fitted = fit_recordings(single, roles.channels, classify=classify, seed=seed)
    for warning in fitted.warnings:
        say(warning)
    notes = (*notes, *fitted.warnings)
    if out is not None:
        fitted.bundle.save(out)
    return Report(fitted.bundle, fitted.measures, roles, notes)
