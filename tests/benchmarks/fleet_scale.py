"""What a Fleet costs at scale: time a sample and memory a stream as streams grow in number, and what two threads bring.

    python tests/benchmarks/fleet_scale.py [--streams 1000 1000000] [--rounds 7]

Interleaved streams of four path channels, depth 3, windows of 64 samples. "push" is the whole Fleet.push with the
smallest model; "loop" is it without names, steps and record batches: order, edges, signatures, log-signatures. Beside
them `LogSignature.push_many` of one stream, window by window. Each size runs in its own process, so that its memory is
its own; what is compared is timed in turn. Prints a JSON object a size.
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

from streamrde import Fleet, LogSignature
from streamrde.bench.kernels import smallest_model
from streamrde.kernels import IMPLEMENTATION

CHANNELS, DEPTH, WINDOW, LEAST_ROWS = 4, 3, 64, 65_536


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
    table = fleets[1]._table
    slots = table.names.find(names.dictionary.to_pylist())[np.arange(rows) % streams]
    fleets[2] = Fleet(smallest_model(CHANNELS, DEPTH), threads=2)
    alone = LogSignature(CHANNELS, DEPTH)
    windows = [
        window.copy() for window in np.insert(x[: rows // WINDOW * WINDOW], 0, 0.0, axis=1).reshape(-1, WINDOW, 4)
    ]

    def loop(threads: int) -> float:
        nonlocal clock
        t = clock + 1.0 + np.arange(rows) // streams
        clock = float(t[-1])
        began = time.perf_counter()
        table.loop.push(table.rows, slots, t, x, True, threads)
        return (time.perf_counter() - began) / rows

    def push_many() -> float:
        began = time.perf_counter()
        for window in windows:
            alone.push_many(window)
            alone.value()
            alone.reset()
        return (time.perf_counter() - began) / rows

    runs = {
        "push": lambda: push(fleets[1]),
        "push, 2 threads": lambda: push(fleets[2]),
        "loop": lambda: loop(1),
        "loop, 2 threads": lambda: loop(2),
        "push_many": push_many,
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):  # the first is not counted
        for name, run in runs.items():
            times[name].append(run())
    ns = {name: np.array(values[1:]) * 1e9 for name, values in times.items()}
    return {
        "streams": streams,
        "rows_per_call": rows,
        "ns_per_sample": {name: spread(values) for name, values in ns.items()},
        "push_over_push_many": spread(ns["push"] / ns["push_many"]),
        "loop_over_push_many": spread(ns["loop"] / ns["push_many"]),
        "push_two_threads_times_faster": spread(ns["push"] / ns["push, 2 threads"]),
        "loop_two_threads_times_faster": spread(ns["loop"] / ns["loop, 2 threads"]),
        "bytes_per_stream": round(held / streams),
        "bytes_per_row_of_the_table": table.rows.shape[1] * 8,
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
