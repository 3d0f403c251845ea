"""Coverage and width of 90 % intervals that follow late labels, beside split conformal's, which do not.

    python tests/benchmarks/intervals.py DATA [--sets doubled beijing6 bidmc]

DATA is a folder with beijing_prsa_hourly.parquet and bidmc_signals_125hz.parquet beside their windows. Each model is
fitted by `streamrde.fit`; intervals before labels are what the fit left out. Beijing: the last fifth of the time, with
labels known when they come true. BIDMC: a fifth of the patients, whom the model has not seen, labels every 15 s, known
60 s late. doubled: a stream whose noise doubles in its middle, 20 draws, labels one step late.
"""

from __future__ import annotations

import argparse
import pathlib
import platform
import sys
import time
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from fit_sets import SETS

import streamrde as sr
from streamrde.adapting.progress import Windows, coverage_of, progress
from streamrde.adapting.settings import Adapt
from streamrde.adapting.trackers import Tracking
from streamrde.inference.labels import adapting_of
from streamrde.inference.states import Serving

METHODS = ("split", "tracker", "aci", "pid")
_SECONDS = 1.0


class Case(NamedTuple):
    """A model's answers to streams, and their labels."""

    name: str
    bundle: sr.Bundle
    windows: Windows
    names: list[str]
    horizon: float
    delay: float


def doubled() -> Case:
    rng, count, draws = np.random.default_rng(0), 2000, 20
    header = sr.Header(
        channels=(sr.Channel(name="a"),), depth=1, hidden=1, outputs=1, task="regression", labels=("y",),
        windows=sr.Every(_SECONDS), field=sr.MLP(width=1, layers=1),
    )  # fmt: skip
    scales = {name for name in header.shapes() if name.endswith(".scale")}
    tensors = {
        name: (np.ones if name in scales else np.zeros)(shape).astype(
            "float64" if name in scales or name.endswith(".shift") else header.dtype
        )
        for name, shape in header.shapes().items()
    }
    before = np.abs(rng.normal(size=(40 * 250, 1)))
    bundle = sr.Bundle(header, tensors).with_calibration([before, before], np.arange(len(before)) // 250)
    window = np.tile(np.arange(count), draws)
    noise = rng.normal(size=(count * draws, 1)) * np.where(window < count // 2, 1.0, 2.0)[:, None]
    stream = np.repeat(np.arange(draws), count)
    windows = Windows(stream, window, window + 1.0, np.zeros_like(noise), noise)
    return Case("noise doubles", bundle, windows, [str(i) for i in range(draws)], 0.0, _SECONDS)


def beijing(folder: pathlib.Path, hours: int) -> Case:
    own = SETS[f"beijing{hours}"]
    part = next(own.parts(folder / own.file))
    bundle = sr.fit(part.train, own.target, seed=0, **own.options).bundle
    table, horizon = part.test, hours * 3600.0
    rows = _answers(bundle, table)
    due = np.round((rows["t_end"].to_numpy() + horizon) / 3600.0).astype(int)
    truth = {
        (stream, round(t / 3600.0)): y
        for stream, t, y in zip(*(table[name].to_pylist() for name in ("stream_id", "t", own.target[0])), strict=True)
    }
    stream = rows["stream"].to_pylist()
    label = np.array([truth.get(key) for key in zip(stream, due.tolist(), strict=True)], dtype=np.float64)[:, None]
    kept = rows["t_end"].to_numpy() + horizon >= part.begin
    return _case(f"Beijing PM2.5, {hours} h", bundle, rows, stream, label, kept, horizon, 0.0)


def bidmc(folder: pathlib.Path) -> Case:
    own = SETS["bidmc"]
    part = next(own.parts(folder / own.file))
    bundle = sr.fit(part.train, own.target, seed=0).bundle
    table = part.test
    rows = _answers(bundle, table)
    # Excerpts of a patient, PATIENT_SECONDS, are windows of one stream here: the answer at the end of each counts.
    last = rows.group_by("stream").aggregate([("window", "max")])
    ends = dict(zip(last["stream"].to_pylist(), last["window_max"].to_pylist(), strict=True))
    excerpt, window = rows["stream"].to_pylist(), rows["window"].to_pylist()
    ended = np.array([ends[name] == k for name, k in zip(excerpt, window, strict=True)])
    truth = dict(
        zip(table["stream_id"].to_pylist(), zip(*(table[n].to_pylist() for n in own.target), strict=True), strict=True)
    )
    begun = np.array([float(name.rsplit("_", 1)[1]) for name in excerpt])
    rows = rows.set_column(rows.schema.get_field_index("t_end"), "t_end", pa.array(begun + 32.0))
    rows = rows.set_column(rows.schema.get_field_index("window"), "window", pa.array((begun / 3.0).astype(np.int64)))
    label = np.array([truth[name] for name in excerpt], dtype=np.float64)
    patient = [name.rsplit("_", 1)[0] for name in excerpt]
    return _case("BIDMC, new patients", bundle, rows, patient, label, ended, 0.0, 60.0)


def _answers(bundle: sr.Bundle, table: pa.Table) -> pa.Table:
    fleet = sr.Fleet(bundle, faults="drop", time_check="off")
    x = np.stack([np.asarray(table[channel.name], np.float64) for channel in bundle.header.channels], axis=1)
    pushed = fleet.push(table["stream_id"].combine_chunks(), np.asarray(table["t"], np.float64), x)
    return pa.Table.from_batches([pushed, fleet.flush()]).combine_chunks()


def _case(
    name: str,
    bundle: sr.Bundle,
    rows: pa.Table,
    stream: list[str],
    label: np.ndarray,
    kept: np.ndarray,
    horizon: float,
    delay: float,
) -> Case:
    names, number = np.unique(np.array(stream), return_inverse=True)
    value = np.stack(rows["value"].to_numpy()).astype(np.float64)
    order = np.lexsort((rows["t_end"].to_numpy(), number))
    order = order[kept[order]]
    windows = Windows(
        number[order], rows["window"].to_numpy()[order], rows["t_end"].to_numpy()[order], value[order], label[order]
    )
    return Case(name, bundle, windows, names.tolist(), horizon, delay)


def measure(case: Case) -> None:
    header = case.bundle.header
    streams = ", ".join(map(str, header.calibration.streams))
    print(f"\n{case.name}: {len(case.names)} streams, calibrated on {streams} held-out streams or blocks")
    head = ("method", "output", "labels", "coverage", "worst stream", "worst 200", "width", "us per window")
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for method in METHODS:
        # A step that is next to nothing leaves the thresholds as they are.
        tracking = Tracking(step=1e-12) if method == "split" else Tracking(method=method)
        section = adapting_of(case.bundle, Serving(adapt=Adapt(serve="frozen", pending=64), intervals=tracking), 0)
        began = time.perf_counter()
        found = progress(section, case.windows, horizon=case.horizon, delay=case.delay)
        each = (time.perf_counter() - began) / len(case.windows.stream) * 1e6
        for name, own in zip(header.output_names, coverage_of(case.windows, found, case.names), strict=True):
            worst = own["worst_200"]
            cells = (
                method, name, f"{own['labels']:,}", f"{own['coverage']:.3f}", f"{own['worst_stream_coverage']:.3f}",
                "-" if worst is None else f"{worst:.3f}", f"{own['width']:.4g}", f"{each:.0f}",
            )  # fmt: skip
            print("| " + " | ".join(cells) + " |")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--sets", nargs="*", default=["doubled", "beijing6", "bidmc"])
    given = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}")
    for name in given.sets:
        if name == "doubled":
            measure(doubled())
        elif name == "bidmc":
            measure(bidmc(given.data))
        else:
            measure(beijing(given.data, int(name.removeprefix("beijing"))))


if __name__ == "__main__":
    main()
