"""What was measured, for people: the machine, the table, the chart."""

from __future__ import annotations

import importlib.metadata
import io
import os
import platform
from itertools import groupby

import numpy as np
from rich.table import Table

from streamrde.bench import peers
from streamrde.bench.measuring import Figure
from streamrde.errors import MissingExtraError
from streamrde.kernels import IMPLEMENTATION


def machine() -> dict[str, str]:
    """Where and with what the figures were measured."""
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 (a stream of the kernel's, not a file)
            processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), processor)
    except OSError:
        pass
    return {
        "processor": processor,
        "cores": str(os.cpu_count()),
        "kernels": IMPLEMENTATION.name,
        "dtype": "float64",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "streamrde": importlib.metadata.version("streamrde"),
    } | peers.versions()


def table(figures: list[Figure]) -> Table:
    """The figures as something rich can print: medians, and quartiles of the ratios."""
    made = Table(box=None, pad_edge=False)
    made.add_column("case", no_wrap=True)
    made.add_column("engine", no_wrap=True)
    made.add_column("median", justify="right", no_wrap=True)
    made.add_column("x ours", justify="right", no_wrap=True)
    made.add_column("quartiles", justify="right", no_wrap=True, style="dim")
    for group, members in groupby(figures, key=lambda figure: figure.group):
        made.add_row(f"[bold]{group}[/bold]")
        for case, engines in groupby(members, key=lambda figure: figure.case):
            for place, figure in enumerate(engines):
                low, high = figure.ratio_quartiles
                ratio = ("1", "") if place == 0 else (f"{figure.ratio:.3g}", f"{low:.3g}-{high:.3g}")
                # The size of the log-signature is left to the JSON: the row is to fit 80 columns.
                name = case.split(" (")[0] if place == 0 else ""
                made.add_row(name, figure.engine.removeprefix("streamrde "), duration(figure.median), *ratio)
    return made


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    factor, unit = (1e9, "ns") if seconds < 1e-6 else (1e6, "us") if seconds < 1e-3 else (1e3, "ms")
    return f"{seconds * factor:.3g} {unit}"


def chart(figures: list[Figure]) -> bytes:
    """A bar per engine and case, time on a logarithmic axis, a panel per group; an SVG file.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure as Canvas
    except ImportError:
        raise MissingExtraError("a chart", "bench") from None
    panels = [(group, list(members)) for group, members in groupby(figures, key=lambda figure: figure.group)]
    names = list(dict.fromkeys(_library(figure) for figure in figures))
    colours = {name: "#c2410c" if name == "streamrde" else shade for name, shade in zip(names, _greys(), strict=False)}
    heights = [len({figure.case for figure in members}) for _, members in panels]
    with matplotlib.rc_context({"svg.hashsalt": "streamrde", "svg.fonttype": "none", "font.size": 9}):
        canvas = Canvas(figsize=(8, 0.9 * sum(heights) + 1.2), layout="constrained")
        axes = canvas.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
        for axis, (group, members) in zip(axes, panels, strict=True):
            cases = list(dict.fromkeys(figure.case for figure in members))
            for i, case in enumerate(cases):
                engines = [figure for figure in members if figure.case == case]
                step = 0.8 / len(engines)
                for k, figure in enumerate(engines):
                    y = i + (k + 0.5) * step - 0.4
                    colour = colours[_library(figure)] if k == 0 or _library(figure) != "streamrde" else "#fdba74"
                    axis.barh(y, figure.median, height=step * 0.92, color=colour)
                    axis.text(figure.median * 1.05, y, duration(figure.median), va="center", fontsize=7)
            axis.set_yticks(range(len(cases)), [case.split(" (")[0] for case in cases])
            axis.set_xscale("log")
            axis.set_xlim(right=4 * max(figure.median for figure in members))
            axis.invert_yaxis()
            axis.set_title(f"{group}: seconds per {members[0].unit}", loc="left")
            axis.spines[["top", "right"]].set_visible(False)
        handles = [matplotlib.patches.Patch(color=colours[name], label=name) for name in names]
        canvas.legend(handles=handles, loc="outside lower center", ncols=len(names), frameon=False)
        file = io.BytesIO()
        canvas.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _library(figure: Figure) -> str:
    return figure.engine.split()[0].rstrip(",")


def _greys() -> list[str]:
    return ["#c2410c", "#1f2937", "#4b5563", "#6b7280", "#9ca3af", "#cbd5e1"]
