"""`streamrde.fit`: recorded files in, a fitted model out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from streamrde.errors import DataError
from streamrde.fitting.config import FitConfig
from streamrde.fitting.discovery import find_roles, find_task
from streamrde.fitting.inputs import ChannelConfig, DataConfig
from streamrde.fitting.large import find_large
from streamrde.fitting.memory import as_memory
from streamrde.fitting.progress import Budget, Progress, Said, Stage, ignore
from streamrde.fitting.recipe import fit_recordings
from streamrde.fitting.recordings import read_recordings
from streamrde.fitting.report import Report


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
    minutes: float | None = None,
    choice: str = "",
    memory: int | str | None = None,
    out: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = lambda text: None,
    progress: Progress = ignore,
) -> Report:
    """Fit a model to recorded streams with one target each. Needs no torch.

    Ctrl-C ends the search among candidates and keeps the best so far. A second Ctrl-C ends the fit.

    Args:
        data: a file, folder or glob, or several.
        target: column of the class or number to predict, one value per stream.
        task: "auto" takes text and few whole numbers for classes.
        stream, time, group: columns; "" for none, None to find them by their usual names.
        time_unit: unit of times that are numbers.
        channels: columns of the channels; (): all other columns of numbers.
        drop: columns that are no channels.
        seed: of the random features and of the folds.
        minutes: time after which no further candidate is tried, from the call on. None: all are tried.
        choice: name of the candidate to fit, as the table of an earlier report has it. "": the best of all.
        memory: bytes, or text such as "2GB", that the fit may use. Data that need more are read in passes: a sample of
            their streams chooses the model, and all of them teach its readout. None: a quarter of the machine's.
        out: the model's file; None: it is not written.
        say: receives what was understood. What to be careful with is in the report.
        progress: receives events, see `streamrde.fitting.progress`.
    Raises:
        DataError: a file or column cannot be used, a stream has two targets, or no candidate has the name `choice`.
        ParameterError: minutes is not above 0.
        KeyboardInterrupt: Ctrl-C before a candidate was fitted, or for the second time.
    """
    budget, tell = Budget(minutes), say

    def say_and_send(text: str) -> None:
        tell(text)
        progress(Said(text))

    say = say_and_send
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
    large = find_large(config, group=roles.group, memory=as_memory(memory), seed=seed, say=say)
    sample = None if large is None else large.sample
    progress(Stage("read files", 0, 1))
    read = read_recordings(config, group=roles.group, streams=sample, say=say)
    progress(Stage("read files", 1, 1))
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
    fitted = fit_recordings(
        single,
        roles.channels,
        classify=classify,
        seed=seed,
        progress=progress,
        budget=budget,
        choice=choice,
        targets=(target,),
    )
    if large is not None:
        fitted = large.refit(fitted, progress=progress, say=say)
    if out is not None:
        fitted.bundle.save(out)
    settings = FitConfig(
        data=files,
        target=target,
        task="classification" if classify else "regression",
        stream=roles.stream,
        time=roles.time,
        time_unit=time_unit,
        channels=roles.channels,
        drop=tuple(drop),
        group=roles.group,
        seed=seed,
        choice=fitted.choice,
        memory=memory,
        out="model.safetensors" if out is None else os.fspath(out),
    )
    return Report(fitted, roles, notes, settings, budget.passed)
