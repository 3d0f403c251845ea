"""Run a sweep: train trials on the validation streams, and the best of them for longer, until one is left."""

from __future__ import annotations

import concurrent.futures.process
import contextlib
import functools
import itertools
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
import pyarrow as pa
import torch
from rich.console import Console

from streamrde.errors import ConfigError, ParameterError, WorkerError
from streamrde.models.sweeping.progress import Board
from streamrde.models.sweeping.results import Outcome, Results, Standing, standings
from streamrde.models.sweeping.space import Rung, Trial, ladder, trials
from streamrde.models.sweeping.trial import parts_without_test, run_trial
from streamrde.models.training.config import ConfigSource, SweepConfig, TrainConfig, resolve_config
from streamrde.models.training.history import less_is_better


class Sweep(NamedTuple):
    """Result of a sweep."""

    best: TrainConfig
    """Configuration of the best trial, with the output paths of the swept one."""
    standings: list[Standing]
    """All trials, the best first."""
    table: pa.Table
    """Every training: its values, score, measures and cost of serving."""
    unfinished: int = 0
    """Trainings not started because the time was over, including all planned ones of rungs that were not reached."""


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
    """Try configurations and find the best one by its validation streams. The test streams are not used.

    The configuration's `SweepConfig` sets the values to try. The score is the validation streams' value of
    `training.monitor` in the best epoch. A training that fails, such as one that diverges, is recorded and goes no
    further. Ctrl-C stops the sweep, and `out` keeps the finished trainings.

    Args:
        config: a TrainConfig, its tables as a mapping, or the path of a TOML file.
        settings: overrides of its keys, such as ``["sweep.trials=8"]``.
        jobs: trainings at a time, each in its own process. 1: in this process.
        out: Parquet file of all trainings, replaced after each. "": none.
        resume: continue the sweep in `out`.
        minutes: start no training after this time, but at least one. Running ones are finished. `Sweep.unfinished`
            counts the others, and `resume` runs them.
        console: shows progress. Default: standard output.
    Raises:
        ConfigError: no combination can be trained, there are no validation streams, or `out` belongs to another sweep.
        DataError: a file cannot be read.
        ParameterError: every training of a rung failed.
        WorkerError: a process died.
    """
    if minutes is not None and not minutes > 0:
        raise ConfigError(f"minutes={minutes}: give a time > 0, or none for no limit")
    config = resolve_config(config, settings)
    console = console or Console()
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    tried, left_out = trials(config)
    # Read the data first, so that an error in them is raised at once, and only once.
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
    """Yield the calls until the deadline. If `first`, yield at least one, so that there is a result."""
    for number, call in enumerate(calls):
        if time.monotonic() >= deadline and not (first and number == 0):
            return
        yield call


_Call: TypeAlias = Callable[[], Outcome]


def _calls(alive: Sequence[Trial], rung: Rung, height: int, sweep: SweepConfig, results: Results) -> list[_Call]:
    """Return the trainings of a rung that are not done."""
    return [
        functools.partial(run_trial, trial, sweep=sweep, rung=height, repeat=repeat, epochs=rung.epochs)
        for trial in alive
        for repeat in range(sweep.trainings)
        if (height, trial.number, repeat) not in results.outcomes
    ]


class _Stop(BaseException):
    """Ctrl-C under another name, since training takes a KeyboardInterrupt as the wish to stop early."""


@contextlib.contextmanager
def _workers(jobs: int) -> Iterator[Any]:
    """Yield a function that runs calls and yields their outcomes: in this process, or in `jobs` others."""
    if jobs == 1:
        with _interruptible():
            yield lambda calls: (call() for call in calls)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(threads,))

    def work(calls: Iterator[_Call]) -> Iterator[Outcome]:
        try:
            # Submit only as many calls as there are processes, so that none is taken before it can begin.
            running = {pool.submit(call) for call in itertools.islice(calls, jobs)}
            while running:
                done, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                running |= {pool.submit(call) for call in itertools.islice(calls, len(done))}
                for future in done:
                    yield future.result()
        except concurrent.futures.process.BrokenProcessPool:
            raise WorkerError(
                "a process of the sweep died, perhaps for lack of memory: resume with fewer jobs"
            ) from None

    try:
        yield work
        pool.shutdown()
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        # shutdown waits for the processes. Joining them in a second thread as well may take a dead one for alive.
        pool.shutdown(cancel_futures=True)
        raise


def _begin(threads: int) -> None:
    """Set up a worker. It ignores Ctrl-C, which its parent handles."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Make Ctrl-C end the whole sweep, not only the current training."""
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
