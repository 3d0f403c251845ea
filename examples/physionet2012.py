"""Will a patient of an intensive care unit leave the hospital alive? PhysioNet 2012, set a: k folds, AUC by the hour.

usage: python examples/physionet2012.py [FILE.parquet] [--seeds 0 1 2] [--folds 5] [--json] [--set KEY=VALUE ...]

FILE has a row per time of measurement: stream_id, t in seconds, the channels, label (1 = died in hospital). Without
FILE, made-up patients of the same columns show that it works. Of each seed the streams fall into folds, each class
evenly; per fold a model is trained on the others by configs/physionet2012.toml, and serves the fold by `sr.score`.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from rich.console import Console

import streamrde as sr

CONFIG = Path(__file__).parents[1] / "configs" / "physionet2012.toml"
HOURS = (6, 12, 24, 48)
PUBLISHED = {"GRU-D": 0.818, "ODE-RNN": 0.833, "mTAND": 0.858}

# Columns with a long tail, of which the logarithm is taken, of the value plus this.
LOGARITHMS = dict.fromkeys(
    [
        "alp",
        "alt",
        "ast",
        "bun",
        "bilirubin",
        "cholesterol",
        "creatinine",
        "glucose",
        "lactate",
        "paco2",
        "pao2",
        "platelets",
        "troponini",
        "troponint",
        "wbc",
    ],
    0.05,
) | {"urine": 10.0}
# What a body can have. The rest is faults and foreign units (temperature 2.8, pH 735), and is moved to the limit.
LIMITS = {
    "albumin": (1, 5), "diasabp": (20, 130), "fio2": (0.21, 1), "gcs": (3, 15), "gender": (0, 1), "hco3": (5, 45),
    "hct": (15, 55), "height": (130, 210), "hr": (30, 200), "k": (2.3, 7.5), "map": (30, 160), "mechvent": (0, 1),
    "mg": (1, 4), "na": (115, 165), "nidiasabp": (15, 130), "nimap": (30, 160), "nisysabp": (40, 220), "ph": (6.8, 7.8),
    "resprate": (4, 50), "sao2": (75, 100), "sysabp": (40, 220), "temp": (32, 42), "weight": (35, 180),
}  # fmt: skip
# How far from healthy a value is, in points, with straight lines between. Where both ends are ill, a linear readout of
# the value itself cannot say so. After the bands of APACHE III (Knaus et al. 1991, Chest 100), and alike for what that
# leaves out; put down beforehand, not fitted to these patients. Urine counts as an hour's.
POINTS = {
    "albumin": [(1.7, 11), (2.2, 6), (2.7, 0), (4.3, 0), (4.6, 4)],
    "bilirubin": [(1.5, 0), (2.5, 5), (4, 6), (6.5, 8), (10, 16)],
    "bun": [(10, 0), (16, 0), (18, 2), (30, 7), (60, 11), (90, 12)],
    "creatinine": [(0.3, 3), (0.6, 0), (1.3, 0), (1.7, 4), (2.2, 7), (10, 7)],
    "diasabp": [(30, 10), (45, 5), (55, 0), (80, 0), (100, 3)],
    "fio2": [(0.21, 0), (0.4, 0), (0.6, 5), (1, 12)],
    "gcs": [(3, 48), (6, 33), (8, 20), (11, 13), (14, 3), (15, 0)],
    "glucose": [(35, 8), (50, 9), (65, 0), (190, 0), (270, 3), (400, 5)],
    "hco3": [(12, 8), (16, 5), (20, 2), (23, 0), (30, 0), (36, 2)],
    "hct": [(20, 6), (30, 3), (41, 0), (49, 0), (52, 3)],
    "hr": [(35, 8), (45, 5), (52, 0), (96, 0), (105, 1), (115, 5), (130, 7), (147, 13), (160, 17)],
    "k": [(2.6, 6), (3.2, 2), (3.6, 0), (4.8, 0), (5.5, 3), (6.5, 8)],
    "lactate": [(1, 0), (2, 1), (4, 5), (8, 10), (12, 15)],
    "map": [(35, 23), (50, 15), (65, 7), (75, 6), (82, 0), (97, 0), (110, 4), (125, 7), (135, 9), (145, 10)],
    "mg": [(1.3, 2), (1.7, 0), (2.2, 0), (3, 3)],
    "na": [(115, 3), (127, 2), (136, 0), (152, 0), (158, 4)],
    "nidiasabp": [(25, 10), (40, 5), (50, 0), (80, 0), (100, 3)],
    "nimap": [(35, 23), (50, 15), (65, 7), (75, 4), (82, 0), (97, 0), (110, 2), (125, 4), (145, 7)],
    "nisysabp": [(60, 20), (75, 13), (90, 5), (105, 0), (160, 0), (200, 3)],
    "paco2": [(20, 9), (27, 5), (33, 1), (37, 0), (47, 1), (55, 3), (70, 6)],
    "pao2": [(45, 15), (60, 5), (75, 2), (82, 0), (500, 0)],
    "ph": [(7.1, 12), (7.25, 9), (7.33, 3), (7.37, 0), (7.48, 0), (7.55, 5), (7.65, 12)],
    "platelets": [(20, 10), (50, 6), (100, 3), (150, 0), (400, 0)],
    "resprate": [(5, 17), (9, 8), (13, 5), (15, 0), (23, 0), (28, 6), (37, 9), (45, 11), (50, 18)],
    "sao2": [(85, 10), (92, 4), (96, 0), (100, 0)],
    "sysabp": [(60, 20), (75, 13), (90, 5), (105, 0), (160, 0), (200, 3)],
    "temp": [(32.5, 20), (33.7, 13), (34.5, 8), (35.5, 2), (36.2, 0), (39.5, 0), (40.2, 4)],
    "urine": [(0, 15), (16, 15), (21, 8), (31, 7), (50, 5), (73, 4), (90, 0), (1000, 0)],
    "wbc": [(0.5, 19), (2, 5), (4, 0), (18, 0), (22, 1), (28, 5)],
    "weight": [(45, 8), (65, 2), (80, 0), (120, 0)],
}
# Measured in some stays only: that it was asked for says how ill a patient seems, whatever came of it. Of what is
# measured together (the three pressures of a catheter, a blood gas, the liver's enzymes) one tells it all.
OCCASIONAL = [
    "albumin",
    "alt",
    "bilirubin",
    "cholesterol",
    "fio2",
    "height",
    "lactate",
    "nisysabp",
    "ph",
    "resprate",
    "sao2",
    "sysabp",
    "troponini",
    "troponint",
]
# Charted at the bedside, the oftener the closer a patient is watched: whether a row has it, averaged, tells how often.
CHARTED = ["gcs", "hr", "map", "nimap", "resprate", "temp", "urine"]
UNITS = (1, 2, 3)
CHANNELS = [
    *sorted([*LOGARITHMS, *LIMITS, *(f"icu{unit}" for unit in UNITS)]),
    *(f"{name}_points" for name in POINTS),
    *(f"{name}_now" for name in CHARTED),
    *(f"{name}_seen" for name in OCCASIONAL),
]


def prepare(table: pa.Table) -> pa.Table:
    """The channels of the model from the columns of the data, each row by itself, so that a live row is treated alike.

    Values are limited to `LIMITS`, skewed ones become logarithms, and what is far from healthy has `POINTS` besides;
    what is charted at the bedside has 1 besides, and 0 in a row without it. `icutype`, a number without order, becomes
    one channel of 0 and 1 per unit. It is told once, on admission: there mechanical ventilation begins at 0, and so
    does, of what is measured in some stays only, whether it was. What was not observed stays NaN. Age is left out.
    """

    def column(name: str) -> np.ndarray:
        return table[name].cast(pa.float64()).to_numpy(zero_copy_only=False)

    unit = column("icutype")
    channels = {f"icu{i}": np.where(np.isnan(unit), np.nan, unit == i) for i in UNITS}
    channels |= {name: np.clip(column(name), low, high) for name, (low, high) in LIMITS.items()}
    channels |= {name: np.log(np.maximum(column(name), 0) + offset) for name, offset in LOGARITHMS.items()}
    for name, bands in POINTS.items():
        # Of the value as it came: beyond the last band lies the same as there.
        channels[f"{name}_points"] = np.interp(column(name), *zip(*bands, strict=True))
    ventilated = channels["mechvent"]
    channels["mechvent"] = np.where(np.isnan(ventilated) & ~np.isnan(unit), 0.0, ventilated)
    for name in CHARTED:
        channels[f"{name}_now"] = np.where(np.isnan(channels[name]), 0.0, 1.0)
    for name in OCCASIONAL:
        unseen = np.where(np.isnan(unit), np.nan, 0.0)
        channels[f"{name}_seen"] = np.where(np.isnan(channels[name]), unseen, 1.0)
    columns = {name: table[name] for name in ("stream_id", "t", "label")}
    return pa.table(columns | {name: channels[name] for name in CHANNELS})


def folds_of(streams: np.ndarray, died: np.ndarray, *, folds: int, seed: int) -> np.ndarray:
    """The fold of each stream, (N,): shuffled, then dealt out class by class."""
    order = np.random.default_rng(seed).permutation(len(streams))
    order = order[np.argsort(died[order], kind="stable")]
    fold = np.empty(len(streams), dtype=np.int64)
    fold[order] = np.arange(len(streams)) % folds
    return fold


def auc(died: np.ndarray, risk: np.ndarray) -> float:
    """Share of the pairs of one who died and one who lived in which the risk is higher for who died; a tie is half."""
    lived = np.sort(risk[died == 0])
    below, upto = (np.searchsorted(lived, risk[died == 1], side=side) for side in ("left", "right"))
    return float((below + upto).mean() / 2 / len(lived))


def made_up(count: int) -> pa.Table:
    """Patients who never lived, `count` of them: who dies has a fast heart and is hardly awake."""
    rng = np.random.default_rng(0)
    names = sorted({*LOGARITHMS, *LIMITS, "age"} - {"gender", "mechvent"})
    ranges = {name: (bands[0][0], bands[-1][0]) for name, bands in POINTS.items()} | LIMITS
    rows = []
    for number in range(count):
        died = number % 3 == 0
        for hour in range(int(rng.integers(20, 48))):
            values = {name: rng.uniform(*ranges.get(name, (1.0, 100.0))) for name in names if rng.random() < 0.2}
            if rng.random() < 0.9:
                values |= {"hr": rng.normal(80 + 30 * died, 10), "gcs": 14.0 - 8 * died + rng.integers(2)}
            if hour == 0:
                values |= {"icutype": float(rng.integers(1, 5)), "gender": float(rng.integers(2))}
            elif rng.random() < 0.3:
                values["mechvent"] = 1.0
            rows.append({"stream_id": f"patient-{number:03}", "t": 3600.0 * hour, "label": int(died)} | values)
    names += ["gender", "mechvent", "icutype"]
    return pa.table({name: pa.array([row.get(name) for row in rows]) for name in ["stream_id", "t", *names, "label"]})


class Study:
    """The streams of one file, and what is measured of models trained on their folds.

    Args:
        table: the data.
        path: where the channels and folds are written, from which is trained and served.
        settings: keys of the config that are set anew.
    """

    def __init__(self, table: pa.Table, path: Path, *, folds: int, seeds: list[int], settings: list[str]) -> None:
        self.path, self.folds, self.settings = path, folds, settings
        table = prepare(table)
        self.streams, first, row = np.unique(
            table["stream_id"].cast(pa.string()).to_numpy(zero_copy_only=False).astype(str),
            return_index=True,
            return_inverse=True,
        )
        self.died = table["label"].to_numpy(zero_copy_only=False)[first].astype(int)
        self.began = table["t"].to_numpy()[first]
        for seed in seeds:
            fold = folds_of(self.streams, self.died, folds=folds, seed=seed)
            table = table.append_column(f"fold_{seed}", pa.array(fold[row]))
        pyarrow.parquet.write_table(table, path)

    def measure(self, seed: int, fold: int) -> dict[str, float]:
        """Train without one fold, serve its rows; AUC at the streams' ends and by the hour."""
        began = time.perf_counter()
        settings = [
            f'data.files="{self.path}"', f'split.column="fold_{seed}"', "split.validation=[]", f"split.test=[{fold}]",
            f"training.seed={seed}", *self.settings,
        ]  # fmt: skip
        bundle = sr.train(CONFIG, settings=settings, console=Console(quiet=True))
        seconds = time.perf_counter() - began
        served = sr.score(str(self.path), bundle, filters=[(f"fold_{seed}", "==", fold)]).read_all()
        stream = np.searchsorted(
            self.streams, served["stream"].cast(pa.string()).to_numpy(zero_copy_only=False).astype(str)
        )
        risk = np.stack(served["value"].to_numpy(zero_copy_only=False))[:, bundle.header.labels.index("1")]
        hours = (served["t_end"].to_numpy() - self.began[stream]) / 3600
        result = {"seed": seed, "fold": fold, "trained": bundle.header.metrics["test_auc_end"], "seconds": seconds}
        for limit in HOURS:
            known = np.flatnonzero(hours <= limit + 1e-6)
            # A stream's last window by then: windows come in order of time.
            last = dict(zip(stream[known].tolist(), known.tolist(), strict=True))
            result[f"auc_{limit}h"] = auc(self.died[list(last)], risk[list(last.values())])
        last = dict(zip(stream.tolist(), range(len(stream)), strict=True))
        result["auc"] = auc(self.died[list(last)], risk[list(last.values())])
        result["streams"] = len(last)
        if abs(result["auc"] - result["trained"]) > 1e-5:
            raise SystemExit(f"served AUC {result['auc']:.6f} is not that of training, {result['trained']:.6f}")
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", help="physionet2012 as Parquet")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a key of the config, set anew")
    options = parser.parse_args()
    if options.file:
        table = pyarrow.parquet.read_table(options.file)
    else:
        table, options.seeds, options.folds = made_up(90), [0], 2
        print("no file given: 90 made-up patients, 2 folds", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prepared.parquet"
        study = Study(table, path, folds=options.folds, seeds=options.seeds, settings=options.set)
        results = []
        for seed in options.seeds:
            for fold in range(options.folds):
                results.append(study.measure(seed, fold))
                if not options.json:
                    row = results[-1]
                    print(
                        f"seed {seed}, fold {fold}: AUC {row['auc']:.4f} of {row['streams']} streams, "
                        f"trained in {row['seconds']:.0f} s",
                        flush=True,
                    )
    means = np.array([np.mean([r["auc"] for r in results if r["seed"] == seed]) for seed in options.seeds])
    by_hour = {f"{limit} h": float(np.mean([r[f"auc_{limit}h"] for r in results])) for limit in HOURS}
    summary = {
        "auc_mean": float(means.mean()),
        "auc_spread_of_seeds": float(means.std()),
        "auc_spread_of_folds": float(np.std([r["auc"] for r in results])),
        "auc_by_hour": by_hour,
        "published": PUBLISHED,
        "folds": results,
    }
    if options.json:
        print(json.dumps(summary))
        return
    spread = f"+- {summary['auc_spread_of_seeds']:.4f} over seeds, +- {summary['auc_spread_of_folds']:.4f} over folds"
    print(f"AUC {summary['auc_mean']:.4f} ({spread}); published: {', '.join(f'{k} {v}' for k, v in PUBLISHED.items())}")
    print("AUC after " + ", ".join(f"{hours}: {value:.4f}" for hours, value in by_hour.items()))
    print("served outputs have the AUC of training to 1e-5 in every fold")


if __name__ == "__main__":
    main()
