"""The overview of a fleet agrees with what it says of each stream."""

from __future__ import annotations

import numpy as np
from bundles import make_bundle

import streamrde as sr


def test_the_overview_has_the_counts_times_and_windows_of_each_stream():
    fleet = sr.Fleet(make_bundle(seed=1), faults="drop")
    assert fleet.overview().num_rows == 0
    names, t = ["b", "a", "b", "b", "a", "b"], [0.0, 5.0, 1.25, 1.0, 9.5, 2.5]
    closed = fleet.push(names, t, np.zeros((6, 2))).to_pylist()
    rows = {row["stream"]: row for row in fleet.overview().to_pylist()}
    assert [*rows] == fleet.streams == ["b", "a"]
    for name, row in rows.items():
        counts = fleet.counts(name)
        assert (row["samples"], row["late"], row["duplicate"]) == (counts.samples, counts.late, counts.duplicate)
        assert row["t"] == max(time for stream, time in zip(names, t, strict=True) if stream == name)
        own = [one for one in closed if one["stream"] == name]
        assert row["window"] == len(own)
        assert row["t_start"] == own[-1]["t_end"]
    assert rows["b"]["late"] == 1
    assert fleet.overview(1)["stream"].to_pylist() == ["b"]
