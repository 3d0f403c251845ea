from __future__ import annotations

import copy
import inspect
import pickle

import numpy as np
import pytest
from bundles import make_bundle, make_recording

import streamrde as sr
from streamrde.errors import ShapeError
from streamrde.windowing.order import Order

COPIES = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def rows(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    t, x = make_recording(seed, 120)
    return np.array(["b", "a", "c"])[np.arange(120) % 3], t, x


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"faults": "drop", "order": Order(lateness=0.3), "threads": np.int64(2)},
        {"archive": {}, "features": ["state"], "step_error": True},
    ],
    ids=["plain", "late", "archive"],
)
def test_a_copy_goes_on_where_the_fleet_stood_bit_for_bit(copied, settings) -> None:
    names, t, x = rows()
    fleet = sr.Fleet(make_bundle(), **settings)
    fleet.push(names[:70], t[:70], x[:70])
    fleet.flush(["a"])
    fleet.checkpoint()
    fleet.push(names[70:80], t[70:80], x[70:80])
    twin = copied(fleet)
    assert (twin.streams, twin.event_time, twin.counts()) == (fleet.streams, fleet.event_time, fleet.counts())
    assert twin.unused.equals(fleet.unused)
    changes = fleet.checkpoint()
    assert twin.checkpoint() == changes
    assert twin.push(names[80:], t[80:], x[80:]).equals(fleet.push(names[80:], t[80:], x[80:]))
    assert twin.flush().equals(fleet.flush())


def test_a_copy_and_the_fleet_do_not_share_streams_or_archive() -> None:
    names, t, x = rows()
    fleet = sr.Fleet(make_bundle(), archive={})
    fleet.push(names, t, x)
    twin = copy.deepcopy(fleet)
    twin.evict(idle=0.0, now=t[-1] + 10)
    assert (len(twin), len(fleet), len(twin.archive), len(fleet.archive)) == (0, 3, 3, 0)


def test_a_copy_has_every_setting_that_a_fleet_has() -> None:
    parameters = set(inspect.signature(sr.Fleet.__init__).parameters) - {"self", "bundle"}
    assert sr.Fleet(make_bundle())._settings.keys() == parameters
    fleet, seen = sr.Fleet(make_bundle()), []
    fleet.on_trouble = seen.append
    assert copy.copy(fleet).on_trouble == copy.deepcopy(fleet).on_trouble == seen.append


def test_a_copy_knows_the_models_before_its_own() -> None:
    names, t, x = rows()
    fleet = sr.Fleet(make_bundle())
    fleet.push(names, t, x)
    old = fleet.snapshot()
    fleet.swap(make_bundle(seed=5))
    twin = pickle.loads(pickle.dumps(fleet))
    assert twin.predecessors == fleet.predecessors
    twin.restore({"again": old["a"]})
    assert "again" in twin


@pytest.mark.parametrize("name", ["abc", b"abc", "a"])
def test_a_text_is_one_name_not_one_per_letter(name) -> None:
    _, t, x = rows()
    fleet = sr.Fleet(make_bundle())
    with pytest.raises(ShapeError, match=r"is one name: give one per row"):
        fleet.push(name, t[: len(name)], x[: len(name)])
    assert fleet.streams == []


def test_a_masked_value_is_not_observed() -> None:
    names, t, x = rows()
    holes = np.random.default_rng(1).random(x.shape) < 0.3
    masked = np.ma.array(np.where(holes, -9999.0, x), mask=holes)
    given, expected = (
        sr.Fleet(make_bundle()).push(names, t, values) for values in (masked, np.where(holes, np.nan, x))
    )
    assert given.equals(expected)


def test_a_masked_time_is_no_time() -> None:
    names, t, x = rows()
    fleet = sr.Fleet(make_bundle(), faults="drop")
    fleet.push(names, np.ma.array(t, mask=np.arange(len(t)) == 7), x)
    assert fleet.counts().rejected == 1


def test_swapped_axes_are_named() -> None:
    names, t, x = rows()
    with pytest.raises(ShapeError, match=r"the axes look swapped: give x.swapaxes\(-1, -2\), of shape \(120, 2\)"):
        sr.Fleet(make_bundle()).push(names, t, x.T)
