import itertools
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from streamrde import bench, logsignature
from streamrde.bench import kernels, peers, scales, steps
from streamrde.errors import MissingExtraError, ParameterError

pytestmark = pytest.mark.slow


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(kernels, "SIZES", ((2, 2),))
    monkeypatch.setattr(kernels, "BATCHES", ((3, 8, 2, 2),))
    monkeypatch.setattr(kernels, "_SAMPLES", 320)
    monkeypatch.setattr(kernels, "_FLEET_ROWS", 640)
    monkeypatch.setattr(steps, "SIZES", ((3, 2),))
    monkeypatch.setattr(steps, "_SAMPLES", 100)
    monkeypatch.setattr(scales, "_WINDOWS", 40)
    monkeypatch.setattr(scales, "_PUSHES", 64)


@pytest.fixture
def alone(small, monkeypatch):
    monkeypatch.setattr(peers, "installed", lambda module: False)


def test_every_case_runs_and_ours_is_the_measure(alone):
    figures = bench.measure(bench.cases(streams=(10,)), rounds=2)
    assert list(dict.fromkeys(figure.group for figure in figures if figure.ratio == 1.0)) == list(bench.GROUPS)
    for _, group in itertools.groupby(figures, key=lambda f: (f.group, f.case)):
        ours, *others = group
        assert ours.engine.startswith("streamrde")
        assert all(other.ratio > 0 for other in others)
    assert all(f.quartiles[0] <= f.median <= f.quartiles[1] for f in figures)
    assert bench.table(figures).row_count == len(figures) + len(bench.GROUPS)


def test_the_chart_names_every_engine_and_is_the_same_each_time(alone):
    pytest.importorskip("matplotlib", reason="the chart needs it, and only the chart")
    figures = bench.measure(bench.cases(["windows of 32", "batch"]), rounds=1)
    svg = bench.chart(figures)
    assert svg == bench.chart(figures)
    assert "windows of 32" in "".join(ET.fromstring(svg).itertext())


def test_a_chart_shows_the_groups_that_have_libraries_for_peers(alone):
    pytest.importorskip("matplotlib", reason="the chart needs it, and only the chart")
    figures = bench.measure(bench.cases(["windows of 32", "fleet"], streams=(10,)), rounds=1)
    assert "fleet" not in "".join(ET.fromstring(bench.chart(figures)).itertext())
    with pytest.raises(ParameterError, match="'one by one'"):
        bench.chart([figure for figure in figures if figure.group == "fleet"])


def test_a_chart_without_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"streamrde\[bench\]"):
        bench.chart([])


def test_the_machine_is_named():
    machine = bench.machine()
    assert {"processor", "cores", "kernels", "python", "numpy", "streamrde"} <= machine.keys()


# The bases differ in what follows the letters; the letters' coefficients are the increments in all of them.
def test_the_peers_that_are_installed_compute_the_same():
    path = np.random.default_rng(0).normal(size=(5, 20, 3))
    ours = logsignature(path, 3)
    for name, compute in peers.whole_paths(3, 3):
        theirs = np.asarray(compute(path))
        assert theirs.shape == ours.shape, name
        np.testing.assert_allclose(theirs[:, :3], ours[:, :3], rtol=0, atol=1e-12, err_msg=name)
        if "words" in name:
            np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-12)


def test_all_ways_to_scales_have_the_same_tokens(monkeypatch):
    monkeypatch.setattr(scales, "_WINDOWS", 40)
    case = scales._tokens()
    assert case.engines.keys() >= {"streamrde, products of m windows", "streamrde, recomputed from samples"}
    _, tokens = case.engines.pop("streamrde logsig_windows")()
    for name in ("streamrde, products of m windows", "streamrde, recomputed from samples"):
        for place, (m, found) in enumerate(zip(scales.SCALES, case.engines[name](), strict=True)):
            size = found.shape[1]
            np.testing.assert_allclose(found, tokens[m - 1 :, place * size : (place + 1) * size], rtol=1e-9, atol=1e-12)
