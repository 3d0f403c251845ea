"""Check a training's configuration and data before it starts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from streamrde.arrays import Indices
from streamrde.connectors.files.formats import writable, writing_format
from streamrde.connectors.files.record_batches import read_batches, schema_of
from streamrde.disk import prepare_file, prepare_folder
from streamrde.errors import ConfigError, DataError
from streamrde.models.training.config import TrainConfig
from streamrde.models.training.segments import Say
from streamrde.models.training.splits import Split
from streamrde.nearest import listed

OWN = ("stream_id", "t")
"""Columns of the file of test streams beside channels and targets."""
# Usual names of a data set's own split column, and of its parts.
_SPLITS = ("split", "set", "subset", "partition", "part", "fold", "usage")
_TESTS = ("test", "testing", "eval", "holdout")
_VALIDATIONS = ("validation", "valid", "val", "dev")
_TRAININGS = ("train", "training", "learn")


def names_parts(values: Iterable[str]) -> bool:
    """Return True if values name parts of a data set, and so do not group streams."""
    return {value.lower() for value in values} <= {*_TESTS, *_TRAININGS, *_VALIDATIONS}


def check_outputs(config: TrainConfig) -> None:
    """Create the folders of all output files, and check that these can be written.

    Raises:
        ConfigError: a path is a folder or cannot be written, two are the same, or `output.test` has an unknown
            extension or a format that cannot hold the test streams. The message names the key.
    """
    output, training = config.output, config.training
    paths = {
        "output.model": output.model,
        "output.metrics": output.metrics,
        "output.report": output.report,
        "output.test": output.test,
        "training.checkpoint": training.checkpoint,
    }
    seen: dict[str, str] = {}
    for key, path in paths.items():
        if not path:
            continue
        before = seen.setdefault(os.path.realpath(path), key)
        if before != key:
            raise ConfigError(f"{key} and {before} are both '{path}': give each a file of its own")
        prepare_file(path, key)
    if config.data.cache:
        prepare_folder(config.data.cache, "data.cache")
    if output.test:
        _check_test(config)


def _check_test(config: TrainConfig) -> None:
    path = config.output.test
    if (format := writing_format(path)) is None:
        raise ConfigError(f"output.test = '{path}': its extension must be one of {', '.join(writable())}")
    if config.data.horizon and not format.keeps_metadata:
        raise ConfigError(
            f"output.test = '{path}': CSV cannot record that the targets lie {config.data.horizon:g} s ahead of their "
            "rows; use .parquet"
        )
    for channel in config.data.channels:
        if channel.name in OWN:
            raise ConfigError(
                f"output.test: a channel is called '{channel.name}', like one of the file's own columns; rename it in "
                "data.files, or leave output.test out"
            )


def say_windows(config: TrainConfig, parts: Split, lengths: Indices, say: Say) -> None:
    """Warn if windows are longer than every training stream, or if every stream has only one.

    Args:
        lengths: number of windows of each stream.
    """
    streams = parts.train
    longest = max(float(stream.t[-1] - stream.t[0]) if len(stream.t) else 0.0 for stream in streams)
    warning = config.windows.explain_too_long(longest, max(len(stream.t) for stream in streams))
    if warning:
        say(f"warning: {warning}")
    elif len(lengths) > 1 and (lengths == 1).all():
        say("note: every training stream has one window; shorter windows give an answer before a stream's end")


def check_classes(config: TrainConfig, parts: Split) -> None:
    """Refuse classes that only one stream has. If classes change along a stream, any number is enough.

    Raises:
        ConfigError: there are such classes. The message names them, and a filter that leaves one out.
    """
    streams = [stream for part in parts for stream in part]
    if config.data.task != "classification" or any(stream.target.t is not None for stream in streams):
        return
    counts = Counter(label for stream in streams for label in stream.target.labels)
    alone = sorted(label for label, count in counts.items() if count == 1)
    if alone:
        names = listed([f"'{label}'" for label in alone], most=5)
        column = config.data.targets[0]
        raise ConfigError(
            f"only one stream has the class {names}: training and measuring need one each; record more, or leave "
            f'it out with data.filters = [["{column}", "!=", "{alone[0]}"]]'
        )


def official_split(config: TrainConfig) -> str:
    """Return the lines of [split] for a column that already splits the files, or "" if there is none.

    Raises:
        DataError: a file cannot be read.
    """
    found = _official_column(config)
    if found is None:
        return ""
    column, values = found
    by_name = {value.lower(): value for value in values}
    test = next(by_name[name] for name in _TESTS if name in by_name)
    validation = next((by_name[name] for name in _VALIDATIONS if name in by_name), None)
    shown = "0.15" if validation is None else f'["{validation}"]'
    return f'column = "{column}"\nvalidation = {shown}\ntest = ["{test}"]'


def _official_column(config: TrainConfig) -> tuple[str, list[str]] | None:
    recordings = config.data.find()
    names = [*recordings[0].partitions, *schema_of(recordings[0]).names]
    for column in (name for name in names if name.lower() in _SPLITS):
        values: set[str] = set()
        for recording in recordings:
            for _, batch in read_batches(recording, [column], kinds={column: "name"}):
                values |= {str(value) for value in pc.unique(batch.column(0).cast(pa.string())).to_pylist()}
        lower = {value.lower() for value in values}
        if lower & {*_TESTS} and lower & {*_TRAININGS} and lower <= {*_TESTS, *_TRAININGS, *_VALIDATIONS, "none"}:
            return column, sorted(values)
    return None


def say_official_split(config: TrainConfig, say: Say) -> None:
    """Point out a split in the files that the configuration does not use."""
    if config.split.listed or config.split.by == "time":
        return
    try:
        lines = official_split(config)
    except DataError:
        return  # reading the samples will raise it, with the column that matters
    if lines:
        say("note: the files have their own split, which [split] does not use; to use it, write:")
        say(f"[split]\n{lines}")
