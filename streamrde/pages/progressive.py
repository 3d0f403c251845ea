"""Draw what streams would have learned from their labels: errors over time beside simple predictions, and coverage."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from streamrde.disk import replace_file
from streamrde.pages.page import charts, figure, lead, page, section, table
from streamrde.pages.svg import Axis, Plot, axis, number, thinned

# Colour, dashes and words of each method, in the order in which they are drawn.
_METHODS = {
    "mean": (4, True, "mean of the labels"),
    "last": (3, True, "last label"),
    "blend": (5, True, "their mix"),
    "frozen": (0, False, "the model"),
    "online": (1, False, "corrected"),
    "served": (2, False, "chosen for each stream by its labels so far"),
}
_UNITS = ((2 * 86400.0, 86400.0, "days"), (2 * 3600.0, 3600.0, "hours"), (0.0, 1.0, "seconds"))
_MOST_STREAMS, _MOST_DOTS = 20, 2000


def write_progressive(path: str | os.PathLike[str], learned: Mapping[str, Any], title: str) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        learned: as `scoring.progressive.evaluate_progressively` returns it.
        title: of the page.
    """
    replace_file(path, progressive_page(learned, title).encode())


def progressive_page(learned: Mapping[str, Any], title: str) -> str:
    """Return the page. See `write_progressive`."""
    outputs = learned["outputs"] or [str(i) for i in range(len(learned["rmse"]["frozen"]))]
    over_time, streams = learned.get("over_time", []), learned["streams"]
    subtitle = (
        f"{learned['labels']:,} labels of {len(streams):,} streams, {learned['delay']:g} s late; each was predicted "
        "before it was learned"
    )
    parts = [lead(_sentences(learned, outputs))]
    if over_time:
        parts += [
            section(
                "Errors over time",
                "Root mean squared errors in tenths of the recorded time.",
                charts(*(_over_time(learned, i, name) for i, name in enumerate(outputs))),
                _methods(learned, outputs),
            ),
            section(
                "Errors by number of labels",
                "Errors of all predictions that were made after so many labels of their stream or more.",
                charts(*(_after(learned["after"], i, name) for i, name in enumerate(outputs))),
            ),
        ]
    if over_time and learned.get("coverage"):
        text = f"Shares of the labels that were within. {learned['asked']:.0%} were asked for."
        parts.append(section("Coverage", text, _coverage(learned, outputs)))
    if over_time:
        text = "A dot is a stream. Below the line it is served better than by its last label."
        each = charts(*(_beside_last(streams, i, name) for i, name in enumerate(outputs)))
        parts.append(section("Streams", text, each, _worst(streams, learned)))
    return page(title, subtitle, parts)


def _sentences(learned: Mapping[str, Any], outputs: Sequence[str]) -> list[str]:
    if not learned["labels"]:
        return ["No prediction has a label with all outputs"]
    rmse, found = learned["rmse"], []
    for i, name in enumerate(outputs):
        text = ", ".join(f"{_METHODS[m][2]} {_number(rmse[m][i])}" for m in ("frozen", "online", "last", "mean"))
        found.append(f"{name}: served values are off by {_number(rmse['served'][i])} (root mean square); {text}")
    for i, own in enumerate(learned.get("coverage", [])):
        if own["coverage"] is not None:
            text = f"Intervals of {_named(learned, outputs, i)} held {own['coverage']:.1%} of the labels"
            text += f", and {own['worst_stream_coverage']:.1%} in the worst stream"
            found.append(text + ("" if own["worst_200"] is None else f", {own['worst_200']:.1%} in its worst 200"))
    return found


def _over_time(learned: Mapping[str, Any], output: int, name: str) -> str:
    x, at = _times(learned)
    return figure(name, _lines(x, at, learned["over_time"], output, name))


def _times(learned: Mapping[str, Any]) -> tuple[Axis, list[float]]:
    """Return an axis of time since the first label, and the ends of the parts on it."""
    at = [part["until"] - learned["begin"] for part in learned["over_time"]]
    size, name = next((size, name) for least, size, name in _UNITS if at[-1] >= least)
    at = [value / size for value in at]
    return axis(f"{name} since the first prediction", at, zero=True), at


def _after(after: Mapping[str, Any], output: int, name: str) -> str:
    kept = {int(count): own for count, own in after.items() if own["labels"]}
    at = [max(count, 0.5) for count in kept]
    x = axis("labels of the stream before", at, log=True)
    return figure(name, _lines(x, at, list(kept.values()), output, name), "The first point is without any label.")


def _lines(x: Axis, at: Sequence[float], parts: Sequence[Mapping[str, Any]], output: int, name: str) -> str:
    rows = {method: [_float(part["rmse"][method][output]) for part in parts] for method in _METHODS}
    plot = Plot(x, axis("root mean squared error", list(rows.values()), zero=True), title=f"Errors of {name}")
    for method, (colour, dashed, _) in _METHODS.items():
        plot.line(at, rows[method], colour=colour, dashed=dashed, label=method)
    return plot.svg()


def _methods(learned: Mapping[str, Any], outputs: Sequence[str]) -> str:
    rows = [
        (f"{method}: {words}", *(_number(value) for value in learned["rmse"][method]))
        for method, (_, _, words) in _METHODS.items()
    ]
    return table(rows, ("root mean squared error", *outputs), numbers=1)


def _coverage(learned: Mapping[str, Any], outputs: Sequence[str]) -> str:
    parts, drawn = learned["over_time"], []
    x, at = _times(learned)
    shares = [[_float(part["coverage"][i]) for part in parts] for i in range(len(learned["coverage"]))]
    plot = Plot(
        x,
        axis("within", [*(share for own in shares for share in own), learned["asked"], 1.0], percent=True),
        title="Coverage over time",
    )
    plot.rule(y=learned["asked"], label="asked for")
    for i, own in enumerate(shares):
        plot.line(at, own, colour=1 + i % 6, label=_named(learned, outputs, i)[:18])
    drawn.append(figure("Over time", plot.svg()))
    for i, own in enumerate(learned["coverage"]):
        each = sorted(own["streams"].values())
        kept = [each[k] for k in thinned(len(each), _MOST_DOTS)]
        rank = axis("share of the streams", [0, 1], percent=True, zero=True, high=1)
        plot = Plot(rank, axis("within", [*kept, 1.0, learned["asked"]], percent=True), title="Coverage of each stream")
        plot.rule(y=learned["asked"], label="asked for")
        plot.points([(k + 0.5) / len(kept) for k in range(len(kept))], kept, colour=1 + i % 6)
        drawn.append(figure(f"{_named(learned, outputs, i)}: streams in order of coverage", plot.svg()))
    rows = [
        (
            _named(learned, outputs, i), f"{own['labels']:,}", _share(own["coverage"]), own["worst_stream"] or "",
            _share(own["worst_stream_coverage"]), _share(own["worst_200"]), _number(own["width"]), f"{own['drifts']:,}",
        )
        for i, own in enumerate(learned["coverage"])
    ]  # fmt: skip
    columns = ("interval", "labels", "within", "worst stream", "its share", "worst 200", "mean width", "drifts")
    return charts(*drawn) + table(rows, columns, numbers=1)


def _beside_last(streams: Mapping[str, Any], output: int, name: str) -> str:
    found = [
        (own["rmse"]["last"][output], own["rmse"]["served"][output], f"{stream}: {own['labels']:,} labels")
        for stream, own in streams.items()
        if own["labels"] and None not in (own["rmse"]["last"][output], own["rmse"]["served"][output])
    ]
    last, served, titles = zip(*(found[k] for k in thinned(len(found), _MOST_DOTS)), strict=True)
    most = max(*last, *served, 1e-12)
    x = axis("error of the last label", [0, most], zero=True)
    plot = Plot(x, axis("error as served", [0, most], zero=True), title=f"Streams by error of {name}")
    plot.diagonal("the same")
    plot.points(last, served, colour=2, size=3.0, titles=titles)
    return figure(name, plot.svg())


def _worst(streams: Mapping[str, Any], learned: Mapping[str, Any]) -> str:
    """Return a table of the streams with the largest errors, relative to the targets' spread."""
    ranked = sorted(
        ((own["served"], name, own) for name, own in streams.items() if own["served"] is not None), reverse=True
    )
    covers = bool(learned.get("coverage"))
    rows = [
        (name, f"{own['labels']:,}", *(_number(own[method]) for method in ("served", "frozen", "online", "last")))
        + ((" ".join(_share(share) for share in own["coverage"]),) if covers else ())
        for _, name, own in ranked[:_MOST_STREAMS]
    ]
    columns = ("stream", "labels", "served", "the model", "corrected", "last label", *(("within",) if covers else ()))
    caption = f"The {len(rows)} streams with the largest errors, of all outputs together, in spreads of the targets"
    return table(rows, columns, caption=caption, numbers=1)


def _named(learned: Mapping[str, Any], outputs: Sequence[str], unit: int) -> str:
    return outputs[unit] if len(outputs) == len(learned["coverage"]) else f"head {unit + 1}"


def _number(value: float | None) -> str:
    return "" if value is None else number(value)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _float(value: float | None) -> float:
    return math.nan if value is None else value
