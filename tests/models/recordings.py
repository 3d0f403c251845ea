"""Small made-up data sets, written as real files, and a console that shows nothing."""

from __future__ import annotations

import io
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console


def quiet(width: int = 200) -> Console:
    return Console(file=io.StringIO(), width=width)


def write_recordings(folder: pathlib.Path, *, streams: int = 24, length: int = 40, **changes: object) -> str:
    """Streams that turn left or right at one of two speeds, three of each of eight subjects; returns the file's path.

    Columns: stream_id, t, a, b, turn ("left" or "right"), speed (number), subject. `changes` replace whole columns.
    """
    rng = np.random.default_rng(0)
    parts: dict[str, list[object]] = {name: [] for name in ("stream_id", "t", "a", "b", "turn", "speed", "subject")}
    for i in range(streams):
        sign, speed = (-1) ** i, rng.uniform(0.5, 2.0)
        t = np.cumsum(rng.uniform(0.05, 0.15, length))
        angle = sign * speed * t + rng.uniform(0, 2 * np.pi)
        parts["stream_id"] += [f"s{i:02d}"] * length
        parts["t"] += t.tolist()
        parts["a"] += (np.cos(angle) + rng.normal(size=length) * 0.05).tolist()
        parts["b"] += (np.sin(angle) + rng.normal(size=length) * 0.05 + 3.0).tolist()
        parts["turn"] += ["left" if sign > 0 else "right"] * length
        parts["speed"] += [speed] * length
        parts["subject"] += [i // 3] * length
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recordings.parquet"
    pq.write_table(pa.table(parts | changes), path)
    return str(path)


def config_for(files: str, **tables: dict[str, object]) -> dict[str, object]:
    """Tables of a short training run on `files`; `tables` are merged into them."""
    config: dict[str, dict[str, object]] = {
        "data": {"files": files, "channels": [{"name": "a", "unit": "m"}, {"name": "b"}], "target": "turn"},
        "split": {"column": "subject", "validation": [6], "test": [7]},
        "windows": {"policy": "every", "seconds": 0.8},
        "model": {"depth": 2, "hidden": 6, "field": {"field": "mlp", "width": 12, "layers": 1}},
        "training": {"epochs": 25, "batch_size": 8, "learning_rate": 0.02},
        "output": {"seconds": [1.0]},
    }
    return {name: config.get(name, {}) | tables.get(name, {}) for name in config.keys() | tables.keys()}
