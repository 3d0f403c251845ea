"""Print how good `streamrde fit` is on test data, beside plain models and beside MiniRocket and Hydra of aeon.

usage: python tests/benchmarks/fit_quality.py [--data FOLDER] [--sets NAME ...] [--seeds 0 1 2 3 4]
           [--methods NAME ...] [--stacks MINUTES] [--peers PYTHON] [--cache FOLDER] [--minutes 4] [--json]

Each set is fitted as a newcomer does: `sr.fit(FILE, TARGET)` on the training part, without any option but the horizon.
The saved model then serves the test part through `Fleet`, and the test part is read for nothing else. Peers run with
their own defaults on the same parts, in the interpreter PYTHON, which has aeon and torch. Their streams are padded with
the last value to one length, or, if sparse, sampled each hour with the last value so far. Seconds are processor time
of one core. RidgeClassifierCV, which ends both peers, gives no probabilities, so they have no log loss.

With --stacks, "either family" is the same fit with so many minutes: `sr.fit(FILE, TARGET, minutes=MINUTES)` trains
stacks and a Neural RDE too, and keeps the better family by what was left out. The table of choices says which one won.

--cache keeps finished runs: those of streamrde until its sources change, those of peers for good. With --minutes, no
run begins after that time: start the script again to go on. "demo" needs no --data.
"""

from __future__ import annotations

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # before NumPy

import argparse
import functools
import hashlib
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fit_sets import HOUR, SETS, DataSet, Part, file_of

import streamrde as sr
from streamrde.fitting.baselines import BASELINES, answers_to, fit_plainest
from streamrde.inference.quality import area_under_roc, average_precision, classification_measures, regression_measures

OURS, EITHER, PEERS = "streamrde", "either family", ("MiniRocket", "Hydra")
PLAIN = tuple(baseline.name for baseline in BASELINES)
ANY = (OURS, EITHER, *PEERS, *PLAIN, "persistence")
EARLY = (0.1, 0.25, 0.5, 1.0)
NOT_CHANNELS = {"stream_id", "t", "label", "subject", "patient", "rr", "hr", "spo2"}
SOURCES = pathlib.Path(sr.__file__).parent


class Streams:
    """The streams of a table: times, channels and targets of each."""

    def __init__(self, table: pa.Table, data: DataSet, classes: Sequence[str] | None) -> None:
        names = np.asarray(table["stream_id"].combine_chunks().dictionary_encode().indices)
        table = table.take(pa.array(np.argsort(names, kind="stable")))
        starts = np.flatnonzero(np.r_[True, np.diff(np.sort(names)) > 0])
        self._rows = [slice(i, j) for i, j in zip(starts, [*starts[1:].tolist(), len(names)], strict=True)]
        self._table = table
        self.names = table["stream_id"].take(pa.array(starts)).to_pylist()
        self.t = [values[:, 0] for values in self.columns(["t"])]
        # Peers and plain models have no use for a target among the channels.
        self.x = self.columns([name for name in table.column_names if name not in NOT_CHANNELS])
        if classes:
            code = {text: i for i, text in enumerate(classes)}
            labels = table[data.target[0]].take(pa.array(starts)).to_pylist()
            self.truth = np.array([[code[str(label)]] for label in labels], float)
        else:
            self.targets = self.columns(data.target)
            self.truth = np.array([rows[0] for rows in self.targets])

    def columns(self, names: Sequence[str]) -> list[np.ndarray]:
        """Return the columns of numbers of each stream, (L, columns)."""
        every = np.stack([np.asarray(self._table[name], float) for name in names], axis=1)
        return [every[rows] for rows in self._rows]


def main() -> None:
    """Run what the cache does not hold, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, help="folder of the data's Parquet files")
    parser.add_argument("--sets", nargs="+", choices=[*SETS], default=[*SETS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--methods", nargs="+", choices=ANY, default=ANY)
    parser.add_argument("--stacks", type=float, metavar="MINUTES", help="minutes of a fit that goes on to stacks")
    parser.add_argument("--peers", help="a Python interpreter with aeon and torch")
    parser.add_argument("--cache", type=pathlib.Path, help="folder of finished runs")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no run begins after that time")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    stop = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory(prefix="fit-quality-") as folder:
        cache = arguments.cache or pathlib.Path(folder)
        cache.mkdir(parents=True, exist_ok=True)
        rows, left = [], 0
        for name in arguments.sets:
            if (path := file_of(name, arguments.data)) is None:
                print(f"{name}: no {SETS[name].file} in --data", file=sys.stderr)
                continue
            plain = ("plainest", "persistence") if "horizon" in SETS[name].options else PLAIN
            known = (
                OURS,
                *([EITHER] if arguments.stacks else ()),
                *plain,
                *(PEERS if arguments.peers and SETS[name].peers else ()),
            )
            wanted = [
                (method, seed)
                for method in known
                if method in arguments.methods
                for seed in (arguments.seeds if method not in plain else [0])
            ]
            found, missing = runs(name, path, wanted, arguments.peers, cache, stop, arguments.stacks)
            left += missing
            rows += [row(name, method, found) for method in dict.fromkeys(m for m, _ in wanted)]
    rows = [one for one in rows if one]
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        print(machine())
        print(table(rows))
        print(notes(arguments.sets, {one["set"]: round(one["silent"]) for one in rows if one["method"] == OURS}))
    if left:
        print(f"{left} runs are left: start again to go on", file=sys.stderr)


def runs(
    name: str,
    path: pathlib.Path,
    wanted: Iterable[tuple[str, int]],
    peers: str | None,
    cache: pathlib.Path,
    stop: float,
    stacks: float | None,
) -> tuple[dict[tuple[str, int], list[dict[str, Any]]], int]:
    """Return each method's runs on all parts of a set, those of the cache included, and how many are missing."""
    version = fingerprint()
    file = {m: f"{name}-{m}-{'peer' if m in PEERS else version}" for m, _ in wanted}
    file = {m: f"{own}-{stacks:g}" if m == EITHER else own for m, own in file.items()}
    place = {(m, s): cache / f"{file[m]}-{s}.json" for m, s in wanted}
    found = {key: json.loads(p.read_text("utf-8")) if p.exists() else {} for key, p in place.items()}
    count = cache / f"{name}-parts.json"
    parts = json.loads(count.read_text("utf-8")) if count.exists() else None
    if parts is None or any(len(own) < len(parts) for own in found.values()):
        parts = []
        for part in SETS[name].parts(path):
            parts.append(part.name)
            missing = [key for key, own in found.items() if part.name not in own]
            for keys in [
                [key for key in missing if key[0] in PEERS],
                *([key] for key in missing if key[0] not in PEERS),
            ]:
                if not keys or time.monotonic() > stop:
                    continue
                print(f"{name}, {part.name}: {', '.join(f'{m} {s}' for m, s in keys)}", file=sys.stderr)
                for key, answer in zip(keys, answers(SETS[name], part, keys, peers, stacks), strict=True):
                    found[key][part.name] = answer
                    place[key].write_text(json.dumps(found[key]), "utf-8")
        count.write_text(json.dumps(parts), "utf-8")
    whole = {key: [own[p] for p in parts] for key, own in found.items() if len(own) == len(parts)}
    return whole, sum(len(parts) - len(own) for own in found.values())


def answers(
    data: DataSet, part: Part, keys: Sequence[tuple[str, int]], peers: str | None, stacks: float | None
) -> list[dict[str, Any]]:
    """Fit and answer the test part: all seeds of peers, or one run of another method."""
    classes = sorted({str(v) for v in part.train[data.target[0]].to_pylist()}) if data.classes else None
    train, test = Streams(part.train, data, classes), Streams(part.test, data, classes)
    if keys[0][0] in PEERS:
        assert peers is not None
        return ask_peers(data, train, test, keys, peers)
    ((method, seed),) = keys
    if method in (OURS, EITHER):
        return [ask_fit(data, part, train, test, classes, seed, stacks if method == EITHER else None)]
    return [ask_plain(method, data, part, train, test, classes)]


def ask_fit(
    data: DataSet,
    part: Part,
    train: Streams,
    test: Streams,
    classes: list[str] | None,
    seed: int,
    minutes: float | None,
) -> dict[str, Any]:
    """Fit as a newcomer does, save, load, and serve the test part.

    The plainest answer stands for a stream that closes no window, such as one of a single sample.
    """
    with tempfile.TemporaryDirectory(prefix="fit-quality-") as folder:
        file, model = pathlib.Path(folder) / "train.parquet", pathlib.Path(folder) / "model.safetensors"
        pq.write_table(part.train, file)
        target = data.target[0] if len(data.target) == 1 else list(data.target)
        began = time.process_time()
        choice = sr.fit(str(file), target, seed=seed, minutes=minutes, out=model, **data.options).choice
        seconds = time.process_time() - began
        bundle = sr.load(model)
    if "horizon" in data.options:
        return ask_ahead(bundle, data, part, test) | {"seconds": seconds, "choice": choice}
    shares = EARLY if classes else EARLY[-1:]
    served = {share: serve(bundle, test, share, classes) for share in shares}
    silent = {share: np.isnan(values).any(axis=1) for share, values in served.items()}
    nothing = np.zeros((len(train.names), 0))
    plainest = answers_to(nothing[:1], fit_plainest, nothing, train.truth, len(classes or ()), np.arange(len(nothing)))
    found = {str(share): np.where(silent[share][:, None], plainest, served[share]).tolist() for share in shares}
    return {
        "truth": test.truth.tolist(),
        "answers": found["1.0"],
        "early": found,
        "silent": int(silent[1.0].sum()),
        "seconds": seconds,
        "choice": choice,
    }


def serve(bundle: sr.Bundle, test: Streams, share: float, classes: list[str] | None) -> np.ndarray:
    """Return the last answer to each stream after this share of its samples: probabilities or numbers, NaN for none."""
    fleet, size = sr.Fleet(bundle), bundle.header.outputs
    values = np.full((len(test.names), size), np.nan)
    for i, (name, t, x) in enumerate(zip(test.names, test.t, test.columns(fleet.channels), strict=True)):
        rows = max(1, int(np.ceil(share * len(t))))
        for batch in (fleet.push([name] * rows, t[:rows], x[:rows]), fleet.flush([name])):
            if len(batch):
                values[i] = batch.column("value")[-1].as_py()
    if classes is None:
        return values
    if size == 1:  # the probability of the second class
        values = np.concatenate([1 - values, values], axis=1)
    found = np.zeros((len(values), len(classes)))
    found[:, [classes.index(label) for label in bundle.header.labels]] = values
    return found


def ask_ahead(bundle: sr.Bundle, data: DataSet, part: Part, test: Streams) -> dict[str, Any]:
    """Serve whole streams. A prediction's truth is the last value known `horizon` after its window."""
    fleet, truth, found = sr.Fleet(bundle), [], []
    for name, t, x, targets in zip(test.names, test.t, test.columns(fleet.channels), test.targets, strict=True):
        batch = pa.Table.from_batches([fleet.push([name] * len(t), t, x), fleet.flush([name])])
        start, end = np.asarray(batch["t_start"]), np.asarray(batch["t_end"])
        true = ahead(t, targets[:, 0], start, end, data.options["horizon"])
        own = np.isfinite(true) & (end >= part.begin)
        truth.append(true[own])
        found.append(np.array(batch["value"].to_pylist())[own, 0])
    return {"truth": np.concatenate(truth)[:, None].tolist(), "answers": np.concatenate(found)[:, None].tolist()}


def ahead(t: np.ndarray, values: np.ndarray, start: np.ndarray, end: np.ndarray, horizon: float) -> np.ndarray:
    """Return the last known values in (start + horizon, end + horizon], NaN where there is none."""
    known = np.isfinite(values)
    at, value = t[known], values[known]
    place = np.searchsorted(at, end + horizon, side="right") - 1
    return np.where((place >= 0) & (at[np.maximum(place, 0)] > start + horizon), value[np.maximum(place, 0)], np.nan)


def ask_plain(
    method: str, data: DataSet, part: Part, train: Streams, test: Streams, classes: list[str] | None
) -> dict[str, Any]:
    """Fit a plain model of fitting.baselines to the training part."""
    if "horizon" in data.options:
        return ask_plain_ahead(method, data, part, train, test)
    began = time.process_time()
    (baseline,) = (baseline for baseline in BASELINES if baseline.name == method)
    rows, new = ([baseline.represent(t, x) for t, x in zip(s.t, s.x, strict=True)] for s in (train, test))
    groups = np.unique(groups_of(part.train, train.names), return_inverse=True)[1]
    found = [baseline.fit(np.stack(rows), truth, len(classes or ()), groups)(np.stack(new)) for truth in train.truth.T]
    seconds = time.process_time() - began
    return {"truth": test.truth.tolist(), "answers": np.concatenate(found, axis=1).tolist(), "seconds": seconds}


def groups_of(table: pa.Table, names: Sequence[str]) -> list[str]:
    column = next((name for name in ("subject", "patient") if name in table.column_names), "stream_id")
    of = dict(zip(table["stream_id"].to_pylist(), table[column].to_pylist(), strict=True))
    return [str(of[name]) for name in names]


def ask_plain_ahead(method: str, data: DataSet, part: Part, train: Streams, test: Streams) -> dict[str, Any]:
    """Answer each hour with the training mean, or ("persistence") with the last value known."""
    mean = np.nanmean(np.concatenate(train.targets))
    truth, found = [], []
    for t, targets in zip(test.t, test.targets, strict=True):
        values = targets[:, 0]
        true = ahead(t, values, t - HOUR, t, data.options["horizon"])
        last = values[np.maximum.accumulate(np.where(np.isfinite(values), np.arange(len(t)), 0))]
        own = np.isfinite(true) & np.isfinite(last) & (t >= part.begin)
        truth.append(true[own])
        found.append(last[own] if method == "persistence" else np.full(own.sum(), mean))
    return {"truth": np.concatenate(truth)[:, None].tolist(), "answers": np.concatenate(found)[:, None].tolist()}


def ask_peers(
    data: DataSet, train: Streams, test: Streams, keys: Sequence[tuple[str, int]], python: str
) -> list[dict[str, Any]]:
    """Run peers in their own interpreter on arrays of one length."""
    with tempfile.TemporaryDirectory(prefix="fit-quality-") as folder:
        place = pathlib.Path(folder)
        if data.peers == "hourly":
            both = [hourly(streams.t, streams.x) for streams in (train, test)]
            shift, scale = np.nanmean(both[0], axis=(0, 2)), np.nanstd(both[0], axis=(0, 2)) + 1e-9
            both = [np.nan_to_num((x - shift[:, None]) / scale[:, None]) for x in both]
        else:
            length = max(len(t) for t in (*train.t, *test.t))
            both = [np.stack([padded(x, length).T for x in streams.x]) for streams in (train, test)]
        classes = int(train.truth.max()) + 1 if data.classes else 0
        np.savez(place / "data.npz", train=both[0], test=both[1], truth=train.truth, classes=classes)
        (place / "jobs.json").write_text(json.dumps(keys), "utf-8")
        script = pathlib.Path(__file__).with_name("fit_peers.py")
        files = [str(place / name) for name in ("data.npz", "jobs.json", "answers.json")]
        subprocess.run([python, "-W", "ignore", str(script), *files], check=True)
        found = json.loads((place / "answers.json").read_text("utf-8"))
    return [{"truth": test.truth.tolist(), **one} for one in found]


def padded(x: np.ndarray, length: int) -> np.ndarray:
    return np.concatenate([x, np.repeat(x[-1:], length - len(x), axis=0)])


def hourly(ts: Sequence[np.ndarray], xs: Sequence[np.ndarray]) -> np.ndarray:
    """Return the last values known at the end of each of 48 hours, (n, channels, 48), NaN before the first."""
    found = np.full((len(ts), xs[0].shape[1], 48), np.nan)
    for i, (t, x) in enumerate(zip(ts, xs, strict=True)):
        for j, values in enumerate(x.T):
            known = np.isfinite(values)
            place = np.searchsorted(t[known], np.arange(1, 49) * HOUR, side="right") - 1
            if known.any():
                found[i, j] = np.where(place >= 0, values[known][np.maximum(place, 0)], np.nan)
    return found


def measured(data: DataSet, method: str, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Measure a run: classes over the answers of all parts, areas and errors of numbers as means over parts."""
    found: dict[str, Any] = {
        "seconds": statistics.mean(part.get("seconds", np.nan) for part in parts),
        "silent": sum(part.get("silent", 0) for part in parts),
    }
    if data.classes:
        truth = np.concatenate([np.array(part["truth"])[:, 0] for part in parts]).astype(int)
        answer = np.concatenate([np.array(part["answers"]) for part in parts])
        every = classification_measures(truth, answer)
        found["accuracy"] = every["accuracy"]
        if method not in PEERS:
            found |= {name: every[name] for name in ("log_loss", "calibration")}
        if answer.shape[1] == 2:
            score = [(np.array(p["truth"])[:, 0] == 1, np.array(p.get("scores", p["answers"]))) for p in parts]
            found["auc"] = statistics.mean(area_under_roc(true, own[:, 1] - own[:, 0]) for true, own in score)
            found["auprc"] = statistics.mean(average_precision(true, own[:, 1] - own[:, 0]) for true, own in score)
        if "early" in parts[0]:
            for share in EARLY:
                own = np.concatenate([np.array(part["early"][str(share)]) for part in parts])
                found[f"after {share:.0%}"] = float((own.argmax(axis=1) == truth).mean())
        return found
    for i, name in enumerate(data.target):
        own = [regression_measures(np.array(p["truth"])[:, i], np.array(p["answers"])[:, i]) for p in parts]
        for key in ("rmse", "r2"):
            found[f"{key} {name}" if len(data.target) > 1 else key] = statistics.mean(one[key] for one in own)
    return found


def row(name: str, method: str, found: dict[tuple[str, int], list[dict[str, Any]]]) -> dict[str, Any]:
    """Return a method's measures on a set: mean and deviation over its seeds. {}: it has no finished run."""
    data = SETS[name]
    own = [measured(data, method, parts) for (m, _), parts in found.items() if m == method]
    if not own:
        return {}
    measures = {key: [one[key] for one in own] for key in own[0]}
    chosen = [part["choice"] for (m, _), parts in found.items() if m == method for part in parts if "choice" in part]
    return {
        "set": name, "method": method, "seeds": len(own), "choices": dict(Counter(chosen)),
        **{key: statistics.mean(values) for key, values in measures.items()},
        "deviation": {key: statistics.stdev(values) if len(values) > 1 else 0.0 for key, values in measures.items()},
    }  # fmt: skip


def machine() -> str:
    return (
        f"{platform.machine()}, one core, Python {platform.python_version()}, NumPy {np.__version__}, "
        f"streamrde {sr.__version__}, sources {fingerprint()}"
    )


@functools.cache
def fingerprint() -> str:
    """Return a digest of the package's sources as they were when the script began."""
    digest = hashlib.sha256()
    for path in sorted(p for kind in ("py", "cpp", "hpp") for p in SOURCES.rglob(f"*.{kind}")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:10]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the tables in Markdown: classes, the mean over sets, early answers, numbers."""
    methods = [method for method in ANY if any(one["method"] == method for one in rows)]
    of = {(one["set"], one["method"]): one for one in rows}
    names = list(dict.fromkeys(one["set"] for one in rows))
    text = []

    def block(title: str, key: str, chosen: Sequence[str], scale: float, digits: int, mean: bool = True) -> None:
        used = [m for m in methods if any(key in of.get((name, m), {}) for name in chosen)]
        if not used:
            return
        text.extend(["", f"| {title} | {' | '.join(used)} |", "|---" * (len(used) + 1) + "|"])
        for name in chosen:
            cells = [cell(of.get((name, m), {}), key, scale, digits) for m in used]
            text.append(f"| {SETS[name].title} | {' | '.join(cells)} |")
        whole = [name for name in chosen if SETS[name].mean]
        if mean and len(whole) > 1:
            cells = [
                f"{scale * statistics.mean(of[name, m][key] for name in whole):.{digits}f}"
                if all(key in of.get((name, m), {}) for name in whole) else ""
                for m in used
            ]  # fmt: skip
            text.append(f"| mean of {len(whole)} sets | {' | '.join(cells)} |")

    classes = [name for name in names if SETS[name].classes]
    block("accuracy, %", "accuracy", classes, 100, 1)
    block("log loss", "log_loss", classes, 1, 3)
    block("calibration error, %", "calibration", classes, 100, 1)
    two = [name for name in classes if any("auc" in of.get((name, m), {}) for m in methods)]
    block("area under the ROC curve", "auc", two, 1, 3, mean=False)
    block("area under precision and recall", "auprc", two, 1, 3, mean=False)
    early = [name for name in classes if "after 10%" in of.get((name, OURS), {})]
    if early:
        text.extend(["", f"| {OURS}, accuracy, % | {' | '.join(f'after {s:.0%}' for s in EARLY)} |", "|---" * 5 + "|"])
        for name in early:
            cells = [cell(of[name, OURS], f"after {s:.0%}", 100, 1) for s in EARLY]
            text.append(f"| {SETS[name].title} | {' | '.join(cells)} |")
    for name in (name for name in names if not SETS[name].classes):
        own = next(of[name, m] for m in methods if (name, m) in of)
        keys = [key for key in own if key.startswith(("rmse", "r2"))]
        text.extend(["", f"| {SETS[name].title} | {' | '.join(keys)} |", "|---" * (len(keys) + 1) + "|"])
        for m in (m for m in methods if (name, m) in of):
            text.append(f"| {m} | {' | '.join(cell(of[name, m], key, 1, 3) for key in keys)} |")
    block("seconds of a fit", "seconds", names, 1, 1, mean=False)
    chosen = [(name, own) for name in names if (own := of.get((name, EITHER), {}).get("choices"))]
    if chosen:
        text.extend(["", f"| {EITHER} | chosen, fits |", "|---|---|"])
        for name, own in chosen:
            text.append(f"| {SETS[name].title} | {'; '.join(f'{one}: {count}' for one, count in own.items())} |")
    return "\n".join(text)


def cell(one: dict[str, Any], key: str, scale: float, digits: int) -> str:
    """Return a mean, with the deviation over seeds where there are several."""
    if key not in one or np.isnan(one[key]):
        return ""
    deviation = f" ± {scale * one['deviation'][key]:.{digits}f}" if one["seeds"] > 1 else ""
    return f"{scale * one[key]:.{digits}f}{deviation}"


def notes(names: Sequence[str], silent: dict[str, int]) -> str:
    """Return what is tested on what, the leaks of splits, and how many streams have no answer of the model."""
    return "\n" + "\n".join(
        "; ".join(
            [
                f"- {SETS[name].title}: {SETS[name].split}",
                *([SETS[name].leak] if SETS[name].leak else []),
                *([f"the plainest answer stands for {n} streams without a window"] if (n := silent.get(name)) else []),
            ]
        )
        + "."
        for name in names
    )


if __name__ == "__main__":
    main()
