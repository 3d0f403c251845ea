"""The correction that streams learn: against Kalman's equations, and on inputs that ruin least squares."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.labels import INPUTS, endure, variances
from hypothesis import given
from hypothesis import strategies as st

from streamrde.adapting.readout import CLIP, Readout
from streamrde.adapting.targets import Part, Targets
from streamrde.kernels import kalman
from streamrde.kernels.reference import kalman as reference

NUMBERS = Targets([Part("numbers", slice(0, 2))], np.array([3.0, -1.0]), np.array([2.0, 0.5]))


def naive_update(theta, P, phi, innovation, noise, a, prior):
    """Kalman's equations with matrices, one output."""
    eye = np.eye(len(phi))
    theta, P = a * theta, a**2 * P + (1 - a**2) * np.diag(prior)
    s = noise + phi @ P @ phi
    K = P @ phi / s
    theta = theta + K * np.clip(innovation, -CLIP * np.sqrt(s), CLIP * np.sqrt(s))
    P = (eye - np.outer(K, phi)) @ P @ (eye - np.outer(K, phi)).T + noise * np.outer(K, K)
    return theta, P


def packed(P):
    return P[..., *np.tril_indices(P.shape[-1])]


def unpacked(triangle, features):
    P = np.zeros((*triangle.shape[:-1], features, features))
    low = np.tril_indices(features)
    P[..., *low] = P[..., low[1], low[0]] = triangle
    return P


def drawn(rng, rows, outputs, features):
    size = outputs * features
    width = size + size * (features + 1) // 2
    table = rng.normal(size=(rows, 3 + width))
    half = rng.normal(size=(rows, outputs, features, features)) / features**0.5
    table[:, 3 + size :] = packed(half @ half.swapaxes(-1, -2)).reshape(rows, -1)
    return table


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 3), st.sampled_from([1, 3, 8, 13, 64]))
def test_updates_are_kalmans_equations(seed, rows, outputs, features):
    rng = np.random.default_rng(seed)
    table = drawn(rng, rows + 2, outputs, features)
    slots = rng.permutation(rows + 2)[:rows]
    phi = rng.normal(size=(rows, outputs, features))
    residual = rng.normal(size=(rows, outputs)) * 3
    residual[rng.random(residual.shape) < 0.2] = np.nan
    noise, keep = rng.uniform(0.1, 2, size=(2, rows, outputs))
    keep = np.minimum(keep, 1.0)
    prior = rng.uniform(0.1, 1, size=(outputs, features))
    expected = table.copy()
    for row, slot in enumerate(slots):
        for o in range(outputs):
            if np.isnan(residual[row, o]):
                continue
            at, triangle = 3 + o * features, features * (features + 1) // 2
            begin = 3 + outputs * features + o * triangle
            theta = table[slot, at : at + features]
            expected[slot, at : at + features], P = naive_update(
                theta,
                unpacked(table[slot, begin : begin + triangle], features),
                phi[row, o],
                residual[row, o] - keep[row, o] * theta @ phi[row, o],
                noise[row, o],
                keep[row, o],
                prior[o],
            )
            expected[slot, begin : begin + triangle] = packed(P)
    found, twin = table.copy(), table.copy()
    kalman(found, slots, 3, phi, residual, noise, keep, prior, CLIP, 1e3)
    reference(twin, slots, 3, phi, residual, noise, keep, prior, CLIP, 1e3)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)
    assert found.tobytes() == twin.tobytes()


def test_a_rows_bits_do_not_depend_on_the_others():
    rng = np.random.default_rng(0)
    table = drawn(rng, 9, 2, 5)
    phi, residual = rng.normal(size=(9, 2, 5)), rng.normal(size=(9, 2))
    noise, keep, prior = np.ones((9, 2)), np.full((9, 2), 0.9), np.ones((2, 5))
    together, alone = table.copy(), table.copy()
    kalman(together, np.arange(9), 3, phi, residual, noise, keep, prior, CLIP, 1e3)
    for row in range(9):
        one = slice(row, row + 1)
        kalman(alone, np.array([row]), 3, phi[one], residual[one], noise[one], keep[one], prior, CLIP, 1e3)
    assert together.tobytes() == alone.tobytes()


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("memory", [10.0, 1e12])
def test_many_updates_stay_finite_and_bounded_and_restores_change_no_bit(kind, memory):
    row, same = endure(20_000, kind, memory)
    assert same
    assert np.isfinite(row).all()
    # P lies between 0 and P0, in every direction.
    eigenvalues = variances(row)
    assert eigenvalues.min() > -1e-9
    assert eigenvalues.max() < 0.3 * (1 + 1e-9)
    # One label moves the weights by at most 2.5 standard deviations.
    assert np.abs(row[:6]).max() < 1e3


def test_learns_an_offset_and_forgets_it():
    readout = Readout(NUMBERS, 0, prior=np.full((2, 3), 1.0), noise=np.full(2, 0.1), memory=50.0)
    rows, slots, frozen = readout.blank[None].copy(), np.zeros(1, np.intp), np.array([[3.0, -1.0]])
    phi = readout.inputs(frozen, frozen, np.empty((1, 0)))
    for step in range(20):
        readout.learn(rows, slots, frozen, phi, frozen + np.array([1.0, np.nan]), np.array([float(step)]))
    found = readout.predict(rows, slots, frozen, phi)
    assert abs(found[0, 0] - 4.0) < 0.1
    assert found[0, 1] == -1.0
    before = rows.copy()
    readout.learn(rows, slots, frozen, phi, np.full((1, 2), np.nan), np.array([1e6]))
    assert rows.tobytes() == before.tobytes()
    # After a long silence the weights begin from nothing again.
    readout.learn(rows, slots, frozen, phi, frozen, np.array([1e6]))
    assert abs(readout.predict(rows, slots, frozen, phi)[0, 0] - 3.0) < 1e-9


def test_a_wild_label_moves_the_correction_by_little():
    readout = Readout(NUMBERS, 0, prior=np.full((2, 3), 0.01), noise=np.full(2, 0.3), memory=1e9)
    frozen = np.array([[3.0, -1.0]])
    phi, rows = readout.inputs(frozen, frozen, np.empty((1, 0))), readout.blank[None].copy()
    readout.learn(rows, np.zeros(1, np.intp), frozen, phi, frozen + 1e12, np.zeros(1))
    moved = readout.predict(rows, np.zeros(1, np.intp), frozen, phi) - frozen
    assert (moved > 0).all()
    assert (moved < 0.1 * NUMBERS.scale).all()


@pytest.mark.parametrize("kind", ["classes", "binary"])
def test_probabilities_move_towards_what_labels_say_and_stay_probabilities(kind):
    outputs = 3 if kind == "classes" else 1
    targets = Targets([Part(kind, slice(0, outputs))], np.zeros(outputs), np.ones(outputs))
    readout = Readout(targets, 0, prior=np.full((outputs, 3), 0.3), noise=np.ones(outputs), memory=1e9)
    rows, slots = readout.blank[None].copy(), np.zeros(1, np.intp)
    frozen = np.array([[0.7, 0.2, 0.1]] if kind == "classes" else [[0.9]])
    wanted = np.array([[0.0, 0.0, 1.0]] if kind == "classes" else [[0.0]])
    phi = readout.inputs(frozen, np.full((1, outputs), targets.shift), np.empty((1, 0)))
    np.testing.assert_allclose(readout.predict(rows, slots, frozen, phi), frozen, atol=1e-6)
    for step in range(3000):
        readout.learn(rows, slots, frozen, phi, wanted, np.array([float(step)]))
        found = readout.predict(rows, slots, frozen, phi)
        assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found, wanted, atol=0.05)
    if kind == "classes":
        assert abs(found.sum() - 1) < 1e-12


@given(st.lists(st.floats(-50, 50), min_size=3, max_size=3))
def test_values_and_links_are_inverses(links):
    own = np.array([links])
    numbers = Targets([Part("numbers", slice(0, 3))], np.array([1.0, 0, -5]), np.array([2.0, 1, 0.1]))
    np.testing.assert_allclose(numbers.links(numbers.values(own)), own, atol=1e-9)
    classes = Targets([Part("classes", slice(0, 3))], np.zeros(3), np.ones(3))
    p = classes.values(own / 10)
    np.testing.assert_allclose(classes.values(classes.links(p)), p, atol=1e-4)
