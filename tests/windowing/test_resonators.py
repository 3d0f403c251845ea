"""Oscillations in frequency bands: against the defining sums, and laws that do not depend on any implementation."""

import naive
import numpy as np
import pytest
from bundles import make_recording
from hostile import BUILT_IN, check_cuts_and_moves, check_reference
from tolerances import LAW

import streamrde as sr
from streamrde.errors import ParameterError
from streamrde.kernels import Loop
from streamrde.windowing.partition import Partition
from streamrde.windowing.recorded import window_recordings
from streamrde.windowing.resonators import factors, speeds
from streamrde.windowing.tokens import Bands, Scale, Token

FILL = (0.25, -0.5)
BANDS = Bands(0.1, 12.8, 22)
TOKEN = Token(scales=(Scale(1, 1), Scale(3)), ends=True, summaries=True, bands=Bands(0.05, 1.0, 5, half_life=4.0))


def waves(t, x, bands=BANDS, interpolation="linear", **changes):
    """Return rates and shares after each window, (K, channels, count) each."""
    x = x.reshape(len(t), -1)
    partition = Partition((0.0,) * x.shape[1], 1, sr.Every(1.0), interpolation, token=Token(bands=bands), **changes)
    (whole,) = window_recordings([t], [x], partition)
    places = partition.places
    return tuple(whole.logsigs[:, own].reshape(-1, x.shape[1], bands.count) for own in (places.rates, places.shares))


@pytest.mark.parametrize("dt", [2.0**-20, 2.0**-7, 0.25, 1.0, 3.0, 1024.0, 1e9])
def test_a_step_turns_and_decays_as_its_exponential_says(dt):
    turns, decays, _ = speeds(BANDS)[:, :-1]
    # The oracle sees the step as it is rounded: to 12 bits.
    mantissa, exponent = np.frexp(dt)
    dt = float(np.ldexp(np.round(mantissa * 4096) / 4096, exponent))
    own = factors(BANDS, dt)
    want = np.exp((1j * turns - decays) * dt)
    near = decays * dt < 30.0
    np.testing.assert_allclose((own.real + 1j * own.imaginary)[near], want[near], rtol=1e-9, atol=1e-18)
    assert (np.abs(own.real + 1j * own.imaginary)[~near] < 1e-12).all()
    np.testing.assert_allclose(own.gain, -np.expm1(-2 * decays * dt) / (2 * decays), rtol=1e-6)


def test_a_step_is_rounded_to_twelve_bits():
    assert factors(BANDS, 0.1) is factors(BANDS, 0.1 + 1e-9)
    assert factors(BANDS, 0.1) is not factors(BANDS, 0.101)


@pytest.mark.parametrize("interpolation", ["linear", "hold"])
def test_rates_and_shares_are_those_of_the_defining_sums(interpolation):
    # Steps of 12 bits are not rounded.
    t, x = make_recording(5, 60, missing=0.4 if interpolation == "hold" else 0.0)
    t = np.cumsum(np.round(np.diff(t, prepend=0.0) * 512 + 1) / 512)
    bands = Bands(0.05, 1.0, 5)
    rates, shares = waves(t, x, bands, interpolation)
    for channel in range(2):
        seen = np.isfinite(x[:, channel])
        want = naive.oscillations(t[seen], x[seen, channel], bands.frequencies, bands.damping)
        np.testing.assert_allclose(rates[-1, channel], want[0], rtol=LAW, atol=LAW)
        np.testing.assert_allclose(shares[-1, channel], want[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("frequency", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("irregular", [False, True])
def test_a_sine_is_counted_and_has_its_largest_share_at_its_frequency(frequency, irregular):
    t = np.arange(0.0, 40.0, 0.02)
    if irregular:
        t += np.random.default_rng(1).uniform(-0.008, 0.008, len(t))
    rates, shares = waves(t, 3.0 + 5.0 * np.sin(2 * np.pi * frequency * t))
    frequencies = np.array(BANDS.frequencies)
    assert abs(np.log2(frequencies[shares[-1, 0].argmax()] / frequency)) < 0.35
    near = np.abs(np.log2(frequencies / frequency)) < 0.5
    np.testing.assert_allclose(rates[-1, 0, near], frequency, rtol=0.05)


def test_oscillations_do_not_depend_on_offset_scale_or_origin_of_time():
    t = np.arange(0.0, 10.0, 1 / 64)
    x = np.sin(7 * t) + 0.3 * np.sin(31 * t)
    one, other = waves(t, x), waves(t + 4096.0, 1024.0 * (x + 8.0))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


def test_a_constant_channel_does_not_oscillate_and_one_that_stops_comes_to_rest():
    t = np.arange(0.0, 40.0, 1 / 64)
    rates, shares = waves(t, np.full(len(t), 2.0))
    assert (rates == 0).all()
    assert np.isnan(shares).all()
    x = np.where(t < 10.0, np.sin(2 * np.pi * t), 0.0)
    rates, _ = waves(t, x)
    changes = rates[:, 0, -10:] * np.floor(np.arange(1, len(rates) + 1))[:, None]
    assert changes[-1] == pytest.approx(changes[-2], rel=0.1)  # by then the fast ones rest


def test_what_was_not_observed_changes_nothing():
    t = np.arange(0.0, 20.0, 1 / 32)
    x = np.column_stack([np.sin(5 * t), np.sin(9 * t)])
    x[::2, 1] = np.nan
    own = waves(t, x, interpolation="hold")
    alone = waves(t[1::2], x[1::2, 1], interpolation="hold")
    for a, b in zip(own, alone, strict=True):
        assert np.array_equal(a[-1, 1], b[-1, 0])
    x[:, 1] = np.nan
    for a in waves(t, x, interpolation="hold"):
        assert np.isnan(a[:, 1]).all()
        assert np.isfinite(a[-1, 0]).all()


def test_what_was_long_ago_fades():
    t = np.arange(0.0, 60.0, 1 / 64)
    x = np.where(t < 30.0, np.sin(2 * np.pi * t), np.sin(8 * np.pi * t))
    fading = Bands(0.1, 12.8, 22, half_life=2.0)
    rates, _ = waves(t, x, fading)
    plain, _ = waves(t, x)
    band = int(np.argmin(np.abs(np.log(np.array(fading.frequencies) / 4))))
    assert rates[-1, 0, band] == pytest.approx(4.0, rel=0.05)
    assert plain[-1, 0, band] < 3.7


@pytest.mark.parametrize("windows", BUILT_IN, ids=str)
@pytest.mark.parametrize("gap", [None, sr.Gap(seconds=3.0), sr.Gap(seconds=3.0, state="carry")], ids=str)
@pytest.mark.parametrize("interpolation", ["linear", "hold"])
def test_oscillations_do_not_depend_on_cuts_into_calls_or_on_moves_of_rows(windows, gap, interpolation):
    partition = Partition(FILL, 2, windows, interpolation, gap=gap, token=TOKEN)
    check_cuts_and_moves(partition)


@pytest.mark.skipif(Loop is None, reason="no compiled loop")
@pytest.mark.parametrize("windows", BUILT_IN, ids=str)
@pytest.mark.parametrize("interpolation", ["linear", "hold"])
@pytest.mark.parametrize("token", [TOKEN, Token(bands=Bands(1e-3, 1e2, 40, damping=0.02))], ids=["fading", "wide"])
def test_the_compiled_loop_has_the_bits_of_its_reference(windows, interpolation, token):
    partition = Partition(FILL, 2, windows, interpolation, gap=sr.Gap(seconds=3.0, state="carry"), token=token)
    check_reference(partition)


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        (Bands(0.0, 1.0, 4), "bands.low=0.0"),
        (Bands(1.0, float("nan"), 4), "bands.high=nan"),
        (Bands(2.0, 1.0, 4), "high must be above low"),
        (Bands(1.0, 2.0, 1), "bands.count=1"),
        (Bands(1.0, 1.01, 200), "bands.count=200"),
        (Bands(1.0, 2.0, 4, damping=0.0), "bands.damping=0.0"),
        (Bands(1.0, 2.0, 4, half_life=-1.0), "bands.half_life=-1.0"),
    ],
)
def test_bands_that_cannot_be_are_refused(bands, message):
    with pytest.raises(ParameterError, match=message):
        Token(bands=bands).check(1)
