"""Run one training of a sweep, for one configuration and seed. Only the validation streams judge it."""

from __future__ import annotations

import functools
import io
import statistics
import time

import msgspec
import numpy as np
import torch
from rich.console import Console

from streamrde.errors import ConfigError, StreamRDEError
from streamrde.fitting.inputs import SplitConfig
from streamrde.models.report.speed import step_cost
from streamrde.models.sweeping.results import Outcome, mean_curve
from streamrde.models.sweeping.space import Trial
from streamrde.models.training.config import SweepConfig, TrainConfig
from streamrde.models.training.preflight import names_parts
from streamrde.models.training.run import fit
from streamrde.models.training.splits import Split, split
from streamrde.models.training.streams import read_parts

# Seconds: enough for a median, and little beside a training.
_TIMING = 0.1


def run_trial(trial: Trial, *, sweep: SweepConfig, rung: int, repeat: int, epochs: int) -> Outcome:
    """Train once and measure. A training that fails is an outcome too."""
    begin, config = time.perf_counter(), trial.config
    seed = config.training.seed + repeat // max(1, sweep.folds)
    training = msgspec.structs.replace(config.training, epochs=epochs, seed=seed)
    config = msgspec.structs.replace(config, training=training, novelty=False, compare=False)
    outcome = Outcome(trial=trial.number, rung=rung, repeat=repeat, epochs=epochs, values=trial.values)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            parts = parts_without_test(config, sweep, fold=repeat % max(1, sweep.folds))
            fitted = fit(config, parts, console=Console(file=io.StringIO()))
    except (StreamRDEError, MemoryError, torch.OutOfMemoryError) as error:
        message = str(error) or type(error).__name__
        return msgspec.structs.replace(outcome, error=message, seconds=time.perf_counter() - begin)
    seconds = time.perf_counter() - begin
    bundle = fitted.bundle
    # An ensemble counts by the mean of its members.
    kept = [next(epoch for epoch in h.epochs if epoch.number == h.best) for h in fitted.histories]
    judged = fitted.parts["validation"].examples
    rate = sum(len(example.logsigs) for example in judged) / sum(float(example.ends[-1]) for example in judged)
    alone, together = step_cost(bundle, seconds=_TIMING)
    return msgspec.structs.replace(
        outcome,
        score=statistics.mean(float(epoch.monitored) for epoch in kept if epoch.monitored is not None),
        monitor=config.training.monitor,
        curve=mean_curve([epoch.monitored for epoch in history.epochs] for history in fitted.histories),
        best_epoch=round(statistics.mean(epoch.number for epoch in kept)),
        measures={name: v for name, v in bundle.header.metrics.items() if name.startswith(("train_", "validation_"))},
        parameters=bundle.parameters,
        step_us=alone * 1e6,
        step_us_together=together * 1e6,
        stream_us=alone * 1e6 * rate,
        seconds=seconds,
    )


def parts_without_test(config: TrainConfig, sweep: SweepConfig, *, fold: int = 0) -> Split:
    """Return the streams to train on and to judge by. Streams of the test part are dropped unseen.

    Args:
        fold: number of the fold that judges, if there are folds. The groups of the others train.
    Raises:
        ConfigError: there are no validation streams, or fewer groups than folds.
    """
    data = TrainConfig(data=config.data, split=config.split, order=config.order)
    kept = _read(msgspec.json.encode(data))
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
        train, validation = ([s for s in streams if (s.group in judging) is judges] for judges in (False, True))
        return Split(train, validation, [])
    if not kept.validation:
        raise ConfigError(
            "a sweep is judged by validation streams, and the split leaves none: set split.validation, such as 0.15, "
            "or sweep.folds"
        )
    return kept


@functools.lru_cache(maxsize=1)
def _read(config: bytes) -> Split:
    """Read the streams of a configuration. The last ones are cached, since most trials share them."""
    return read_parts(msgspec.json.decode(config, type=TrainConfig))._replace(test=[])
