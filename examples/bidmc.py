"""Respiration rate, heart rate, SpO2 from PPG and ECG (BIDMC) of new patients: trained, served, beside the mean.

usage: python examples/bidmc.py [SIGNALS.parquet WINDOWS.parquet] [--split patients|random] [--seeds 0 1 2]
                                [--set KEY=VALUE ...] [--json]

SIGNALS has the columns stream_id, t, ppg and ecg_ii, 125 rows a second; WINDOWS has stream_id, t and t_end of each
excerpt, and rr, hr and spo2, the means over it. Without files a small pair with simulated pulses is made, which shows
that everything works and nothing about quality. The recipe is configs/bidmc.toml; --set changes keys of it.

With --split random, excerpts are drawn one by one, as in the Neural RDE paper, whose figures stand below. Those of test
then share seconds with those of training: the mean of an excerpt's neighbours, without any signal, has smaller errors
than any model. tests/benchmarks/stack_quality.py prints it.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

import streamrde as sr

CONFIG = Path(__file__).parents[1] / "configs" / "bidmc.toml"
TARGETS = {"rr": "RR", "hr": "HR", "spo2": "SpO2"}
# Morrill et al. 2021: the best of their models, depth 3 with 512 samples per window (RR, SpO2) or 128 (HR).
PAPER = {"rr": (1.49, 0.08), "hr": (2.97, 0.45), "spo2": (1.29, 0.15)}
# The test measures of training and of serving may differ by this much.
SAME = 1e-5
QUICK = ["training.epochs=2", "training.draw=20", "model.field.width=8"]  # where there are no files


def simulate(folder):
    """Files like BIDMC's: six patients for 48 seconds, a pulse at the heart rate on a baseline that breathes."""
    rng = np.random.default_rng(0)
    t = np.arange(48 * 125) / 125
    signals, windows = [], []
    for patient in range(6):
        rr, hr, spo2 = rng.uniform(10, 25), rng.uniform(60, 110), rng.uniform(90, 100)
        beat, breath = np.cos(2 * math.pi * hr / 60 * t), np.sin(2 * math.pi * rr / 60 * t)
        ppg = spo2 / 100 * np.exp(beat) * (1 + 0.1 * breath) + 0.2 * breath
        ecg = np.exp(20 * (beat - 1)) + 0.05 * rng.standard_normal(len(t))
        name = [f"patient_{patient}"]
        signals.append(pa.table({"stream_id": name * len(t), "t": t, "ppg": ppg, "ecg_ii": ecg}))
        start = np.arange(0.0, 48 - 32 + 1, 3.0)
        same = {key: np.full(len(start), value) for key, value in (("rr", rr), ("hr", hr), ("spo2", spo2))}
        windows.append(pa.table({"stream_id": name * len(start), "t": start, "t_end": start + 32, **same}))
    paths = [Path(folder) / name for name in ("signals.parquet", "windows.parquet")]
    for path, tables in zip(paths, (signals, windows), strict=True):
        pq.write_table(pa.concat_tables(tables), path)
    return paths


def run(settings, console):
    """Train once and serve: the test errors, and seconds of training."""
    with tempfile.TemporaryDirectory() as name:
        model, test = Path(name) / "bidmc.safetensors", Path(name) / "test.parquet"
        began = time.perf_counter()
        bundle = sr.train(CONFIG, settings=[*settings, f"output.model={model}", f"output.test={test}"], console=console)
        seconds = time.perf_counter() - began
        summary = sr.score(test, model, out=Path(name) / "predictions.parquet", truth=list(TARGETS))
    metrics = bundle.header.metrics
    result = {part: {key: metrics[f"{part}_{key}_rmse_end"] for key in TARGETS} for part in ("validation", "test")}
    result["mean"] = {key: metrics[f"test_{key}_mean_rmse"] for key in TARGETS}
    served = {key: summary.evaluation[key]["rmse"] for key in TARGETS}
    for key, value in served.items():
        if abs(value - result["test"][key]) > SAME:
            raise SystemExit(f"{key}: {result['test'][key]} in training, {value} when served")
    return result | {"served": served, "epoch": metrics["epochs"], "seconds": seconds}


def show(console, what, seeds, runs, *, beside):
    """The table, with the paper's figures below if wanted."""
    console.print(f"test RMSE, {what}; training and serving agree to {SAME:g}\n")
    console.print(f"{'':22}" + "".join(f"{label:>14}" for label in TARGETS.values()) + f"{'seconds':>12}")
    for seed, result in zip(seeds, runs, strict=True):
        cells = "".join(f"{result['test'][key]:14.2f}" for key in TARGETS)
        console.print(f"{f'seed {seed}':22}{cells}{result['seconds']:12.0f}")
        console.print(f"{'  mean of training':22}" + "".join(f"{result['mean'][key]:14.2f}" for key in TARGETS))
    if len(runs) > 1:
        values = {key: [result["test"][key] for result in runs] for key in TARGETS}
        cells = "".join(f"{statistics.mean(v):8.2f} ± {statistics.stdev(v):.2f}" for v in values.values())
        console.print(f"{'mean ± deviation':24}{cells}")
    if beside:
        paper = "".join(f"{mean:8.2f} ± {deviation:.2f}" for mean, deviation in PAPER.values())
        console.print(f"{'paper, random split':24}{paper}")


def main():
    """Parse, train with every seed, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE", help="SIGNALS.parquet WINDOWS.parquet")
    parser.add_argument("--split", choices=["patients", "random"], default="patients")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if len(arguments.files) not in (0, 2):
        parser.error("give two files, SIGNALS.parquet and WINDOWS.parquet, or none")
    console = Console(stderr=arguments.json, highlight=False, width=120)
    with tempfile.TemporaryDirectory() as folder:
        files = arguments.files or simulate(folder)
        runs = []
        for seed in arguments.seeds:
            settings = [f"data.files={files[0]}", f"data.segments.file={files[1]}", f"training.seed={seed}"]
            if arguments.split == "patients":
                # Eight patients are few: every seed draws others. Seed 0's validation part chose the recipe.
                settings += [f"split.seed={seed}"]
            else:
                settings += ["split.by=stream", "training.balance=streams", "training.target_weights=[]"]
            settings += [] if arguments.files else QUICK
            runs.append(run(settings + arguments.settings, console))
    if arguments.json:
        print(json.dumps({"split": arguments.split, "seeds": arguments.seeds, "runs": runs, "paper": PAPER}, indent=2))
    else:
        what = f"{arguments.split} split" if arguments.files else "simulated signals, two epochs"
        show(console, what, arguments.seeds, runs, beside=bool(arguments.files) and arguments.split == "random")


if __name__ == "__main__":
    main()
