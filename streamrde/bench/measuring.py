"""Timing that holds on a noisy machine: engines in turn, ratios within a round, medians and quartiles over rounds.

Every engine of a case runs once per round, one after the other, so that a machine that slows down slows all of them;
what counts is the ratio within a round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from streamrde.arrays import Floats

# A turn lasts at least this long, seconds: the clock's resolution and a stray interrupt then do not count.
_TURN = 0.01


class Case(NamedTuple):
    """One comparison. The first of `engines` is streamrde's."""

    group: str
    name: str
    unit: str
    per: int
    """How many units one call does."""
    engines: dict[str, Callable[[], object]]


class Figure(NamedTuple):
    """Times of one engine in one case, in seconds per unit, and their ratio to streamrde's."""

    group: str
    case: str
    unit: str
    engine: str
    median: float
    quartiles: tuple[float, float]
    ratio: float
    ratio_quartiles: tuple[float, float]


def measure(cases: Iterator[Case], *, rounds: int, on_case: Callable[[str], None] = lambda _: None) -> list[Figure]:
    """Time every case over a number of rounds. Within a round its engines run one after the other."""
    figures = []
    for case in cases:
        on_case(f"{case.group}: {case.name}")
        for run in case.engines.values():
            run()  # caches, tables, page faults
        times: dict[str, list[float]] = {engine: [] for engine in case.engines}
        for _ in range(rounds):
            for engine, run in case.engines.items():
                times[engine].append(_turn(run) / case.per)
        ours = np.array(next(iter(times.values())))
        for engine, values in times.items():
            figures.append(_figure(case, engine, np.array(values), ours))
    return figures


def _figure(case: Case, engine: str, times: Floats, ours: Floats) -> Figure:
    low, median, high = (float(v) for v in np.percentile(times, [25, 50, 75]))
    ratio_low, ratio, ratio_high = (float(v) for v in np.percentile(times / ours, [25, 50, 75]))
    quartiles, ratio_quartiles = (low, high), (ratio_low, ratio_high)
    return Figure(case.group, case.name, case.unit, engine, median, quartiles, ratio, ratio_quartiles)


def _turn(run: Callable[[], object]) -> float:
    repeats = 1
    while True:
        began = time.perf_counter()
        for _ in range(repeats):
            run()
        seconds = time.perf_counter() - began
        if seconds >= _TURN:
            return seconds / repeats
        repeats *= 4
