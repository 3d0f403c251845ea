"""Write the report of a training run: one HTML file that opens anywhere, offline."""

from __future__ import annotations

import datetime
import os
import platform

import numpy as np

from streamrde.arrays import Floats
from streamrde.disk import replace_file
from streamrde.fitting.record import Curve, Run, as_comment, run_of
from streamrde.inference.bundle import Bundle
from streamrde.models.report import opening, sections, workings
from streamrde.models.report.quality import Answers, answers
from streamrde.models.report.resolution import outputs_to_depth, step_errors
from streamrde.models.report.speed import serving_speed
from streamrde.models.sweeping.space import all_tables
from streamrde.models.training.config import TrainConfig
from streamrde.models.training.history import Fitted, Predicted
from streamrde.models.training.splits import Split, warnings_of
from streamrde.models.training.verdict import NAMES
from streamrde.pages.page import alarm, lead, listing, page, section, table, tiles
from streamrde.pages.svg import duration, number, thinned

# Enough streams and windows to see the contribution of a level.
_STREAMS, _WINDOWS = 200, 20_000


def write_report(
    path: str | os.PathLike[str],
    fitted: Fitted,
    *,
    config: TrainConfig,
    parts: Split,
    seconds: float,
) -> None:
    """Write the report of a training run.

    The answers are those for the test streams, or without any, for the validation streams, or else for those of
    training. Measuring errors and speed takes about two seconds.

    Args:
        path: the HTML file.
        fitted: the model, its history and its predictions of each part.
        config: the run's configuration.
        parts: the streams of each part.
        seconds: duration of the run.
    """
    replace_file(path, report(fitted, config=config, parts=parts, seconds=seconds).encode())


def report(fitted: Fitted, *, config: TrainConfig, parts: Split, seconds: float) -> str:
    """Return the page. See `write_report`."""
    bundle, histories = fitted.bundle, fitted.histories
    header = bundle.header
    classify = header.task == "classification"
    answered = {name: answers(own, classify=classify) for name, own in fitted.parts.items() if own.examples}
    part = next(name for name in ("test", "validation", "train") if name in answered)
    shown, recordings = answered[part], getattr(parts, part)
    groups = {recording.stream: recording.group for recording in recordings} if config.split.undivided else {}
    exact = header.field.exact
    measured = serving_speed(bundle, recordings)
    windows = sum(len(example.logsigs) for example in fitted.parts["train"].examples)
    per_second = windows / float(np.median([epoch.seconds for history in histories for epoch in history.epochs]))
    levels, measure = _levels(bundle, fitted.parts[part])
    alarms = [*fitted.verdict.alarms, *_warnings(part, answered), *warnings_of(parts, config.split)]
    steps = opening.next_steps(fitted, part, config)
    chapters = [
        lead(opening.sentences(fitted, part, shown, groups)),
        tiles(_figures(fitted, part, seconds)),
        *(alarm(_sentence(text)) for text in alarms),
        section("What to try next", "", listing(steps)) if steps else "",
        section("Data", "", _data(config, parts, answered)),
        sections.metrics(header),
        sections.learning(histories),
        sections.classes(shown, part, header) if classify else sections.scatter(shown, part, header),
        sections.early(answered, header),
        sections.calibration(shown, part, header) if classify else "",
        workings.steps([] if exact else step_errors(bundle, recordings), levels, measure, bundle),
        workings.novelty(bundle, {name: own for name, own in fitted.parts.items() if own.examples}, shown, part),
        workings.speed(measured, per_second),
        sections.worst(shown, part, header, groups),
        sections.card(bundle),
    ]
    title = header.description or f"{', '.join(config.data.targets)} from {', '.join(c.name for c in header.channels)}"
    return page(title, _subtitle(config, seconds), chapters, data=as_comment([_record(fitted, config, seconds)]))


def _record(fitted: Fitted, config: TrainConfig, seconds: float) -> Run:
    """Return the run as data, with the curves of its first member."""
    history = fitted.histories[0]
    minutes = (np.cumsum([epoch.seconds for epoch in history.epochs]) / 60).tolist()

    def curve(name: str) -> Curve:
        values = (getattr(epoch, name) for epoch in history.epochs)
        finite = (value if value is not None and np.isfinite(value) else None for value in values)
        numbers = tuple(float(epoch.number) for epoch in history.epochs)
        return Curve(epochs=numbers, minutes=tuple(minutes), values=tuple(finite))

    curves = {"loss": curve("loss"), "validation_loss": curve("validation_loss")}
    if history.monitor != "loss":
        curves[history.monitor] = curve("monitored")
    return run_of(
        fitted.bundle,
        name="",
        kind="train",
        targets=config.data.targets,
        data=config.data.files,
        settings={name: table for name, table in all_tables(config).items() if name != "output"},
        curves={name: own for name, own in curves.items() if any(value is not None for value in own.values)},
        seconds=seconds,
        model=config.output.model,
    )


def _subtitle(config: TrainConfig, seconds: float) -> str:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    device = "" if config.training.device == "auto" else f"{config.training.device}, "
    return (
        f"A training run of streamrde, {now}, seed {config.training.seed}, {duration(seconds)} on "
        f"{device}{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )


def _figures(fitted: Fitted, part: str, seconds: float) -> list[tuple[str, str]]:
    metrics, header = fitted.bundle.header.metrics, fitted.bundle.header
    found, name = [], NAMES[part]
    for key, text in (
        ("accuracy_end", "right at a stream's end"),
        ("accuracy_windows", "right, all windows"),
        ("auc_end" if header.outputs == 2 else "", "area under the ROC curve, at the end"),
        ("rmse", "root mean square error"),
        ("mae", "mean absolute error"),
    ):
        if (value := metrics.get(f"{part}_{key}")) is not None:
            unit = header.units[0] if len(header.units) == 1 and header.units[0] else ""
            shown = f"{value:.1%}" if key.startswith("accuracy") else f"{number(value)} {unit}".strip()
            found.append((shown, f"{name}: {text}"))
    members, first = len(fitted.histories), fitted.histories[0]
    kept = (f"{first.best} of {len(first.epochs)}", "epoch that was kept")
    return [
        *found,
        kept if members == 1 else (str(members), "members of the ensemble"),
        (f"{fitted.bundle.parameters:,}", "parameters"),
        (duration(seconds), "training took"),
    ]


def _warnings(part: str, answered: dict[str, Answers]) -> list[str]:
    found = []
    if part != "test":
        found.append(
            f"There is no test part: the answers below are for the {NAMES[part]} streams, which the training "
            "has seen. Set split.test"
        )
    if "validation" not in answered:
        found.append("There is no validation part: the last epoch's weights were kept. Set split.validation")
    return found


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _data(config: TrainConfig, parts: Split, answered: dict[str, Answers]) -> str:
    rows: list[tuple[str, ...]] = []
    for name, recordings in parts._asdict().items():
        if not recordings:
            continue
        own = answered.get(name)
        lasted = np.array([recording.t[-1] - recording.t[0] for recording in recordings])
        names = sorted({recording.group for recording in recordings}, key=lambda group: (len(group), group))
        listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if config.split.undivided else ""
        rows.append(
            (
                NAMES[name],
                f"{len(recordings):,}",
                f"{len(names):,}",
                f"{sum(len(recording.t) for recording in recordings):,}",
                f"{0 if own is None else len(own.value):,}",
                number(float(np.median(lasted))),
                listed,
            )
        )
    what = config.split.undivided
    columns: tuple[str, ...] = (
        "part",
        "streams",
        "groups",
        "samples",
        "windows",
        "median seconds",
        f"groups by {what}",
    )
    if not what:
        rows, columns = [row[:6] for row in rows], columns[:6]
    return table(rows, columns, numbers=1, last=5)


def _levels(bundle: Bundle, predicted: Predicted) -> tuple[list[tuple[int, float]], str]:
    """Measure the answers with only the first levels of the log-signatures, for each number of levels."""
    header = bundle.header
    longest = max(len(example.logsigs) for example in predicted.examples)
    few = max(5, min(_STREAMS, _WINDOWS // longest))
    chosen = [
        example._replace(
            ends=example.ends[:_WINDOWS], logsigs=example.logsigs[:_WINDOWS], target=example.target[:_WINDOWS]
        )
        for example in (predicted.examples[i] for i in thinned(len(predicted.examples), few))
    ]
    found, classify = [], header.task == "classification"
    for depth in range(1, header.depth + 1):
        outputs: list[Floats] = outputs_to_depth(bundle, chosen, depth)
        if classify:
            # Logarithms of probabilities are logits.
            outputs = [np.log(np.maximum(own, 1e-30)) for own in outputs]
        own = answers(Predicted(chosen, outputs), classify=classify)
        if classify:
            found.append((depth, float(np.nanmean(own.right))))
            continue
        with np.errstate(invalid="ignore"):
            error = np.sqrt(np.nanmean((own.value - own.target) ** 2, axis=0)) / bundle.tensors["output.scale"]
        found.append((depth, float(np.nanmean(error))))
    return found, "windows that are right" if classify else "error in deviations of the target"
