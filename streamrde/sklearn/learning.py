"""Fit a model to streams in memory: in closed form, or by training as a configuration says."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from streamrde.disk import read_tables
from streamrde.errors import ConfigError, ParameterError
from streamrde.fitting.entry import fit
from streamrde.fitting.report import Report
from streamrde.fitting.weights import ClassWeights
from streamrde.inference.bundle import Bundle
from streamrde.sklearn.panels import Panel

Config = Mapping[str, Any] | str | os.PathLike[str]
"""Tables of a training configuration, or the path of its TOML file. [data] and [output] are not used."""
_OWN = ("data", "columns", "output", "sweep")
"""Tables that say where data come from and what is written."""
_OF_FILES = ("column", "group", "test", "folds", "fold")
"""Keys of [split] that are about the files' own columns and test part."""
_VALIDATION = 0.15
"""Share of the streams that decides when to stop, as in a configuration without [split]."""


class Learned(NamedTuple):
    """A model, and how good it is."""

    bundle: Bundle
    report: Report | None
    """None: the model was trained, and its card has the measures."""


class Truth(NamedTuple):
    """The targets of the streams."""

    columns: Mapping[str, Sequence[Any]]
    """Values of each target, one per stream: texts of classes, or numbers."""
    classify: bool
    groups: Sequence[Any] | None = None
    """Group of each stream, which is not divided between learning and judging. None: each is its own."""


def learn(
    panel: Panel,
    truth: Truth,
    *,
    config: Config | None = None,
    minutes: float | None = None,
    choice: str = "",
    class_weights: ClassWeights = "equal",
    seed: int = 0,
) -> Learned:
    """Fit a model to streams.

    Args:
        panel: the streams.
        truth: the targets.
        config: train with torch as it says. None: `streamrde.fit` chooses among its candidates.
        minutes, choice, class_weights: as of `streamrde.fit`.
        seed: of random features and folds, or of the training.
    Raises:
        ConfigError, DataError, ParameterError: as `streamrde.fit`, or `streamrde.train` with a config.
        MissingExtraError: a config was given, and torch is not installed.
    """
    names = _Names(panel, truth)
    table = _rows(panel, truth, names)
    if config is None:
        report = fit(
            table, list(names.targets), task="classification" if truth.classify else "regression",
            stream=names.stream, time=names.time, channels=panel.channels, group=names.group if truth.groups else "",
            split="", class_weights=class_weights, seed=seed, minutes=minutes, choice=choice,
        )  # fmt: skip
        return Learned(report.bundle, report)
    if minutes is not None or choice:
        raise ParameterError("minutes and choice are of a fit in closed form: leave them out, or leave out config")
    return Learned(_train(table, panel, truth, names, config, class_weights, seed), None)


class _Names:
    """Names of columns that are none of the channels'."""

    def __init__(self, panel: Panel, truth: Truth) -> None:
        taken = {*panel.channels}

        def free(name: str) -> str:
            while name in taken:
                name += "_"
            taken.add(name)
            return name

        self.targets = tuple(free(name) for name in truth.columns)
        self.stream, self.time, self.group = free("stream"), free("t"), free("group")


def _rows(panel: Panel, truth: Truth, names: _Names) -> pa.Table:
    """Return the streams as a row per sample."""
    lengths = [len(t) for t in panel.t]
    digits = len(str(len(lengths)))
    # Streams are read in alphabetical order.
    own = [f"{i:0{digits}}" for i in range(len(lengths))]
    number = pa.array(np.repeat(np.arange(len(lengths), dtype=np.int32), lengths))

    def each(values: Sequence[Any] | pa.Array) -> pa.Array:
        return pa.array(values).take(number)

    columns = {names.stream: each(own), names.time: np.concatenate(panel.t)}
    columns |= dict(zip(panel.channels, np.concatenate(panel.x).T, strict=True))
    columns |= {name: each(values) for name, values in zip(names.targets, truth.columns.values(), strict=True)}
    if truth.groups is not None:
        columns[names.group] = each([str(group) for group in truth.groups])
    return pa.table(columns)


def _train(
    table: pa.Table,
    panel: Panel,
    truth: Truth,
    names: _Names,
    config: Config,
    class_weights: ClassWeights,
    seed: int,
) -> Bundle:
    from streamrde.models import train

    given = dict(config) if isinstance(config, Mapping) else read_tables(config)
    tables: dict[str, Any] = {name: own for name, own in given.items() if name not in _OWN}
    training = dict(tables.get("training", {}))
    split = {name: own for name, own in tables.get("split", {}).items() if name not in _OF_FILES}
    stop = split.get("validation", _VALIDATION)
    if not isinstance(stop, float):  # values of a column that is not here
        stop = _VALIDATION if stop else 0.0
    # What only measures is the caller's: all of these streams are for learning.
    split |= {"test": 0.0, "validation": stop}
    if truth.groups is not None:
        split["group"] = names.group
    if class_weights != "equal":
        if "class_weights" in training:
            raise ConfigError("class_weights is in config.training and a parameter: give it once")
        training["class_weights"] = class_weights
    training.setdefault("seed", seed)
    with tempfile.TemporaryDirectory(prefix="streamrde-") as folder:
        files = str(Path(folder) / "streams.parquet")
        pq.write_table(table, files)
        tables |= {
            "data": {
                "files": files,
                "channels": list(panel.channels),
                "target": names.targets[0] if len(names.targets) == 1 else list(names.targets),
                "task": "classification" if truth.classify else "regression",
                "target_at": "stream",
                "stream": names.stream,
                "time": names.time,
                "time_check": "off",
            },
            "split": split,
            "training": training,
            "compare": False,
            # Without this table families would be compared, which `fit` without a configuration does.
            "model": tables.get("model", {}),
        }
        return train(tables, console=Console(file=io.StringIO()))
