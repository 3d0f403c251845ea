"""Write the page of a sweep: its trials by rank, their scores beside what serving them costs, and what each key did."""

from __future__ import annotations

import os
from collections.abc import Sequence

from streamrde.disk import replace_file
from streamrde.models.report.runs import COLOURED, Line, Scored, by_setting, costs, curves
from streamrde.models.sweeping.results import Standing
from streamrde.models.sweeping.space import on_one_line, short_keys
from streamrde.models.training.config import TrainConfig
from streamrde.pages.page import charts, lead, page, section, table
from streamrde.pages.svg import number
from streamrde.toml import value


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
    top = max((one.rung for one in scored), default=0)
    shown = [
        Scored(
            f"{one.trial.number}: {on_one_line(one.trial.values)}",
            one.trial.values,
            one.score or 0.0,
            one.stream_us,
            one.pareto,
            one.rung == top,
        )
        for one in scored
    ]
    chapters = [
        lead(_sentences(standings, scored, monitor)),
        section(
            "Score and cost",
            "Each dot is a trial that was trained as long as any. Those that no other beats in both are orange.",
            charts(costs(shown, monitor), _learning(scored, monitor)),
        )
        if scored
        else "",
        section(
            "What each key did",
            "Scores of the trials by value, after the longest training of each. Those given up early had fewer epochs.",
            charts(*(by_setting(shown, key, name, monitor) for key, name in keys.items())),
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


def _learning(scored: Sequence[Standing], monitor: str) -> str:
    """Draw how the trials of the highest rung learned, the best in colours."""
    top = [one for one in scored if one.rung == max(own.rung for own in scored)]
    lines = [
        Line(
            f"{place}" if place <= COLOURED else "",
            range(1, len(one.curve) + 1),
            one.curve,
            place if place <= COLOURED else 0,
        )
        for place, one in enumerate(top, start=1)
    ]
    lower = ", and grey trials rank lower" if len(top) > COLOURED else ""
    return curves("Learning", "epoch", monitor, lines, f"numbers are ranks{lower}")


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
