"""Find training runs in pages, model files, results of sweeps, and folders of these."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from streamrde.errors import DataError, StreamRDEError
from streamrde.fitting.card import MEASURED
from streamrde.fitting.record import Curve, Run, read_runs, run_of
from streamrde.inference.bundle import Bundle, load
from streamrde.inference.header import Header
from streamrde.models.report.speed import step_cost
from streamrde.models.sweeping.results import Outcome, mean_curve, read_outcomes
from streamrde.toml import dotted
from streamrde.windowing.policies import Every

PAGE, MODEL, SWEEP = ".html", ".safetensors", ".parquet"
# Seconds to time a model: enough for a median.
_TIMING = 0.1
# Names of files that say nothing of a run: its folder's name is better.
_USUAL = ("model", "report")
# Files of a folder that are looked at.
_MOST_FILES = 5000


class Found(NamedTuple):
    """A run and the file that it was found in."""

    path: Path
    run: Run
    suffix: str = ""
    """Text that tells runs of one file apart, such as "trial 3"."""
    timed: bool = False
    """True if its model was there and was timed, where it can be."""


def find_runs(paths: Sequence[str | os.PathLike[str]]) -> list[Run]:
    """Return the runs of files and folders, in the order given, each with a name of its own.

    A page of `train` or `fit` holds its run. A model file belongs to the page beside it that names it, or stands for
    itself: its card and its measures. The results of a sweep, a Parquet file, are its trials. A folder is searched for
    all three. A model that is found is timed, so that all times are of this machine.

    Raises:
        DataError: a file cannot be read or holds no run, or a folder has none.
    """
    found: list[Found] = []
    for path in map(Path, paths):
        found += _in_folder(path) if path.is_dir() else _in_file(path)
    names = _names([own.path for own in found])
    return [
        msgspec.structs.replace(_with_its_model(own).run, name=f"{name} {own.suffix}".rstrip())
        for own, name in zip(found, names, strict=True)
    ]


def _in_file(path: Path) -> list[Found]:
    if path.suffix == MODEL:
        bundle = load(path)
        pages = (_quiet(page) for page in sorted(path.parent.glob(f"*{PAGE}")))
        matching = [Found(path, run) for runs in pages for run in runs if run.fingerprint == bundle.fingerprint]
        return [_timed(own, bundle) for own in matching[:1] or [_of_model(path, bundle)]]
    if path.suffix == SWEEP:
        return [Found(path, run, run.name) for run in _trials(read_outcomes(path))]
    runs = read_runs(path)
    if not runs:
        raise DataError(
            f"{path}: holds no run; give the page of a fit or a training of this version of streamrde, a model file, "
            "or the results of a sweep",
            path=str(path),
        )
    return [Found(path, run) for run in runs]


def _in_folder(folder: Path) -> list[Found]:
    """Return the runs of a folder. Other files are no concern of a comparison."""
    files = [path for path in _files(folder) if path.suffix in (PAGE, MODEL, SWEEP)]
    found = [Found(path, run) for path in files if path.suffix == PAGE for run in _quiet(path)]
    on_pages = len(found)
    for path in files:
        try:
            if path.suffix == MODEL:
                bundle = load(path)
                of_it = [i for i, own in enumerate(found[:on_pages]) if own.run.fingerprint == bundle.fingerprint]
                for i in of_it:
                    found[i] = _timed(found[i], bundle)
                if not of_it:
                    found.append(_timed(_of_model(path, bundle), bundle))
            elif path.suffix == SWEEP:
                found += _in_file(path)
        except StreamRDEError:
            # Recordings are Parquet files as well, and others write safetensors.
            continue
    if not found:
        raise DataError(
            f"{folder}: no run in this folder: no page of a fit or a training, no model and no results of a sweep; "
            "give a folder that has one",
            path=str(folder),
        )
    return found


def _files(folder: Path) -> Iterator[Path]:
    for place, path in enumerate(sorted(folder.rglob("*"))):
        if place == _MOST_FILES:
            raise DataError(
                f"{folder}: more than {_MOST_FILES:,} files; give a folder below it, or the files of the runs",
                path=str(folder),
            )
        yield path


def _quiet(page: Path) -> list[Run]:
    try:
        return read_runs(page)
    except DataError:
        return []


def _of_model(path: Path, bundle: Bundle) -> Found:
    training = bundle.header.training
    targets = training.get("target", training.get("targets", ""))
    return Found(
        path,
        run_of(
            bundle,
            name=path.stem,
            kind="fit" if MEASURED in training else "train",
            targets=[name for name in targets.split(", ") if name not in ("", "-")],
            data=training.get("data", ""),
            model=str(path),
        ),
    )


def _trials(outcomes: Sequence[Outcome]) -> list[Run]:
    """Return a run for each trial that did not fail, by its longest training."""
    found = []
    for number in sorted({outcome.trial for outcome in outcomes}):
        everything = [outcome for outcome in outcomes if outcome.trial == number]
        rung = max(outcome.rung for outcome in everything)
        own = [outcome for outcome in everything if outcome.rung == rung]
        if any(outcome.score is None for outcome in own):
            continue
        curve = mean_curve(outcome.curve for outcome in own)
        names = own[0].measures
        minutes = sum(outcome.seconds for outcome in own) / len(own) / 60
        found.append(
            Run(
                name=f"trial {number}",
                kind="trial",
                task="classification" if any("accuracy" in name for name in names) else "regression",
                settings=dotted(own[0].values) | {"epochs": own[0].epochs},
                curves={
                    _score_name(own[0].monitor): Curve(
                        epochs=tuple(map(float, range(1, len(curve) + 1))),
                        minutes=tuple(minutes * (i + 1) / len(curve) for i in range(len(curve))),
                        values=curve,
                    )
                }
                if curve
                else {},
                measures={name: _mean([outcome.measures.get(name) for outcome in own]) for name in names},
                seconds=sum(outcome.seconds for outcome in everything),
                parameters=own[0].parameters,
                stream_us=_mean([outcome.stream_us for outcome in own]),
            )
        )
    return found


def _score_name(monitor: str) -> str:
    """Return the name of a curve of the score, as the curves of training runs have it."""
    return "validation_loss" if monitor == "loss" else monitor or "score"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _with_its_model(found: Found) -> Found:
    """Look for the model of a run that is not timed yet, and time it."""
    run, path = found.run, found.path
    if found.timed or run.stream_us is not None:
        return found
    for place in (path.with_suffix(MODEL), Path(run.model), path.parent / Path(run.model).name):
        if place.suffix != MODEL or not place.is_file():
            continue
        try:
            bundle = load(place)
        except StreamRDEError:
            continue
        if bundle.fingerprint == run.fingerprint:
            return _timed(found, bundle)
    return found


def _timed(found: Found, bundle: Bundle) -> Found:
    """Return the run with the cost of serving its model, unless it has one or it cannot be told."""
    if found.timed or found.run.stream_us is not None:
        return found
    rate = _windows_per_second(bundle.header)
    if rate is None:
        return found._replace(timed=True)
    alone, _ = step_cost(bundle, seconds=_TIMING)
    return found._replace(run=msgspec.structs.replace(found.run, stream_us=alone * 1e6 * rate), timed=True)


def _windows_per_second(header: Header) -> float | None:
    if isinstance(header.windows, Every):
        return 1.0 / header.windows.seconds
    if (statistics := header.statistics) is None:
        return None
    seconds = statistics.samples_per_window[1] * statistics.interval
    return 1.0 / seconds if seconds > 0 else None


def _names(paths: Sequence[Path]) -> list[str]:
    """Return short names of files: the file's own, its folder's, or as much of the path as tells all files apart."""
    ends = {path.absolute(): path.absolute().with_suffix("").parts for path in paths}
    stems = [own[-1] for own in ends.values()]
    usual = {path for path, own in ends.items() if own[-1] in _USUAL or stems.count(own[-1]) > 1}
    for length in range(1, max(map(len, ends.values()), default=1) + 1):
        for last in (-1, None):
            names = {
                path: "/".join(own[-length - (last is not None) : last]) if path in usual else own[-1]
                for path, own in ends.items()
            }
            if len(set(names.values())) == len(names) and all(names.values()):
                return [names[path.absolute()] for path in paths]
    return [str(path) for path in paths]
