"""Coverage and width of 90 % intervals and sets that follow late labels, beside split conformal's, which do not.

    python tests/benchmarks/intervals.py DATA [--sets doubled beijing6 bidmc watch japanesevowels drift]

DATA is a folder with the files that fit_sets.py names. Each model is fitted by `streamrde.fit`; intervals before labels
are what the fit left out. Beijing: the last of four years, with labels known when they come true. BIDMC: all
patients, each by a model of the other four fifths that has not seen it, labels every 15 s, known 60 s late. doubled: a
stream whose noise doubles in its middle, 20 draws, labels one step late. watch: each person left out in turn, whose
exercises are labels of one stream, known when the next one begins. japanesevowels: the official split, without labels.
drift: how often the test of larger errors raises an alarm where there is none, and how soon where there is one.
"""

from __future__ import annotations

import argparse
import pathlib
import platform
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from fit_sets import SETS

import streamrde as sr
from streamrde.adapting.drift import COLUMNS, watch
from streamrde.adapting.progress import Progress, Windows, coverage_of, progress
from streamrde.adapting.scores import members
from streamrde.adapting.settings import Adapt
from streamrde.adapting.split import alarm_of, calibrate, p_values
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
    table, horizon = next(own.parts(folder / own.file)).test, hours * 3600.0
    t = np.asarray(table["t"])
    begin = t.max() - 365 * 86400.0
    bundle = sr.fit(table.filter(pa.array(t < begin)), own.target, seed=0, **own.options).bundle
    rows = _answers(bundle, table)
    due = np.round((rows["t_end"].to_numpy() + horizon) / 3600.0).astype(int)
    truth = {
        (stream, round(t / 3600.0)): y
        for stream, t, y in zip(*(table[name].to_pylist() for name in ("stream_id", "t", own.target[0])), strict=True)
    }
    stream = rows["stream"].to_pylist()
    label = np.array([truth.get(key) for key in zip(stream, due.tolist(), strict=True)], dtype=np.float64)[:, None]
    kept = rows["t_end"].to_numpy() + horizon >= begin
    return _case(f"Beijing PM2.5, {hours} h", bundle, rows, stream, label, kept, horizon, 0.0)


def bidmc(folder: pathlib.Path) -> Iterator[Case]:
    own = SETS["bidmc"]
    for part in own.parts(folder / own.file):
        yield _patients(sr.fit(part.train, own.target, seed=0).bundle, part.test)


def _patients(bundle: sr.Bundle, table: pa.Table) -> Case:
    target = SETS["bidmc"].target
    rows = _answers(bundle, table)
    # Excerpts of a patient, PATIENT_SECONDS, are windows of one stream here: the answer at the end of each counts.
    last = rows.group_by("stream").aggregate([("window", "max")])
    ends = dict(zip(last["stream"].to_pylist(), last["window_max"].to_pylist(), strict=True))
    excerpt, window = rows["stream"].to_pylist(), rows["window"].to_pylist()
    ended = np.array([ends[name] == k for name, k in zip(excerpt, window, strict=True)])
    truth = dict(
        zip(table["stream_id"].to_pylist(), zip(*(table[n].to_pylist() for n in target), strict=True), strict=True)
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


def sets(folder: pathlib.Path, name: str) -> Iterator[Case]:
    """Yield answers at the ends of recordings. Those of a person are one stream, in the order of their names."""
    own = SETS[name]
    for part in own.parts(folder / own.file):
        bundle = sr.fit(part.train, own.target, seed=0, **own.options).bundle
        rows = _answers(bundle, part.test)
        streams = np.array(part.test["stream_id"].to_pylist())
        persons = part.test["subject"].to_pylist() if "subject" in part.test.column_names else streams.tolist()
        person = dict(zip(streams.tolist(), map(str, persons), strict=True))
        truth = dict(zip(streams.tolist(), part.test["label"].to_pylist(), strict=True))
        ends = rows.group_by("stream").aggregate([("window", "max")])
        last = dict(zip(ends["stream"].to_pylist(), ends["window_max"].to_pylist(), strict=True))
        named = rows["stream"].to_pylist()
        ended = np.array([last[one] == k for one, k in zip(named, rows["window"].to_pylist(), strict=True)])
        order = {one: k for k, one in enumerate(sorted(last))}
        turn = np.array([order[one] for one in named])
        for column, values in (("t_end", turn.astype(float)), ("window", turn)):
            rows = rows.set_column(rows.schema.get_field_index(column), column, pa.array(values))
        classes = np.array(bundle.header.parts[0].classes)
        label = (np.array([str(truth[one]) for one in named])[:, None] == classes).astype(np.float64)
        label = label[:, 1:] if bundle.header.outputs == 1 else label
        yield _case(own.title, bundle, rows, [person[one] for one in named], label, ended, 0.0, 0.5)


def follow(case: Case, method: str, kind: str = "lac") -> Progress:
    """Return what a method would have issued. "split" keeps the thresholds before labels."""
    bundle, tracking = case.bundle, Tracking(method="tracker" if method == "split" else method, sets=kind)
    if method == "split":
        header = bundle.header
        known = msgspec.structs.replace(header.calibration, scales=())
        tensors = {name: own for name, own in bundle.tensors.items() if name != "calibration.ratios"}
        bundle = sr.Bundle(msgspec.structs.replace(header, calibration=known), tensors)
        # A step that is next to nothing leaves the thresholds as they are.
        tracking = msgspec.structs.replace(tracking, step=1e-12)
    section = adapting_of(bundle, Serving(adapt=Adapt(serve="frozen", pending=64), intervals=tracking), 0)
    return progress(section, case.windows, horizon=case.horizon, delay=case.delay)


def measure(cases: Iterable[Case], kinds: tuple[str, ...] = ("lac",)) -> None:
    """Print a table of the cases together. They have the same outputs."""
    cases = list(cases)
    header, count = cases[0].bundle.header, sum(len(case.names) for case in cases)
    held = sorted({n for case in cases for n in case.bundle.header.calibration.streams})
    print(f"\n{cases[0].name}: {count} streams, calibrated on {held} held-out streams or blocks")
    last = "size of the set" if header.task == "classification" else "width"
    head = ("method", "output", "labels", "coverage", "worst stream", "worst 200", last, "alarms", "us per window")
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    names = ("class",) if header.task == "classification" else header.output_names
    for kind in kinds:
        for method in METHODS:
            began = time.perf_counter()
            found = [follow(case, method, kind) for case in cases]
            each = (time.perf_counter() - began) / sum(len(case.windows.stream) for case in cases) * 1e6
            shares = [coverage_of(case.windows, own, case.names) for case, own in zip(cases, found, strict=True)]
            for unit, name in enumerate(names):
                own = [row[unit] for row in shares]
                size = (
                    mean([_sizes(case, one, kind) for case, one in zip(cases, found, strict=True)], own)
                    if header.task == "classification"
                    else mean([row["width"] for row in own], own)
                )
                slow = [row["worst_200"] for row in own if row["worst_200"] is not None]
                cells = (
                    f"{method}, {kind}" if len(kinds) > 1 else method, name, f"{sum(r['labels'] for r in own):,}",
                    f"{mean([row['coverage'] for row in own], own):.3f}",
                    f"{min(row['worst_stream_coverage'] for row in own):.3f}", f"{min(slow):.3f}" if slow else "-",
                    f"{size:.4g}", f"{sum(row['drifts'] for row in own):,}", f"{each:.0f}",
                )  # fmt: skip
                print("| " + " | ".join(cells) + " |")
    sys.stdout.flush()


def mean(values: list[float], parts: list[dict[str, Any]]) -> float:
    return float(np.average(values, weights=[part["labels"] for part in parts]))


def _sizes(case: Case, found: Progress, kind: str) -> float:
    unit = case.bundle.header.thresholds[0]
    return float(members(unit, case.windows.frozen, found.threshold[:, 0], kind).sum(axis=1).mean())


def drift() -> None:
    """Print alarms of streams whose errors are like those of held-out ones, and of streams whose noise doubles."""
    rng, held, count, length = np.random.default_rng(0), 100, 200, 2000
    print("\nDrift that labels reveal: alarms of 200 streams with 2,000 labels each, 100 streams held out")
    print("| errors | false alarms per 10,000 labels | streams with one | labels until an alarm once noise doubles |")
    print("|---|---|---|---|")
    for name, spread, keep in (
        ("independent", 0.0, 0.0),
        ("of streams that differ by a factor of e^(+-0.5)", 0.5, 0.0),
        ("that depend on the last ones by 0.9", 0.0, 0.9),
    ):
        scale = rng.lognormal(sigma=spread, size=held + count)[:, None]
        noise = rng.normal(size=(held + count, length)) * np.sqrt(1 - keep**2)
        for k in range(1, length):
            noise[:, k] += keep * noise[:, k - 1]
        score = np.abs(noise * scale)
        numbers = np.repeat(np.arange(held), length)
        table, streams = calibrate(score[:held].reshape(-1, 1), numbers)
        alarm = alarm_of(table, streams, score[:held].reshape(-1, 1), numbers)
        alarms, delay = np.zeros(count), []
        for k in range(count):
            usual, doubled = (p_values(table, streams, f * score[held + k][:, None])[:, 0] for f in (1.0, 2.0))
            row = np.zeros((1, COLUMNS))
            watch(row, 0, np.zeros(length, np.intp), usual, novel=0.01, alarm=alarm)
            alarms[k] = row[0, 1]
            row, slot = np.zeros((1, COLUMNS)), np.zeros(1, np.intp)
            for i, p in enumerate(doubled):
                watch(row, 0, slot, np.array([p]), novel=0.01, alarm=alarm)
                if row[0, 1]:
                    delay.append(i + 1)
                    break
        soon = f"{np.median(delay):.0f} (median of {len(delay)})" if delay else "none"
        print(f"| {name} | {alarms.sum() / count / length * 1e4:.2f} | {(alarms > 0).mean():.1%} | {soon} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--sets", nargs="*", default=["doubled", "beijing6", "bidmc"])
    given = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}")
    for name in given.sets:
        if name == "doubled":
            measure([doubled()])
        elif name == "drift":
            drift()
        elif name == "bidmc":
            measure(bidmc(given.data))
        elif name.startswith("beijing"):
            measure([beijing(given.data, int(name.removeprefix("beijing")))])
        else:
            measure(sets(given.data, name), ("lac", "aps"))


if __name__ == "__main__":
    main()
