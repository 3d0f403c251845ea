"""The step against torchcde's solutions."""

import math

import naive
import numpy as np
import pytest
from bundles import make_bundle
from oracles import cases
from tolerances import LAW, ORACLE, STEPPER32

from streamrde import MLP, Bundle, Channel, Linear, kernels
from streamrde.errors import ParameterError
from streamrde.inference.activations import ACTIVATIONS, DERIVATIVES
from streamrde.inference.fields import External
from streamrde.inference.fields.linear import exponential
from streamrde.inference.solving import step_error
from streamrde.inference.steppers import ArrayStepper, make_stepper

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
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS.keys() - {"identity"}))
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


@pytest.mark.slow
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
        "identity": lambda v: v,
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


@STEPPERS
@pytest.mark.parametrize("solver", ["euler", "midpoint", "rk4"])
def test_decay_alone_is_exact_in_every_solver(make, solver):
    bundle = make_bundle(decay=True, solver=solver, substeps=2, dtype="float64")
    still = {name: np.zeros_like(tensor) for name, tensor in bundle.tensors.items() if name.startswith("field.2")}
    stepper = make(Bundle(bundle.header, bundle.tensors | still))
    z, logsigs = np.random.default_rng(0).normal(size=(3, 8)), np.zeros((3, bundle.header.logsig_channels))
    logsigs[:, 0] = [0.1, 3.0, 50.0]
    expected = z * np.exp(-bundle.tensors["decay"] * logsigs[:, :1])
    np.testing.assert_allclose(stepper.step(z, logsigs), expected, rtol=1e-13, atol=0)


@STEPPERS
@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_substeps_converge_at_the_solvers_order_with_decay(make, solver, order):
    rng = np.random.default_rng(2)
    field = MLP(width=16, layers=2, activation="tanh")
    errors, z, logsigs = [], rng.normal(size=(2, 8)), rng.normal(size=(2, 14)) * 0.3
    for solver_used, substeps in (("rk4", 512), (solver, 8), (solver, 16)):
        bundle = make_bundle(decay=True, dtype="float64", solver=solver_used, substeps=substeps, field=field)
        errors.append(make(bundle).step(z, logsigs))
    exact, coarse, fine = errors
    assert np.abs(coarse - exact).max() / np.abs(fine - exact).max() == pytest.approx(2**order, rel=0.15)


@STEPPERS
@pytest.mark.parametrize("solver", ["euler", "midpoint", "rk4"])
def test_the_estimated_error_is_near_the_real_one(make, solver):
    rng = np.random.default_rng(3)
    z, logsigs = rng.normal(size=(6, 8)), rng.normal(size=(6, 14)) * 0.15
    field = MLP(width=16, layers=2, activation="tanh")
    bundle = make_bundle(dtype="float64", solver=solver, substeps=2, decay=True, field=field)
    moved, errors = make(bundle).step_with_error(z, logsigs)
    assert moved.tobytes() == make(bundle).step(z, logsigs).tobytes()
    fine = make_bundle(dtype="float64", solver="rk4", substeps=256, decay=True, field=field)
    real = step_error(moved, make(fine).step(z, logsigs))
    assert ((real / 3 < errors) & (errors < real * 3)).all()


@pytest.mark.slow
@STEPPERS
@pytest.mark.parametrize("nearness", [0.0, 0.02, 1.0])
@pytest.mark.parametrize("substeps", [1, 4, "auto"])
@pytest.mark.parametrize("solver", ["euler", "midpoint", "rk4"])
def test_the_estimated_error_is_near_the_real_one_where_the_first_stage_sees_the_window_before(
    make, solver, substeps, nearness
):
    rng = np.random.default_rng(9)
    z, logsigs, other = rng.normal(size=(6, 8)), *rng.normal(size=(2, 6, 14)) * 0.3
    previous = logsigs + nearness * (other - logsigs)
    given = {"dtype": "float64", "field": MLP(width=16, layers=2, activation="tanh")}
    bundle = make_bundle(solver=solver, substeps=substeps, first_stage="previous", tolerance=1e-3, **given)
    moved, errors = make(bundle).step_with_error(z, logsigs, previous)
    assert moved.tobytes() == make(bundle).step(z, logsigs, previous).tobytes()
    real = step_error(moved, make(make_bundle(solver="rk4", substeps=256, **given)).step(z, logsigs))
    assert ((real / 2 < errors) & (errors < real * 4)).all()


@STEPPERS
def test_automatic_substeps_take_more_steps_where_the_first_stage_sees_the_window_before(make):
    rng = np.random.default_rng(10)
    z, (logsigs, previous) = rng.normal(size=(6, 8)), rng.normal(size=(2, 6, 14)) * 0.1
    given = {"dtype": "float64", "field": MLP(width=16, layers=2, activation="tanh")}
    bundle = make_bundle(substeps="auto", first_stage="previous", tolerance=2e-3, **given)
    moved, errors = make(bundle).step_with_error(z, logsigs, previous)
    assert (errors <= 2e-3).all()
    exact = make(make_bundle(substeps=256, **given)).step(z, logsigs)
    assert (step_error(moved, exact) <= 2e-3).all()
    own = make(make_bundle(substeps=2, **given)).step(z, logsigs)
    assert (step_error(own, exact) < 1e-4).all()  # a textbook step would have been content with two


@STEPPERS
def test_a_tolerance_that_cannot_be_kept_is_seen_in_the_error(make):
    rng = np.random.default_rng(11)
    z, (logsigs, previous) = rng.normal(size=(6, 8)), rng.normal(size=(2, 6, 14))
    bundle = make_bundle(dtype="float64", substeps="auto", first_stage="previous", tolerance=1e-9)
    moved, errors = make(bundle).step_with_error(z, logsigs, previous)
    real = step_error(moved, make(make_bundle(dtype="float64", substeps=1024)).step(z, logsigs))
    assert (real > 1e-6).all()
    assert (errors > real / 1.5).all()


@STEPPERS
def test_automatic_substeps_keep_the_error_within_the_tolerance(make):
    rng = np.random.default_rng(4)
    z, logsigs = rng.normal(size=(8, 8)), rng.normal(size=(8, 14)) * np.geomspace(0.05, 0.7, 8)[:, None]
    field = MLP(width=16, layers=2, activation="tanh")
    bundle = make_bundle(dtype="float64", solver="midpoint", substeps="auto", tolerance=1e-4, field=field)
    moved, errors = make(bundle).step_with_error(z, logsigs)
    assert (errors <= 1e-4).all()
    exact = make(make_bundle(dtype="float64", substeps=512, field=field)).step(z, logsigs)
    assert (step_error(moved, exact) <= 2e-4).all()
    alone = np.concatenate([make(bundle).step(z[i : i + 1], logsigs[i : i + 1]) for i in range(8)])
    assert alone.tobytes() == moved.tobytes()


@pytest.mark.skipif(kernels.Stepper is None, reason="there are no compiled kernels")
@pytest.mark.parametrize("substeps", [1, 3, "auto"])
@pytest.mark.parametrize("solver", ["euler", "midpoint", "rk4"])
def test_the_compiled_step_decays_and_divides_like_the_one_in_numpy(solver, substeps):
    bundle = make_bundle(dtype="float64", solver=solver, substeps=substeps, decay=True, first_stage="previous")
    rng = np.random.default_rng(5)
    z, (logsigs, previous) = rng.normal(size=(7, 8)), np.abs(rng.normal(size=(2, 7, 14))) * 0.3
    for a, b in zip(
        ArrayStepper(bundle).step_with_error(z, logsigs, previous),
        make_stepper(bundle).step_with_error(z, logsigs, previous),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=LAW, atol=LAW)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives_are_those_of_the_activations(name):
    v, h = np.array([-3.0, -0.7, 0.2, 1.9, 30.0]), 1e-6
    slope = (ACTIVATIONS[name](v + h) - ACTIVATIONS[name](v - h)) / (2 * h)
    np.testing.assert_allclose(DERIVATIVES[name](v), slope, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("scale", [1e-6, 0.3, 5.0, 60.0])
def test_the_matrix_exponential_is_taylors(scale):
    matrices = np.random.default_rng(6).normal(size=(4, 7, 7)) * scale / 7
    expected = [naive.matrix_exponential(matrix) for matrix in matrices]
    size = np.abs(expected).max()
    np.testing.assert_allclose(exponential(matrices) / size, np.array(expected) / size, rtol=0, atol=LAW)
    matrices[1, 2, 3] = np.inf
    got = exponential(matrices)
    assert np.isnan(got[1]).all()
    assert np.isfinite(got[[0, 2, 3]]).all()


@pytest.mark.parametrize("block", [0, 4, 1])
def test_a_linear_fields_step_is_its_exponential(block):
    bundle = make_bundle(field=Linear(block=block), decay=True, dtype="float64")
    rng = np.random.default_rng(7)
    z, logsigs = rng.normal(size=(3, 8)), np.abs(rng.normal(size=(3, 14))) * 0.3
    moved = make_stepper(bundle).step(z, logsigs)
    for state, logsig, got in zip(z, logsigs, moved, strict=True):
        generator = -np.diag(bundle.tensors["decay"] * logsig[0])
        scaled = logsig * bundle.tensors["logsig.scale"]
        for value, matrices in zip(scaled, bundle.tensors["field.weight"], strict=True):
            for i, part in enumerate(matrices):
                own = slice(i * len(part), (i + 1) * len(part))
                generator[own, own] += value * part
        np.testing.assert_allclose(got, naive.matrix_exponential(generator) @ state, rtol=0, atol=ORACLE)


def test_a_field_that_is_elsewhere_says_how_to_serve_it():
    with pytest.raises(ParameterError, match=r"TorchStepper\(model\)"):
        make_stepper(make_bundle(field=External(name="Mine")))


@STEPPERS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_logit_means_a_sigmoid(make, dtype):
    bundle = make_bundle(outputs=1, labels=("well", "ill"), dtype=dtype)
    z = np.random.default_rng(12).normal(size=(9, 8)).astype(dtype) * 5
    z[0], z[1] = 1e4, -1e4
    logits = z @ bundle.tensors["readout.weight"].T + bundle.tensors["readout.bias"]
    value = make(bundle).output(z)
    assert value.shape == (9, 1)
    assert value.dtype == dtype
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(value, 1 / (1 + np.exp(-logits.astype(np.float64))), rtol=2e-5, atol=1e-30)
    assert np.concatenate([make(bundle).output(z[i : i + 1]) for i in range(9)]).tobytes() == value.tobytes()
    assert np.isnan(make(bundle).output(np.full((1, 8), np.nan, dtype))).all()
