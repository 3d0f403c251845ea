"""Fit many short streams in little memory: seconds and peak memory, beside the bytes of the samples.

    python tests/benchmarks/large_fit.py --streams 1000000 --samples 50 --memory 2GB

Streams turn left, right or not at all, in noise. Rows are written file by file, grouped by stream or in order of time.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from streamrde.fitting import large
from streamrde.fitting.entry import fit

BLOCK = 20_000


def block(rng, first, count, samples):
    """Return the rows of some streams, stream by stream."""
    t, kind = np.arange(samples) / 10, rng.integers(0, 3, count)
    sign, size = np.array([-1.0, 1.0, 0.0])[kind], 1 + 0.2 * rng.normal(size=count)
    phase = t + rng.uniform(0, 2 * np.pi, (count, 1))
    a = size[:, None] * np.cos(2 * phase) + rng.normal(size=(count, samples))
    b = (sign * size)[:, None] * np.sin(2 * phase) + rng.normal(size=(count, samples))
    names = pa.array([f"device-{i}" for i in range(first, first + count)])
    columns = {
        "stream_id": names.take(pa.array(np.repeat(np.arange(count), samples))),
        "t": np.tile(t, count),
        "a": a.ravel().astype(np.float32),
        "b": b.ravel().astype(np.float32),
        "label": pa.array(["left", "right", "still"]).take(pa.array(np.repeat(kind, samples))),
    }
    return pa.table(columns)


def main():
    """Print a line for each stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=1_000_000)
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--memory", default="2GB")
    parser.add_argument("--order", choices=["grouped", "time"], default="grouped")
    parser.add_argument("--sample", type=int, default=large.SAMPLE_STREAMS, help="streams that choose the model")
    given = parser.parse_args()
    large.SAMPLE_STREAMS = given.sample
    rng, begin = np.random.default_rng(0), time.perf_counter()

    def say(text):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"{time.perf_counter() - begin:7.1f} s  peak {peak:5.2f} GB  {text}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        for number, first in enumerate(range(0, given.streams, BLOCK)):
            rows = block(rng, first, min(BLOCK, given.streams - first), given.samples)
            if given.order == "time":
                rows = rows.sort_by("t")
            pq.write_table(rows, Path(folder) / f"{number:04}.parquet")
        rows = given.streams * given.samples
        say(f"wrote {rows:,} rows, {rows * 24 / 1e9:.2f} GB as arrays of t, a and b in float64")
        report = fit(folder, "label", memory=given.memory, say=say)
    say(", ".join(f"{name} {report.measures[name]:.4f}" for name in ("accuracy", "log_loss", "nearest_accuracy")))


if __name__ == "__main__":
    main()
