"""A model's card: what it takes, what it gives, how it was made."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from streamrde.inference.bundle import Bundle, Header
from streamrde.windowing.policies import Count, Every


def card(bundle: Bundle, name: str) -> Group:
    """The card as something rich can print."""
    header = bundle.header
    facts = Table(show_header=False, box=None, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    for what, value in _facts(bundle):
        facts.add_row(what, value)
    channels = Table(title="channels", title_justify="left", pad_edge=False)
    for column in ("name", "unit", "value before first observed"):
        channels.add_column(column)
    for channel in header.channels:
        channels.add_row(channel.name, channel.unit or "-", f"{channel.fill:.6g}")
    parts: list[Text | Table] = [Text(f"{name}  {header.description}", style="bold"), facts, channels]
    if header.metrics:
        measured = Table(title="measured in training", title_justify="left", pad_edge=False)
        measured.add_column("metric")
        measured.add_column("value", justify="right")
        for metric, number in header.metrics.items():
            measured.add_row(metric, f"{number:.6g}")
        parts.append(measured)
    return Group(*parts)


def _facts(bundle: Bundle) -> list[tuple[str, str]]:
    header, field = bundle.header, bundle.header.field
    hidden_layers = f"{field.layers} hidden layer{'s' if field.layers > 1 else ''} of {field.width}"
    labels = ", ".join(_named(label, unit) for label, unit in _outputs(header)) or str(header.outputs)
    return [
        ("task", header.task),
        ("outputs", labels),
        ("windows", _windows(header)),
        ("interpolation", header.interpolation),
        (
            "log-signature",
            f"depth {header.depth}, {header.path_channels} channels with time, {header.logsig_channels} features",
        ),
        ("hidden state", str(header.hidden)),
        ("field", f"{field.activation} perceptron, {hidden_layers}, {field.last_activation} before the last layer"),
        ("solver", f"{header.solver}, first stage from the {header.first_stage} window"),
        ("parameters", f"{bundle.parameters:,} {header.dtype}"),
        ("made with", ", ".join(f"{package} {version}" for package, version in header.versions.items()) or "-"),
        ("fingerprint", bundle.fingerprint),
    ]


def _outputs(header: Header) -> list[tuple[str, str]]:
    units = header.units or ("",) * header.outputs
    return list(zip(header.labels, units, strict=True)) if header.labels else []


def _named(label: str, unit: str) -> str:
    return f"{label} ({unit})" if unit else label


def _windows(header: Header) -> str:
    windows = header.windows
    if isinstance(windows, Count):
        return f"{windows.n} samples each"
    if isinstance(windows, Every):
        since = "the first sample" if windows.align == "first" else "time 0"
        return f"{windows.seconds:g} s each, counted from {since}"
    return str(windows)
