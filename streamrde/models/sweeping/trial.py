"""One training run of a sweep: by one configuration and seed, judged by the validation streams alone."""

from __future__ import annotations

import functools
import io
import statistics
import time
from typing import Any

import msgspec
import numpy as np
import torch
from rich.console import Console

from streamrde.errors import ConfigError, StreamRDEError
from streamrde.models.report.speed import step_cost
from streamrde.models.training.config import SweepConfig, TrainConfig
from streamrde.models.training.inputs import SplitConfig
from streamrde.models.training.preflight import names_parts
from streamrde.models.training.run import fit
from streamrde.models.training.splits import Split, split
from streamrde.models.training.streams import read_parts

# Enough for a median, and little beside a training.
_TIMING = 0.1


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial came to, once."""

    trial: int
    rung: int
    """Counts from 0."""
    repeat: int
    """Counts from 0: fold after fold, and then these again with the next seed."""
    epochs: int
    """That it was given."""
    values: dict[str, Any]
    score: float | None = None
    """The validation streams' value of `training.monitor` in the best epoch; None: the trial failed."""
    best_epoch: int | None = None
    measures: dict[str, float] = {}
    """All measures of the training and the validation streams."""
    parameters: int | None = None
    step_us: float | None = None
    """Of a window's step and readout when served, one stream, microseconds."""
    step_us_together: float | None = None
    """The same per stream of 64."""
    stream_us: float | None = None
    """Of the steps and readouts of a second of one stream: by `step_us` and the windows of the validation streams."""
    seconds: float = 0.0
    """What the training took."""
    error: str = ""
    """Why it failed."""

    @property
    def key(self) -> tuple[int, int, int]:
        """What tells it from others of the sweep."""
        return self.rung, self.trial, self.repeat


def run_trial(
    config: TrainConfig, *, sweep: SweepConfig, trial: int, values: dict[str, Any], rung: int, repeat: int, epochs: int
) -> Outcome:
    """Train once and measure; a training that fails is an outcome too."""
    begin = time.perf_counter()
    seed = config.training.seed + repeat // max(1, sweep.folds)
    training = msgspec.structs.replace(config.training, epochs=epochs, seed=seed)
    config = msgspec.structs.replace(config, training=training, novelty=False)
    outcome = Outcome(trial=trial, rung=rung, repeat=repeat, epochs=epochs, values=values)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            parts = parts_without_test(config, sweep, fold=repeat % max(1, sweep.folds))
            fitted = fit(config, parts, console=Console(file=io.StringIO()))
    except (StreamRDEError, MemoryError, torch.OutOfMemoryError) as error:
        told = str(error) or type(error).__name__
        return msgspec.structs.replace(outcome, error=told, seconds=time.perf_counter() - begin)
    seconds = time.perf_counter() - begin
    bundle = fitted.bundle
    # Of an ensemble: what its members reach on average.
    kept = [next(epoch for epoch in h.epochs if epoch.number == h.best) for h in fitted.histories]
    judged = fitted.parts["validation"].examples
    rate = sum(len(example.logsigs) for example in judged) / sum(float(example.ends[-1]) for example in judged)
    alone, together = step_cost(bundle, seconds=_TIMING)
    return msgspec.structs.replace(
        outcome,
        score=statistics.mean(float(epoch.monitored) for epoch in kept if epoch.monitored is not None),
        best_epoch=round(statistics.mean(epoch.number for epoch in kept)),
        measures={name: v for name, v in bundle.header.metrics.items() if name.startswith(("train_", "validation_"))},
        parameters=bundle.parameters,
        step_us=alone * 1e6,
        step_us_together=together * 1e6,
        stream_us=alone * 1e6 * rate,
        seconds=seconds,
    )


def parts_without_test(config: TrainConfig, sweep: SweepConfig, *, fold: int = 0) -> Split:
    """The streams to train on and to judge by; those of the test part are let go before anything sees them.

    Args:
        fold: number of the fold that judges, where there are folds; the groups of the others train.
    Raises:
        ConfigError: there are no validation streams, or fewer groups than folds.
    """
    told = TrainConfig(data=config.data, split=config.split, order=config.order)
    kept = _read(msgspec.json.encode(told))
    if sweep.folds:
        streams = [*kept.train, *kept.validation]
        groups = sorted({stream.group for stream in streams})
        if len(groups) < sweep.folds <= len(streams) and names_parts(groups):
            by_stream = SplitConfig(
                by="stream",
                validation=(),
                folds=sweep.folds,
                fold=fold,
                stratify=config.split.stratify,
                seed=sweep.seed,
            )
            folded = split(streams, by_stream)
            return Split(folded.train, folded.test, [])
        if len(groups) < sweep.folds:
            raise ConfigError(
                f"sweep.folds={sweep.folds}: there are only {len(groups):,} groups; use fewer folds, or set "
                "split.group to a column with more"
            )
        drawn = np.random.default_rng(sweep.seed).permutation(len(groups))[fold :: sweep.folds]
        judging = {groups[i] for i in drawn}
        return Split(
            [stream for stream in streams if stream.group not in judging],
            [stream for stream in streams if stream.group in judging],
            [],
        )
    if not kept.validation:
        raise ConfigError(
            "a sweep is judged by validation streams, and the split leaves none: set split.validation, such as 0.15, "
            "or sweep.folds"
        )
    return kept


@functools.lru_cache(maxsize=1)
def _read(config: bytes) -> Split:
    """The streams of a configuration, which most trials have in common, read once in a process."""
    return read_parts(msgspec.json.decode(config, type=TrainConfig))._replace(test=[])
