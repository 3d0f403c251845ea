"""Readouts of random features: windows that fit the samples, and models that answer as they were fitted."""

import numpy as np
import pytest

import streamrde as sr
from streamrde.fitting import pooled
from streamrde.fitting.examples import as_examples, tokens_of
from streamrde.fitting.families import reservoir
from streamrde.fitting.families.reservoir import _blocks, _seconds, fit_reservoirs
from streamrde.fitting.readout import average_readout, ridge_readout
from streamrde.fitting.recordings import Recording
from streamrde.fitting.targets import Target
from streamrde.inference.quality import softmax


def recordings(*, classify: bool) -> list[Recording]:
    """Turn at one of two speeds, in noise."""
    rng = np.random.default_rng(2)
    made = []
    for i in range(16):
        t = 0.1 * np.arange(40 + i % 5)
        x = np.stack([np.cos((1 + i % 2) * t), np.sin((1 + i % 2) * t)], 1) + 0.3 * rng.normal(size=(len(t), 2))
        value = float(i % 2) if classify else 1.0 + i % 2 + 0.1 * rng.normal()
        target = Target(np.array([[value]]), None, ("slow", "fast") if classify else ())
        made.append(Recording(f"s{i}", t, x, target, f"s{i}", f"s{i}"))
    return made


@pytest.mark.parametrize(
    ("length", "span", "step", "seconds"),
    [
        (300, 299.0, 1.0, 2.0),  # a whole number of samples
        (24, 23.0, 1.0, 1.0),  # one sample, or windows would be empty
        (1500, 29.98, 0.02, 0.24),
        (100, 1280.0, 0.1, 10.0),  # bursts of samples do not make thousands of windows
    ],
)
def test_base_windows_are_whole_numbers_of_samples_unless_samples_come_in_bursts(length, span, step, seconds):
    assert _seconds(length, span, step) == pytest.approx(seconds)


@pytest.mark.parametrize("scales", [1, 2, 3, 7])
def test_directions_see_single_scales_and_neighbours(scales):
    blocks = _blocks(scales, 2400)
    assert {block.scales for block in blocks} >= {(i,) for i in range(scales)}
    assert all(np.ptp(block.scales) == len(block.scales) - 1 <= 2 for block in blocks)
    assert 2400 - 8 * len(blocks) <= sum(block.directions for block in blocks) <= 2400


@pytest.mark.parametrize("classify", [True, False])
def test_every_candidate_answers_live_as_it_was_fitted(classify):
    own = recordings(classify=classify)
    candidates = list(fit_reservoirs(as_examples(own, ("a", "b"), classify=classify, seed=3)))
    names = [candidate.name for candidate in candidates]
    assert len(set(names)) == len(names) == (4 if classify else 3)
    truth = np.array([recording.target.values[0, 0] for recording in own])
    for candidate in candidates:
        predictor_answers = []
        for recording in own:
            predictor = sr.Predictor(candidate.bundle())
            closed = [p for t, x in zip(recording.t, recording.x, strict=True) for p in predictor.push(t, x)]
            predictor_answers.append([*closed, *predictor.flush()][-1].value)
        found = np.array(predictor_answers)
        fits = found.argmax(1) == truth if classify else np.abs(found[:, 0] - truth) < 0.5
        assert fits.mean() > 0.9
        # Left out, a stream gets another answer than from the model that learned it.
        assert np.isfinite(candidate.held_out).all()
        assert candidate.without is not None
        assert (candidate.without(0).tensors["readout.weight"] != candidate.bundle().tensors["readout.weight"]).any()


def test_tokens_in_parts_give_the_features_of_all_at_once(monkeypatch):
    examples = as_examples(recordings(classify=True), ("a", "b"), classify=True, seed=3)
    whole = next(iter(fit_reservoirs(examples)))
    header = whole.bundle().header
    spec = header.field.features
    drawn = header.field.drawn("field", header, whole.bundle().tensors)
    found = [reservoir._pooled(examples, header, spec, drawn)]
    # Features are made of some streams at a time, and scales are drawn from some of them.
    monkeypatch.setattr(pooled, "_TOGETHER", 1 << 14)
    monkeypatch.setattr(reservoir, "_PART", 1 << 14)
    assert reservoir._parts(examples, header) > 2
    asked = []
    monkeypatch.setattr(pooled, "tokens_of", lambda *given: asked.append(given) or tokens_of(*given))
    found.append(reservoir._pooled(examples, header, spec, drawn))
    assert len(asked) > 2
    np.testing.assert_array_equal(*found)
    parts = next(iter(fit_reservoirs(examples)))
    assert parts.losses.mean() < 0.69


def test_copies_with_turned_sensors_are_learned_from_and_not_judged():
    rng = np.random.default_rng(0)
    own = []
    for i in range(16):
        t = np.arange(40.0)
        x = np.cumsum(rng.normal(size=(40, 3)) + np.eye(3)[i % 2], axis=0)
        target = Target(np.array([[float(i % 2)]]), None, ("along x", "along y"))
        own.append(Recording(f"s{i}", t, x, target, f"s{i}", f"s{i}"))
    candidates = list(fit_reservoirs(as_examples(own, ("ax", "ay", "az"), classify=True, seed=0)))
    turned = [candidate for candidate in candidates if candidate.name.endswith("sensors turned")]
    assert len(turned) == 1
    assert any("sensors turned for" in candidate.name for candidate in candidates)
    assert turned[0].held_out.shape == (16, 2)
    assert turned[0].losses.mean() < 0.69
    plain = next(own for own in candidates if own.name == turned[0].name.removesuffix(", sensors turned"))
    weights = [candidate.bundle().tensors["readout.weight"] for candidate in (plain, turned[0])]
    assert weights[0].shape == weights[1].shape
    assert (weights[0] != weights[1]).any()


@pytest.mark.parametrize("classes", [0, 3])
def test_rows_that_are_not_judged_change_the_fit_alone(classes):
    rng = np.random.default_rng(6)
    features = rng.normal(size=(80, 5))
    truth = np.arange(80.0)[:, None] % classes if classes else features[:, :1] + rng.normal(size=(80, 1))
    folds = np.arange(80) % 4
    every = ridge_readout(features, truth, classes, folds)
    some = ridge_readout(features, truth, classes, folds, judged=40)
    assert some.held_out.shape == (40, max(1, classes))
    if not classes:
        np.testing.assert_array_equal(some.held_out, every.held_out[:40])
        np.testing.assert_array_equal(some.linear.weight, every.linear.weight)


@pytest.mark.parametrize("classes", [0, 3])
def test_an_average_of_readouts_is_a_readout_of_all_their_features(classes):
    rng = np.random.default_rng(5)
    parts = [rng.normal(size=(60, count)) for count in (4, 90)]
    signal = parts[0][:, 0] + parts[1][:, 0]
    truth = (np.digitize(signal, [-0.5, 0.5]).astype(float) if classes else signal)[:, None]
    folds = np.arange(60) % 5
    own = [ridge_readout(part, truth, classes, folds) for part in parts]
    average = average_readout(own, truth, classes)
    both = np.concatenate(parts, axis=1)
    for fold in range(5):
        left = folds == fold
        answers = average.without(fold)(both[left])
        np.testing.assert_allclose(softmax(answers) if classes else answers, average.held_out[left], rtol=1e-7)
    assert average.losses.mean() < max(readout.losses.mean() for readout in own)
    if not classes:
        np.testing.assert_allclose(average.held_out, (own[0].held_out + own[1].held_out) / 2)
        np.testing.assert_allclose(average.losses, (average.held_out - truth)[:, 0] ** 2 / truth.var())
