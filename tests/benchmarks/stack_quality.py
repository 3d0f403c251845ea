"""Print stacks' test errors on new patients, on air quality ahead, and on a split that leaks, beside plain answers.

usage: python tests/benchmarks/stack_quality.py [--data FOLDER] [--tables patients beijing random] [--seeds 0 1 2 3 4]
           [--fit] [--minutes 60] [--set KEY=VALUE ...] [--json]

patients: BIDMC by configs/bidmc.toml. Every seed draws other patients for validation and test, and the weights. Beside
the stack stand the mean of training, the last label (the target of the patient's last excerpt that ended before this
one began: what a person at the bed would have written down), and with --fit `sr.fit` on every fifth training excerpt.

beijing: PM2.5 of 12 stations, 6 and 24 hours ahead. The last year is the test. Beside it: the last value, and ridge
regression on the last 24 hours of all channels, whose penalty the validation part chooses.

random: BIDMC's excerpts drawn one by one, as the Neural RDE paper does. Excerpts of 32 s begin every 3 s, so that test
excerpts share most of their seconds with training. The row "neighbours" has no signal at all: it is the mean of the
training targets before and after an excerpt in its recording. A lower error there says more of the leak than of models.
The stack is measured a second time with windows of 0.52 s, which do not divide 3 s.

Errors are root mean squares. Without --data, small simulated files stand in: that everything runs, and nothing else.
With --minutes, no training begins after that time.
"""

from __future__ import annotations

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # before NumPy

import argparse
import io
import json
import pathlib
import platform
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from rich.console import Console

import streamrde as sr
from streamrde.fitting.recordings import Recording
from streamrde.models.training.config import TrainConfig, load_train_config
from streamrde.models.training.splits import Split
from streamrde.models.training.streams import read_parts

ROOT = pathlib.Path(__file__).parents[2]
BIDMC, BEIJING = ROOT / "configs" / "bidmc.toml", pathlib.Path(__file__).with_name("beijing.toml")
TARGETS = ("rr", "hr", "spo2")
HOUR = 3600.0
QUICK = ("training.epochs=1", "training.draw=16", "model.field.width=8", "model.field.blocks=1")
Row = dict[str, Any]


def main() -> None:
    """Train what is asked for, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, help="folder of the data's Parquet files")
    parser.add_argument("--tables", nargs="+", choices=[*TABLES], default=[*TABLES])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--fit", action="store_true", help="also `sr.fit` on the patients, half a minute for each seed")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no training begins after that time")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.stop = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory(prefix="stack-quality-") as name:
        arguments.folder = pathlib.Path(name)
        arguments.quick = [] if arguments.data else [*QUICK]
        if not arguments.data:
            arguments.data = simulate(arguments.folder)
        found = {table: TABLES[table](arguments) for table in arguments.tables}
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{platform.machine()}, one core, torch {torch.__version__}, streamrde {sr.__version__}")
    for table, rows in found.items():
        print(f"\n{as_markdown(table, rows)}")


def trained(config: pathlib.Path, settings: Sequence[str], arguments: argparse.Namespace) -> tuple[Row, sr.Bundle]:
    """Train once, without the comparisons that training makes by itself."""
    began = time.process_time()
    every = [*settings, *arguments.quick, "compare=false", "novelty=false", *arguments.settings]
    bundle = sr.train(config, settings=every, console=Console(file=io.StringIO()))
    return {"seconds": time.process_time() - began, "epoch": bundle.header.metrics["epochs"]}, bundle


def bidmc_settings(arguments: argparse.Namespace, *more: str) -> list[str]:
    files = (arguments.data / f"bidmc_{name}.parquet" for name in ("signals_125hz", "windows_32s_stride3s"))
    return [f"{key}={file}" for key, file in zip(("data.files", "data.segments.file"), files, strict=True)] + [*more]


def patients(arguments: argparse.Namespace) -> list[Row]:
    """Errors on patients that training never saw, for every seed of split and weights."""
    rows: list[Row] = []
    for seed in arguments.seeds:
        if time.monotonic() > arguments.stop:
            break
        settings = bidmc_settings(arguments, f"split.seed={seed}", f"training.seed={seed}")
        row, bundle = trained(BIDMC, settings, arguments)
        metrics = bundle.header.metrics
        rows.append({"method": "stack", "seed": seed, **row, **{t: metrics[f"test_{t}_rmse_end"] for t in TARGETS}})
        parts = parts_of(BIDMC, [*settings, *arguments.settings])
        true = ends(parts.test)
        mean = ends(parts.train).mean(axis=0)
        rows.append({"method": "mean of training", "seed": seed, **errors(true, np.broadcast_to(mean, true.shape))})
        rows.append({"method": "last label", "seed": seed, **errors(true, last_labels(parts.test))})
        if arguments.fit:
            rows.append({"method": "fit", "seed": seed, **fitted(parts, arguments.folder)})
        print(json.dumps(rows[-3 - arguments.fit :]), file=sys.stderr)
    return rows


def random_split(arguments: argparse.Namespace) -> list[Row]:
    """Errors where excerpts of one recording, which overlap, are on both sides of the split."""
    rows: list[Row] = []
    # The same patients are on both sides: what tells one from another is worth learning here.
    recipe = [
        "split.by=stream",
        "training.balance=streams",
        "augment.tempo=0.0",
        "augment.gain=0.0",
        "augment.rates=[]",
    ]
    recipe += ["training.target_weights=[]", "training.draw=0", "training.epochs=45", "model.field.width=64"]
    recipe += ["model.field.blocks=3", 'model.field.recurrence={kind="rg_lru"}', "split.seed=0"]
    recipe += ["model.depth=4", "token.scales=[1,2]"]
    for seed in arguments.seeds:
        for name, windows in (("stack", "0.5"), ("stack, windows of 0.52 s", "0.52")):
            if time.monotonic() > arguments.stop:
                break
            settings = bidmc_settings(arguments, *recipe, f"training.seed={seed}", f"windows.seconds={windows}")
            row, bundle = trained(BIDMC, settings, arguments)
            found = {t: bundle.header.metrics[f"test_{t}_rmse_end"] for t in TARGETS}
            rows.append({"method": name, "seed": seed, **row, **found})
            print(json.dumps(rows[-1]), file=sys.stderr)
    parts = parts_of(BIDMC, bidmc_settings(arguments, *recipe))
    true = ends(parts.test)
    rows.append({"method": "neighbours", "seed": 0, **errors(true, neighbours(parts))})
    mean = ends(parts.train).mean(axis=0)
    rows.append({"method": "mean of training", "seed": 0, **errors(true, np.broadcast_to(mean, true.shape))})
    return rows


def beijing(arguments: argparse.Namespace) -> list[Row]:
    """Errors of PM2.5 some hours ahead in the last year."""
    rows: list[Row] = []
    for hours in (6, 24):
        file = [f"data.files={arguments.data / 'beijing_prsa_hourly.parquet'}", f"data.horizon={hours * HOUR}"]
        parts = parts_of(BEIJING, file)
        rows.append({"method": "ridge on the last 24 h", "seed": 0, "hours": hours, "rmse": ridge(parts, hours)})
        for seed in arguments.seeds:
            if time.monotonic() > arguments.stop:
                break
            row, bundle = trained(BEIJING, [*file, f"training.seed={seed}"], arguments)
            metrics = bundle.header.metrics
            rows.append({"method": "stack", "seed": seed, "hours": hours, **row, "rmse": metrics["test_rmse"]})
            print(json.dumps(rows[-1]), file=sys.stderr)
            for method, key in (("persistence", "last"), ("mean of training", "mean")):
                if seed == arguments.seeds[0]:
                    row = {"method": method, "seed": 0, "hours": hours, "rmse": metrics[f"test_{key}_rmse"]}
                    rows.append(row)
    return rows


TABLES = {"patients": patients, "beijing": beijing, "random": random_split}


def parts_of(path: pathlib.Path, settings: Sequence[str]) -> Split:
    config: TrainConfig = load_train_config(path, settings)
    return read_parts(config)


def ends(excerpts: Sequence[Recording]) -> np.ndarray:
    """Return the targets of excerpts that have one of each, (n, targets)."""
    return np.array([excerpt.target.values[0] for excerpt in excerpts])


def errors(true: np.ndarray, found: np.ndarray) -> Row:
    return dict(zip(TARGETS, np.sqrt(np.nanmean((true - found) ** 2, axis=0)).tolist(), strict=True))


def last_labels(excerpts: Sequence[Recording]) -> np.ndarray:
    """Return the targets of the last excerpt of the same recording that ended before each one began; NaN: none did."""
    found = np.full((len(excerpts), len(TARGETS)), np.nan)
    by_source: dict[str, list[Recording]] = defaultdict(list)
    for excerpt in sorted(excerpts, key=lambda own: own.t[0]):
        by_source[excerpt.source].append(excerpt)
    for i, excerpt in enumerate(excerpts):
        before = [own for own in by_source[excerpt.source] if own.t[-1] < excerpt.t[0]]
        if before:
            found[i] = before[-1].target.values[0]
    return found


def neighbours(parts: Split) -> np.ndarray:
    """Return the mean of the training targets next before and next after each test excerpt in its recording."""
    by_source: dict[str, list[Recording]] = defaultdict(list)
    for excerpt in sorted(parts.train, key=lambda own: own.t[0]):
        by_source[excerpt.source].append(excerpt)
    found = []
    for excerpt in parts.test:
        own = by_source[excerpt.source]
        place = int(np.searchsorted([other.t[0] for other in own], excerpt.t[0]))
        found.append(ends(own[max(0, place - 1) : place + 1]).mean(axis=0))
    return np.array(found)


def fitted(parts: Split, folder: pathlib.Path) -> Row:
    """Fit as a newcomer does, on every fifth excerpt of training and validation, and serve the test excerpts."""

    def table(excerpts: Sequence[Recording]) -> pa.Table:
        return pa.table(
            {
                "stream_id": np.repeat([own.stream for own in excerpts], [len(own.t) for own in excerpts]),
                "patient": np.repeat([own.source for own in excerpts], [len(own.t) for own in excerpts]),
                "t": np.concatenate([own.t - own.t[0] for own in excerpts]),
                **{name: np.concatenate([own.x[:, j] for own in excerpts]) for j, name in enumerate(("ppg", "ecg_ii"))},
                **{
                    name: np.concatenate([np.full(len(own.t), own.target.values[0, j]) for own in excerpts])
                    for j, name in enumerate(TARGETS)
                },
            }
        )

    train = [own for own in [*parts.train, *parts.validation] if np.isfinite(own.target.values[0]).all()][::5]
    file = folder / "fit.parquet"
    pq.write_table(table(train), file)
    began = time.process_time()
    model = folder / "fit.safetensors"
    sr.fit(str(file), list(TARGETS), out=model)
    seconds = time.process_time() - began
    fleet, found = sr.Fleet(sr.load(model)), []
    for own in parts.test:
        x = own.x[:, [("ppg", "ecg_ii").index(name) for name in fleet.channels]]
        served = pa.Table.from_batches(
            [fleet.push([own.stream] * len(own.t), own.t - own.t[0], x), fleet.flush([own.stream])]
        )
        found.append(served["value"][-1].as_py())
    return {"seconds": seconds, **errors(ends(parts.test), np.array(found))}


def ridge(parts: Split, hours: int, lags: int = 24) -> float:
    """Return the error of a linear model of the last hours of all channels; the validation part chooses its penalty."""
    scales = [np.nanmean(np.concatenate([own.x for own in parts.train]), axis=0)]
    scales.append(np.nanstd(np.concatenate([own.x for own in parts.train]), axis=0))
    sets = {name: rows_of(getattr(parts, name), hours, lags, *scales) for name in Split._fields}
    x, y = sets["train"]
    gram, moment = x.T @ x, x.T @ y
    choices = []
    for penalty in np.geomspace(1.0, 1e5, 11):
        weights = np.linalg.solve(gram + penalty * np.diag([*np.ones(len(gram) - 1), 0.0]), moment)
        errors_of = {name: float(np.sqrt(np.mean((b - a @ weights) ** 2))) for name, (a, b) in sets.items()}
        choices.append((errors_of["validation"], errors_of["test"]))
    return min(choices)[1]


def rows_of(
    recordings: Sequence[Recording], hours: int, lags: int, mean: np.ndarray, deviation: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return each hour's last values of the channels, standardised, with a one behind them, and the truth ahead."""
    every: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for own in recordings:
        known = np.isfinite(own.x)
        place = np.maximum.accumulate(np.where(known, np.arange(len(own.x))[:, None], 0), axis=0)
        x = np.nan_to_num((np.take_along_axis(own.x, place, axis=0) - mean) / deviation)
        windows = np.lib.stride_tricks.sliding_window_view(x, lags, axis=0).reshape(len(x) - lags + 1, -1)
        assert own.target.t is not None
        when = own.t[lags - 1 :] + hours * HOUR
        at = np.minimum(np.searchsorted(own.target.t, when), len(own.target.t) - 1)
        true = np.where(own.target.t[at] == when, own.target.values[at, 0], np.nan)
        use = np.isfinite(true)
        every[0].append(np.column_stack([windows[use], np.ones(use.sum())]))
        every[1].append(true[use])
    return np.concatenate(every[0]), np.concatenate(every[1])


def simulate(folder: pathlib.Path) -> pathlib.Path:
    """Write small files of the same columns: pulses of ten people, and a year of two stations in 40 days."""
    rng = np.random.default_rng(0)
    t, signals, windows = np.arange(80 * 125) / 125, [], []
    for patient in range(10):
        rr, hr, spo2 = rng.uniform(10, 25), rng.uniform(60, 110), rng.uniform(90, 100)
        beat, breath = np.cos(2 * np.pi * hr / 60 * t), np.sin(2 * np.pi * rr / 60 * t)
        names = [f"p{patient}"]
        signals.append({"stream_id": names * len(t), "t": t, "ppg": np.exp(beat) + breath, "ecg_ii": np.exp(9 * beat)})
        start = np.arange(0.0, 48.1, 6.0)
        one = np.ones(len(start))
        same = {"rr": rr * one, "hr": hr * one, "spo2": spo2 * one}
        windows.append({"stream_id": names * len(start), "t": start, "t_end": start + 32, **same})
    for name, tables in (("signals_125hz", signals), ("windows_32s_stride3s", windows)):
        pq.write_table(pa.concat_tables([pa.table(own) for own in tables]), folder / f"bidmc_{name}.parquet")
    hourly = []
    for station in ("a", "b"):
        level = np.cumsum(rng.normal(size=960)) * 10 + 100
        names = ("label", "pm10", "so2", "no2", "co", "o3", "temp", "pres", "dewp", "rain", "wd_sin", "wd_cos", "wspm")
        channels = {name: level + rng.normal(size=960) for name in names}
        hourly.append(pa.table({"stream_id": [station] * 960, "t": np.arange(960) * HOUR, **channels}))
    pq.write_table(pa.concat_tables(hourly), folder / "beijing_prsa_hourly.parquet")
    return folder


def as_markdown(table: str, rows: Sequence[Row]) -> str:
    """Return the means and deviations of each method over its seeds."""
    keys = ("rmse",) if table == "beijing" else TARGETS
    lines = [f"| {table}, test RMSE | seeds | {' | '.join(keys)} | seconds |", "|---" * (len(keys) + 3) + "|"]
    methods = dict.fromkeys((row["method"], row.get("hours")) for row in rows)
    for method, hours in methods:
        own = [row for row in rows if (row["method"], row.get("hours")) == (method, hours)]
        cells = []
        for key in (*keys, "seconds"):
            values = [row[key] for row in own if key in row]
            text = f"{statistics.mean(values):.{0 if key == 'seconds' else 2}f}" if values else ""
            cells.append(text + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 and key != "seconds" else ""))
        ahead = f", {hours} h ahead" if hours else ""
        lines.append(f"| {method}{ahead} | {len(own)} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
