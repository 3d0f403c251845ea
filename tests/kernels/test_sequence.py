"""The compiled steps over all windows beside the NumPy stepper, and their gradients beside differences."""

from __future__ import annotations

import numpy as np
import pytest
from bundles import make_bundle
from hypothesis import given, settings
from hypothesis import strategies as st

import streamrde as sr
from streamrde import kernels
from streamrde.inference.activations import NUMBERS
from streamrde.inference.solvers import TABLEAUX
from streamrde.inference.steppers import ArrayStepper

pytestmark = pytest.mark.skipif(kernels.sequence_forward is None, reason="the NumPy reference runs")

LAYERS = [(7, 5), (9, 7)]  # (outputs, inputs) of the hidden layers; odd, so that every row is padded
FEATURES, HIDDEN, WIDTH = 6, 5, 9


def weights(rng: np.random.Generator) -> list[np.ndarray]:
    """Of the hidden layers and of the last, each with its bias."""
    shapes = [*LAYERS, (HIDDEN * FEATURES, WIDTH)]
    return [0.5 * rng.normal(size=own) for shape in shapes for own in (shape, shape[:1])]


def forward(first, logsigs, seconds, mask, before, model, rates, *, activation, solver, substeps=1, threads=1):
    """States, and what `backward` needs."""
    tableau = TABLEAUX[solver]
    layers = [(model[i], model[i + 1], NUMBERS[activation]) for i in (0, 2)]
    coefficients = (tableau.order, tableau.parts, tableau.nodes, tableau.stages, tableau.weights)
    more = (logsigs, seconds, mask, before), (layers, tuple(model[4:]), rates, coefficients, substeps)
    states, tape = kernels.sequence_forward(first, *more[0], *more[1], True, threads)

    def backward(gradient):
        first, layers, *last, rates = kernels.sequence_backward(gradient, states, tape, *more[0], *more[1], threads)
        return first, [*(array for layer in layers for array in layer), *last], rates

    return states, backward


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    solver=st.sampled_from(sorted(TABLEAUX)),
    activation=st.sampled_from(["tanh", "silu", "softplus", "gelu"]),
    substeps=st.integers(1, 3),
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=15),
    masked=st.booleans(),
    carried=st.booleans(),
    threads=st.integers(1, 3),
    seed=st.integers(0, 5),
)
def test_gradients_are_the_slopes_of_the_states(solver, activation, substeps, lengths, masked, carried, threads, seed):
    rng = np.random.default_rng(seed)
    count = len(lengths)
    logsigs = 0.5 * rng.normal(size=(count, 5, FEATURES))
    for row, length in enumerate(lengths):
        logsigs[row, length:] = 0
    seconds = np.where(logsigs.any(axis=2), 0.7, 0.0)
    mask = rng.integers(0, 2, size=(count, WIDTH)) * 1.5 if masked else None
    before = rng.normal(size=(count, FEATURES)) if carried else None
    point = [rng.normal(size=(count, HIDDEN)), rng.uniform(0.1, 1.0, size=HIDDEN), *weights(rng)]
    direction = [0.1 * rng.normal(size=part.shape) for part in point]
    along = rng.normal(size=(count, 6, HIDDEN))

    def run(step):
        first, rates, *model = (part + step * move for part, move in zip(point, direction, strict=True))
        return forward(
            first, logsigs, seconds, mask, before, model, rates,
            activation=activation, solver=solver, substeps=substeps, threads=threads,
        )  # fmt: skip

    first, model, rates = run(0.0)[1](along)
    slope = sum(float((a * b).sum()) for a, b in zip([first, rates, *model], direction, strict=True))
    h = 1e-4  # the difference is off by h^2 times a third derivative, and by 1e-15 / h of rounding
    difference = float(((run(h)[0] - run(-h)[0]) * along).sum()) / (2 * h)
    np.testing.assert_allclose(slope, difference, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("solver", TABLEAUX)
def test_states_are_those_of_the_stepper(solver):
    bundle = make_bundle(solver=solver, windows=sr.Every(1.0))
    header, stepper = bundle.header, ArrayStepper(bundle)
    rng = np.random.default_rng(1)
    logsigs = 0.3 * rng.normal(size=(3, 4, header.logsig_channels))
    z = stepper.initial(rng.normal(size=(3, header.path_channels)))
    scaled = (logsigs * bundle.tensors["logsig.scale"]).astype(z.dtype)
    tableau, tensors = TABLEAUX[solver], bundle.tensors
    layers = [
        (tensors[f"field.{i}.weight"], tensors[f"field.{i}.bias"], NUMBERS[name])
        for i, name in enumerate(header.field.activations)
    ]
    last = tuple(tensors[f"field.{len(layers)}.{part}"] for part in ("weight", "bias"))
    coefficients = (tableau.order, tableau.parts, tableau.nodes, tableau.stages, tableau.weights)
    states, tape = kernels.sequence_forward(z, scaled, None, None, None, layers, last, None, coefficients, 1, False, 1)
    assert tape.size == 0
    for k in range(4):
        z = stepper.step(z, logsigs[:, k])
        np.testing.assert_allclose(states[:, k + 1], z, rtol=1e-5, atol=1e-5)


def test_arrays_that_do_not_belong_together_are_refused():
    rng = np.random.default_rng(0)
    model, first, logsigs = weights(rng), rng.normal(size=(3, HIDDEN)), rng.normal(size=(3, 2, FEATURES))
    good = {"activation": "tanh", "solver": "euler"}

    def run(first=first, logsigs=logsigs, seconds=None, mask=None, before=None, model=model, rates=None, **more):
        return forward(first, logsigs, seconds, mask, before, model, rates, **(good | more))

    states, backward = run()
    for change in (
        {"first": first[:2]},
        {"logsigs": logsigs[:, :, :3].copy()},
        {"mask": np.ones((3, WIDTH - 1))},
        {"before": np.ones((2, FEATURES))},
        {"rates": np.ones(HIDDEN + 1), "seconds": np.ones((3, 2))},
        {"rates": np.ones(HIDDEN), "seconds": np.ones((3, 1))},
        {"model": [*model[:2], model[2][:, :3].copy(), *model[3:]]},
        {"model": [*model[:4], model[4][:3], model[5]]},
        {"substeps": 0},
    ):
        with pytest.raises(ValueError, match=r"shape|fit|range"):
            run(**change)
    for change in (
        {"logsigs": logsigs.astype(np.float32)},
        {"first": first[:, ::-1]},
        {"seconds": 1.0, "rates": first[0]},
    ):
        with pytest.raises(TypeError):
            run(**change)
    with pytest.raises(ValueError, match="shape"):
        backward(states[:, :2].copy())
