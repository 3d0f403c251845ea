"""Keep the outcomes of a sweep in a Parquet file, rank them, and weigh them against the cost of serving."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from streamrde.disk import replace_file
from streamrde.errors import ConfigError, DataError
from streamrde.models.sweeping.space import Trial, base_tables
from streamrde.models.training.config import TrainConfig

_KEY = b"streamrde.sweep"
_OUTCOME = b"streamrde.outcomes"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Result of one training of a trial."""

    trial: int
    rung: int
    """Counts from 0."""
    repeat: int
    """Counts from 0: all folds with the first seed, then all folds with the next."""
    epochs: int
    """Epochs that it was given."""
    values: dict[str, Any]
    score: float | None = None
    """The validation streams' value of `training.monitor` in the best epoch. None: the trial failed."""
    best_epoch: int | None = None
    monitor: str = ""
    """Name of the score, `training.monitor`. "": not known."""
    curve: tuple[float | None, ...] = ()
    """The score of each epoch, the mean over members. None: it is not known."""
    measures: dict[str, float] = {}
    """All measures of the training and the validation streams."""
    parameters: int | None = None
    step_us: float | None = None
    """Serving time of a window's step and readout for one stream, microseconds."""
    step_us_together: float | None = None
    """The same per stream of 64."""
    stream_us: float | None = None
    """Serving time of a second of one stream: `step_us` times the validation streams' windows per second."""
    seconds: float = 0.0
    """Duration of the training."""
    error: str = ""
    """Reason of the failure, or ""."""

    @property
    def key(self) -> tuple[int, int, int]:
        """Identity within the sweep: rung, trial, repeat."""
        return self.rung, self.trial, self.repeat


class Results:
    """Keep the outcomes so far. The file is replaced after each one, so that a sweep may be stopped at any time.

    Args:
        path: the Parquet file. "": none.
        config: the sweep's configuration.
        resume: continue from the outcomes in the file.
    Raises:
        ConfigError: the file has outcomes and `resume` is False, or they belong to another configuration.
        DataError: the file cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str], *, config: TrainConfig, resume: bool) -> None:
        self._path = Path(path) if str(path) else None
        identity = [base_tables(config), config.sweep]
        self._digest = hashlib.sha256(msgspec.json.encode(identity, order="sorted")).hexdigest()
        self.outcomes: dict[tuple[int, int, int], Outcome] = {}
        if self._path is not None and self._path.exists():
            if not resume:
                raise ConfigError(f"{path} exists: use --resume to continue its sweep, or name another file")
            for outcome in self._read(self._path):
                self.outcomes[outcome.key] = outcome

    def add(self, outcome: Outcome) -> None:
        """Add one outcome."""
        self.outcomes[outcome.key] = outcome
        if self._path is not None:
            sink = pa.BufferOutputStream()
            pq.write_table(self.table(), sink)
            replace_file(self._path, sink.getvalue().to_pybytes())

    def table(self) -> pa.Table:
        """Return a row per outcome with a column per key and per measure, in the order of rung, trial, repeat."""
        outcomes = [self.outcomes[key] for key in sorted(self.outcomes)]
        plain = [f for f in Outcome.__struct_fields__ if f not in ("values", "measures", "curve")]
        columns: dict[str, list[Any]] = {name: [getattr(outcome, name) for outcome in outcomes] for name in plain}
        for key in dict.fromkeys(key for outcome in outcomes for key in outcome.values):
            columns[key] = _alike([outcome.values.get(key) for outcome in outcomes])
        for name in dict.fromkeys(name for outcome in outcomes for name in outcome.measures):
            columns[name] = [outcome.measures.get(name) for outcome in outcomes]
        metadata = {_KEY: self._digest.encode(), _OUTCOME: msgspec.json.encode(outcomes)}
        return pa.table(columns).replace_schema_metadata(metadata)

    def _read(self, path: Path) -> list[Outcome]:
        digest, outcomes = _read(path)
        if digest != self._digest:
            raise ConfigError(f"{path} belongs to a sweep with another configuration: name another file, or remove it")
        return outcomes


def read_outcomes(path: str | os.PathLike[str]) -> list[Outcome]:
    """Read the outcomes of a sweep from its Parquet file.

    Raises:
        ConfigError: the file holds no results of a sweep.
        DataError: the file cannot be read.
    """
    return _read(path)[1]


def _read(path: str | os.PathLike[str]) -> tuple[str, list[Outcome]]:
    """Return the digest of a sweep's configuration and its outcomes."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a Parquet file ({error}); remove it", path=str(path)) from None
    if _KEY not in metadata:
        raise ConfigError(f"{path} does not hold the results of a sweep: name another file")
    try:
        return metadata[_KEY].decode(), msgspec.json.decode(metadata[_OUTCOME], type=list[Outcome])
    except (KeyError, UnicodeDecodeError, msgspec.DecodeError, msgspec.ValidationError) as error:
        raise DataError(f"{path}: the results in it cannot be read ({error}); remove it", path=str(path)) from None


class Standing(NamedTuple):
    """A trial's rank, by the highest rung that it reached."""

    trial: Trial
    rung: int
    epochs: int
    score: float | None
    """Mean over the repeats. None: it failed."""
    spread: float
    """Standard deviation over the repeats. 0 for one."""
    parameters: int
    step_us: float
    """Time to serve a window, median over the repeats."""
    stream_us: float
    """The same for a second of one stream."""
    seconds: float
    """Total of all its trainings."""
    error: str
    pareto: bool = False
    """True for trials of the highest rung that no other dominates in both score and cost of serving."""
    curve: tuple[float | None, ...] = ()
    """Score by epoch, the mean over the repeats. None: not known."""


def standings(trials: Sequence[Trial], outcomes: Iterable[Outcome], *, less: bool) -> list[Standing]:
    """Rank the trials, the best first: higher rungs first, failed trials last.

    Args:
        less: a smaller score is better.
    """
    found = []
    by_trial: dict[int, list[Outcome]] = {}
    for outcome in outcomes:
        by_trial.setdefault(outcome.trial, []).append(outcome)
    for trial in trials:
        everything = by_trial.get(trial.number, [])
        if not everything:
            continue
        rung = max(outcome.rung for outcome in everything)
        own = [outcome for outcome in everything if outcome.rung == rung]
        error = next((outcome.error or "no score" for outcome in own if outcome.score is None), "")
        scores = [outcome.score for outcome in own if outcome.score is not None]
        found.append(
            Standing(
                trial,
                rung,
                own[0].epochs,
                None if error else float(np.mean(scores)),
                float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0,
                own[0].parameters or 0,
                float("nan") if error else _median(own, "step_us"),
                float("nan") if error else _median(own, "stream_us"),
                sum(outcome.seconds for outcome in everything),
                error,
                curve=mean_curve(outcome.curve for outcome in own),
            )
        )
    sign = 1 if less else -1
    found.sort(key=lambda s: (s.score is None, -s.rung, sign * (s.score or 0.0), s.trial.number))
    top = max((own.rung for own in found if own.score is not None), default=0)
    rivals = [own for own in found if own.score is not None and own.rung == top]
    front = on_front([(own.score or 0.0, own.stream_us) for own in rivals], less=less)
    best = {own.trial.number for own, ahead in zip(rivals, front, strict=True) if ahead}
    return [standing._replace(pareto=standing.trial.number in best) for standing in found]


def on_front(scored: Sequence[tuple[float, float]], *, less: bool) -> list[bool]:
    """Return True for each pair of score and cost that no other beats in one and reaches in the other.

    Args:
        less: a smaller score is better.
    """
    signed = [((1 if less else -1) * score, cost) for score, cost in scored]
    return [not any(rival != own and rival[0] <= own[0] and rival[1] <= own[1] for rival in signed) for own in signed]


def mean_curve(curves: Iterable[Sequence[float | None]]) -> tuple[float | None, ...]:
    """Return the mean of curves by epoch, as far as all go. It is None where one is."""
    columns = zip(*curves, strict=False)
    return tuple(None if None in own else float(np.mean([value or 0.0 for value in own])) for own in columns)


def _median(outcomes: Sequence[Outcome], name: str) -> float:
    return float(np.median([getattr(outcome, name) for outcome in outcomes]))


def _alike(values: list[Any]) -> list[Any]:
    """Make the values of a column alike: numbers or texts as they are, mixtures as JSON."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float}:
        return [float(value) if float in kinds and value is not None else value for value in values]
    if kinds in ({str}, {bool}):
        return values
    return [None if value is None else msgspec.json.encode(value).decode() for value in values]
