"""Print the largest error of tokens of several scales along a stream without end.

    python tests/benchmarks/endless_scales.py [--windows 1000000] [--checked 300] [--restores 300]

One stream of two channels goes through `sr.Features`, in calls of random length. At random places its snapshot is
restored into new `Features`. Log-signatures over the last 1 to 32 windows are compared with exact rational arithmetic
on the samples, for windows spread over the whole stream. Prints the largest error of a coefficient relative to the
largest of its log-signature, tenth by tenth of the stream, with the process's memory. Exits with 1 where an error
exceeds 1e-12 or memory grew.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import naive
from benchmarks.long_stream import resident

import streamrde as sr

SCALES, DEPTH, LIMIT = (1, 2, 3, 4, 8, 16, 32), 2, 1e-12
SAMPLES = 4  # of a window; times are exact in binary, so that windows end at samples


def features() -> sr.Features:
    return sr.Features(channels=["a", "b"], windows=sr.Every(1.0), scales=SCALES, depth=DEPTH, ends=False, of="tokens")


def error_of(tokens: np.ndarray, window: int, samples: np.ndarray) -> float:
    """Return the largest error of a window's tokens; `samples` end with the last of the window."""
    size, largest = len(tokens) // len(SCALES), 0.0
    for place, scale in enumerate(SCALES):
        count = SAMPLES * min(scale, window + 1)
        path = samples[-count - 1 :]
        exact = naive.logsignature(naive.exact(path), DEPTH)
        most = max(abs(coefficient) for coefficient in exact)
        own = tokens[place * size : (place + 1) * size]
        largest = max(
            largest, *(float(abs(naive.Fraction(float(a)) - b) / most) for a, b in zip(own, exact, strict=True))
        )
    return largest


def measure(windows: int, checked: int, restores: int, seed: int = 0) -> tuple[list[float], list[int], float]:
    """Return the largest error in each tenth of the stream, the memory after each, and seconds per window."""
    rng = np.random.default_rng(seed)
    wanted = set(np.linspace(0, windows - 1, checked).astype(int).tolist())
    errors, memory, seconds = [0.0] * 10, [0] * 10, 0.0
    live, done, taken = features(), 0, 0
    kept = np.empty((0, 3))  # the latest samples
    while done < windows:
        count = int(rng.integers(1, 4000))
        t = np.arange(taken, taken + count) / SAMPLES
        new = np.column_stack([t, rng.normal(size=(count, 2))])
        kept = np.concatenate([kept[-SAMPLES * (max(SCALES) + 1) - 1 :], new])
        began = time.perf_counter()
        rows = live.push(["s"] * count, t, new[:, 1:])
        if rng.random() < restores * count / (windows * SAMPLES):
            saved, live = live.snapshot(), features()
            live.restore(saved)
        seconds += time.perf_counter() - began
        taken += count
        numbers = rows.column("window").to_numpy()
        if found := sorted(wanted & set(numbers.tolist())):
            tokens = live.to_numpy(rows)
            for window in found:
                after = taken - SAMPLES * (window + 1) - 1  # samples behind the window's last
                tenth = min(9, window * 10 // windows)
                error = error_of(tokens[window - numbers[0]], window, kept[: len(kept) - after])
                errors[tenth] = max(errors[tenth], error)
        done += len(numbers)
        memory[min(9, done * 10 // windows)] = resident()
    return errors, memory, seconds / done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=1_000_000)
    parser.add_argument("--checked", type=int, default=300, help="windows that are computed exactly too")
    parser.add_argument("--restores", type=int, default=300, help="about how often a snapshot is restored")
    options = parser.parse_args()
    errors, memory, seconds = measure(options.windows, options.checked, options.restores)
    figures = {
        "windows": options.windows,
        "us_per_window": round(seconds * 1e6, 2),
        "largest_relative_error_in_each_tenth": errors,
        "resident_MB_after_each_tenth": [round(own / 1e6, 1) for own in memory],
    }
    print(json.dumps(figures))
    return int(max(errors) > LIMIT or memory[-1] > memory[1] + 20_000_000)


if __name__ == "__main__":
    raise SystemExit(main())
