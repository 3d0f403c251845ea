"""A stream of ten million samples through one LogSignature: memory stays flat, and no digit is lost.

    python tests/benchmarks/long_stream.py [--samples 10000000] [--window 64] [--checked 100]

Samples come one by one; after every window the log-signature is read and the accumulator reset. Windows spread over the
whole stream are computed again in exact rational arithmetic, and the largest error of a coefficient relative to the
window's largest is printed, with the process's memory at the tenths of the stream. Exits with 1 where an error exceeds
1e-12 or memory grew.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from streamrde import LogSignature

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import naive

CHANNELS, DEPTH, LIMIT = 4, 3, 1e-12


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--checked", type=int, default=100, help="windows that are computed exactly too")
    options = parser.parse_args()

    windows = options.samples // options.window
    every = max(1, windows // options.checked)
    acc, rng = LogSignature(CHANNELS, DEPTH), np.random.default_rng(0)
    last = np.zeros(CHANNELS)
    acc.push(last)
    largest, checked, memory, pushing = 0.0, 0, [], 0.0
    for window in range(windows):
        points = last + rng.normal(size=(options.window, CHANNELS)).cumsum(axis=0) * 0.1
        began = time.perf_counter()
        for point in points:
            acc.push(point)
        value = acc.value()
        acc.reset()
        pushing += time.perf_counter() - began
        if window % every == every // 2:
            exact = naive.logsignature(naive.exact(np.vstack([last, points])), DEPTH)
            scale = max(abs(coefficient) for coefficient in exact)
            error = max(abs(naive.Fraction(float(a)) - b) / scale for a, b in zip(value, exact, strict=True))
            largest, checked = max(largest, float(error)), checked + 1
        if window % max(1, windows // 10) == windows // 10 - 1:
            memory.append(resident())
        last = points[-1]
    growth = memory[-1] - memory[0]
    print(
        json.dumps(
            {
                "samples": windows * options.window,
                "ns_per_sample": round(pushing / (windows * options.window) * 1e9, 1),
                "windows_checked": checked,
                "largest_relative_error": largest,
                "resident_MB_at_each_tenth": [round(m / 1e6, 1) for m in memory],
            }
        )
    )
    return int(largest > LIMIT or growth > 1_000_000)


def resident() -> int:
    """Bytes of memory that the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    raise SystemExit(main())
