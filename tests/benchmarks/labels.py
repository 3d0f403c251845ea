"""Measure what a label costs, and the memory of streams that learn from labels.

    python tests/benchmarks/labels.py [--streams 100000] [--repeats 5] [--updates 1000000]

The kernel's update is measured at 3 and at 64 inputs of the correction with three outputs, beside its NumPy reference
in the same run, and `Fleet.label` whole on a fleet of many streams. Last, one stream's correction is updated a million
times on inputs that ruin least squares with forgetting.
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


INPUTS = {
    "constant": lambda rng, n, features: np.ones((n, features)),
    "low rank": lambda rng, n, features: rng.normal(size=(n, 2)) @ rng.normal(size=(2, features)),
    "wild": lambda rng, n, features: rng.standard_cauchy(size=(n, features)).clip(-1e6, 1e6),
}


def endurance(count: int) -> None:
    """Update one stream's correction so often, with wild labels and missing ones, and restore it on the way."""
    features, rng = 6, np.random.default_rng(0)
    blank = np.concatenate([np.zeros(features), 0.3 * np.eye(features).ravel()])
    one, slot, prior = np.ones((1, 1)), np.zeros(1, np.intp), np.full((1, features), 0.3)
    for name, draw in INPUTS.items():
        for memory in (100.0, np.inf):
            keep = one * np.exp(-1.0 / memory)
            rows, restored = blank[None].copy(), blank[None].copy()
            phi = draw(rng, count, features)[:, None, None, :]
            innovation = rng.standard_cauchy(size=(count, 1, 1)) * 1e3
            innovation[rng.random(count) < 0.1] = np.nan
            for step in range(count):
                kalman(rows, slot, 0, phi[step], innovation[step], one, keep, prior, 2.5)
            for step in range(count):
                if step % 9973 == 0:
                    restored = np.frombuffer(restored.tobytes()).reshape(1, -1).copy()
                kalman(restored, slot, 0, phi[step], innovation[step], one, keep, prior, 2.5)
            eigenvalues = np.linalg.eigvalsh(rows[0, features:].reshape(features, features))
            print(
                f"{count:,} updates on {name} inputs, tau {memory:g}: finite {bool(np.isfinite(rows).all())}, |theta| "
                f"{np.abs(rows[0, :features]).max():.3g}, P from {eigenvalues.min():.2g} to {eigenvalues.max():.2g}, "
                f"same bits after restores {rows.tobytes() == restored.tobytes()}"
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
    parser.add_argument("--updates", type=int, default=1_000_000, help="of one stream, in the test of endurance")
    asked = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}")
    updates(3, 10_000, asked.repeats)
    updates(64, 500, asked.repeats)
    fleets(asked.streams, asked.repeats)
    endurance(asked.updates)


if __name__ == "__main__":
    main()
