"""Pulses of activity: against the defining integrals, and laws that do not depend on any implementation."""

import naive
import numpy as np
import pytest
from bundles import make_recording
from hostile import BUILT_IN, check_cuts_and_moves, check_reference

import streamrde as sr
from streamrde.errors import ParameterError
from streamrde.kernels import Loop
from streamrde.windowing.partition import Partition
from streamrde.windowing.recorded import window_recordings
from streamrde.windowing.tokens import LEVELS, Bands, Pulses, Scale, Token

FILL = (0.25, -0.5)
PULSES = Pulses(0.03125, 1.0, 11)
TOKEN = Token(
    scales=(Scale(1, 1), Scale(3)),
    ends=True,
    summaries=True,
    bands=Bands(0.05, 1.0, 5, half_life=4.0),
    pulses=Pulses(0.25, 4.0, 6, half_life=8.0),
)


def quantiles(t, x, pulses=PULSES, interpolation="linear"):
    """Return the quantiles after each window, (K, LEVELS)."""
    x = x.reshape(len(t), -1)
    partition = Partition((0.0,) * x.shape[1], 1, sr.Every(1.0), interpolation, token=Token(pulses=pulses))
    (whole,) = window_recordings([t], [x], partition)
    return whole.logsigs[:, partition.places.pulses]


def beats(rate, seconds=30.0, step=1 / 128, *, height=1.0, offset=0.0):
    """Return times and a channel with a short bump so many times per second, and a little noise."""
    t = np.arange(0.0, seconds, step)
    phase = (t * rate) % 1.0
    noise = np.random.default_rng(3).normal(size=len(t))
    return t, offset + height * (np.exp(-(((phase - 0.3) / 0.05) ** 2)) + 0.002 * noise)


@pytest.mark.parametrize("interpolation", ["linear", "hold"])
def test_quantiles_are_those_of_the_defining_integrals(interpolation):
    # Steps of 12 bits are not rounded.
    t, x = make_recording(5, 60, missing=0.4 if interpolation == "hold" else 0.0)
    t = np.cumsum(np.round(np.diff(t, prepend=0.0) * 512 + 1) / 512)
    pulses = Pulses(0.25, 4.0, 5)
    rates = []
    for channel in range(2):
        seen = np.isfinite(x[:, channel])
        rates += naive.pulses(t[seen], x[seen, channel], pulses.constants)
    ascending = sorted(rates)
    want = [ascending[(2 * j + 1) * len(ascending) // (2 * LEVELS)] for j in range(LEVELS)]
    assert len(set(want)) > 4
    np.testing.assert_allclose(quantiles(t, x, pulses, interpolation)[-1], want, rtol=1e-12)


@pytest.mark.parametrize("rate", [0.75, 1.5, 3.0])
@pytest.mark.parametrize("irregular", [False, True])
def test_beats_are_counted(rate, irregular):
    t, x = beats(rate)
    if irregular:
        kept = np.sort(np.random.default_rng(1).choice(len(t), 3 * len(t) // 4, replace=False))
        t, x = t[kept], x[kept]
    found = quantiles(t, x)[-1]
    # A bump rises and falls: some time constants see one pulse, some two, and those beyond several beats none.
    assert (np.abs(found / rate - 1.0) < 0.05).sum() >= 4


def test_they_do_not_depend_on_offset_scale_or_origin_of_time():
    t, x = beats(1.5)
    one = quantiles(t, np.round(x * 4096) / 4096)
    assert np.array_equal(one, quantiles(t + 4096.0, 1024.0 * (np.round(x * 4096) / 4096 + 8.0)))


def test_time_that_runs_twice_as_fast_doubles_them():
    t, x = beats(1.5)
    half = Pulses(PULSES.shortest / 2, PULSES.longest / 2, PULSES.count)
    assert np.array_equal(2.0 * quantiles(t, x)[-1], quantiles(t / 2, x, half)[-1])


def test_a_constant_channel_has_no_pulses():
    t = np.arange(0.0, 40.0, 1 / 64)
    assert (quantiles(t, np.full(len(t), 2.0)) == 0).all()


def test_a_channel_that_was_not_observed_is_left_out():
    t, x = beats(1.5)
    both = np.column_stack([x, np.full(len(t), np.nan)])
    assert np.array_equal(quantiles(t, both, interpolation="hold"), quantiles(t, x, interpolation="hold"))
    assert np.isnan(quantiles(t, both * np.nan, interpolation="hold")).all()


def test_what_was_long_ago_fades():
    t, slow = beats(1.0, seconds=60.0)
    _, fast = beats(4.0, seconds=60.0)
    x = np.where(t < 30.0, slow, fast)
    near = [np.abs(quantiles(t, x, Pulses(0.03125, 1.0, 11, half_life=life))[-1] - 4.0).min() for life in (0.0, 2.0)]
    assert near[1] < 0.1 < near[0]


@pytest.mark.parametrize("windows", BUILT_IN, ids=str)
@pytest.mark.parametrize("gap", [None, sr.Gap(seconds=3.0), sr.Gap(seconds=3.0, state="carry")], ids=str)
@pytest.mark.parametrize("interpolation", ["linear", "hold"])
def test_pulses_do_not_depend_on_cuts_into_calls_or_on_moves_of_rows(windows, gap, interpolation):
    check_cuts_and_moves(Partition(FILL, 2, windows, interpolation, gap=gap, token=TOKEN))


@pytest.mark.skipif(Loop is None, reason="no compiled loop")
@pytest.mark.parametrize("windows", BUILT_IN, ids=str)
@pytest.mark.parametrize("interpolation", ["linear", "hold"])
@pytest.mark.parametrize("token", [TOKEN, Token(pulses=Pulses(1e-3, 1e2, 40))], ids=["fading", "wide"])
def test_the_compiled_loop_has_the_bits_of_its_reference(windows, interpolation, token):
    partition = Partition(FILL, 2, windows, interpolation, gap=sr.Gap(seconds=3.0, state="carry"), token=token)
    check_reference(partition)


@pytest.mark.parametrize("scale", [1e-280, 1e290])
def test_the_smallest_and_largest_movements_stay_finite(scale):
    t, x = beats(1.5)
    found = quantiles(t, scale * x)
    assert np.isfinite(found).all()
    assert np.array_equal(found[-1], quantiles(t, x)[-1])


@pytest.mark.parametrize(
    ("pulses", "message"),
    [
        (Pulses(0.0, 1.0, 4), "pulses.shortest=0.0"),
        (Pulses(1.0, float("nan"), 4), "pulses.longest=nan"),
        (Pulses(2.0, 1.0, 4), "longest must be above shortest"),
        (Pulses(1.0, 2.0, 1), "pulses.count=1"),
        (Pulses(1.0, 2.0, 4, half_life=-1.0), "pulses.half_life=-1.0"),
    ],
)
def test_pulses_that_cannot_be_are_refused(pulses, message):
    with pytest.raises(ParameterError, match=message):
        Token(pulses=pulses).check(1)
