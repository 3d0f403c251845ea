"""Measure what a label costs, and the memory of streams that learn from labels.

    python tests/benchmarks/labels.py [--streams 100000] [--repeats 5]

The kernel's update is measured at 3 and at 64 inputs of the correction with three outputs, beside its NumPy reference
in the same run, and `Fleet.label` whole on a fleet of many streams.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from bundles import make_bundle

import streamrde as sr
from streamrde.kernels import IMPLEMENTATION, kalman
from streamrde.kernels.reference import kalman as reference


def per_call(work, repeats: int) -> tuple[float, float]:
    """Median and spread of the seconds that a call takes."""
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds), max(seconds) - min(seconds)


def updates(features: int, labels: int, repeats: int) -> None:
    outputs, rng = 3, np.random.default_rng(0)
    row = np.concatenate([np.zeros(outputs * features), np.tile(0.3 * np.eye(features).ravel(), outputs)])
    rows, slots = np.tile(row, (labels, 1)), np.arange(labels)
    phi, innovation = rng.normal(size=(labels, outputs, features)), rng.normal(size=(labels, outputs))
    noise, keep, prior = np.ones_like(innovation), np.full_like(innovation, 0.99), np.full((outputs, features), 0.3)
    for name, update in ((IMPLEMENTATION.name, kalman), ("reference", reference)):
        middle, spread = per_call(
            lambda update=update: update(rows, slots, 0, phi, innovation, noise, keep, prior, 2.5), repeats
        )
        print(
            f"update, {features} inputs, {outputs} outputs, {name}: "
            f"{middle / labels * 1e6:.2f} us a label, +- {spread / labels * 1e6:.2f}"
        )


def fleets(streams: int, repeats: int) -> None:
    bundle = make_bundle(task="regression", labels=(), outputs=3, windows=sr.Every(1.0), interpolation="hold")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fleet = sr.Fleet(bundle, adapt="best")
    names = np.arange(streams)
    rng = np.random.default_rng(0)
    seconds = []
    for window in range(repeats):
        fleet.push(names, np.full(streams, float(window)), rng.normal(size=(streams, 2)))
        fleet.advance(window + 1.0)
        labels = rng.normal(size=(streams, 3))
        begin = time.perf_counter()
        batch = fleet.label(names, labels, window=np.full(streams, window))
        seconds.append(time.perf_counter() - begin)
        assert set(batch["outcome"].unique().to_pylist()) == {"joined"}
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = len(next(iter(fleet.snapshot(["0"]).values())))
    print(
        f"Fleet.label, {streams:,} streams learning: {statistics.median(seconds) / streams * 1e6:.2f} us a label, "
        f"+- {(max(seconds) - min(seconds)) / streams * 1e6:.2f}; a stream's snapshot has {size:,} bytes; the process "
        f"grew by {(after - before) / 1024:,.0f} MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}")
    updates(3, 10_000, asked.repeats)
    updates(64, 500, asked.repeats)
    fleets(asked.streams, asked.repeats)


if __name__ == "__main__":
    main()
