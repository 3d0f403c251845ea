"""Real recordings with most of their values missing, whole, through a fleet: every row accounted for.

    python tests/benchmarks/messy_recordings.py physionet2012_set_a.parquet beijing_prsa_hourly.parquet

Each file is a Parquet table with a stream_id, a time t and channels; other columns are named by --skip. Every file runs
with hold and with linear interpolation, with channels for the count of observations and the time since them, windows of
a fixed duration and adaptive ones, in record batches as they come. Streams are ended when their rows have passed. What
is checked: used + late + duplicate + rejected + merged = rows in; the windows are, bit for bit, those that training
makes of the same recordings; and memory follows the live streams.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))

from bundles import make_bundle

import streamrde as sr
from streamrde.connectors.files.reading import read
from streamrde.connectors.samples import Columns
from streamrde.windowing.recorded import window_recordings


def columns_of(path, skip):
    """The data channels of a file, their standard deviations, and how long a step of time usually is."""
    file = pq.ParquetFile(path)
    names = [name for name in file.schema_arrow.names if name not in ("stream_id", "t", *skip)]
    table = file.read_row_group(0)
    t = table["t"].to_numpy()
    step = float(np.median(np.diff(t)[np.diff(t) > 0]))
    return names, [float(np.nanstd(table[name].to_numpy())) or 1.0 for name in names], step


def run(path, names, windows, interpolation, *, batch_rows=8192):
    """One pass over a file; raises where anything does not add up."""
    bundle = make_bundle(
        channels=tuple(sr.Channel(name=name) for name in names),
        depth=2 if len(names) < 20 else 1,
        windows=windows,
        interpolation=interpolation,
        missing=sr.Missing(counts=True, elapsed=True),
    )
    fleet = sr.Fleet(bundle, faults="drop")
    rows = values = observed = windows_closed = live = 0
    whole = {}
    began = time.perf_counter()
    spent = 0.0
    for samples in read(str(path), Columns(channels=tuple(names)), batch_rows=batch_rows):
        start = time.perf_counter()
        here = set(samples.streams.unique().to_pylist())
        over = [stream for stream in fleet.streams if stream not in here]
        windows_closed += len(fleet.flush(over)) if over else 0
        windows_closed += len(fleet.push(samples.streams, samples.t, samples.x))
        spent += time.perf_counter() - start
        live = max(live, len(fleet))
        rows += len(samples.t)
        values += samples.x.size
        observed += int(np.isfinite(samples.x).sum())
        for stream in here:
            own = samples.streams.to_numpy(zero_copy_only=False) == stream
            whole.setdefault(stream, []).append((samples.t[own], samples.x[own]))
    windows_closed += len(fleet.flush())
    counts = fleet.counts()
    if sum(counts) != rows:
        raise SystemExit(f"{path}: {rows} rows went in, {counts} are accounted for")
    parts = [tuple(np.concatenate(column) for column in zip(*part, strict=True)) for part in whole.values()]
    trained = 0
    for t, x in parts[:: max(1, len(parts) // 200)]:
        alone = sr.Predictor(bundle)
        taken = []
        step = alone._table.states.step
        alone._table.states.step = lambda rows, slots, since, logsigs, taken=taken, step=step: (
            taken.extend(logsigs) or step(rows, slots, since, logsigs)
        )
        alone.push_many(t, x)
        alone.flush()
        windowed = window_recordings([t], [x], bundle.header.partition)
        if [r.tobytes() for w in windowed for r in w.logsigs] != [r.tobytes() for r in taken]:
            raise SystemExit(f"{path}: training and serving differ")
        trained += len(taken)
    return {
        "file": Path(path).name,
        "windows": type(windows).__name__,
        "interpolation": interpolation,
        "rows": rows,
        "streams": len(whole),
        "missing": round(1 - observed / values, 3),
        "counts": counts._asdict(),
        "windows_closed": windows_closed,
        "compared_with_training": trained,
        "rows_per_second": round(rows / spent),
        "seconds": round(time.perf_counter() - began, 1),
        "most_live_streams": live,
        "rows_in_table": len(fleet._table.rows),
        "bytes_per_row": fleet._table.rows.shape[1] * 8,
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main(files, skip):
    """All files, both interpolations, two kinds of windows."""
    for path in files:
        names, deviations, step = columns_of(path, skip)
        # A window closes when some channel has moved by two standard deviations, or after 24 steps.
        scale = (0.0, *(1 / deviation for deviation in deviations), *[0.0] * (2 * len(names)))
        for interpolation in ("hold", "linear"):
            for windows in (sr.Every(6 * step), sr.Adaptive(2.0, max_seconds=24 * step, scale=scale)):
                print(json.dumps(run(path, names, windows, interpolation)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--skip", nargs="*", default=["label", "split", "subject"])
    options = parser.parse_args()
    main(options.files, options.skip)
