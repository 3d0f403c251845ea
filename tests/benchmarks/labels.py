"""Measure the processor's time for a label, and the memory of streams that learn from labels.

    python tests/benchmarks/labels.py [--streams 100000] [--repeats 5] [--updates 1000000]

The kernel's update is measured at 3 and at 64 inputs of the correction with three outputs, beside its NumPy reference
in the same run, and `Fleet.label` whole on a fleet of many streams. Last, one stream's correction is updated a million
times on inputs that ruin least squares with forgetting.
"""

from __future__ import annotations

import argparse
import itertools
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
from streamrde.adapting.readout import Readout
from streamrde.adapting.targets import Part, Targets
from streamrde.kernels import IMPLEMENTATION, kalman
from streamrde.kernels.reference import kalman as reference


def per_call(work, repeats: int) -> tuple[float, float]:
    """Median and spread of the processor's seconds that a call takes."""
    seconds = []
    for _ in range(repeats):
        begin = time.process_time()
        work()
        seconds.append(time.process_time() - begin)
    return statistics.median(seconds), max(seconds) - min(seconds)


def blank(features: int, outputs: int) -> np.ndarray:
    """Weights of 0, and the lower triangle of P0."""
    triangle = 0.3 * np.eye(features)[np.tril_indices(features)]
    return np.concatenate([np.zeros(outputs * features), np.tile(triangle, outputs)])


def updates(features: int, labels: int, repeats: int) -> None:
    outputs, rng = 3, np.random.default_rng(0)
    rows, slots = np.tile(blank(features, outputs), (labels, 1)), np.arange(labels)
    phi, residual = rng.normal(size=(labels, outputs, features)), rng.normal(size=(labels, outputs))
    noise, keep, prior = np.ones_like(residual), np.full_like(residual, 0.99), np.full((outputs, features), 0.3)
    for name, update in ((IMPLEMENTATION.name, kalman), ("reference", reference)):
        middle, spread = per_call(
            lambda update=update: update(rows, slots, 0, phi, residual, noise, keep, prior, 2.5, 1e3), repeats
        )
        print(
            f"update, {features} inputs, {outputs} outputs, {name}: "
            f"{middle / labels * 1e6:.2f} us a label, +- {spread / labels * 1e6:.2f}"
        )


INPUTS = {
    "constant": lambda rng, n, features: np.ones((n, features)),
    "low rank": lambda rng, n, features: rng.normal(size=(n, 2)) @ rng.normal(size=(2, features)),
    "wild": lambda rng, n, features: rng.standard_cauchy(size=(n, features)).clip(-1e6, 1e6),
    "NaN": lambda rng, n, features: np.where(rng.random((n, 1)) < 0.3, np.nan, rng.normal(size=(n, features))),
}


def endure(count: int, kind: str, memory: float, features: int = 6) -> tuple[np.ndarray, bool]:
    """Update one stream's correction so often, with wild labels and missing ones, whole and restored on the way.

    Returns its columns, and whether those that were restored after every ten thousand updates or less have the same
    bits.
    """
    rng, targets = np.random.default_rng(0), Targets([Part("numbers", slice(0, 1))], np.array([1.0]), np.array([2.0]))
    readout = Readout(targets, 0, prior=np.full((1, features), 0.3), noise=np.ones(1), memory=memory)
    rows, restored = readout.blank[None].copy(), readout.blank[None].copy()
    phi = INPUTS[kind](rng, count, features)[:, None, :]
    labels = rng.standard_cauchy(size=(count, 1)) * 1e3
    labels[rng.random(count) < 0.1] = np.nan
    labels[rng.random(count) < 0.001] = np.inf
    frozen, t = rng.normal(size=(count, 1)), np.cumsum(rng.exponential(size=count))
    frozen[rng.random(count) < 0.001] = np.nan
    cuts = np.sort(rng.choice(count, min(count, 30 + count // 10_000), replace=False)).tolist()
    for begin in range(0, count, 100_000):
        own = slice(begin, begin + 100_000)
        readout.learn_in_turn(rows, frozen[own], phi[own], labels[own], t[own])
    for begin, end in itertools.pairwise([0, *cuts, count]):
        restored = np.frombuffer(restored.tobytes()).reshape(1, -1).copy()
        own = slice(begin, end)
        readout.learn_in_turn(restored, frozen[own], phi[own], labels[own], t[own])
    return rows[0], rows.tobytes() == restored.tobytes()


def variances(row: np.ndarray, features: int = 6) -> np.ndarray:
    """Eigenvalues of P."""
    P = np.zeros((features, features))
    P[np.tril_indices(features)] = row[features:-1]
    return np.linalg.eigvalsh(P, UPLO="L")


def endurance(count: int) -> None:
    for kind in INPUTS:
        for memory in (100.0, 1e12):
            row, same = endure(count, kind, memory)
            eigenvalues = variances(row)
            print(
                f"{count:,} updates on {kind} inputs, tau {memory:g}: finite {bool(np.isfinite(row).all())}, |theta| "
                f"{np.abs(row[:6]).max():.3g}, P from {eigenvalues.min():.2g} to {eigenvalues.max():.2g}, "
                f"same bits after restores {same}"
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
        begin = time.process_time()
        batch = fleet.label(names, labels, window=np.full(streams, window))
        seconds.append(time.process_time() - begin)
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
