"""Sections of a report about the model's answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamrde.arrays import Floats, Indices
from streamrde.inference.bundle import Bundle
from streamrde.inference.card import measured, sections
from streamrde.inference.header import Header
from streamrde.models.report import quality
from streamrde.models.report.quality import Answers, OverTime
from streamrde.models.training.history import History
from streamrde.models.training.verdict import NAMES
from streamrde.pages.page import charts, figure, matrix, pair, section, table
from streamrde.pages.reliability import reliability_charts
from streamrde.pages.svg import Axis, Plot, axis, number, thinned

Parts = dict[str, Answers]

COLOURS = {"train": 0, "validation": 5, "test": 1}
# More dots than this make a larger file but not a better picture.
_DOTS = 1500
# More classes than this make an unreadable matrix.
_CLASSES = 30


def metrics(header: Header) -> str:
    """Show the measures of all parts."""
    of_parts = {name: value for name, value in header.metrics.items() if name.split("_")[0] in NAMES}
    shown = measured({name: value for name, value in of_parts.items() if value or "too_short" not in name})
    return section("Measures", "", table(shown.rows, shown.columns, numbers=1))


def learning(histories: Sequence[History]) -> str:
    """Show the learning curves of every member."""
    epochs = [epoch for history in histories for epoch in history.epochs]
    monitor = histories[0].monitor
    x = axis("epoch", [float(epoch.number) for epoch in epochs])

    def chart(title: str, y_title: str, *curves: tuple[str, str, int], log: bool = False) -> str:
        values = {name: [_curve(history, name) for history in histories] for name, _, _ in curves}
        seen = [value for own in values.values() for curve in own for value in curve]
        if not np.isfinite(seen).any():
            return ""
        plot = Plot(x, axis(y_title, seen, log=log), title=title, height=240)
        for name, label, colour in curves:
            # One label for all members.
            legend = label
            for history, curve in zip(histories, values[name], strict=True):
                if np.isfinite(curve).any():
                    numbers = [float(epoch.number) for epoch in history.epochs]
                    plot.line(numbers, curve, colour=colour, label=legend, dashed=label == "training")
                    legend = ""
        if len(histories) == 1:
            plot.rule(x=float(histories[0].best), label=f"kept: epoch {histories[0].best}")
        return figure(title, plot.svg())

    losses = [value for name in ("loss", "validation_loss") for h in histories for value in _curve(h, name)]
    spread = [value for value in losses if np.isfinite(value)]
    wide = min(spread, default=0) > 0 and max(spread) > 20 * min(spread)
    name = monitor.replace("_", " ")
    shown = charts(
        chart("Loss", "loss", ("loss", "training", 2), ("validation_loss", "validation", 1), log=wide),
        chart(f"Validation {name}", name, ("monitored", "", 1)) if monitor != "loss" else "",
        chart("Learning rate", "learning rate", ("learning_rate", "", 3)),
        chart("Length of the gradient", "mean before clipping", ("gradient_norm", "", 4), log=True),
    )
    validated = any(epoch.validation_loss is not None for epoch in epochs)
    kept = [f"epoch {history.best} of {len(history.epochs)}" for history in histories]
    if len(kept) > 1:
        kept = [f"{epoch} (member {member})" for member, epoch in enumerate(kept, start=1)]
    skipped = sum(epoch.skipped for epoch in epochs)
    text = (
        f"The weights of {', '.join(kept)} were kept, "
        + (f"the best by the validation streams' {name}." if validated else "the last one.")
        + (f" {skipped:,} steps were skipped because of their loss or gradient." if skipped else "")
    )
    return section("Learning", text, shown)


def _curve(history: History, name: str) -> list[float]:
    """Return a field of all epochs, NaN where it is None."""
    values = (getattr(epoch, name) for epoch in history.epochs)
    return [np.nan if value is None else float(value) for value in values]


def classes(shown: Answers, part: str, header: Header) -> str:
    """Show confusion matrices."""
    labels = header.labels
    everywhere = np.arange(len(shown.value))
    tables = [
        matrix(quality.confusion(shown, places).tolist(), labels, caption=caption)
        for places, caption in (
            (shown.at_end, f"at the end of each {NAMES[part]} stream"),
            (everywhere, f"after every window of the {NAMES[part]} streams"),
        )
        if header.emit == "every" or places is not everywhere
    ]
    if len(labels) > _CLASSES:
        tables = [_confused(shown, labels)]
    return section("Confusion", "Rows are shaded by their share: blue is right, orange is wrong.", pair(*tables))


def _confused(shown: Answers, labels: Sequence[str]) -> str:
    counts = quality.confusion(shown, np.arange(len(shown.value)))
    np.fill_diagonal(counts, 0)
    worst = np.argsort(-counts, axis=None, kind="stable")[:25]
    rows = [
        (labels[i], labels[j], f"{counts[i, j]:,}")
        for i, j in (divmod(int(place), len(labels)) for place in worst)
        if counts[i, j]
    ]
    return table(rows, ("true", "said", "windows"), numbers=2, caption="the classes most often confused")


def scatter(shown: Answers, part: str, header: Header) -> str:
    """Show predicted against true values, and residuals, for every target."""
    figures = []
    places = quality_places(shown, header)
    for j, (name, unit) in enumerate(zip(header.labels, units(header), strict=True)):
        known = places[np.isfinite(shown.target[places, j])]
        if not len(known):
            continue
        dots = known[list(thinned(len(known), _DOTS))]
        true, said = shown.target[dots, j], shown.value[dots, j]
        titles = [
            f"{shown.streams[i]}, {number(shown.ends[k])} s" for i, k in zip(shown.example[dots], dots, strict=True)
        ]
        both = np.concatenate([true, said])
        plot = Plot(axis(f"true{unit}", both), axis(f"predicted{unit}", both), title=f"{name}: predicted against true")
        plot.diagonal("exact")
        plot.points(true, said, titles=titles)
        error = shown.value[known, j] - shown.target[known, j]
        plain = _plain(unit)
        rmse, bias = number(float(np.sqrt((error**2).mean()))), number(float(error.mean()))
        r2 = 1 - (error**2).sum() / max(((shown.target[known, j] - shown.target[known, j].mean()) ** 2).sum(), 1e-300)
        drawn = f"{len(known):,} windows"
        if len(dots) < len(known):
            drawn = f"{len(dots):,} of {drawn}, evenly chosen,"
        caption = (
            f"{drawn} of the {NAMES[part]} streams; root mean square error {rmse}{plain}, "
            f"bias {bias}{plain}, R2 {r2:.3f}"
        )
        figures.append(figure(f"{name}: predicted against true", plot.svg(), caption))
        figures.append(_residuals(shown.value[known, j], error, name, unit))
    return section("Predicted and true values", "", charts(*figures))


def _residuals(said: Floats, error: Floats, name: str, unit: str) -> str:
    dots = list(thinned(len(said), _DOTS))
    levels = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    middle, bands = quality.residual_quantiles(said, error, quantiles=levels)
    plot = Plot(
        axis(f"predicted{unit}", said[dots]),
        axis(f"predicted - true{unit}", [*error[dots], *bands.ravel()]),
        title=f"{name}: residuals",
    )
    plot.points(said[dots], error[dots], colour=0, size=1.5)
    plot.band(middle, bands[0], bands[4], label="90 %")
    plot.band(middle, bands[1], bands[3], inner=True, label="50 %")
    plot.line(middle, bands[2], label="median")
    plot.rule(y=0.0)
    half, most = np.quantile(np.abs(error), (0.5, 0.9)).tolist()
    caption = f"half of the errors are within {number(half)}{_plain(unit)}, 90 % within {number(most)}{_plain(unit)}"
    return figure(f"{name}: residuals by what was predicted", plot.svg(), caption)


def early(parts: Parts, header: Header) -> str:
    """Show quality against time into the stream."""
    parts = {name: own for name, own in parts.items() if len(own.streams)}
    if all(np.diff(own.starts).max() == 1 for own in parts.values()):
        return ""
    curves: list[tuple[str, str, bool, dict[str, OverTime]]] = []
    if header.task == "classification":
        found = {name: quality.accuracy_over_time(own) for name, own in parts.items()}
        curves.append(("Accuracy", "streams that are right", True, found))
        if header.outputs == 2:
            found = {name: quality.auc_over_time(own) for name, own in parts.items()}
            curves.append(("Area under the ROC curve", "AUC", False, found))
    else:
        for j, (name, unit) in enumerate(zip(header.labels, units(header), strict=True)):
            found = {part: quality.error_over_time(own, j) for part, own in parts.items()}
            curves.append((f"{name}: error", f"root mean square error{unit}", False, found))
    figures = [_over_time(*curve) for curve in curves]
    figures.append(_running(curves[0][3]))
    return section(
        "How early is the answer right?",
        "The answer after the last window that had closed by then, for streams that were still running.",
        charts(*figures),
    )


def _over_time(title: str, y_title: str, percent: bool, found: dict[str, OverTime]) -> str:
    values = np.concatenate([np.concatenate([c.value, c.low, c.high]) for c in found.values()])
    vertical = axis(y_title, values, percent=percent, zero=not percent and title.endswith("error"))
    if percent or vertical.title == "AUC":
        vertical = vertical._replace(high=min(vertical.high, 1.0))
    banded = any(np.isfinite(curve.low).any() for curve in found.values())
    return _against_time(title, vertical, found, "band: 95 % confidence (Wilson)" if banded else "")


def _running(found: dict[str, OverTime]) -> str:
    nothing = np.empty(0)
    running = {
        name: curve._replace(value=curve.streams.astype(float), low=nothing, high=nothing)
        for name, curve in found.items()
    }
    counts = np.concatenate([curve.streams for curve in found.values()])
    vertical = axis("streams", counts, zero=True)
    return _against_time("Streams still running", vertical, running, "what each point above rests on")


def _against_time(title: str, vertical: Axis, found: dict[str, OverTime], caption: str) -> str:
    seconds = np.concatenate([curve.seconds for curve in found.values()])
    unit, clock = _clock(float(seconds.max()))
    plot = Plot(axis(f"{clock} since the stream began", seconds / unit, zero=True), vertical, title=title)
    for name, curve in found.items():
        if name == list(found)[-1] and np.isfinite(curve.low).any():
            plot.band(curve.seconds / unit, curve.low, curve.high, colour=COLOURS[name])
        dashed, label = name == "train", NAMES[name]
        plot.line(curve.seconds / unit, curve.value, colour=COLOURS[name], dashed=dashed, label=label)
    return figure(title, plot.svg(), caption)


def _clock(most: float) -> tuple[float, str]:
    """Choose the unit for times up to `most` seconds: return its length in seconds, and its name."""
    units = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
    return next(((unit, name) for unit, name in units if most >= 5 * unit), units[-1])


def calibration(shown: Answers, part: str, header: Header) -> str:
    """Show the reliability of probabilities."""
    places = quality_places(shown, header)
    known = places[np.isfinite(shown.target[places])]
    if header.outputs == 2:
        said, event = shown.value[known, 1], (shown.target[known] == 1).astype(float)
        what, share = f"probability of {header.labels[1]}", f"share that is {header.labels[1]}"
    else:
        said, event = shown.value[known].max(axis=1), shown.right[known]
        what, share = "probability of the most likely class", "share that is right"
    of = f"windows of the {NAMES[part]} streams"
    return section(
        "Can the probabilities be trusted?",
        "Below the diagonal the model is surer than it should be.",
        reliability_charts(said, event, what=what, share=share, of=of, counted="windows"),
    )


def worst(shown: Answers, part: str, header: Header, groups: dict[str, str]) -> str:
    """Show the streams with the largest errors."""
    classify = header.task == "classification"
    found = quality.worst_streams(shown, classify=classify)
    rows, columns = [], ["stream", *(["group"] if groups else [])]
    for stream in found:
        row = [stream.stream, *([groups.get(stream.stream, "")] if groups else [])]
        said, true = shown.value[stream.last], shown.target[stream.last]
        if classify:
            top = int(said.argmax())
            row += [header.labels[int(true)], header.labels[top], f"{said[top]:.0%}"]
        else:
            for j in range(header.outputs):
                row += [number(float(true[j])), number(float(said[j]))]
        rows.append([*row, f"{stream.windows:,}", f"{stream.error:.3g}"])
    if classify:
        columns += ["true", "said at the end", "with", "windows", "mean log loss"]
    else:
        for name, unit in zip(header.labels, units(header), strict=True):
            columns += [f"{name} true{unit}", "said"]
        columns += ["windows", "error in deviations"]
    begin = len(rows[0]) - 2 if classify else 1 + bool(groups)
    return section(
        "Where it does worst",
        f"The {NAMES[part]} streams with the largest mean error over their windows; values are those at the end.",
        table(rows, columns, numbers=begin),
    )


def card(bundle: Bundle) -> str:
    """Show the model card."""
    shown = [own for own in sections(bundle) if own.title != measured(bundle.header.metrics).title]
    return section("Model card", "", pair(*(f"<h3>{own.title}</h3>{table(own.rows, own.columns)}" for own in shown)))


def units(header: Header) -> list[str]:
    """Return the targets' units as suffixes such as " (bpm)", or ""."""
    return [f" ({unit})" if unit else "" for unit in header.units or ("",) * header.outputs]


def _plain(unit: str) -> str:
    return unit.replace("(", "").replace(")", "")


def quality_places(shown: Answers, header: Header) -> Indices:
    """Return the windows whose answers are served: all, or each stream's last one."""
    return shown.at_end if header.emit == "last" else np.arange(len(shown.value))
