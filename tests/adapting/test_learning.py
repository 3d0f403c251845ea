"""Settings of corrections that are found on streams which the model has not seen."""

from __future__ import annotations

import numpy as np
import pytest

from streamrde.adapting.learning import find_learned
from streamrde.adapting.targets import Part, Targets

NUMBERS = Targets([Part("numbers", slice(0, 2))], np.array([10.0, 0.0]), np.array([3.0, 1.0]))


def streams_with(offset, noise, count=30, length=40, seed=0):
    """Answers, and labels that lie beside them by an offset per stream and noise per label."""
    rng = np.random.default_rng(seed)
    stream = np.repeat(np.arange(count), length)
    frozen = rng.normal(size=(count * length, 2)) * NUMBERS.scale + NUMBERS.shift
    apart = rng.normal(size=(count, 2))[stream] * offset + rng.normal(size=frozen.shape) * noise
    return stream, np.tile(np.arange(length) * 60.0, count), frozen, frozen + apart * NUMBERS.scale


def test_streams_that_differ_are_corrected_and_streams_that_do_not_are_left_alone():
    apart = find_learned(NUMBERS, *streams_with(offset=1.0, noise=0.2))
    alike = find_learned(NUMBERS, *streams_with(offset=0.0, noise=0.2))
    frozen, online = np.array(apart.errors)[:2]
    assert (online < 0.2 * frozen).all()
    assert (np.array(apart.prior) > np.array(alike.prior)).all()
    frozen, online = np.array(alike.errors)[:2]
    assert (online < 1.1 * frozen).all()
    assert (apart.streams, apart.labels) == (30, 1200)
    np.testing.assert_allclose(apart.noise, 0.04, rtol=0.2)


def test_labels_that_come_late_teach_less():
    streams = streams_with(offset=1.0, noise=0.2, length=10)
    soon, late = find_learned(NUMBERS, *streams), find_learned(NUMBERS, *streams, lag=300.0)
    assert (np.array(late.errors)[1] > np.array(soon.errors)[1]).all()
    np.testing.assert_allclose(late.errors[0], soon.errors[0], rtol=0.05)
    for learned in (soon, late):
        # Without a label nothing is corrected, and all simple methods answer with the mean of training.
        assert learned.errors_before[0] == learned.errors_before[1]
        assert learned.errors_before[2] == learned.errors_before[3] == learned.errors_before[4]


def test_the_blend_weighs_the_last_label_where_labels_drift():
    rng = np.random.default_rng(0)
    stream, t = np.repeat(np.arange(20), 50), np.tile(np.arange(50.0), 20)
    drifting = rng.normal(size=(20, 50, 2)).cumsum(axis=1).reshape(-1, 2) * NUMBERS.scale + NUMBERS.shift
    steady = NUMBERS.shift + (rng.normal(size=(20, 2))[stream] + rng.normal(size=(1000, 2)) * 0.5) * NUMBERS.scale
    guess = np.tile(NUMBERS.shift, (1000, 1))
    assert min(find_learned(NUMBERS, stream, t, guess, drifting).blend) >= 0.75
    assert max(find_learned(NUMBERS, stream, t, guess, steady).blend) <= 0.25


@pytest.mark.parametrize("kind", ["classes", "binary"])
def test_classes_have_settings_too(kind):
    outputs = 3 if kind == "classes" else 1
    targets = Targets([Part(kind, slice(0, outputs))], np.zeros(outputs), np.ones(outputs))
    rng = np.random.default_rng(0)
    stream, t = np.repeat(np.arange(20), 30), np.tile(np.arange(30.0), 20)
    own = rng.integers(0, max(outputs, 2), size=20)[stream]
    labels = (own[:, None] == np.arange(outputs)).astype(float) if kind == "classes" else own[:, None].astype(float)
    learned = find_learned(targets, stream, t, np.full((600, outputs), 1 / max(outputs, 2)), labels)
    learned.check(outputs)
    frozen, online = np.array(learned.errors)[:2]
    assert (online < 0.3 * frozen).all()


def test_a_label_for_each_stream_says_nothing():
    stream = np.arange(5)
    assert find_learned(NUMBERS, stream, np.zeros(5), np.zeros((5, 2)), np.ones((5, 2))) is None
    missing = np.full((5, 2), np.nan)
    assert find_learned(NUMBERS, np.zeros(5, int), np.arange(5.0), np.zeros((5, 2)), missing) is None


def test_long_streams_are_judged_by_labels_as_dense_as_theirs():
    rng = np.random.default_rng(0)
    t = np.arange(5000.0)
    # A label says much of the next one, and nothing of those a hundred later.
    label = np.zeros((5000, 2))
    for k in range(1, 5000):
        label[k] = 0.95 * label[k - 1] + rng.normal(size=2) * 0.3
    learned = find_learned(NUMBERS, np.zeros(5000, int), t, np.zeros((5000, 2)) + NUMBERS.shift, label + NUMBERS.shift)
    assert min(learned.blend) >= 0.75
