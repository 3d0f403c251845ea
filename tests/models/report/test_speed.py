"""What the report says of the speed of serving."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from bundles import make_bundle, make_recording

import streamrde as sr
from streamrde.inference.predictor import Predictor
from streamrde.models.report import speed
from streamrde.models.report.workings import speed as section


def recordings(count: int = 5, length: int = 40) -> list[SimpleNamespace]:
    return [SimpleNamespace(t=t, x=x) for t, x in (make_recording(i, length) for i in range(count))]


@pytest.fixture
def slow_first_pushes(monkeypatch):
    """A clock that only pushes move: a stream's first one by a second, one that closes by 30 us, others by 2 us."""
    now, push = [0.0], Predictor.push

    def timed(self, t, x):
        first = not self.counts.samples
        closed = push(self, t, x)
        now[0] += 1.0 if first else 30e-6 if closed else 2e-6
        return closed

    monkeypatch.setattr(speed, "Predictor", type("Timed", (Predictor,), {"push": timed}))
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(speed, "_TIME", math.inf)


@pytest.mark.parametrize(
    ("windows", "seconds", "closes"),
    [(sr.Count(1), 30e-6, True), (sr.Count(5), 2e-6, False), (sr.Every(2.0), 2e-6, False)],
)
def test_the_first_push_of_a_stream_is_not_timed(slow_first_pushes, windows, seconds, closes) -> None:
    found, (low, high), closed = speed._push(make_bundle(windows=windows), recordings())
    assert (found, low, high) == pytest.approx((seconds, seconds, seconds))
    assert closed == closes


@pytest.mark.parametrize("length", [0, 1])
def test_without_a_second_sample_there_is_no_time_of_a_push(slow_first_pushes, length) -> None:
    found, _, closes = speed._push(make_bundle(), [SimpleNamespace(t=np.arange(length) * 1.0, x=np.zeros((length, 2)))])
    assert math.isnan(found)
    assert not closes


def test_the_report_says_which_pushes_were_timed_and_their_spread() -> None:
    measured = speed.Speed(30e-6, (28e-6, 33e-6), True, 1e-5, 1e-6, 1e-6, 64)
    assert "a sample that closes a window (Predictor.push), median and quartiles" in section(measured, 100.0)
    assert "30.00 (28.00 to 33.00)" in section(measured, 100.0)
    plain = measured._replace(push=2e-6, push_closes=False)
    assert "a sample that closes no window (Predictor.push)" in section(plain, 100.0)
    nothing = measured._replace(push=math.nan, push_spread=(math.nan, math.nan), push_closes=False)
    assert "no sample" in section(nothing, 100.0)
