"""A model's card: what it takes, what it gives, how it was made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from streamrde.inference.bundle import Bundle
from streamrde.inference.ends import Layers
from streamrde.inference.header import Head, Header


class Section(NamedTuple):
    """A part of the card: a table with a heading."""

    title: str
    rows: Sequence[tuple[str, ...]]
    columns: tuple[str, ...] = ()
    """Headings of the columns; none where rows are a name and a text."""


def sections(bundle: Bundle) -> list[Section]:
    """Return the card's sections, without empty ones."""
    header = bundle.header
    channels = [(channel.name, channel.unit or "-", f"{channel.fill:.6g}") for channel in header.channels]
    found = [
        Section(
            "what it is for", [(name, text) for name in ("description", "notes") if (text := getattr(header, name))]
        ),
        Section("what it takes", _takes(header)),
        Section("channels", channels, ("name", "unit", "value before first observed")),
        Section("what it gives", _gives(bundle)),
        Section("the model", _model(bundle)),
        Section("how it was trained", [*header.training.items(), ("made with", _versions(header))]),
        measured(header.metrics),
    ]
    return [section for section in found if section.rows]


def card(bundle: Bundle, name: str) -> Group:
    """Return the card as a renderable for rich."""
    parts: list[Text | Table] = [Text(name, style="bold")]
    for section in sections(bundle):
        plain = not section.columns
        table = Table(
            show_header=not plain,
            box=None if plain else box.SIMPLE_HEAD,
            show_edge=False,
        )
        for i, heading in enumerate(section.columns or ("", "")):
            number = section.title == _MEASURED and i > 0
            table.add_column(
                heading, justify="right" if number else "left", no_wrap=number or (plain and i == 0), overflow="fold"
            )
        for row in section.rows:
            table.add_row(*map(Text, row))
        parts += [Text(f"\n{section.title}", style="bold"), table]
    return Group(*parts)


_MEASURED = "measured in training"
_PARTS = ("train", "validation", "test")


def measured(metrics: Mapping[str, float]) -> Section:
    """Arrange measures such as ``{"test_rmse": 1.5}``: a row each, a column per part of the data, others first."""
    found: dict[str, dict[str, str]] = {}
    for name, value in metrics.items():
        part, _, measure = name.partition("_")
        if part not in _PARTS or not measure:
            part, measure = "", name
        found.setdefault(measure, {})[part] = figure(value)
    parts = [part for part in _PARTS if any(part in values for values in found.values())]
    alone = [measure for measure, values in found.items() if "" in values]
    columns = ("measure", *parts, *([""] if alone else []))
    order = [*alone, *(measure for measure in found if measure not in alone)]
    rows = [(measure.replace("_", " "), *(found[measure].get(part, "") for part in columns[1:])) for measure in order]
    return Section(_MEASURED, rows, columns)


def figure(value: float) -> str:
    """Format a measure with five significant digits and separated thousands. Counts stay whole."""
    if math.isfinite(value) and (value == int(value) or abs(value) >= 1e4) and abs(value) < 1e12:
        return f"{value:,.0f}"
    return f"{value:.5g}"


def _takes(header: Header) -> list[tuple[str, ...]]:
    missing = [name for name in ("counts", "elapsed") if getattr(header.missing, name)]
    gap = header.gap
    return [
        ("windows", header.windows.describe()),
        ("interpolation", header.interpolation),
        ("missing values", f"channels for {' and '.join(missing)} are added" if missing else "are interpolated"),
        ("training streams", _statistics(header)),
        ("gaps", "go unnoticed" if gap is None else f"longer than {gap.seconds:g} s: the state is {_GAPS[gap.state]}"),
    ]


def _statistics(header: Header) -> str:
    statistics = header.statistics
    if statistics is None:
        return "not known"
    _, median, _ = statistics.samples_per_window
    return f"{median:g} samples a window, {statistics.interval:g} s apart, at most {statistics.longest_silence:g} s"


def _gives(bundle: Bundle) -> list[tuple[str, ...]]:
    header = bundle.header
    return [
        *((head.name or "outputs", f"{head.task}: {_outputs(head)}") for head in header.parts),
        ("when", _EMITTED[header.emit]),
        *([("target", _target(header))] if header.target_at or header.horizon else []),
        ("novelty", _novelty(header)),
        ("flags", f"where the state leaves its range in training, {_range(bundle)}" if header.hidden_range else "none"),
    ]


def _novelty(header: Header) -> str:
    windows = header.novelty
    if windows is None:
        return "not known"
    return (
        f"p-values down to {1 / (windows.windows + 1):.1g}, from {windows.windows:,} windows of {windows.streams:,} "
        f"streams; drift at odds of {math.exp(windows.alarm):,.0f} to 1"
    )


def _model(bundle: Bundle) -> list[tuple[str, ...]]:
    header, field = bundle.header, bundle.header.field
    return [
        _token(header),
        ("hidden state", _state(header)),
        ("field", field.summary(header)),
        *([] if field.exact else [("solver", _solver(header))]),
        *_ends(header),
        ("decay", _decay(bundle)),
        ("read out", _POOLED[header.pooling]),
        ("parameters", f"{bundle.parameters:,} {header.dtype}"),
        ("fingerprint", bundle.fingerprint),
    ]


def _token(header: Header) -> tuple[str, str]:
    """Describe what drives the field."""
    token = header.token
    size = f"{header.path_channels} channels with time, {header.logsig_channels} features"
    if token.plain:
        return "log-signature", f"depth {header.depth}, {size}"
    scales = zip(token.scales, token.depths(header.depth), strict=True)
    parts = [
        f"log-signatures of the last {', '.join(f'{own.windows} (depth {depth})' for own, depth in scales)} windows"
    ]
    parts += ["values at the window's end"] * token.ends + ["summaries of each channel"] * token.summaries
    if token.bands is not None:
        parts.append(f"oscillations in {token.bands.count} bands of {token.bands.low:.3g} to {token.bands.high:.3g} Hz")
    if (own := token.pulses) is not None:
        parts.append(f"pulses with {own.count} time constants of {own.shortest:.3g} to {own.longest:.3g} s")
    clipped = f", clipped at {header.clip:.3g}" if header.clip else ""
    return "token", f"{', '.join(parts)}; {size}{clipped}"


def _ends(header: Header) -> list[tuple[str, ...]]:
    """Describe the initial layer and the readout where they are more than linear layers."""
    names = ("initial", "readout")
    return [(name, end.summary(header)) for name in names if (end := header.part(name)) != Layers()]


def _state(header: Header) -> str:
    if header.members == 1:
        return str(header.hidden)
    return f"{header.hidden}: an ensemble of {header.members} members of {header.member_hidden}"


_GAPS = {"reset": "restarted", "carry": "carried on"}
_POOLED = {"state": "the state", "mean": "the mean of the states so far"}


def _target(header: Header) -> str:
    """Describe the time whose truth an output predicts."""
    if header.target_at == "stream":
        return "one value for all of a stream"
    when = f", {header.horizon:g} s ahead of it" if header.horizon else ""
    return f"the last value of each window{when}"


_EMITTED = {"every": "after every window", "last": "when the stream ends"}


def _outputs(head: Head) -> str:
    units = head.units or ("",) * head.outputs
    if head.is_binary:
        return f"probability of {head.classes[1]} (of {head.classes[0]} and {head.classes[1]})"
    if not head.labels:
        return str(head.outputs)
    return ", ".join(f"{label} ({unit})" if unit else label for label, unit in zip(head.labels, units, strict=True))


def _solver(header: Header) -> str:
    steps = f"error <= {header.tolerance:g}" if header.substeps == "auto" else f"{header.substeps} a window"
    return f"{header.solver}, steps: {steps}, first stage from the {header.first_stage} window"


def _decay(bundle: Bundle) -> str:
    if not bundle.header.decay:
        return "none"
    rates = bundle.tensors["decay"]
    return f"{rates.min():.3g} to {rates.max():.3g} per second"


def _range(bundle: Bundle) -> str:
    """Return the range of all components but those that count windows."""
    header = bundle.header
    kept = np.ones(header.hidden, bool)
    for column, _ in header.field.counters:
        kept[column :: header.member_hidden] = False
    return f"{bundle.tensors['range.low'][kept].min():.3g} to {bundle.tensors['range.high'][kept].max():.3g}"


def _versions(header: Header) -> str:
    return ", ".join(f"{package} {version}" for package, version in header.versions.items()) or "-"
