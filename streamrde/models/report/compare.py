"""Write the page that compares training runs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence

from streamrde.disk import replace_file
from streamrde.fitting.record import Curve, Run
from streamrde.inference.card import figure as measure_text
from streamrde.models.report.comparison import PARTS, Comparison, figure_of, plain_of
from streamrde.models.report.runs import COLOURED, Line, Scored, by_setting, costs, curves
from streamrde.pages.page import alarm, charts, figure, lead, page, section, table
from streamrde.pages.svg import Axis, Plot, axis, duration, number

KINDS = {"train": "training", "fit": "fit", "trial": "trial of a sweep"}
# Settings that get a chart each.
_MOST_CHARTS = 12
# Runs from which on a chart shows what a setting did.
_ENOUGH = 3


def write_comparison(path: str | os.PathLike[str], found: Comparison) -> None:
    """Write the page to an HTML file."""
    replace_file(path, comparison_page(found).encode())


def comparison_page(found: Comparison) -> str:
    """Return the page: the best run, all figures, learning curves, costs, and what differs."""
    columns = ("", *(f"{place}" for place in range(1, len(found.runs) + 1)))
    chapters = [
        lead(found.sentences),
        *(alarm(f"{text[:1].upper()}{text[1:]}.") for text in found.warnings),
        section("Runs", "", table(rows_of(found), COLUMNS, numbers=_FIRST_NUMBER)),
        section("Figures", "Numbers are those of the table.", charts(*_figures(found))),
        section(
            "Learning",
            "The best runs have colours. Dashed lines are training streams.",
            charts(*shown),
        )
        if any(shown := _learning(found))
        else "",
        section("Settings that differ", "", table(_rows(found.settings), columns)) if found.settings else "",
        section("What each setting did", "", charts(*shown)) if (shown := _by_setting(found)) else "",
        section("Models that differ", "", table(_rows(found.card), columns)) if found.card else "",
        section("All measures", "", table(_measures(found.runs), columns, numbers=1)),
    ]
    count = len(found.runs)
    return page(f"{count} runs", f"Compared by streamrde, {found.title or 'without a common figure'}", chapters)


COLUMNS = (
    "#",
    "run",
    "kind",
    "tested",
    "left out",
    "best plain model",
    "took",
    "parameters",
    "us per second of a stream",
)
"""Headings of `rows_of`."""
_FIRST_NUMBER = 3


def rows_of(found: Comparison) -> list[tuple[str, ...]]:
    """Return a row of texts for each run, see `COLUMNS`."""
    rows = []
    for place, run in enumerate(found.runs, start=1):
        own = [_own_figure(found, run, part) for part in ("test", "validation")]
        plain = plain_of(run, found.part, found.measure) if found.measure else None
        rows.append(
            (
                f"{place}",
                run.name,
                KINDS[run.kind],
                *own,
                "" if plain is None else found.said(plain[1]),
                "" if run.seconds is None else duration(run.seconds),
                "" if run.parameters is None else f"{run.parameters:,}",
                "" if run.stream_us is None else number(run.stream_us),
            )
        )
    return rows


def _own_figure(found: Comparison, run: Run, part: str) -> str:
    if not found.measure:
        return "-"
    return found.said(figure_of(run, part, found.measure))


def _figures(found: Comparison) -> list[str]:
    if not found.measure:
        return []
    across = Axis("run", 0.5, len(found.runs) + 0.5, names=tuple(f"{i + 1}" for i in range(len(found.runs))))
    plain = [plain_of(run, found.part, found.measure) for run in found.runs]
    beside = [math.nan if own is None else own[1] for own in plain]
    plot = Plot(across, axis(found.name, [*found.scores, *beside], percent=found.percent), title=found.title)
    places = range(1, len(found.runs) + 1)
    known = [i for i in places if math.isfinite(beside[i - 1])]
    titles = [f"{run.name}: {found.said(score)}" for run, score in zip(found.runs, found.scores, strict=True)]
    if known:
        texts = [f"{own[0]}: {found.said(own[1])}" for own in plain if own is not None]
        plot.points(known, [beside[i - 1] for i in known], colour=0, size=4, titles=texts, label="best plain model")
    plot.points(places, found.scores, size=5, titles=titles, label="run")
    return [
        figure(f"{found.title[:1].upper()}{found.title[1:]}", plot.svg()),
        costs(_scored(found), found.name, percent=found.percent),
        _by_time(found),
    ]


def _by_time(found: Comparison) -> str:
    timed = [i for i, run in enumerate(found.runs) if run.seconds]
    if len(timed) < 2:
        return ""
    seconds, scores = [found.runs[i].seconds or 0.0 for i in timed], [found.scores[i] for i in timed]
    plot = Plot(
        axis("seconds that the run took", seconds, log=True),
        axis(found.name, scores, percent=found.percent),
        title="Score by duration",
    )
    plot.points(seconds, scores, size=4, titles=[f"{i + 1}: {found.runs[i].name}" for i in timed])
    return figure("Score by duration", plot.svg(), "on the machines where they ran")


def _scored(found: Comparison) -> list[Scored]:
    return [
        Scored(
            f"{place}: {run.name}",
            run.settings,
            score,
            math.nan if run.stream_us is None else run.stream_us,
            ahead,
        )
        for place, (run, score, ahead) in enumerate(zip(found.runs, found.scores, found.fronts, strict=True), start=1)
    ]


def _learning(found: Comparison) -> list[str]:
    """Draw the validation losses and scores, by epoch and by time."""
    names = dict.fromkeys(name for run in found.runs for name in run.curves if name != "loss")
    shown = []
    for name in names:
        text = name.replace("_", " ")
        for along, x, at in (("by epoch", "epoch", _epochs), ("by time", "minutes", _minutes)):
            shown.append(curves(f"{text[:1].upper()}{text[1:]} {along}", x, text, _lines(found, name, at)))
    return shown


def _lines(found: Comparison, name: str, at: Callable[[Curve], Sequence[float]]) -> list[Line]:
    lines = []
    for place, run in enumerate(found.runs, start=1):
        colour = place if place <= COLOURED else 0
        if name == "validation_loss" and (loss := run.curves.get("loss")) and colour:
            lines.append(Line("", at(loss), loss.values, colour, dashed=True))
        if curve := run.curves.get(name):
            lines.append(Line(f"{place}" if colour else "", at(curve), curve.values, colour))
    return lines


def _epochs(curve: Curve) -> Sequence[float]:
    return curve.epochs


def _minutes(curve: Curve) -> Sequence[float]:
    return curve.minutes


def _by_setting(found: Comparison) -> list[str]:
    if not found.measure or len(found.runs) < _ENOUGH:
        return []
    scored = _scored(found)
    keys = [*dict.fromkeys(key.partition(": ")[2] or key for key in found.settings)][:_MOST_CHARTS]
    shown = [by_setting(scored, key, key, found.name, percent=found.percent) for key in keys]
    return [own for own in shown if own]


def _rows(texts: dict[str, list[str]]) -> list[tuple[str, ...]]:
    return [(key, *values) for key, values in texts.items()]


def _measures(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    def cell(found: float | None) -> str:
        return "" if found is None else measure_text(found)

    names = dict.fromkeys(name for run in runs for name in run.measures if name.partition("_")[0] in PARTS)
    return [(name.replace("_", " "), *(cell(run.measures.get(name)) for run in runs)) for name in names]
