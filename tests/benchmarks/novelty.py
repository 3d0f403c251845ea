"""Print how novelty's p-values are calibrated, what faults of a sensor they show, and what they cost.

usage: python tests/benchmarks/novelty.py

The shipped watch model, whose distribution is of people 1 to 7, on people 8 to 10, as they are and with faults put into
their recordings; the drift test's alarms are per recording. Then the cost of a window beside the compiled step.
AUC: of telling a faulty window from one that is as it was. Noise is in units of the channel's own, measured by second
differences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

import streamrde as sr
from streamrde import bench
from streamrde.arrays import Floats
from streamrde.bench.measuring import Case
from streamrde.connectors.files.reading import read
from streamrde.demo.watch_data import COLUMNS, MODEL, held_out_files
from streamrde.inference.novelty import Novelty
from streamrde.inference.steppers import make_stepper

Fault = Callable[[Floats, np.random.Generator], Floats]
ACCELERATION, ALL = [0, 1, 2], [0, 1, 2, 3, 4, 5]


def stuck(channels: list[int]) -> Fault:
    def fault(x: Floats, rng: np.random.Generator) -> Floats:
        x[:, channels] = x[0, channels]
        return x

    return fault


def swapped(order: list[int]) -> Fault:
    return lambda x, rng: x[:, order]


def gain(channels: list[int], factor: float) -> Fault:
    def fault(x: Floats, rng: np.random.Generator) -> Floats:
        x[:, channels] *= factor
        return x

    return fault


def noise(channels: list[int], factor: float) -> Fault:
    def fault(x: Floats, rng: np.random.Generator) -> Floats:
        # The variance of a second difference of white noise is 6 times its own; the median resists movements.
        own = np.sqrt(np.median(np.diff(x, 2, axis=0) ** 2, axis=0) / 0.455 / 6)[channels]
        x[:, channels] += factor * own * rng.normal(size=(len(x), len(channels)))
        return x

    return fault


FAULTS: dict[str, Fault] = {
    "none": lambda x, rng: x,
    "ax stuck": stuck([0]),
    "wx stuck": stuck([3]),
    "all stuck": stuck(ALL),
    "ax and ay swapped": swapped([1, 0, 2, 3, 4, 5]),
    "wx and wy swapped": swapped([0, 1, 2, 4, 3, 5]),
    "ax and wx swapped": swapped([3, 1, 2, 0, 4, 5]),
    "gain 2, acceleration": gain(ACCELERATION, 2.0),
    "gain 2, all": gain(ALL, 2.0),
    "gain 5, acceleration": gain(ACCELERATION, 5.0),
    "noise 3, all": noise(ALL, 3.0),
    "noise 10, acceleration": noise(ACCELERATION, 10.0),
    "noise 30, acceleration": noise(ACCELERATION, 30.0),
}


def recordings() -> dict[str, tuple[Floats, Floats]]:
    """Times and samples of each held-out stream."""
    batches = list(read(held_out_files(), COLUMNS))
    names = np.concatenate([np.array(batch.streams.to_pylist()) for batch in batches])
    t, x = (np.concatenate([np.asarray(getattr(batch, key)) for batch in batches]) for key in ("t", "x"))
    return {name: (t[names == name], x[names == name]) for name in np.unique(names).tolist()}


def separation(clean: Floats, faulty: Floats) -> float:
    """Share of pairs of a clean and a faulty window of which the faulty one has the smaller p-value."""
    ordered = np.sort(clean)
    above = len(clean) - np.searchsorted(ordered, faulty, side="right")
    ties = np.searchsorted(ordered, faulty, side="right") - np.searchsorted(ordered, faulty, side="left")
    return float((above + ties / 2).mean() / len(clean))


def faults(bundle: sr.Bundle) -> Table:
    table = Table(title="people 8 to 10")
    for column in ("fault", "AUC", "p < .01", "p < .05", "median p", "recordings alarmed", "after windows (median)"):
        table.add_column(column, justify="left" if column == "fault" else "right")
    clean = np.empty(0)
    for name, fault in FAULTS.items():
        rng, found, after = np.random.default_rng(0), [], []
        streams = recordings()
        for t, x in streams.values():
            predictor = sr.Predictor(bundle, novelty=True)
            p, alarm = [], None
            broken = fault(x.copy(), rng)
            for window in np.array_split(np.arange(len(t)), max(1, len(t) // 25)):
                p += [q.novelty for q in predictor.push_many(t[window], broken[window])]
                if alarm is None and predictor.state_counts.drifts:
                    alarm = len(p)
            found.append(np.array(p, dtype=np.float64))
            after += [] if alarm is None else [alarm]
        p_values = np.concatenate(found)
        if name == "none":
            clean = p_values
            ordered = np.sort(clean)
            distance = np.abs(ordered - (np.arange(len(ordered)) + 0.5) / len(ordered)).max()
            print(f"{len(clean):,} windows without a fault: distance to the uniform distribution (KS) {distance:.3f}")
        table.add_row(
            name,
            f"{separation(clean, p_values):.3f}",
            *(f"{(p_values < level).mean():.1%}" for level in (0.01, 0.05)),
            f"{np.median(p_values):.2g}",
            f"{len(after)} of {len(streams)}",
            f"{np.median(after):.0f}" if after else "",
        )
    return table


def costs(bundle: sr.Bundle) -> Iterator[Case]:
    """The step alone and the windows' p-values alone; then all that a fleet does of a window of 25 samples."""
    header, stepper = bundle.header, make_stepper(bundle)
    assert header.novelty is not None
    judge = Novelty(bundle.tensors, header.novelty, channels=header.path_channels, depth=header.depth)
    windows = np.random.default_rng(0).normal(size=(1024, header.logsig_channels))
    for count in (1, 64, 1024):
        own, z = windows[:count], np.zeros((count, header.hidden), dtype=stepper.dtype)
        engines = {"log-ODE step": partial(stepper.step, z, own), "p-values": partial(judge.p, own)}
        yield Case("window", f"{count} at once", "window", count, engines)
    for streams in (1, 64):
        engines = {
            name: Push(bundle, streams, novelty) for name, novelty in (("without", False), ("with novelty", True))
        }
        yield Case("fleet", f"{streams} streams", "window", streams, engines)


class Push:
    """Pushes half a second of samples, and so a window, of so many streams at every call."""

    def __init__(self, bundle: sr.Bundle, streams: int, novelty: bool) -> None:
        self._fleet = sr.Fleet(bundle, novelty=novelty)
        self._names = pa.array([str(i) for i in range(streams) for _ in range(25)])
        self._t = np.tile(np.arange(25) * 0.02, streams)
        self._x = np.random.default_rng(0).normal(size=(25 * streams, len(bundle.header.channels)))

    def __call__(self) -> object:
        self._t += 0.5
        return self._fleet.push(self._names, self._t, self._x)


if __name__ == "__main__":
    console = Console(width=120)
    console.print(", ".join(f"{name} {value}" for name, value in bench.machine().items()), highlight=False)
    model = sr.load(MODEL)
    console.print(faults(model))
    console.print(bench.table(bench.measure(costs(model), rounds=15)))
