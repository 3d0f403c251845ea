"""Show measures of predictions as tables."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from rich.table import Table


def tables(evaluation: dict[str, Any]) -> Iterator[Table]:
    """Yield the tables that show a summary of `scoring.evaluation`."""
    if "confusion" in evaluation:
        yield _accuracy(evaluation)
        yield _confusion(evaluation)
    elif all("unit" in values for values in evaluation.values()):
        yield _errors(evaluation)
        yield _errors_at_end(evaluation)
    else:
        for head, own in evaluation.items():
            for table in tables(own):
                table.title = f"{head}: {table.title}"
                yield table


def progressive_tables(learned: dict[str, Any]) -> Iterator[Table]:
    """Yield the tables that show a summary of `scoring.progressive`."""
    methods = list(learned["rmse"])
    outputs = learned["outputs"] or [str(i) for i in range(len(learned["rmse"]["frozen"]))]
    table = Table("rmse", *methods, title=f"Predicted before each of {learned['labels']:,} labels was learned")
    for i, name in enumerate(outputs):
        table.add_row(name, *(_number(learned["rmse"][method][i]) for method in methods))
    for count, own in learned["after"].items():
        table.add_row(f"all, after {count} labels, in spreads", *(_number(own[method]) for method in methods))
    yield table
    if learned["beside_last"]:
        table = Table("served / last label", "worst stream", "its ratio", "streams above 1.05", "streams")
        table.title = "Errors as served by those of the last label, from a stream's first label on"
        for name, own in zip(outputs, learned["beside_last"], strict=True):
            above = f"{own['above_1.05']:,}"
            table.add_row(name, own["worst_stream"], f"{own['ratio']:.3f}", above, f"{own['streams']:,}")
        yield table
    if "coverage" in learned:
        table = Table("interval", "labels", "coverage", "worst stream", "its coverage", "worst 200", "width", "drifts")
        table.title = f"Intervals of {learned['asked']:.0%} that follow the labels"
        for i, own in enumerate(learned["coverage"]):
            name = outputs[i] if len(outputs) == len(learned["coverage"]) else str(i)
            worst = own["worst_stream"] or ""
            shares = (_share(own[key]) for key in ("coverage", "worst_stream_coverage", "worst_200"))
            everywhere, of_worst, in_a_row = shares
            cells = (
                f"{own['labels']:,}",
                everywhere,
                worst,
                of_worst,
                in_a_row,
                _number(own["width"]),
                f"{own['drifts']:,}",
            )
            table.add_row(name, *cells)
        yield table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def alarms(evaluation: dict[str, Any], name: str = "") -> Iterator[str]:
    """Yield what is to be said of a model that is worse than one answer to everything."""
    of = f" of '{name}'" if name else ""
    if "confusion" in evaluation:
        found, always = evaluation["accuracy"], evaluation["majority_accuracy"]
        if found is not None and found < always:
            yield (
                f"the model{of} is right in {found:.1%} of the windows, and always '{evaluation['majority']}' would be "
                f"in {always:.1%}"
            )
        return
    for head, own in evaluation.items():
        if "unit" not in own:
            yield from alarms(own, head)
        elif own.get("rmse", 0.0) > own.get("mean_rmse", math.inf):
            yield (
                f"the model of '{head}' has rmse {own['rmse']:.4g}, and always the mean of the truth would have "
                f"{own['mean_rmse']:.4g}"
            )


def outcome(evaluation: dict[str, Any]) -> str:
    """Return the outcome of an evaluation, in a line."""
    if "confusion" in evaluation:
        if evaluation["accuracy"] is None:
            return "no window has a truth that the model knows"
        return (
            f"{evaluation['accuracy']:.1%} of {evaluation['windows']:,} windows right; always "
            f"'{evaluation['majority']}' would be in {evaluation['majority_accuracy']:.1%}"
        )
    parts = []
    for name, own in evaluation.items():
        if "unit" not in own:
            parts.append(f"{name}: {outcome(own)}")
        elif "rmse" in own:
            parts.append(f"'{name}' rmse {own['rmse']:.4g}, the mean of the truth {own['mean_rmse']:.4g}")
        else:
            parts.append(f"'{name}': no window has a truth")
    return "; ".join(parts)


def _accuracy(evaluation: dict[str, Any]) -> Table:
    table = Table("measure", "value", title="Evaluation")
    for name, key, form in (
        ("windows", "windows", "{:,}"),
        ("accuracy, all windows", "accuracy", "{:.1%}"),
        (f"always '{evaluation['majority']}', all windows", "majority_accuracy", "{:.1%}"),
        ("mean log loss, all windows", "log_loss", "{:.4f}"),
        ("accuracy, last window of a stream", "accuracy_at_end", "{:.1%}"),
        ("area under the ROC curve, last window", "auc_at_end", "{:.4f}"),
        ("average precision, last window", "average_precision_at_end", "{:.4f}"),
        ("mean F1, last window", "f1_at_end", "{:.4f}"),
        ("mean log loss, last window", "log_loss_at_end", "{:.4f}"),
        ("calibration error, last window", "calibration_at_end", "{:.4f}"),
    ):
        if (value := evaluation[key]) is not None:
            table.add_row(name, form.format(value))
    if evaluation["unknown"]:
        table.add_row("windows without a class the model knows", f"{evaluation['unknown']:,}")
    if evaluation["not_finite"]:
        table.add_row("windows whose value is not finite", f"{evaluation['not_finite']:,}")
    return table


def _confusion(evaluation: dict[str, Any]) -> Table:
    table = Table("true \\ predicted", *evaluation["labels"], "F1", title="Windows by class")
    for label, row in zip(evaluation["labels"], evaluation["confusion"], strict=True):
        f1 = evaluation["f1"][label]
        table.add_row(label, *(f"{n:,}" if n else "." for n in row), "" if f1 is None else f"{f1:.3f}")
    return table


def _errors(evaluation: dict[str, Any]) -> Table:
    names = {"rmse": "rmse", "mean_rmse": "rmse of the mean", "r2": "R2", "mae": "mae", "bias": "bias"}
    known = dict.fromkeys(measure for own in evaluation.values() for measure in own)
    names |= {measure: f"{measure[1:]} % of |error|" for measure in known if measure.startswith("q")}
    measures = [measure for measure in names if measure in known]
    table = Table("output", "windows", *(names[measure] for measure in measures), title="Errors")
    for name, values in evaluation.items():
        unit = f" ({values['unit']})" if values["unit"] else ""
        table.add_row(
            f"{name}{unit}", f"{values['windows']:,}", *(f"{values.get(m, float('nan')):.4g}" for m in measures)
        )
    return table


def _errors_at_end(evaluation: dict[str, Any]) -> Table:
    table = Table("output", "rmse", "mae", "R2", title="Errors at the streams' ends")
    for name, values in evaluation.items():
        own = [values.get(f"{measure}_at_end") for measure in ("rmse", "mae", "r2")]
        table.add_row(name, *("" if value is None else f"{value:.4g}" for value in own))
    return table
