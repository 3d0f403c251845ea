"""Oscillations as features: a frequency is told whatever the phase, offset and scale, and served as it was fitted."""

from dataclasses import replace

import numpy as np
import pytest

import streamrde as sr
from streamrde.features.names import feature_names
from streamrde.fitting.examples import as_examples
from streamrde.fitting.families.bands import find_bands, fit_bands
from streamrde.fitting.families.reservoir import fit_reservoirs
from streamrde.fitting.recordings import Recording, Target


def recordings(*, streams=60, length=400, rate=50.0, seed=0, jitter=0.0, classify=False):
    """Channel `a` oscillates at a frequency that is to be told; `b` is noise. Offset and scale say nothing."""
    rng, own = np.random.default_rng(seed), []
    for i in range(streams):
        frequency = 1.0 + 2.0 * (i % 2) if classify else rng.uniform(1.0, 4.0)
        t = np.sort(np.arange(length) + rng.uniform(-jitter, jitter, length)) / rate
        a = rng.normal() + np.exp(rng.normal()) * np.sin(2 * np.pi * frequency * t + rng.uniform(0, 6))
        value = float(i % 2) if classify else frequency
        target = Target(np.array([[value]]), None, ("slow", "fast") if classify else ())
        x = np.column_stack([a, rng.normal(size=length)])
        own.append(Recording(f"s{i:02}", t, x, target, group=f"g{i}", source=f"s{i:02}"))
    return own


def examples_of(**changes):
    own = recordings(**changes)
    return as_examples(own, ("a", "b"), classify=bool(own[0].target.classes), seed=0)


@pytest.mark.parametrize("jitter", [0.0, 0.4])
def test_a_frequency_is_told_of_streams_left_out(jitter):
    examples = examples_of(jitter=jitter)
    candidates = list(fit_bands(examples))
    names = ["rates in bands, ridge", "rates in bands and pulses, ridge", "rates and shares of bands, ridge"]
    assert [candidate.name for candidate in candidates] == names
    for candidate in candidates:
        error = np.sqrt(((candidate.held_out - examples.truth) ** 2).mean())
        assert error < 0.25 * examples.truth.std()


def test_classes_have_a_logistic_readout_too():
    examples = examples_of(classify=True)
    candidates = list(fit_bands(examples))
    assert candidates[-1].name == "rates and shares of bands, logistic"
    for candidate in candidates:
        assert (candidate.held_out.argmax(axis=1) == examples.codes).mean() > 0.95


def test_a_bundle_answers_recorded_streams_as_it_was_fitted(tmp_path):
    examples = examples_of()
    for candidate in fit_bands(examples):
        assert candidate.without is not None
        candidate.without(2).save(tmp_path / "m.safetensors")
        bundle = sr.load(tmp_path / "m.safetensors")
        for i in np.flatnonzero(examples.folds == 2)[:4]:
            recording, predictor = examples.recordings[i], sr.Predictor(bundle)
            found = [*predictor.push_many(recording.t, recording.x), *predictor.flush()]
            np.testing.assert_allclose(found[-1].value, candidate.held_out[i], rtol=1e-4, atol=1e-4)


def test_a_predictor_goes_on_from_a_snapshot_with_the_same_bits():
    examples = examples_of()
    bundle = next(iter(fit_bands(examples))).bundle()
    recording = examples.recordings[0]
    one, other = sr.Predictor(bundle), sr.Predictor(bundle)
    whole, parts = [], []
    for t, x in zip(recording.t, recording.x, strict=True):
        whole += one.push(t, x)
        parts += other.push(t, x)
        other = sr.Predictor.restore(bundle, other.snapshot())
    assert [p.value.tolist() for p in parts] == [p.value.tolist() for p in whole]
    assert len(whole) > 20


def test_features_are_named_by_frequency_and_channel():
    bundle = next(iter(fit_bands(examples_of()))).bundle()
    header = bundle.header
    names = feature_names(header.field.features, header.partition, ["a", "b"])
    low = header.token.bands.low
    assert names[0] == f"last(rate@{low:.6g}:a)"
    assert len(names) == len(set(names)) == 2 * header.token.bands.count


def test_bands_lie_between_the_length_of_streams_and_the_sampling_rate():
    bands = find_bands(examples_of())
    assert bands.low == pytest.approx(1.5 / (399 / 50), rel=1e-6)
    assert bands.high == pytest.approx(12.5, rel=1e-6)


def test_streams_that_are_short_sparse_or_uneven_have_no_bands():
    assert find_bands(examples_of(length=40)) is None
    own = recordings()
    for recording in own:
        recording.x[::2, 1] = np.nan
        recording.x[::3, 0] = np.nan
    assert list(fit_bands(as_examples(own, ("a", "b"), classify=False, seed=0))) == []
    uneven = np.cumsum(np.where(np.arange(400) % 4, 0.02, 1.0))
    own = [replace(recording, t=uneven) for recording in recordings()]
    assert find_bands(as_examples(own, ("a", "b"), classify=False, seed=0)) is None


def test_bands_stand_beside_random_features_and_only_in_models_that_read_them():
    examples = examples_of(streams=24, length=200, classify=True)
    candidates = {candidate.name: candidate for candidate in fit_reservoirs(examples)}
    for name in ("above, ridge", "above, best and bands, ridge"):
        bundle = candidates[name].without(1)
        assert (bundle.header.token.bands is not None) == ("bands" in name)
        i = int(np.flatnonzero(examples.folds == 1)[0])
        recording, predictor = examples.recordings[i], sr.Predictor(bundle)
        found = [*predictor.push_many(recording.t, recording.x), *predictor.flush()]
        np.testing.assert_allclose(found[-1].value, candidates[name].held_out[i], rtol=1e-3, atol=1e-4)
