"""A model's card: what it takes, what it gives, how it was made."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from streamrde.inference.bundle import Bundle, Head, Header
from streamrde.inference.fields import Linear
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
    heads = [(head.name or "outputs", f"{head.task}: {_outputs(head)}") for head in header.parts]
    return [
        *heads,
        ("read out", f"{_POOLED[header.pooling]}, {_EMITTED[header.emit]}"),
        ("windows", _windows(header)),
        ("interpolation", header.interpolation),
        (
            "log-signature",
            f"depth {header.depth}, {header.path_channels} channels with time, {header.logsig_channels} features",
        ),
        ("hidden state", str(header.hidden)),
        ("field", field.summary(header.hidden)),
        *([] if isinstance(field, Linear) else [("solver", _solver(header))]),
        ("decay", _decay(bundle)),
        ("range in training", _range(bundle)),
        ("parameters", f"{bundle.parameters:,} {header.dtype}"),
        ("made with", ", ".join(f"{package} {version}" for package, version in header.versions.items()) or "-"),
        ("fingerprint", bundle.fingerprint),
    ]


_POOLED = {"state": "the state", "mean": "the mean of the states so far"}
_EMITTED = {"every": "after every window", "last": "when the stream ends"}


def _outputs(head: Head) -> str:
    units = head.units or ("",) * head.outputs
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
    if not bundle.header.hidden_range:
        return "not known"
    return f"{bundle.tensors['range.low'].min():.3g} to {bundle.tensors['range.high'].max():.3g}"


def _windows(header: Header) -> str:
    windows = header.windows
    if isinstance(windows, Count):
        return f"{windows.n} samples each"
    if isinstance(windows, Every):
        since = "the first sample" if windows.align == "first" else "time 0"
        return f"{windows.seconds:g} s each, counted from {since}"
    return str(windows)
