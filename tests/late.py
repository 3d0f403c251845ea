"""Models with the scores of held-out streams, and streams whose labels come late."""

from __future__ import annotations

import numpy as np
from bundles import make_bundle

import streamrde as sr
from streamrde.adapting.bands import SETS
from streamrde.inference.header import Head

RNG = np.random.default_rng(0)
NUMBERS = {"task": "regression", "labels": ("p", "q"), "outputs": 2}
HEADS = {
    "labels": (),
    "outputs": 4,
    "heads": (
        Head(name="size", outputs=1),
        Head(name="kind", outputs=3, task="classification", labels=("x", "y", "z")),
    ),
}


def calibrated(**changes):
    bundle = make_bundle(windows=sr.Every(1.0), **changes)
    scores = np.abs(RNG.normal(size=(400, len(bundle.header.thresholds))))
    classes = [bool(unit.classes) for unit in bundle.header.thresholds]
    scores[:, classes] = RNG.random((400, sum(classes)))
    return bundle.with_calibration([scores] * len(SETS), np.arange(400) // 10)


def samples(streams, rows, seed=1):
    rng = np.random.default_rng(seed)
    t = np.arange(rows * streams) // streams * 0.5
    return [f"s{i % streams}" for i in range(rows * streams)], t, rng.normal(size=(rows * streams, 2))


def run(fleet, rows, labels_of, late=4, streams=3):
    """Push samples, and label each prediction `late` windows after; returns predictions and labels."""
    names, t, x = samples(streams, rows)
    predicted, labelled, waiting = [], [], []
    for k in range(0, len(names), streams):
        batch = fleet.push(names[k : k + streams], t[k : k + streams], x[k : k + streams])
        predicted += batch.to_pylist()
        waiting += batch.to_pylist()
        while len(waiting) > late * streams:
            row = waiting.pop(0)
            labelled += fleet.label([row["stream"]], labels_of(row), window=[row["window"]]).to_pylist()
    return predicted, labelled


def errors(row):
    rng = np.random.default_rng([row["window"], int(row["stream"][1:])])
    return [np.array(row["value"]) + rng.normal(size=len(row["value"])) * 4.0]
