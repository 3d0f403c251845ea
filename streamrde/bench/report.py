"""Show benchmark results: the machine, the table, the chart."""

from __future__ import annotations

import importlib.metadata
import io
import os
import platform
from itertools import groupby

import numpy as np
from rich.table import Column, Table

from streamrde.bench import peers
from streamrde.bench.measuring import Figure
from streamrde.errors import MissingExtraError, ParameterError
from streamrde.kernels import IMPLEMENTATION

# The groups whose engines are whole libraries, each with a colour of its own.
_DRAWN = ("one by one", "windows of 32", "batch")
# Okabe and Ito's colours, safe for the colour-blind. The first is streamrde's.
_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")


def machine() -> dict[str, str]:
    """Describe the machine and the versions that were measured."""
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
    """Return a table of medians, and of quartiles of the ratios."""
    names = [Column(name, no_wrap=True) for name in ("case", "engine")]
    numbers = [Column(name, justify="right", no_wrap=True) for name in ("median", "x ours")]
    spread = Column("quartiles", justify="right", no_wrap=True, style="dim")
    made = Table(*names, *numbers, spread, box=None, pad_edge=False)
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
    """Format seconds in a suitable unit."""
    factor, unit = (1e9, "ns") if seconds < 1e-6 else (1e6, "us") if seconds < 1e-3 else (1e3, "ms")
    return f"{seconds * factor:.3g} {unit}"


def chart(figures: list[Figure]) -> bytes:
    """Draw the log-signature libraries as an SVG file: a panel per group, a row per case, a dot per engine.

    Raises:
        ParameterError: none of the groups that the chart shows was measured.
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure as Canvas
        from matplotlib.lines import Line2D
    except ImportError:
        raise MissingExtraError("a chart", "bench") from None
    groups = [(group, list(members)) for group, members in groupby(figures, key=lambda figure: figure.group)]
    panels = [panel for panel in groups if panel[0] in _DRAWN]
    if not panels:
        raise ParameterError(f"a chart shows the groups {', '.join(map(repr, _DRAWN))}: measure one of them")
    names = list(dict.fromkeys(_library(figure) for _, members in panels for figure in members))
    colours = dict(zip(names, _COLOURS, strict=False))
    heights = [len({figure.case for figure in members}) for _, members in panels]
    with matplotlib.rc_context({"svg.hashsalt": "streamrde", "svg.fonttype": "none", "font.size": 9}):
        canvas = Canvas(figsize=(8, 0.32 * sum(heights) + 0.9 * len(panels)), layout="constrained")
        axes = canvas.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
        for axis, (group, members) in zip(axes, panels, strict=True):
            rows = {case: list(engines) for case, engines in groupby(members, key=lambda figure: figure.case)}
            for y, engines in enumerate(rows.values()):
                times = [figure.median for figure in engines]
                axis.plot([min(times), max(times)], [y, y], color="#d1d5db", linewidth=1, zorder=1)
                for figure in engines[1:]:
                    axis.plot(figure.median, y, "o", color=colours[_library(figure)], markersize=6)
                axis.plot(times[0], y, "D", color=colours[_library(engines[0])], markersize=7)
                axis.annotate(
                    duration(times[0]), (times[0], y), (-8, 0), textcoords="offset points", ha="right", va="center"
                )
            axis.set_yticks(range(len(rows)), [case.split(" (")[0] for case in rows])
            axis.set_xscale("log")
            axis.set_xlim(left=min(figure.median for figure in members) / 3)
            axis.set_ylim(len(rows) - 0.5, -0.5)
            axis.set_title(f"{group}: seconds per {members[0].unit}", loc="left", fontsize=9, fontweight="bold")
            axis.spines[["top", "right", "left"]].set_visible(False)
            axis.tick_params(left=False)
        marks = [
            Line2D([], [], linestyle="", marker="D" if i == 0 else "o", color=colours[name], label=name)
            for i, name in enumerate(names)
        ]
        canvas.legend(handles=marks, loc="outside upper center", ncols=len(names), frameon=False)
        file = io.BytesIO()
        canvas.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _library(figure: Figure) -> str:
    return figure.engine.split()[0].rstrip(",")
