"""What a Fleet costs at scale: time a sample and memory a stream as streams grow in number, and what two threads bring.

    python tests/benchmarks/fleet_scale.py [--streams 1000 1000000] [--rounds 7]

Interleaved streams of four path channels, depth 3, windows of 64 samples, the smallest model. Each size runs in its own
process, so that its memory is its own; threads are timed in turn within one process. Prints a JSON object a size.
"""

import argparse
import contextlib
import ctypes
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from streamrde import Fleet
from streamrde.bench.kernels import smallest_model
from streamrde.kernels import IMPLEMENTATION

CHANNELS, DEPTH, LEAST_ROWS = 4, 3, 65_536


def measure(streams: int, rounds: int) -> dict[str, object]:
    rows = max(LEAST_ROWS, streams)
    x = np.random.default_rng(0).normal(size=(rows, CHANNELS - 1)).cumsum(axis=0) * 0.01
    names = pa.DictionaryArray.from_arrays(
        pa.array(np.arange(rows) % streams, pa.int32()), pa.array([f"plant-1/pump-{i:07}" for i in range(streams)])
    )
    fleets = {1: Fleet(smallest_model(CHANNELS, DEPTH))}
    before, clock = resident(), 0.0

    def push(fleet: Fleet) -> float:
        nonlocal clock
        t = clock + 1.0 + np.arange(rows) // streams
        clock = float(t[-1])
        began = time.perf_counter()
        fleet.push(names, t, x)
        return (time.perf_counter() - began) / rows

    push(fleets[1])
    held = resident() - before
    row = fleets[1]._table.rows.shape[1] * 8
    push(fleets[1])
    single = [push(fleets[1]) for _ in range(rounds)]
    fleets[2] = Fleet(smallest_model(CHANNELS, DEPTH), threads=2)
    push(fleets[2])
    pairs = [(push(fleets[1]), push(fleets[2])) for _ in range(rounds)]
    speedups = [one / two for one, two in pairs]
    return {
        "streams": streams,
        "rows_per_call": rows,
        "ns_per_sample": spread(np.array(single) * 1e9),
        "bytes_per_stream": round(held / streams),
        "bytes_per_row_of_the_table": row,
        "two_threads_times_faster": spread(np.array(speedups)),
    }


def spread(values: np.ndarray) -> dict[str, float]:
    low, median, high = np.percentile(values, [25, 50, 75])
    return {"median": round(float(median), 2), "quartiles": [round(float(low), 2), round(float(high), 2)]}


def resident() -> int:
    """Bytes of memory that the process holds now; the most it held, where the system does not tell."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what the allocator only keeps for later does not count
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--here", action="store_true", help="measure in this process")
    options = parser.parse_args()
    if options.here:
        for streams in options.streams:
            print(json.dumps(measure(streams, options.rounds)), flush=True)
        return
    print(
        f"Python {platform.python_version()}, NumPy {np.__version__}, streamrde "
        f"{importlib.metadata.version('streamrde')}, kernels {IMPLEMENTATION.name}, {os.cpu_count()} cores",
        file=sys.stderr,
    )
    for streams in options.streams:
        command = [sys.executable, __file__, "--here", "--streams", str(streams), "--rounds", str(options.rounds)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
