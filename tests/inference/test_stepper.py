"""The step against torchcde's solutions."""

import math

import numpy as np
import pytest
from bundles import make_bundle
from oracles import cases
from tolerances import LAW, ORACLE, STEPPER32

from streamrde import MLP, Bundle, Channel, kernels
from streamrde.inference.stepper import ACTIVATIONS, ArrayStepper, make_stepper

STEPPERS = pytest.mark.parametrize("make", [ArrayStepper, make_stepper])


@STEPPERS
@pytest.mark.parametrize("case", cases("hidden_states"), ids=lambda c: f"{c['solver']}-{c['perturb']}-{c['z0'].shape}")
def test_states_equal_torchcde(case, make):
    hidden, width = len(case["z0"]), len(case["b1"])
    channels = tuple(Channel(name=str(i)) for i in range(len(case["x0"]) - 1))
    depth = {6: 2, 30: 3}[case["logsigs"].shape[1]]
    random = make_bundle(
        channels=channels,
        depth=depth,
        hidden=hidden,
        field=MLP(width=width, layers=1),
        dtype="float64",
        solver=str(case["solver"]),
        first_stage="own" if case["perturb"] else "previous",
    )
    given = {
        "field.0.weight": case["W1"],
        "field.0.bias": case["b1"],
        "field.1.weight": case["W2"],
        "field.1.bias": case["b2"],
        "logsig.scale": np.ones(case["logsigs"].shape[1]),
    }
    stepper = make(Bundle(random.header, random.tensors | given))
    states, previous = [case["z0"][None]], None
    for logsig in case["logsigs"]:
        states.append(stepper.step(states[-1], logsig[None], previous))
        previous = logsig[None]
    np.testing.assert_allclose(np.concatenate(states), case["z"], rtol=0, atol=ORACLE)


@pytest.mark.skipif(kernels.Stepper is None, reason="there are no compiled kernels")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("hidden", "width", "layers"), [(8, 16, 1), (7, 13, 3), (33, 20, 2), (1, 1, 1)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("solver", ["euler", "midpoint", "rk4"])
def test_the_compiled_step_is_the_one_in_numpy(solver, activation, hidden, width, layers, dtype):
    field = MLP(width=width, layers=layers, activation=activation, last_activation=activation)
    bundle = make_bundle(dtype=dtype, solver=solver, hidden=hidden, field=field, first_stage="previous")
    arrays, compiled = ArrayStepper(bundle), make_stepper(bundle)
    rng = np.random.default_rng(0)
    x0, z = rng.normal(size=(5, 3)), rng.normal(size=(5, hidden)).astype(dtype)
    logsigs, previous = rng.normal(size=(2, 5, bundle.header.logsig_channels)) * 0.3
    tolerance = LAW if dtype == "float64" else STEPPER32
    for a, b in (
        (arrays.initial(x0), compiled.initial(x0)),
        (arrays.step(z, logsigs), compiled.step(z, logsigs)),
        (arrays.step(z, logsigs, previous), compiled.step(z, logsigs, previous)),
        (arrays.output(z), compiled.output(z)),
    ):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@STEPPERS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_streams_bits_depend_neither_on_its_batch_nor_on_threads(make, dtype):
    bundle = make_bundle(dtype=dtype, hidden=20, field=MLP(width=37, layers=2), first_stage="previous")
    stepper = make(bundle)
    rng = np.random.default_rng(1)
    z = rng.normal(size=(61, 20)).astype(dtype)
    logsigs, previous = rng.normal(size=(2, 61, bundle.header.logsig_channels)) * 0.3
    together = stepper.step(z, logsigs, previous)
    for sizes in ([1] * 61, [2, 3, 5, 7, 13, 31], [60, 1], [12, 24, 25]):
        parts = np.split(np.arange(61), np.cumsum(sizes)[:-1])
        apart = np.concatenate([stepper.step(z[part], logsigs[part], previous[part]) for part in parts])
        assert apart.tobytes() == together.tobytes()
    many = [np.repeat(a, 200, axis=0) for a in (z, logsigs, previous)]
    threaded = make_stepper(bundle, threads=3) if make is make_stepper else stepper
    assert threaded.step(*many)[::200].tobytes() == together.tobytes()


@STEPPERS
def test_a_state_that_is_not_finite_stays_visible_and_alone(make):
    bundle = make_bundle(field=MLP(width=16, layers=2, activation="gelu", last_activation="relu"))
    stepper = make(bundle)
    z = np.ones((5, 8), np.float32)
    z[2, 3] = np.nan
    moved = stepper.step(z, np.full((5, bundle.header.logsig_channels), 0.1))
    assert np.isnan(moved[2]).all()
    assert np.isfinite(moved[[0, 1, 3, 4]]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_neither_overflow_nor_change_dtype(name, dtype):
    values = np.array([-1e4, -90.0, -1.0, 0.0, 1.0, 90.0, 1e4], dtype)
    out = ACTIVATIONS[name](values)
    assert out.dtype == dtype
    assert np.isfinite(out).all()
    expected = {
        "relu": lambda v: max(v, 0.0),
        "tanh": np.tanh,
        "silu": lambda v: v / (1 + np.exp(-v)) if v > -700 else 0.0,
        "softplus": lambda v: np.log1p(np.exp(v)) if v < 700 else v,
        "gelu": lambda v: v * 0.5 * math.erfc(-v / math.sqrt(2)),
    }[name]
    np.testing.assert_allclose(out, [expected(float(v)) for v in values], rtol=1e-5, atol=1e-6)


@STEPPERS
def test_probabilities_survive_large_logits(make):
    bundle = make_bundle()
    p = make(bundle).output(np.full((1, 8), 1e4, np.float32))
    assert np.isfinite(p).all()
    assert p.sum() == pytest.approx(1.0)
