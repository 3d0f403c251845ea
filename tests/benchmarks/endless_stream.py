"""Print whether a model with decay survives a stream far longer than any of its training.

usage: python tests/benchmarks/endless_stream.py [WINDOWS [EPOCHS]]

Trains on the shipped smart-watch recordings (people 1 to 7; streams of about 100 windows) with a learned decay, then
plays the recordings of people 8 to 10 one after the other, again and again, as one stream without end, a million
windows by default. The state is compared with its range in training, the answer at each recording's end with its
label, tenth by tenth of the stream. The same without decay stands beside it.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console

import streamrde as sr
from streamrde.disk import read_toml
from streamrde.models import TrainConfig, train

CHANNELS = ("ax", "ay", "az", "wx", "wy", "wz")


def trained(decay: float, epochs: int) -> sr.Bundle:
    import msgspec

    config = read_toml("configs/watch.toml", TrainConfig)
    replace = msgspec.structs.replace
    config = replace(
        config,
        model=replace(config.model, decay=decay, hidden=32),
        training=replace(config.training, epochs=epochs),
        output=replace(config.output, model="", metrics=""),
    )
    return train(config, console=Console(quiet=True))


def recordings() -> list[tuple[str, np.ndarray]]:
    found = []
    for subject in (8, 9, 10):
        table = pq.read_table(f"streamrde/demo/watch/subject-{subject:02d}.parquet").to_pydict()
        streams, labels = np.array(table["stream_id"]), np.array(table["label"])
        x = np.column_stack([table[name] for name in CHANNELS])
        for stream in dict.fromkeys(table["stream_id"]):
            own = streams == stream
            found.append((str(labels[own][0]), x[own]))
    return found


def play(bundle: sr.Bundle, windows: int) -> None:
    parts, predictor = recordings(), sr.Predictor(bundle)
    states = predictor._table.states
    low, high = bundle.tensors["range.low"], bundle.tensors["range.high"]
    t, closed, began = 0.0, 0, time.perf_counter()
    tenths: list[list[bool]] = [[] for _ in range(10)]
    farthest = np.full(10, -np.inf)
    while closed < windows:
        for label, x in parts:
            times = t + 0.02 * np.arange(len(x))
            t = times[-1] + 0.02
            predictions = predictor.push_many(times, x)
            closed += len(predictions)
            tenth = min(9, closed * 10 // windows)
            tenths[tenth].append(predictions[-1].label == label)
            z = predictor._table.rows[0, states._z]
            beyond = np.maximum(low - z, z - high) / (high - low)
            farthest[tenth] = max(farthest[tenth], beyond.max())
            if closed >= windows:
                break
    counts, seconds = predictor.state_counts, time.perf_counter() - began
    flagged = f"{counts.out_of_range:,} out of range, {counts.not_finite:,} not finite"
    print(f"  {closed:,} windows in {seconds:.0f} s; {flagged}")
    print("  tenth      " + "".join(f"{i + 1:>8}" for i in range(10)))
    print("  right      " + "".join(f"{np.mean(right):>8.3f}" for right in tenths))
    print("  beyond     " + "".join(f"{far:>8.2f}" for far in farthest) + "   (in widths of the range; < 0 is inside)")


if __name__ == "__main__":
    windows = int(float(sys.argv[1])) if len(sys.argv) > 1 else 1_000_000
    epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    for decay in (0.3, 0.0):
        bundle = trained(decay, epochs)
        rates = bundle.tensors["decay"] if decay else np.zeros(1)
        print(f"decay {rates.min():.3f} to {rates.max():.3f} per second")
        play(bundle, windows)
