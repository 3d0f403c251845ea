"""A sweep: trials on the validation streams, the best of them for longer, until one is left to be trained for good."""

from __future__ import annotations

import concurrent.futures.process
import contextlib
import itertools
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import torch
from rich.console import Console

from streamrde.errors import ConfigError, ParameterError, WorkerError
from streamrde.models.sweeping.progress import Board
from streamrde.models.sweeping.results import Results, Standing, standings
from streamrde.models.sweeping.space import Rung, Trial, ladder, trials
from streamrde.models.sweeping.trial import Outcome, parts_without_test, run_trial
from streamrde.models.training.config import ConfigSource, SweepConfig, TrainConfig, resolve_config
from streamrde.models.training.history import less_is_better


class Sweep(NamedTuple):
    """What a sweep found."""

    best: TrainConfig
    """The configuration of the best trial, with the outputs of the one that was swept."""
    standings: list[Standing]
    """Of all trials, the best first."""
    table: pa.Table
    """Every training: what was tried, its score, measures, and what serving it costs."""
    unfinished: int = 0
    """Trainings that were not begun because the time was over. Rungs not reached count with all that were planned."""


def sweep(
    config: ConfigSource,
    *,
    settings: Sequence[str] = (),
    jobs: int = 1,
    out: str | os.PathLike[str] = "",
    resume: bool = False,
    minutes: float | None = None,
    console: Console | None = None,
) -> Sweep:
    """Try configurations and find the best one by its validation streams; the test streams are never looked at.

    What is tried, and how thoroughly, is said by the configuration's `SweepConfig`. The score is the validation
    streams' value of `training.monitor` in the best epoch. A training that fails, such as one that diverges, is
    recorded and goes no further. Ctrl-C stops the sweep; what is done is in `out`.

    Args:
        config: a TrainConfig, its tables as a mapping, or the path of a TOML file.
        settings: keys of it that are set anew, as ``["sweep.trials=8"]``.
        jobs: trainings at a time, each in a process of its own; 1: here.
        out: Parquet file of all trainings, replaced after each; "": none.
        resume: go on with the sweep that `out` has.
        minutes: after which no training is begun any more, the first one aside; those under way are finished. What is
            left is counted in `Sweep.unfinished`, and `resume` goes on with it.
        console: where progress is shown; by default standard output.
    Raises:
        ConfigError: no combination can be trained, there are no validation streams, or `out` is of another sweep.
        DataError: files that cannot be read.
        ParameterError: every training of a rung failed.
        WorkerError: a process died.
    """
    if minutes is not None and not minutes > 0:
        raise ConfigError(f"minutes={minutes}: give a time > 0, or none for no limit")
    config = resolve_config(config, settings)
    console = console or Console()
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    tried, left_out = trials(config)
    # Reads the data before anything is begun, so that what is wrong with them is said at once, and once.
    parts_without_test(config, config.sweep)
    results = Results(out, config=config, resume=resume)
    less = less_is_better(config.training.monitor)
    rungs = ladder(config.sweep, len(tried), config.training.epochs)
    alive, ranked, unfinished = tried, list[Standing](), 0
    with _workers(jobs) as work, Board(console, config, rungs=rungs, done=results.outcomes.values()) as board:
        board.begin(len(tried), left_out)
        for height, rung in enumerate(rungs):
            alive = alive[: rung.trials]
            calls = _calls(alive, rung, height, config.sweep, results)
            left = len(calls)
            for outcome in work(_until(deadline, calls, first=not results.outcomes)):
                left -= 1
                results.add(outcome)
                board.show(outcome, standings(tried, results.outcomes.values(), less=less))
            ranked = standings(tried, results.outcomes.values(), less=less)
            alive = [s.trial for s in ranked if s.score is not None and s.rung == height]
            if left:
                unfinished = left + sum(below.trials for below in rungs[height + 1 :]) * config.sweep.trainings
                break
            if not alive:
                raise ParameterError(f"sweep: every training failed; the first: {ranked[0].error}")
    if ranked[0].score is None:
        raise ParameterError(f"sweep: every training so far failed; the first: {ranked[0].error}")
    best = msgspec.structs.replace(ranked[0].trial.config, output=config.output)
    return Sweep(best, ranked, results.table(), unfinished)


def _until(deadline: float, calls: Sequence[_Call], *, first: bool) -> Iterator[_Call]:
    """Yield the calls until the time is over. If `first`, yield one in any case, so that there is a result."""
    for number, call in enumerate(calls):
        if time.monotonic() >= deadline and not (first and number == 0):
            return
        yield call


class _Call(NamedTuple):
    """A training to be run."""

    trial: Trial
    sweep: SweepConfig
    rung: int
    repeat: int
    epochs: int

    def run(self) -> Outcome:
        return run_trial(
            self.trial.config,
            sweep=self.sweep,
            trial=self.trial.number,
            values=self.trial.values,
            rung=self.rung,
            repeat=self.repeat,
            epochs=self.epochs,
        )


def _calls(alive: Sequence[Trial], rung: Rung, height: int, sweep: SweepConfig, results: Results) -> list[_Call]:
    """The trainings of a rung that are not done."""
    return [
        _Call(trial, sweep, height, repeat, rung.epochs)
        for trial in alive
        for repeat in range(sweep.trainings)
        if (height, trial.number, repeat) not in results.outcomes
    ]


class _Stop(BaseException):
    """Ctrl-C, by another name: training takes a KeyboardInterrupt for the wish to end with what there is."""


@contextlib.contextmanager
def _workers(jobs: int) -> Iterator[Any]:
    """What runs calls and gives outcomes as they come: here, or in so many processes."""
    if jobs == 1:
        with _interruptible():
            yield lambda calls: (call.run() for call in calls)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(threads,))

    def work(calls: Iterator[_Call]) -> Iterator[Outcome]:
        try:
            # No more at a time than there are processes: a call is not taken before it can begin.
            running = {pool.submit(call.run) for call in itertools.islice(calls, jobs)}
            while running:
                done, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                running |= {pool.submit(call.run) for call in itertools.islice(calls, len(done))}
                for future in done:
                    yield future.result()
        except concurrent.futures.process.BrokenProcessPool:
            raise WorkerError(
                "a process of the sweep died, perhaps for want of memory: go on with resume and fewer jobs"
            ) from None

    try:
        yield work
        pool.shutdown()
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        # It waits for them: a second thread that does so at the same time may take one that is dead for alive.
        pool.shutdown(cancel_futures=True)
        raise


def _begin(threads: int) -> None:
    """In a worker: Ctrl-C is its parent's to act on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the sweep, not only the training that is under way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise _Stop

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    except _Stop:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, before)
