from __future__ import annotations

import copy
import inspect
import multiprocessing
import pickle

import numpy as np
import pytest
from bundles import make_bundle, make_recording

import streamrde as sr
from streamrde.errors import OrderError, ShapeError
from streamrde.inference.steppers import make_stepper
from streamrde.windowing.order import Order

COPIES = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def said(predictions: list[sr.Prediction]) -> list[tuple]:
    return [(p.stream, p.window, p.t_start, p.t_end, p.value.tobytes()) for p in predictions]


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"order": Order(lateness=0.5), "faults": "drop"},
        {"step_error": True, "on_range": "reset"},
    ],
    ids=["plain", "late", "checked"],
)
def test_a_copy_goes_on_where_the_predictor_stood_bit_for_bit(copied, settings) -> None:
    t, x = make_recording(0, 200)
    predictor = sr.Predictor(make_bundle(), stream="a", **settings)
    predictor.push_many(t[:101], x[:101])
    twin = copied(predictor)
    assert (twin.stream, twin.counts) == ("a", predictor.counts)
    expected = said(predictor.push_many(t[101:], x[101:])) + said(predictor.flush())
    assert said(twin.push_many(t[101:], x[101:])) + said(twin.flush()) == expected
    assert expected


def test_a_copy_and_the_predictor_do_not_move_each_other() -> None:
    t, x = make_recording(0, 60)
    predictor = sr.Predictor(make_bundle())
    predictor.push_many(t[:30], x[:30])
    before = predictor.snapshot()
    copy.deepcopy(predictor).push_many(t[30:], x[30:])
    assert predictor.snapshot() == before


def test_a_copy_has_every_setting_that_a_predictor_has() -> None:
    settings = sr.Predictor(make_bundle())._settings
    parameters = set(inspect.signature(sr.Predictor.__init__).parameters) - {"self", "bundle", "stream"}
    assert settings.keys() == parameters
    strict = copy.deepcopy(sr.Predictor(make_bundle(), faults="error"))
    strict.push(1.0, [0.0, 0.0])
    with pytest.raises(OrderError):
        strict.push(0.5, [0.0, 0.0])


def _last(predictor: sr.Predictor) -> list[tuple]:
    return said(predictor.flush())


@pytest.mark.slow
def test_a_predictor_goes_to_a_process_that_is_spawned() -> None:
    t, x = make_recording(0, 60)
    predictor = sr.Predictor(make_bundle(), stream="a")
    predictor.push_many(t, x)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_last, [predictor]) == said(predictor.flush())


class Unpicklable:
    """A stepper that holds something that lives in one process."""

    def __init__(self, stepper) -> None:
        self._stepper = stepper

    def __getattr__(self, name):
        return getattr(self.__dict__["_stepper"], name)

    def __reduce__(self):
        raise TypeError("a session lives in one process")


def test_a_predictor_whose_stepper_cannot_be_pickled_says_so() -> None:
    bundle = make_bundle()
    predictor = sr.Predictor(bundle, stepper=Unpicklable(make_stepper(bundle)))
    with pytest.raises(TypeError, match=r"Predictor cannot be pickled: its stepper, a Unpicklable, .*snapshot\(\)"):
        pickle.dumps(predictor)
    t, x = make_recording(0, 60)
    assert said(copy.deepcopy(predictor).push_many(t, x)) == said(predictor.push_many(t, x))


@pytest.mark.parametrize("members", [1, 2])
def test_a_stepper_of_the_bundle_itself_can_be_pickled(members) -> None:
    bundle = make_bundle(members=members, hidden=8)
    predictor = sr.Predictor(bundle, stepper=make_stepper(bundle, threads=2))
    t, x = make_recording(0, 60)
    assert said(pickle.loads(pickle.dumps(predictor)).push_many(t, x)) == said(predictor.push_many(t, x))


def test_a_masked_value_is_not_observed() -> None:
    t, x = make_recording(0, 60)
    holes = np.random.default_rng(1).random(x.shape) < 0.3
    masked = np.ma.array(np.where(holes, -9999.0, x), mask=holes)
    expected = sr.Predictor(make_bundle()).push_many(t, np.where(holes, np.nan, x))
    one_by_one, at_once, as_list = (sr.Predictor(make_bundle()) for _ in range(3))
    assert said([p for time, row in zip(t.tolist(), masked, strict=True) for p in one_by_one.push(time, row)]) == said(
        expected
    )
    assert said(at_once.push_many(t, masked)) == said(expected)
    assert said(as_list.push_many(t, list(masked))) == said(expected)


def test_swapped_axes_are_named() -> None:
    t, x = make_recording(0, 60)
    with pytest.raises(ShapeError, match=r"the axes look swapped: give x.swapaxes\(-1, -2\), of shape \(60, 2\)"):
        sr.Predictor(make_bundle()).push_many(t, x.T)
