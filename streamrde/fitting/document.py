"""Write a fit's report as one HTML page."""

from __future__ import annotations

import datetime
import html
import os
import platform
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from streamrde.fitting.config import text_of
from streamrde.fitting.mistakes import OfClass, by_class, confusion, most_confused
from streamrde.fitting.portrait import portrait
from streamrde.fitting.record import Run, as_comment, run_of
from streamrde.fitting.usage import embedding, run_commands, score_command
from streamrde.fitting.words import baseline_name, divided, explain_names, percent, rows_of
from streamrde.inference.card import sections
from streamrde.nearest import listed
from streamrde.pages.page import alarm, charts, code, figure, matrix, page, pair, section, table, tiles
from streamrde.pages.reliability import reliability_charts
from streamrde.pages.svg import Plot, axis, number, thinned

if TYPE_CHECKING:
    from streamrde.fitting.report import Report

_CLASSES = 30  # more make an unreadable matrix
_DOTS = 1500  # more make a larger file but not a better picture
_GROUPS = 20  # rows of the table of groups
_COLUMNS = {
    "accuracy": "right", "auc": "AUC", "average_precision": "average precision", "log_loss": "log loss",
    "calibration": "calibration error", "rmse": "rmse", "mae": "mean absolute error", "r2": "R2",
}  # fmt: skip


def document(report: Report) -> str:
    """Return the page of a report."""
    classify = bool(report.fitted.examples.labels)
    targets = report.config.target if isinstance(report.config.target, str) else ", ".join(report.config.target)
    return page(
        f"{targets} from {listed(report.fitted.examples.channels, most=6)}",
        _subtitle(report),
        [
            tiles(_figures(report)),
            "".join(f"<p>{html.escape(_sentence(text))}</p>" for text in report.sentences),
            *(alarm(_sentence(text.removeprefix("warning: "))) for text in report.warnings),
            portrait(report.fitted.examples, report.fitted.chosen, report.bundle),
            _data(report),
            _candidates(report),
            _classes(report) if classify else _numbers(report),
            _calibration(report) if classify else "",
            _early(report),
            _groups(report),
            _usage(report),
            _making(report),
        ],
        data=as_comment([_record(report)]),
    )


def _record(report: Report) -> Run:
    """Return the fit as data."""
    config = report.config
    settings = {name: value for name, value in msgspec.to_builtins(config).items() if name not in ("data", "out")}
    run = run_of(
        report.bundle,
        name="",
        kind="fit",
        targets=(config.target,) if isinstance(config.target, str) else config.target,
        data=config.data,
        settings=settings | {"choice": report.choice},
        seconds=report.seconds,
        model=config.out,
    )
    if report.fitted.examples.along:
        return run
    return msgspec.structs.replace(
        run, measures=run.measures | {"validation_streams": len(report.fitted.examples.truth)}
    )


def _subtitle(report: Report) -> str:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"A model fitted by streamrde, {now}, seed {report.config.seed}, {report.seconds:.1f} s on "
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )


def _figures(report: Report) -> list[tuple[str, str]]:
    measures, examples, found = report.measures, report.fitted.examples, []
    for name in ("accuracy", "auc", "rmse", "r2"):
        if name in measures and (name != "auc" or len(examples.labels) == 2):
            value = percent(measures[name]) if name == "accuracy" else number(float(f"{measures[name]:.4g}"))
            found.append((value, f"{_COLUMNS[name]}, not seen before"))
        if f"test_{name}" in measures:
            own = measures[f"test_{name}"]
            found.append((percent(own) if name == "accuracy" else number(own), f"{_COLUMNS[name]}, test part"))
    groups = len(np.unique(examples.groups))
    found.append((f"{len(examples.recordings):,}", "streams"))
    if groups < len(examples.recordings):
        found.append((f"{groups:,}", "groups"))
    found.append((f"{report.seconds:.1f} s", "the fit took"))
    return found


def _data(report: Report) -> str:
    roles, examples = report.roles, report.fitted.examples
    lengths = np.array([len(recording.t) for recording in examples.recordings])
    spans = np.array([recording.t[-1] - recording.t[0] for recording in examples.recordings])
    target = report.config.target if isinstance(report.config.target, str) else ", ".join(report.config.target)
    files = report.config.data if isinstance(report.config.data, str) else ", ".join(report.config.data)
    rows = [
        ("files", files or "none: it came as arrays"),
        ("target", f"{target} ({report.bundle.header.task})"),
        ("streams", f"column {roles.stream}" if roles.stream else "each file is one"),
        ("time", f"column {roles.time}, unit {report.config.time_unit}" if roles.time else "rows are 1 s apart"),
        ("channels", listed(roles.channels, most=40)),
        ("kept together", f"streams of one {roles.group}" if roles.group else "nothing: each stream by itself"),
        ("samples per stream", _range(lengths)),
        ("seconds per stream", _range(spans)),
    ]
    shares = table(
        [(own.label, f"{own.rows:,}") for own in _by_class(report)],
        ("class", rows_of(examples)),
        numbers=1,
        caption="how often each class occurs",
    ) if 0 < len(examples.labels) <= _CLASSES else ""  # fmt: skip
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in report.said)
    listing = f"<h3>Notes on reading</h3><ul>{notes}</ul>" if notes else ""
    return section("The data as it was understood", "", pair(table(rows), shares), listing)


def _candidates(report: Report) -> str:
    examples = report.fitted.examples
    baselines = report.baselines
    columns = [name for name in _COLUMNS if any(name in own for own in report.table.values())]
    if len(examples.labels) > 2:
        columns = [name for name in columns if name != "auc"]
    rows = []
    for name, own in report.table.items():
        shown = f"{baseline_name(name, examples)} (plain)" if name in baselines else name
        cells = [_measure(column, own.get(column)) for column in columns]
        rows.append((f"{shown} - chosen" if name == report.choice else shown, *cells))
    limits = [
        (_COLUMNS.get(name, name), _measure(name, report.measures[name]), _measure(name, low), _measure(name, high))
        for name, (low, high) in report.intervals.items()
        if name in report.measures
    ]
    return section(
        "What was compared",
        f"Every row answers {rows_of(examples)} that it was not fitted to: {_folds(report)}. The simplest candidate "
        "within half a standard error of the best log loss or squared error is chosen. "
        + explain_names(name for name in report.table if name not in baselines),
        table(rows, ("model", *(_COLUMNS[name] for name in columns)), numbers=1),
        table(limits, ("chosen model", "measured", "from", "to"), numbers=1, caption="95 % intervals"),
    )


def _folds(report: Report) -> str:
    folds = len(np.unique(report.fitted.examples.folds))
    kept = f", streams of one {report.roles.group} in the same one" if report.roles.group else ""
    if divided(report.fitted.examples):
        return f"{folds} folds of blocks of time were left out in turn"
    return f"{folds} folds were left out in turn{kept}"


def _measure(name: str, value: float | None) -> str:
    if value is None or not np.isfinite(value):
        return "-"
    # A measure of rounding errors alone is 0.
    return percent(value) if name.endswith("accuracy") else number(float(f"{round(value, 12):.4g}"))


def _by_class(report: Report) -> list[OfClass]:
    examples = report.fitted.examples
    return by_class(confusion(examples.codes, report.fitted.chosen.held_out), examples.labels)


def _classes(report: Report) -> str:
    examples, rows = report.fitted.examples, rows_of(report.fitted.examples)
    counts = confusion(examples.codes, report.fitted.chosen.held_out)
    own = table(
        [
            (found.label, f"{found.rows:,}", _measure("accuracy", found.recall), _measure("accuracy", found.precision))
            for found in _by_class(report)
        ],
        ("class", rows, "found", "right when said"),
        numbers=1,
    )
    pairs = most_confused(counts, examples.labels, most=10)
    mixed = table(
        [(pair_.true, pair_.said, f"{pair_.rows:,} of {pair_.of:,}") for pair_ in pairs],
        ("true", "said", rows),
        numbers=2,
        caption="most often confused",
    ) if pairs else ""  # fmt: skip
    small = len(examples.labels) <= _CLASSES
    shown = matrix(counts.tolist(), examples.labels, caption=f"{rows} that were left out") if small else ""
    return section(
        "Which classes are confused",
        "Rows are shaded by their share: blue is right, orange is wrong.",
        shown,
        pair(own, mixed),
    )


def _numbers(report: Report) -> str:
    examples, answers = report.fitted.examples, report.fitted.chosen.held_out
    figures = []
    for j, (true, said) in enumerate(zip(examples.truth.T, answers.T, strict=True)):
        known = np.flatnonzero(np.isfinite(true) & np.isfinite(said))
        dots = known[list(thinned(len(known), _DOTS))]
        name = examples.targets[j] if examples.targets else "target"
        both = np.concatenate([true[dots], said[dots]])
        title = f"{name}: predicted against true"
        plot = Plot(axis("true", both), axis("predicted", both), title=title)
        plot.diagonal("exact")
        plot.points(true[dots], said[dots])
        error = np.abs(said[known] - true[known])
        half, most = (number(float(f"{value:.3g}")) for value in np.quantile(error, (0.5, 0.9)))
        caption = f"half of the errors are within {half}, 90 % within {most}; {len(dots):,} of {len(known):,} are drawn"
        figures.append(figure(title, plot.svg(), caption))
    return section("Predicted and true values", f"Of {rows_of(examples)} that were left out.", charts(*figures))


def _calibration(report: Report) -> str:
    examples, said = report.fitted.examples, report.fitted.chosen.held_out
    rows = rows_of(examples)
    if len(examples.labels) == 2:
        probability, event = said[:, 1], (examples.codes == 1).astype(float)
        what, share = f"probability of {examples.labels[1]}", f"share that is {examples.labels[1]}"
    else:
        probability = said.max(axis=1)
        event = (said.argmax(axis=1) == examples.codes).astype(float)
        what, share = "probability of the most likely class", "share that is right"
    return section(
        "Can the probabilities be trusted?",
        "Below the diagonal the model is surer than it should be.",
        reliability_charts(probability, event, what=what, share=share, of=f"{rows} that were left out", counted=rows),
    )


def _early(report: Report) -> str:
    early = report.early
    if not early:
        return ""
    names = [name for name in ("accuracy", "auc", "log_loss", "rmse", "r2") if name in early[0].measures]
    if len(report.fitted.examples.labels) > 2:
        names = [name for name in names if name != "auc"]
    rows = [
        (f"{100 * own.share:.0f} %", f"{own.seconds:.4g}", *(_measure(name, own.measures.get(name)) for name in names))
        for own in early
    ]
    main = names[0]
    values = [own.measures[main] for own in early]
    shares = [own.share for own in early]
    vertical = axis(_COLUMNS[main], values, percent=main == "accuracy", zero=main == "rmse")
    plot = Plot(axis("part of the stream", [0, 1], zero=True, high=1, percent=True), vertical, title="Early answers")
    plot.line(shares, values)
    plot.points(shares, values, size=4)
    silent = max(own.silent for own in early)
    text = "The answer after the last window that had closed by then, by a model that has not seen the stream's group."
    if report.fitted.examples.along:
        text = "Answers to windows in each part of a stream, from the share above it on, that were left out."
    if silent:
        text += f" {silent:,} streams had no window yet: the plainest answer stands for them."
    return section(
        "How early is the answer right?",
        text,
        pair(
            table(rows, ("part of the stream", "median seconds", *(_COLUMNS[name] for name in names)), numbers=1),
            figure(
                "After parts of each stream",
                plot.svg(),
                f"{early[0].rows:,} {rows_of(report.fitted.examples)}",
            ),
        ),
    )


def _groups(report: Report) -> str:
    if not (groups := report.groups):
        return ""
    classify = bool(report.fitted.examples.labels)
    rows = [
        (own.group, f"{own.rows:,}", percent(own.error) if classify else number(float(f"{own.error:.4g}")))
        for own in groups[:_GROUPS]
    ]
    kind = report.roles.group or "stream"
    more = f" The {_GROUPS} worst of {len(groups):,} are shown." if len(groups) > _GROUPS else ""
    return section(
        f"Errors by {kind}",
        ("" if divided(report.fitted.examples) else f"Each {kind} was left out as a whole.") + more,
        table(rows, (kind, rows_of(report.fitted.examples), "wrong" if classify else "rmse"), numbers=1),
    )


def _usage(report: Report) -> str:
    config = report.config
    command = score_command(
        config.data, config.out, stream=config.stream, time=config.time, time_unit=config.time_unit,
        columns=config.columns,
    )  # fmt: skip
    return section(
        "How to use the model",
        "",
        "<h3>Predict from recorded files</h3>",
        code(command),
        "<h3>Predict from live streams</h3>",
        code(run_commands(config.out)),
        "<h3>Predict in your own program</h3>",
        code(embedding(report.bundle.header, config.out)),
    )


def _making(report: Report) -> str:
    parts = [own for own in sections(report.bundle) if own.title in ("what it takes", "what it gives", "the model")]
    shown = pair(*(f"<h3>{own.title}</h3>{table(own.rows, own.columns)}" for own in parts))
    again = (
        f"<h3>The configuration that repeats it</h3>{code(report.again or text_of(report.config))}"
        if report.config.data
        else ""
    )
    return section("How it was made", f"Candidate: {report.choice}.", again, shown)


def _range(values: np.ndarray) -> str:
    low, middle, high = (number(float(f"{value:.4g}")) for value in np.quantile(values, (0, 0.5, 1)))
    return low if low == high else f"{low} to {high}, median {middle}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
