"""Write the page of a sweep: its trials by rank, their scores beside what serving them costs, and what each key did."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np

from streamrde.disk import replace_file
from streamrde.models.sweeping.results import Standing
from streamrde.models.sweeping.space import on_one_line, short_keys
from streamrde.models.training.config import TrainConfig
from streamrde.pages.page import charts, figure, lead, page, section, table
from streamrde.pages.svg import Plot, axis, number
from streamrde.toml import value

# Values of a key whose charts are still read.
_MOST_VALUES = 12


def write_sweep(path: str | os.PathLike[str], standings: Sequence[Standing], config: TrainConfig) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        standings: the trials by rank.
        config: the best configuration.
    """
    replace_file(path, sweep_page(standings, config).encode())


def sweep_page(standings: Sequence[Standing], config: TrainConfig) -> str:
    """Return the page. See `write_sweep`."""
    monitor = config.training.monitor.replace("_", " ")
    keys = short_keys(list(standings[0].trial.values))
    scored = [standing for standing in standings if standing.score is not None]
    chapters = [
        lead(_sentences(standings, scored, monitor)),
        section(
            "Score and cost",
            "Each dot is a trial that was trained as long as any. Those that no other beats in both are orange.",
            charts(_costs(scored, monitor)),
        )
        if scored
        else "",
        section(
            "What each key did",
            "Scores of the trials by value, after the longest training of each. Those given up early had fewer epochs.",
            charts(*(_by_value(scored, key, name, monitor) for key, name in keys.items())),
        )
        if scored
        else "",
        section("Trials", "", _table(standings, keys, monitor)),
    ]
    judged = f"{config.sweep.folds} folds" if config.sweep.folds else "the validation streams"
    return page("A sweep", f"{len(standings):,} trials, by {monitor} of {judged}; no test stream was used", chapters)


def _sentences(standings: Sequence[Standing], scored: Sequence[Standing], monitor: str) -> list[str]:
    failed = len(standings) - len(scored)
    lost = [f"{failed:,} of {len(standings):,} trials failed"] if failed else []
    if not scored:
        return lost
    best = scored[0]
    text = f"Best: {on_one_line(best.trial.values)}, with {monitor} {_score(best)}"
    front = [one for one in scored if one.pareto and one is not best]
    cheaper = min(front, key=lambda one: one.stream_us, default=None)
    if cheaper is not None and cheaper.stream_us < best.stream_us:
        times, name = best.stream_us / cheaper.stream_us, on_one_line(cheaper.trial.values)
        lost.insert(0, f"{name} is served {times:.1f} times as fast, with {monitor} {_score(cheaper)}")
    rival = next((one for one in scored[1:] if one.rung == best.rung), None)
    if rival is not None and abs((best.score or 0.0) - (rival.score or 0.0)) < max(best.spread, rival.spread):
        lost.append("The first two differ by less than repeated trainings do: take the cheaper one")
    return [text, *lost]


def _score(standing: Standing) -> str:
    assert standing.score is not None  # noqa: S101 (only such trials are asked)
    return f"{standing.score:.4g}" + (f" ± {standing.spread:.2g}" if standing.spread else "")


def _costs(scored: Sequence[Standing], monitor: str) -> str:
    top = max(one.rung for one in scored)
    shown = [one for one in scored if one.rung == top and math.isfinite(one.stream_us)]
    cost, score = [one.stream_us for one in shown], [one.score or 0.0 for one in shown]
    plot = Plot(
        axis("microseconds to serve a second of a stream", cost, log=True),
        axis(monitor, score),
        title=f"{monitor} by the cost of serving",
    )
    for front in (False, True):
        own = [i for i, one in enumerate(shown) if one.pareto == front]
        plot.points(
            [cost[i] for i in own],
            [score[i] for i in own],
            colour=2 if front else 1,
            size=4.0,
            titles=[f"{shown[i].trial.number}: {on_one_line(shown[i].trial.values)}" for i in own],
            label="no other is both better and cheaper" if front else "others",
        )
    return figure("Score by the cost of serving", plot.svg())


def _by_value(scored: Sequence[Standing], key: str, name: str, monitor: str) -> str:
    """Draw the scores by the values of a key: along an axis for numbers, else side by side."""
    found = [one.trial.values[key] for one in scored]
    texts = [value(one).strip('"') for one in found]
    different = [*dict.fromkeys(texts)]
    if len(different) < 2:
        return ""
    if all(isinstance(one, int | float) and not isinstance(one, bool) for one in found):
        at = [float(one) for one in found]
        x = axis(name, at, log=min(at) > 0 and max(at) > 20 * min(at))
        caption = ""
    elif len(different) <= _MOST_VALUES:
        at = [float(different.index(text) + 1) for text in texts]
        x = axis(name, [0.5, len(different) + 0.5])
        caption = ", ".join(f"{i}: {text}" for i, text in enumerate(different, start=1))
    else:
        return ""
    scores = np.array([one.score for one in scored], np.float64)
    plot = Plot(x, axis(monitor, scores), title=f"{monitor} by {name}", height=240)
    top = max(one.rung for one in scored)
    for longest in (False, True):
        own = [i for i, one in enumerate(scored) if (one.rung == top) == longest]
        plot.points(
            [at[i] for i in own],
            scores[own],
            colour=1 if longest else 0,
            size=3.5,
            titles=[on_one_line(scored[i].trial.values) for i in own],
            label="trained longest" if longest else "given up",
        )
    return figure(name, plot.svg(), caption)


def _table(standings: Sequence[Standing], keys: dict[str, str], monitor: str) -> str:
    rows = [
        (
            f"{place}",
            *(value(one.trial.values[key]).strip('"') for key in keys),
            f"{one.epochs}",
            one.error if one.score is None else _score(one),
            "" if one.score is None else f"{one.parameters:,}",
            "" if one.score is None else number(one.step_us),
            "" if one.score is None else number(one.stream_us),
        )
        for place, one in enumerate(standings, start=1)
    ]
    columns = ("rank", *keys.values(), "epochs", monitor, "parameters", "us per window", "us per second of a stream")
    return table(rows, columns, numbers=len(keys) + 1)
