"""`streamrde.fit`: recorded data in, a fitted model out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from streamrde.connectors.columns import ColumnKeys
from streamrde.connectors.dialect import PLAIN
from streamrde.errors import ParameterError
from streamrde.fitting.card import with_calibration, with_units
from streamrde.fitting.config import FitConfig
from streamrde.fitting.large import find_large
from streamrde.fitting.leaks import find_leaks
from streamrde.fitting.memory import as_memory
from streamrde.fitting.preparing import as_horizon, as_keys, find_columns, prepare
from streamrde.fitting.progress import Budget, Progress, Said, Stage, ignore
from streamrde.fitting.recipe import fit_recordings
from streamrde.fitting.report import Report
from streamrde.fitting.sources import Data, Files, as_source
from streamrde.fitting.weights import ClassWeights, check_weights


def fit(
    data: Data,
    target: str | Sequence[str],
    *,
    task: Literal["auto", "classification", "regression"] = "auto",
    stream: str | Sequence[str] | None = None,
    time: str | Sequence[str] | None = None,
    time_unit: str = "s",
    columns: ColumnKeys | Mapping[str, Any] | None = None,
    channels: Sequence[str] = (),
    drop: Sequence[str] = (),
    group: str | None = None,
    split: str | None = None,
    horizon: float | str = 0.0,
    class_weights: ClassWeights = "equal",
    seed: int = 0,
    minutes: float | None = None,
    choice: str = "",
    memory: int | str | None = None,
    out: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = lambda text: None,
    progress: Progress = ignore,
) -> Report:
    """Fit a model to recorded streams. Needs no torch, unless `minutes` leave time for stacks.

    Where a target has one value per stream, the model answers for the stream so far. Where it changes along the
    streams, the model answers for the time when a window ends, or `horizon` later.

    Ctrl-C ends the search among candidates and keeps the best so far. A second Ctrl-C ends the fit.

    Args:
        data: a file, folder or glob, or several; a pyarrow Table, RecordBatch, RecordBatchReader or Dataset; a data
            frame of pandas, polars or duckdb; a Dataset of xarray; or a dict of columns.
        target: column of the class or number to predict, or several columns of numbers.
        task: "auto" takes text and few whole numbers for classes.
        stream, time, group: columns; "" for none, None to find them by their usual names. Several of `stream` are
            joined by "/", and two of `time` are the date and the time of day.
        split: column that marks a test part (train, test), which is only measured at the end, or folds; "" for none,
            None to find it by its usual names.
        horizon: time by which the targets lie ahead, seconds or text such as "24h". A target that is a number is then
            a channel too, unless `channels` or `drop` says otherwise.
        class_weights: what an error costs by class: "balanced" counts all classes the same, however rare, and a table
            such as {"open": 3.0} names factors, 1 for other classes. "equal": each stream counts the same.
        time_unit: unit of times that are numbers. "s": milliseconds and finer units since 1970 are known by their size.
        columns: how columns are read, see `streamrde.connectors.columns.ColumnKeys`: the other keys of [columns].
        channels: columns of the channels; (): all other columns of numbers.
        drop: columns that are no channels.
        seed: of the random features and of the folds.
        minutes: time after which no further candidate is tried, from the call on. After all others, torch trains stacks
            and a Neural RDE while there is time. None: all candidates but these are tried.
        choice: name of the candidate to fit, as the table of an earlier report has it. "": the best of all.
        memory: bytes, or text such as "2GB", that the fit may use. Data that need more are read in passes: a sample of
            their streams chooses the model, and all of them teach its readout. None: a quarter of the machine's.
        out: the model's file; None: it is not written.
        say: receives what was understood. What to be careful with is in the report.
        progress: receives events, see `streamrde.fitting.progress`.
    Raises:
        DataError: a file or column cannot be used, or no candidate has the name `choice`.
        MissingExtraError: `choice` is a candidate that torch trains, and torch is not installed.
        ParameterError: minutes is not above 0, data is of another kind, the horizon is no time, or the target has no
            classes to weigh.
        KeyboardInterrupt: Ctrl-C before a candidate was fitted, or for the second time.
    """
    budget, tell = Budget(minutes), say

    def say_and_send(text: str) -> None:
        tell(text)
        progress(Said(text))

    say = say_and_send
    targets = (target,) if isinstance(target, str) else tuple(target)
    if not targets:
        raise ParameterError("target is empty: name the column to predict")
    ahead = as_horizon(horizon)
    keys = as_keys(columns, {"stream": stream, "time": time, "time_unit": time_unit, "channels": tuple(channels)})
    source = as_source(data, None if keys.others.csv == PLAIN else keys.others.csv, keys.channels)
    if isinstance(source, Files) and source.dialect is not None:
        keys = keys.in_dialect(source.dialect, source.where, say=say)
    found = find_columns(source, targets, task=task, keys=keys, drop=drop, group=group, split=split, horizon=ahead)
    check_weights(class_weights, classify=found.classify)
    roles = found.roles
    for note in roles.notes:
        say(note)
    bound = as_memory(memory)
    large = None
    if isinstance(source, Files):
        large = find_large(found.config, group=roles.group, split=roles.split, memory=bound, seed=seed, say=say)
    progress(Stage("read files", 0, 1))
    prepared = prepare(source, found, streams=None if large is None else large.sample, say=say)
    progress(Stage("read files", 1, 1))
    parts = prepared.parts
    warnings = find_leaks(parts.train, found, along=prepared.along)
    fitted = fit_recordings(
        parts.train, roles.channels, classify=found.classify, seed=seed, progress=progress, budget=budget,
        choice=choice, targets=targets, along=prepared.along, horizon=ahead, grouped=found.grouped,
        folds=parts.folds, test=parts.test, class_weights=class_weights, trained=minutes is not None,
    )  # fmt: skip
    if large is not None:
        fitted = large.refit(fitted, test=parts.test, class_weights=class_weights, progress=progress, say=say)
    units = [found.config.unit_of(channel) for channel in found.config.channels]
    bundle = with_calibration(with_units(fitted.bundle, units), fitted.examples, fitted.chosen.held_out)
    fitted = fitted._replace(warnings=(*fitted.warnings, *warnings), bundle=bundle)
    if out is not None:
        fitted.bundle.save(out)
    settings = FitConfig(
        data=source.shown if isinstance(source, Files) else "",
        target=found.config.target,
        task=found.config.task,
        stream=found.config.stream,
        time=found.config.time,
        time_unit=found.config.time_unit,
        columns=None if columns is None and keys.others == ColumnKeys() else keys.others,
        channels=roles.channels,
        drop=tuple(drop),
        group=roles.group,
        split=roles.split,
        horizon=ahead,
        class_weights=class_weights if isinstance(class_weights, str) else dict(class_weights),
        seed=seed,
        choice=fitted.choice,
        # What fits elsewhere may differ: the sample is the same with the same bound alone.
        memory=memory if large is None else bound,
        out="model.safetensors" if out is None else os.fspath(out),
    )
    return Report(fitted, roles, (*roles.notes, *prepared.notes), settings, budget.passed)
