"""Print the accuracy of three lines of scikit-learn beside that of a run file, on the test part of the same data.

usage: python tests/benchmarks/three_lines.py DATA [--train CONFIG ...] [--fit FILE ...]

DATA is a folder of recordings with a column `split`, as the run files of configs/ name them. --train: `streamrde train
CONFIG` as it stands, and `NeuralRDEClassifier(config=CONFIG)` on the rows that its split leaves for training. --fit:
`sr.fit(FILE, "label")`, which serves the test part once, and `NeuralRDEClassifier().fit(X, y).score(X_test, y_test)`.
"""

from __future__ import annotations

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # before NumPy

import argparse
import io
import pathlib
import time
from typing import Any

import pandas as pd

import streamrde as sr
from streamrde.disk import read_tables
from streamrde.sklearn import NeuralRDEClassifier


def parts(file: pathlib.Path, channels: list[str]) -> tuple[pd.DataFrame, pd.Series, pd.DataFrame, pd.Series]:
    """Return the streams and classes of the training part and of the test part."""
    rows = pd.read_parquet(file)
    found: list[Any] = []
    for split in ("train", "test"):
        own = rows[rows["split"] == split]
        found += [own[["stream_id", "t", *channels]], own.groupby("stream_id")["label"].first()]
    return tuple(found)  # type: ignore[return-value]


def report(name: str, file: dict[str, float], lines: dict[str, float], same: bool) -> None:
    """Print a row of the table."""
    figures = (f"{100 * own['accuracy']:.1f} | {own['seconds']:.0f}" for own in (file, lines))
    print(f"| {name} | {' | '.join(figures)} | {'yes' if same else 'no'} |", flush=True)


def trained(config: pathlib.Path, folder: pathlib.Path) -> None:
    """Train by a run file, and by three lines."""
    from rich.console import Console

    tables = read_tables(config)
    tables["data"]["files"] = str(folder / tables["data"]["files"])
    tables["output"] = {}
    tables["compare"] = False
    begin = time.process_time()
    bundle = sr.train(tables, console=Console(file=io.StringIO()))
    file = {"accuracy": bundle.header.metrics["test_accuracy_end"], "seconds": time.process_time() - begin}
    channels = [own["name"] for own in tables["data"]["channels"]]
    X, y, X_test, y_test = parts(pathlib.Path(tables["data"]["files"]), channels)
    begin = time.process_time()
    classifier = NeuralRDEClassifier(config=config, random_state=tables["training"].get("seed", 0)).fit(X, y)
    lines = {"accuracy": classifier.score(X_test, y_test), "seconds": time.process_time() - begin}
    report(f"train {config.name}", file, lines, bundle.fingerprint == classifier.bundle_.fingerprint)


def fitted(name: str, folder: pathlib.Path) -> None:
    """Fit from a file, and by three lines."""
    begin = time.process_time()
    made = sr.fit(folder / name, "label", group="")
    file = {"accuracy": made.measures["test_accuracy"], "seconds": time.process_time() - begin}
    X, y, X_test, y_test = parts(folder / name, list(made.roles.channels))
    begin = time.process_time()
    classifier = NeuralRDEClassifier().fit(X, y)
    lines = {"accuracy": classifier.score(X_test, y_test), "seconds": time.process_time() - begin}
    report(f"fit {name}", file, lines, made.bundle.fingerprint == classifier.bundle_.fingerprint)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--train", type=pathlib.Path, nargs="*", default=[])
    parser.add_argument("--fit", nargs="*", default=[])
    asked = parser.parse_args()
    print("| set | file, % | s | three lines, % | s | same model |\n|---|---|---|---|---|---|")
    for name in asked.fit:
        fitted(name, asked.data)
    for config in asked.train:
        trained(config, asked.data)


if __name__ == "__main__":
    main()
