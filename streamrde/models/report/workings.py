"""Sections of a report about the model's workings: steps, levels, novelty, speed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamrde.inference.bundle import Bundle
from streamrde.inference.states import novelty_of
from streamrde.models.report import quality
from streamrde.models.report.quality import Answers
from streamrde.models.report.resolution import StepError
from streamrde.models.report.sections import COLOURS
from streamrde.models.report.speed import Speed
from streamrde.models.training.history import Predicted
from streamrde.models.training.verdict import NAMES
from streamrde.pages.page import charts, figure, section, table
from streamrde.pages.svg import Plot, axis, number, thinned

# Streams whose windows are judged for novelty in parts other than the shown one.
_STREAMS = 1000


def steps(found: Sequence[StepError], levels: Sequence[tuple[int, float]], measure: str, bundle: Bundle) -> str:
    """Show the step error against window length, and the contribution of deeper levels."""
    figures, rows = [], []
    if found:
        seconds = [step.seconds for step in found]
        tolerance = bundle.header.tolerance
        values = [value for step in found for value in (step.median, step.most)]
        plot = Plot(
            axis("length of the windows (s)", seconds, log=True),
            axis("estimated error of a step / (1 + |z|)", [*values, tolerance], log=True),
            title="Step error against window length",
        )
        most, median = [step.most for step in found], [step.median for step in found]
        plot.line(seconds, most, label="90 % of the steps", colour=2, dashed=True)
        plot.line(seconds, median, label="median", colour=1)
        plot.points(seconds, most, colour=2, size=3)
        plot.points(seconds, median, colour=1, size=3)
        plot.rule(y=tolerance, label=f"tolerance {tolerance:g}")
        trained = [step for step in found if step.factor == 1]
        if trained:
            plot.rule(x=trained[0].seconds, label="trained")
        figures.append(figure("Step error against window length", plot.svg(), _verdict(trained, bundle)))
        rows = [
            (
                f"x{step.factor:g}",
                number(step.seconds),
                f"{step.windows:,}",
                number(float(f"{step.median:.2g}")),
                number(float(f"{step.most:.2g}")),
            )
            for step in found
        ]
    if len(levels) > 1:
        plot = _levels(levels, measure)
        figures.append(figure("Contribution of deeper levels", plot.svg(), "deeper levels set to 0"))
    if not figures:
        return ""
    columns = ("window", "seconds", "steps", "median", "90 %")
    return section(
        "Are the windows short enough, the signatures deep enough?",
        "The trained model steps over shorter and longer windows of the same streams. The stepper estimates its error "
        "by halving the step.",
        charts(*figures),
        table(rows, columns, numbers=1) if rows else "",
    )


def _levels(levels: Sequence[tuple[int, float]], measure: str) -> Plot:
    values = [value for _, value in levels]
    edges = [level - 0.5 for level, _ in levels] + [levels[-1][0] + 0.5]
    names = tuple(f"depth {level}" if i else "level 1 alone" for i, (level, _) in enumerate(levels))
    plot = Plot(
        axis("depth that is kept", edges)._replace(low=edges[0], high=edges[-1], names=names),
        axis(measure, values, zero=True, percent="right" in measure),
        title="Contribution of deeper levels",
    )
    plot.bars(edges, values, colour=1)
    return plot


def _verdict(trained: Sequence[StepError], bundle: Bundle) -> str:
    if not trained:
        return ""
    most, tolerance = trained[0].most, bundle.header.tolerance
    finding = f"at the trained length 90 % of the steps err by at most {most:.2g}"
    if most <= tolerance:
        return f"{finding}: within the tolerance"
    return (
        f"{finding}, more than the tolerance: the weights are fitted to this solver and length. Substeps = 2, a solver "
        "of higher order or shorter windows bring the model closer to the differential equation"
    )


def novelty(bundle: Bundle, parts: dict[str, Predicted], shown: Answers, part: str) -> str:
    """Show the novelty of windows, and the errors by novelty."""
    header = bundle.header
    if header.novelty is None:
        return ""
    known = novelty_of(bundle)
    least = 1 / (header.novelty.windows + 1)
    found = {}
    for name, own in parts.items():
        # All windows of the shown part. Of the others, enough for a line.
        places = thinned(len(own.examples), len(own.examples) if name == part else _STREAMS)
        found[name] = known.p(np.concatenate([own.examples[i].logsigs for i in places]))
    levels = np.geomspace(least, 1, 40)
    shares = {name: (p[np.isfinite(p)][None] <= levels[:, None]).mean(axis=1) for name, p in found.items()}
    vertical = axis("share of the windows with such a p-value", [1, least], log=True)
    plot = Plot(axis("p-value of a window", levels, log=True), vertical, title="P-values of the windows")
    plot.diagonal("as in training")
    for name, share in shares.items():
        plot.line(levels, share, colour=COLOURS[name], dashed=name == "train", label=NAMES[name])
    classify = header.task == "classification"
    edges = np.array([0.0, *(edge for edge in (0.001, 0.01, 0.1, 0.5) if edge > least), 1.0])
    errors, windows = quality.error_by(shown, found[part], edges, classify=classify)
    names = tuple(f"to {high:g} ({count:,})" for high, count in zip(edges[1:], windows, strict=True))
    places = np.arange(len(errors) + 1) + 0.5
    across = axis("p-value (windows)", places)._replace(low=places[0], high=places[-1], names=names)
    what = "windows that are wrong" if classify else "error in deviations of the target"
    bars = Plot(across, axis(what, errors, zero=True, percent=classify), title="Errors by novelty")
    bars.bars(places, np.nan_to_num(errors), colour=1)
    return section(
        "How new are the windows?",
        "A p-value is a window's rarity among those of training. A line above the diagonal: more windows are rare.",
        charts(
            figure("P-values of the windows", plot.svg(), "training windows are compared with themselves too"),
            figure("Errors by novelty", bars.svg(), f"of the {NAMES[part]} streams"),
        ),
    )


def speed(measured: Speed, trained: float) -> str:
    """Show the speed of training and serving."""
    kind = "a sample that closes a window" if measured.push_closes else "a sample that closes no window"
    low, high = (1e6 * quartile for quartile in measured.push_spread)
    push = f"{measured.push * 1e6:.2f} ({low:.2f} to {high:.2f})" if measured.push == measured.push else "no sample"
    rows = [
        ("training, with validation", f"{trained:,.0f}", "windows/s"),
        (f"{kind} (Predictor.push), median and quartiles", push, "us"),
        ("a window's step and readout, 1 stream", f"{measured.step * 1e6:.1f}", "us"),
        ("the same per stream, 64 together", f"{measured.step_together * 1e6:.2f}", "us"),
        (
            f"a fleet of {measured.fleet_streams} streams, windows included (Fleet.push)",
            f"{1 / measured.fleet:,.0f}",
            "samples/s",
        ),
    ]
    return section(
        "Speed",
        "Medians on the machine that trained, one thread, measured for a second.",
        table(rows, numbers=1, last=1),
    )
