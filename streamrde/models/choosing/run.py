"""A training run without a model: families of models are compared out of fold, and the best one is kept."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from streamrde import toml
from streamrde.errors import ConfigError
from streamrde.fitting.card import with_units
from streamrde.fitting.config import FitConfig
from streamrde.fitting.discovery import Roles
from streamrde.fitting.inputs import SplitConfig
from streamrde.fitting.listing import cell, table_lines
from streamrde.fitting.progress import Budget, Event, Stage, Tried
from streamrde.fitting.recipe import Fitted, fit_recordings
from streamrde.fitting.recordings import Recording
from streamrde.fitting.report import Report
from streamrde.inference.bundle import Bundle
from streamrde.models.training.config import ChoiceConfig, TrainConfig
from streamrde.models.training.outputs import write_outputs
from streamrde.models.training.preflight import check_outputs
from streamrde.models.training.segments import Say
from streamrde.models.training.streams import read_parts
from streamrde.windowing.policies import Every

_USED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("data", "columns", "split", "order", "windows", "choice", "sweep"), ()),
    "training": ("seed", "class_weights"),
    "output": ("model", "metrics", "report", "test"),
}
"""Tables that such a run reads, and their keys that it reads, () = all."""
_BLOCKS = 5
"""Blocks of time that are left out in turn where parts are parts in time."""


def choose_model(config: TrainConfig, tables: Mapping[str, Any], *, resume: bool, say: Say) -> Bundle:
    """Compare reservoirs, stacks and a Neural RDE on the training and validation streams, and write the best one.

    Groups of streams (or streams, or blocks of time, as [split] says) are left out in turn, and the model that wins is
    fitted to all of these streams. Reservoirs are fitted first. Then others are trained while there is time, see
    `choosing.family.train_candidates`. The test streams measure the chosen model, once. Ctrl-C ends the comparison and
    keeps the best so far.

    Args:
        config: the run's configuration.
        tables: the same, as it was given.
        resume: as for `train`. Comparisons have no checkpoint.
        say: receives the table, the measures, and what was written.
    Raises:
        ConfigError: a key is given that needs [model], or windows are not of equal duration.
        DataError: the streams cannot be read, or are of fewer than two groups.
    """
    _check(config, tables, resume=resume)
    check_outputs(config)
    began, choice = time.perf_counter(), config.choice or ChoiceConfig()
    parts = read_parts(config, say=say)
    along = any(own.target.t is not None for own in parts.train)
    known = _grouped([*parts.train, *parts.validation], config.split, along=along)
    say(
        f"no [model]: comparing families of models for {choice.minutes:g} minutes at most, on {len(known):,} streams "
        "of training and validation, left out in turn"
    )
    data = config.data
    channels = [channel.name for channel in data.channels]
    fitted = fit_recordings(
        known,
        channels,
        classify=data.task == "classification",
        seed=config.training.seed,
        progress=_Teller(say),
        budget=Budget(choice.minutes),
        choice=choice.name,
        targets=data.targets,
        along=along,
        horizon=data.horizon,
        grouped=bool(config.split.undivided) and config.split.by != "time",
        test=parts.test,
        class_weights=config.training.class_weights,
        trained=not choice.name,
        windows=config.windows if "windows" in tables and isinstance(config.windows, Every) else None,
    )
    bundle = with_units(fitted.bundle, [data.unit_of(channel) for channel in data.channels])
    bundle = Bundle(msgspec.structs.replace(bundle.header, units=tuple(data.target_units)), bundle.tensors)
    again = toml.dumps({**tables, "choice": {"name": fitted.choice}})
    report = _report(config, fitted._replace(bundle=bundle), time.perf_counter() - began, again)
    for line in (*table_lines(report), *report.sentences, *report.warnings):
        say(line)
    write_outputs(config, bundle, parts, say, report=report.save)
    say(f"done: {fitted.choice}; [choice] name = {toml.value(fitted.choice)} trains it again")
    return bundle


def _check(config: TrainConfig, tables: Mapping[str, Any], *, resume: bool) -> None:
    """Raise ConfigError for what is given and not used: nobody is to believe that it was."""
    for name, table in tables.items():
        if name not in _USED:
            raise ConfigError(f"{name} needs [model]: give a model, or leave {name} out to compare families of models")
        for key in table if _USED[name] else ():
            if key not in _USED[name]:
                raise ConfigError(
                    f"{name}.{key} needs [model]: give a model, or leave the key out to compare families of models"
                )
    if not isinstance(config.windows, Every):
        raise ConfigError(
            f'windows.policy = "{tables["windows"]["policy"]}" needs [model]: families of models are compared on '
            'windows of equal duration; use policy = "every", or leave [windows] out'
        )
    if resume:
        raise ConfigError("--resume needs [model]: a comparison of families has no checkpoint; start it again")


def _grouped(streams: Sequence[Recording], split: SplitConfig, *, along: bool) -> list[Recording]:
    """Return streams with the group that is left out as a whole, as the split draws its parts."""
    if split.by == "stream":
        return [replace(own, group=own.stream) for own in streams]
    if split.by == "group":
        return list(streams)
    if along:
        # Of one group, their rows are left out in blocks of time.
        return [replace(own, group="") for own in streams]
    starts = np.array([own.t[0] for own in streams])
    edges = np.quantile(starts, np.arange(1, _BLOCKS) / _BLOCKS)
    blocks = np.searchsorted(edges, starts, side="right")
    # A stream that reaches into the next block has something in common with it.
    ends = np.append(edges, np.inf)[blocks]
    return [
        replace(own, group=str(block))
        for own, block, end in zip(streams, blocks.tolist(), ends.tolist(), strict=True)
        if own.t[-1] < end
    ]


class _Teller:
    """Say when a stage begins, and what each candidate reached."""

    def __init__(self, say: Say) -> None:
        self._say, self._stage = say, ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Stage) and event.name != self._stage:
            self._stage = event.name
            self._say(f"{event.name} ...")
        elif isinstance(event, Tried):
            main = "accuracy" if "accuracy" in event.measures else "rmse"
            best = ", the best so far" if event.best else ""
            self._say(f"  {event.name}: {main} {cell(main, event.measures[main])}{best}")


def _report(config: TrainConfig, fitted: Fitted, seconds: float, again: str) -> Report:
    data = config.data
    channels = tuple(channel.name for channel in data.channels)
    stream = data.stream if isinstance(data.stream, str) else "/".join(data.stream)
    roles = Roles(stream, data.time_column, channels, config.split.undivided, ())
    settings = FitConfig(
        data=data.files,
        target=data.target,
        task=data.task,
        stream=data.stream,
        time=data.time,
        time_unit=data.time_unit,
        columns=config.columns,
        channels=channels,
        seed=config.training.seed,
        out=config.output.model or "model.safetensors",
    )
    return Report(fitted, roles, (), settings, seconds, again)
