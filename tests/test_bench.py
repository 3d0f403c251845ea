import itertools

import pytest

from streamrde import bench


@pytest.fixture
def one_size(monkeypatch):
    monkeypatch.setattr(bench, "SIZES", ((2, 2),))
    monkeypatch.setattr(bench, "BATCHES", ((3, 8, 2, 2),))
    monkeypatch.setattr(bench, "_SAMPLES", 320)
    monkeypatch.setattr(bench, "PEERS", ())


def test_every_case_runs_and_ours_is_the_measure(one_size):
    figures = bench.measure(itertools.islice(bench.cases(), 3), rounds=2)
    for _, group in itertools.groupby(figures, key=lambda f: (f.group, f.case)):
        ours, *peers = group
        assert ours.engine.startswith("streamrde")
        assert ours.ratio == 1.0
        assert all(peer.ratio > 0 for peer in peers)
    assert all(f.quartiles[0] <= f.median <= f.quartiles[1] for f in figures)
    assert bench.table(figures).row_count == len(figures) + 3


def test_the_machine_is_named():
    machine = bench.machine()
    assert {"processor", "cores", "kernels", "python", "numpy", "streamrde"} <= machine.keys()
