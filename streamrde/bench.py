"""`streamrde bench`: our kernels beside their peers, in the same run, on the same threads.

A peer is measured where it is installed: pysiglib (extra `train`), iisignature, signatory. Every engine of a case runs
once per round, one after the other, so that a machine that slows down slows all of them; what counts is the ratio
within a round, its median over the rounds and its quartiles.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from streamrde.inference.bundle import MLP, Bundle, Channel, Header
from streamrde.inference.table import StreamTable
from streamrde.kernels import IMPLEMENTATION, Loop
from streamrde.signature import LogSignature, logsignature, logsignature_channels
from streamrde.windowing.policies import Count

PEERS = ("pysiglib", "iisignature", "signatory")
# (channels, depth) and (batch, length, channels, depth) that all published comparisons of these libraries lie between.
SIZES = ((2, 2), (4, 3), (8, 3), (3, 5))
BATCHES = (
    (128, 128, 4, 3),
    (32, 1024, 4, 3),
    (32, 128, 8, 3),
    (32, 128, 3, 5),
    (1, 10_000, 6, 3),
    (1024, 32, 3, 2),
)
_WINDOW = 32
_SAMPLES = 3200


class Case(NamedTuple):
    """One comparison. `engines` run alike; the first is ours."""

    group: str
    name: str
    unit: str
    per: int
    """How many units one call does."""
    engines: dict[str, Callable[[], object]]


class Figure(NamedTuple):
    """Times of one engine in one case, seconds per unit, and how many times slower it is than ours."""

    group: str
    case: str
    unit: str
    engine: str
    median: float
    quartiles: tuple[float, float]
    ratio: float
    ratio_quartiles: tuple[float, float]


def measure(cases: Iterator[Case], *, rounds: int, on_case: Callable[[str], None] = lambda _: None) -> list[Figure]:
    """Time every case over a number of rounds, its engines in turn."""
    figures = []
    for case in cases:
        on_case(f"{case.group}: {case.name}")
        times: dict[str, list[float]] = {engine: [] for engine in case.engines}
        for run in case.engines.values():
            run()  # caches, tables, page faults
        for _ in range(rounds):
            for engine, run in case.engines.items():
                repeats, seconds = 1, 0.0
                # Long enough that the clock's resolution and a stray interrupt do not count.
                while seconds < 0.01:
                    began = time.perf_counter()
                    for _ in range(repeats):
                        run()
                    seconds = time.perf_counter() - began
                    taken, repeats = seconds / repeats, repeats * 4
                times[engine].append(taken / case.per)
        ours = np.array(next(iter(times.values())))
        for engine, values in times.items():
            low, median, high = np.percentile(values, [25, 50, 75])
            ratio_low, ratio, ratio_high = np.percentile(np.array(values) / ours, [25, 50, 75])
            figures.append(
                Figure(
                    case.group,
                    case.name,
                    case.unit,
                    engine,
                    float(median),
                    (float(low), float(high)),
                    float(ratio),
                    (float(ratio_low), float(ratio_high)),
                )
            )
    return figures


def cases() -> Iterator[Case]:
    """Every comparison that the installed peers allow."""
    for size in SIZES:
        yield _incremental(*size)
    for size in SIZES:
        yield _windows(*size)
    for batch in BATCHES:
        yield _batch(*batch)
    if Loop is not None:
        yield from _fleet(4, 3)


def _incremental(channels: int, depth: int) -> Case:
    """Samples pushed one by one, the log-signature read every 32."""
    windows = [list(window) for window in _path(_SAMPLES, channels).reshape(-1, _WINDOW, channels)]
    acc = LogSignature(channels, depth)

    def ours() -> None:
        push, value, reset = acc.push, acc.value, acc.reset
        for window in windows:
            for x in window:
                push(x)
            value()
            reset()

    engines: dict[str, Callable[[], object]] = {"streamrde push": ours}
    if _has("pysiglib"):
        import pysiglib

        pysiglib.prepare_log_sig(channels, depth, method=2)
        pysiglib.prepare_log_sig(channels, depth, method=3)

        def theirs() -> None:
            stream = pysiglib.LogSigStream(dimension=channels, degree=depth)
            for i, window in enumerate(windows):
                for x in window:
                    stream.push(x)
                stream.sig(i * _WINDOW, (i + 1) * _WINDOW - 1)

        engines["pysiglib LogSigStream"] = theirs
    return Case("one by one, read every 32", _size(channels, depth), "sample", _SAMPLES, engines)


def _windows(channels: int, depth: int) -> Case:
    """Windows of 32 samples, each pushed or computed in one call."""
    windows = [window.copy() for window in _path(_SAMPLES, channels).reshape(-1, _WINDOW, channels)]
    acc = LogSignature(channels, depth)

    def ours() -> None:
        for window in windows:
            acc.push_many(window)
            acc.value()
            acc.reset()

    engines: dict[str, Callable[[], object]] = {"streamrde push_many": ours}
    for peer, compute in _peers(channels, depth):
        engines[f"{peer}, anew"] = partial(_each, compute, windows)
    return Case("windows of 32", _size(channels, depth), "sample", _SAMPLES, engines)


def _batch(batch: int, length: int, channels: int, depth: int) -> Case:
    """Log-signatures of many paths in one call."""
    paths = _path(batch * length, channels).reshape(batch, length, channels).copy()
    engines: dict[str, Callable[[], object]] = {"streamrde": lambda: logsignature(paths, depth)}
    for peer, compute in _peers(channels, depth):
        engines[peer] = partial(compute, paths)
    return Case("batch", f"{batch} x {length}, {_size(channels, depth)}", "call", 1, engines)


def _fleet(channels: int, depth: int) -> Iterator[Case]:
    """Interleaved streams through the loop, windows of 64, the model's step left out, beside push_many of one."""
    window, rows = 64, 65_536
    acc = LogSignature(channels, depth)
    path = _path(rows, channels)
    chunks = list(path.reshape(-1, window, channels))

    def one_stream() -> None:
        for chunk in chunks:
            acc.push_many(chunk)
            acc.value()
            acc.reset()

    for streams in (1000, 100_000):
        table = StreamTable(_model(channels, depth, window))
        slots = np.array([table.add(str(i)) for i in range(streams)], dtype=np.intp)
        order = np.tile(slots, -(-rows // streams) if streams < rows else 1)
        x = np.ascontiguousarray(np.resize(path[:, 1:], (len(order), channels - 1)))
        clock = np.zeros(1)

        def loop(table: Any = table, order: Any = order, x: Any = x, clock: Any = clock) -> None:
            turn = np.arange(len(order)) // len(table.names) + clock[0] + 1.0
            clock[0] = turn[-1]
            table.loop.push(table.rows, order, turn, x, True)

        alone = partial(_repeat, one_stream, max(1, round(len(order) / rows)))
        engines: dict[str, Callable[[], object]] = {"streamrde Fleet": loop, "streamrde push_many": alone}
        yield Case("fleet", f"{streams:,} streams, {_size(channels, depth)}", "sample", len(order), engines)


def _each(compute: Callable[[Any], object], windows: list[Any]) -> None:
    for window in windows:
        compute(window)


def _repeat(run: Callable[[], object], times: int) -> None:
    for _ in range(times):
        run()


def _peers(channels: int, depth: int) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Functions of an array of points, (..., L, C), that give its log-signature at the Lyndon words, or as near."""
    if _has("pysiglib"):
        import pysiglib

        pysiglib.prepare_log_sig(channels, depth, method=1)
        yield "pysiglib method 1", lambda path: pysiglib.log_sig(path, depth, method=1)
    if _has("iisignature"):
        import iisignature

        prepared = iisignature.prepare(channels, depth, "C")
        yield "iisignature C", lambda path: iisignature.logsig(path, prepared, "C")
    if _has("signatory"):
        import signatory
        import torch

        torch.set_num_threads(1)

        def compute(path: Any) -> Any:
            batched = torch.from_numpy(path.reshape(-1, *path.shape[-2:]))
            return signatory.logsignature(batched, depth, mode="words")

        yield "signatory words", compute


def _model(channels: int, depth: int, window: int) -> Bundle:
    """The smallest model with these windows: what is measured is everything but its step."""
    header = Header(
        channels=tuple(Channel(name=f"x{i}") for i in range(1, channels)),
        depth=depth,
        hidden=1,
        outputs=1,
        field=MLP(width=1, layers=1),
        windows=Count(window),
    )
    scales = ("x0.shift", "x0.scale", "logsig.scale", "output.shift", "output.scale")
    return Bundle(
        header,
        {
            name: np.zeros(shape, "float64" if name in scales else header.dtype)
            for name, shape in header.shapes().items()
        },
    )


def _path(length: int, channels: int) -> Any:
    return np.random.default_rng(0).normal(size=(length, channels)).cumsum(axis=0) * 0.1


def _size(channels: int, depth: int) -> str:
    return f"C={channels}, N={depth} (B={logsignature_channels(channels, depth)})"


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def machine() -> dict[str, str]:
    """Where and with what the figures were measured."""
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 (a stream of the kernel's, not a file)
            processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), processor)
    except OSError:
        pass
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    for package in ("streamrde", *PEERS):
        if _has(package):
            versions[package] = importlib.metadata.version(package)
    return {
        "processor": processor,
        "cores": str(os.cpu_count()),
        "kernels": IMPLEMENTATION.name,
        "threads": "1",
        "dtype": "float64",
    } | versions


def table(figures: list[Figure]) -> Table:
    """The figures as something rich can print."""
    made = Table(box=None, pad_edge=False)
    for name, justify in (("case", "left"), ("engine", "left"), ("median", "right"), ("times ours", "right")):
        made.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    group, case = "", ""
    for figure in figures:
        if figure.group != group:
            group, case = figure.group, ""
            made.add_row(f"[bold]{group}[/bold]", end_section=True)
        low, high = figure.ratio_quartiles
        ratio = "1" if case != figure.case else f"{figure.ratio:.3g}  ({low:.3g} to {high:.3g})"
        made.add_row("" if case == figure.case else figure.case, figure.engine, _time(figure), ratio)
        case = figure.case
    return made


def _time(figure: Figure) -> str:
    factor, unit = (1e9, "ns") if figure.median < 1e-6 else (1e6, "us") if figure.median < 1e-3 else (1e3, "ms")
    return f"{figure.median * factor:.3g} {unit} / {figure.unit}"
