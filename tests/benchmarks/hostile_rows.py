"""A million rows with every fault at once: counts that add up, and how much slower they are than clean rows.

    python tests/benchmarks/hostile_rows.py [--rows 1000000] [--streams 1000]

Rows of many streams come interleaved, shuffled within the lateness, some beyond it, some twice, with channels missing,
gaps, infinities, times that are no numbers, and times far in the past. What became of each row is counted twice: by the
fleet, and by a slow program in plain words (tests/naive.py); the two must be equal, stream by stream. Rates are of the
whole Fleet.push, model included, hostile and clean rows in turn.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1]))

import naive
from bundles import make_bundle

import streamrde as sr
from streamrde.inference.table import Counts
from streamrde.kernels import IMPLEMENTATION

LATENESS = 2.0
ORDER = sr.Order(lateness=LATENESS, duplicates="first")


def make_clean(rows, streams, seed=0):
    """Interleaved streams at about 10 Hz: names, times, samples."""
    rng = np.random.default_rng(seed)
    index = np.sort(rng.integers(0, streams, rows), kind="stable")
    steps = rng.exponential(0.1, rows) + 1e-3
    t = steps.cumsum()
    first = np.searchsorted(index, np.arange(streams))
    t -= np.append(t, 0.0)[np.minimum(first, rows - 1)][index]
    x = rng.normal(size=(rows, 2)) * 0.1
    x = x.cumsum(axis=0) - x.cumsum(axis=0)[np.minimum(first, rows - 1)][index]
    order = np.argsort(t, kind="stable")
    return index[order], 1.7e9 + t[order], x[order]


def make_hostile(rows, streams, seed=0):
    """The same with faults."""
    rng = np.random.default_rng(seed + 1)
    repeats = rows // 50
    index, t, x = make_clean(rows - repeats, streams, seed)
    t = t + 90.0 * (np.sin(index + np.floor((t - 1.7e9) / 40)) > 0.9)  # gaps, and time that goes back after them
    x[rng.random(x.shape) < 0.3] = np.nan
    delay = rng.uniform(0, LATENESS, len(t))
    delay[rng.random(len(t)) < 0.01] += 5 * LATENESS
    order = np.argsort(t + delay, kind="stable")
    again = np.sort(rng.integers(0, len(t), repeats))
    order = np.insert(order, np.minimum(again + rng.integers(1, 50, repeats), len(t)), order[again])
    index, t, x = index[order], t[order].copy(), x[order].copy()
    t[rng.random(rows) < 0.002] = np.nan
    t[rng.random(rows) < 0.002] -= 1e6
    x[rng.random(rows) < 0.002, 1] = -np.inf
    return index, t, x


def push_all(fleet, index, t, x, names, batch=10_000):
    """Seconds for all rows, in batches."""
    codes = index.astype(np.int32)
    began = time.perf_counter()
    for i in range(0, len(t), batch):
        rows = slice(i, i + batch)
        streams = pa.DictionaryArray.from_arrays(pa.array(codes[rows]), names)
        fleet.push(streams, t[rows], x[rows])
    fleet.flush()
    return time.perf_counter() - began


def reconcile(index, t, x, names, bundle):
    """Counts of the fleet and of the slow program, stream by stream; raises where they differ."""
    fleet = sr.Fleet(bundle, faults="drop", order=ORDER)
    unused = 0
    for i in range(0, len(t), 10_000):
        rows = slice(i, i + 10_000)
        fleet.push(pa.DictionaryArray.from_arrays(pa.array(index[rows].astype(np.int32)), names), t[rows], x[rows])
        unused += len(fleet.unused)
    total = Counts()
    for stream in np.unique(index):
        own = index == stream
        _, fates = naive.put_in_order(
            zip(t[own].tolist(), x[own].tolist(), strict=True), lateness=LATENESS, duplicates="first"
        )
        expected = Counts(**Counter(fates))
        counts = fleet.counts(f"s{stream}")
        if counts != expected:
            raise SystemExit(f"stream s{stream}: the fleet counts {counts}, by hand it is {expected}")
        total += counts
    if sum(total) != len(t) or unused != len(t) - total.samples - total.merged or fleet.counts() != total:
        raise SystemExit(f"{len(t)} rows went in, {total} are counted, {unused} listed as unused")
    return total


def main(rows, streams, rounds):
    """Count, then time."""
    bundle = make_bundle(interpolation="hold", gap=sr.Gap(seconds=30.0), windows=sr.Every(1.0))
    linear = make_bundle(gap=sr.Gap(seconds=30.0), windows=sr.Every(1.0))
    names = pa.array([f"s{i}" for i in range(streams)])
    clean, hostile = make_clean(rows, streams), make_hostile(rows, streams)
    counts = reconcile(*hostile, names, bundle)
    result = {"rows": rows, "streams": streams, "counts": counts._asdict()}
    for name, model in (("hold", bundle), ("linear", linear)):
        ratios, best = [], {}
        for _ in range(rounds):
            taken = {}
            for kind, data, order in (("clean", clean, None), ("hostile", hostile, ORDER)):
                taken[kind] = push_all(sr.Fleet(model, faults="drop", order=order), *data, names)
                best[kind] = min(best.get(kind, np.inf), taken[kind])
            ratios.append(taken["hostile"] / taken["clean"])
        result[name] = {f"{kind}_rows_per_second": round(rows / seconds) for kind, seconds in best.items()}
        result[name]["hostile_over_clean"] = [round(float(q), 2) for q in np.quantile(ratios, [0.25, 0.5, 0.75])]
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    report = main(options.rows, options.streams, options.rounds)
    report["machine"] = f"{platform.machine()}, Python {platform.python_version()}, kernels {IMPLEMENTATION.name}"
    print(json.dumps(report, indent=2))
