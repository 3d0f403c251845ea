"""Reservoirs that learn their whole readout from labels."""

import numpy as np
import pytest

import streamrde as sr
from streamrde.errors import ParameterError, SnapshotError


def fed(fleet, rows=400, seed=0, restore=None):
    """Two streams whose target is the mean of the latest values, each label as it is known. Return the errors."""
    rng, names = np.random.default_rng(seed), ["a", "b"]
    x = 70 + 3 * np.cumsum(rng.normal(size=(2, rows)), axis=1)
    y = 5 * np.array([np.convolve(own, np.ones(5) / 5)[:rows] for own in x])
    errors = []
    for i in range(rows):
        closed = fleet.push(names, [float(i)] * 2, x[:, [i]])
        if len(closed):
            truth = y[:, int(closed["t_end"][0].as_py())]
            joined = fleet.label(closed["stream"], truth, window=closed["window"].to_numpy())
            errors.append(np.array(joined["served"].to_pylist())[:, 0] - truth)
        if restore is not None and i % 37 == 0:
            fleet = restore(fleet)
    return fleet, np.array(errors)


def untrained(**changes):
    settings = {"windows": sr.Every(5.0), "targets": {"y": (350.0, 50.0)}, "directions": 8}
    return sr.reservoir({"x": (70.0, 10.0)}, **settings | changes)


def test_a_readout_is_learned_from_nothing_and_restores_change_no_bit(tmp_path):
    untrained().save(tmp_path / "model.srde")
    bundle = sr.load(tmp_path / "model.srde")
    fleet, errors = fed(sr.Fleet(bundle, adapt="online"))
    assert fleet.push(["new"] * 6, np.arange(6.0), np.full((6, 1), 70.0))["value"].to_pylist() == [[350.0]]
    assert np.sqrt((errors[10:] ** 2).mean()) < 0.1 * fleet.adaptation().errors["frozen"][0]

    def again(own):
        made = sr.Fleet(bundle, adapt="online")
        made.restore(own.snapshot())
        return made

    twin, _ = fed(sr.Fleet(bundle, adapt="online"), restore=again)
    twin.push(["new"] * 6, np.arange(6.0), np.full((6, 1), 70.0))
    assert twin.snapshot() == fleet.snapshot()


def test_projections_of_the_features_belong_to_their_seed():
    fleet, errors = fed(sr.Fleet(untrained(), adapt=sr.Adapt(inputs="state", projection=6, seed=1)))
    assert np.isfinite(errors).all()
    with pytest.raises(SnapshotError, match="other settings of labels"):
        sr.Fleet(untrained(), adapt=sr.Adapt(inputs="state", projection=6, seed=2)).restore(fleet.snapshot())


def test_classes_begin_alike():
    bundle = untrained(targets=(), classes=["u", "v", "w"])
    fleet = sr.Fleet(bundle, adapt="best")
    closed = fleet.push(["a"] * 6, np.arange(6.0), np.full((6, 1), 70.0))
    assert closed["value"].to_pylist() == [pytest.approx([1 / 3] * 3)]
    for window in range(1, 30):
        fleet.label(["a"], ["v"], window=[window - 1])
        closed = fleet.advance(5.0 * (window + 1))
    assert closed["value"].to_pylist()[-1][1] > 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["u", "v"]}, "give targets, .* or classes"),
        ({"targets": (), "classes": ["u"]}, "give two or more"),
        ({"targets": {"y": (0.0, 0.0)}}, r"targets\['y'\]=\(0.0, 0.0\): .* a spread above 0"),
        ({"directions": 400}, "takes 512: use fewer"),
    ],
)
def test_what_cannot_be_says_so(changes, message):
    with pytest.raises(ParameterError, match=message):
        untrained(**changes)
