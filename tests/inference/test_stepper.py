"""The NumPy step against torchcde's solutions."""

import numpy as np
import pytest
from bundles import make_bundle
from oracles import cases
from tolerances import ORACLE

from streamrde import MLP, Bundle, Channel
from streamrde.inference.stepper import ACTIVATIONS, Stepper


@pytest.mark.parametrize("case", cases("hidden_states"), ids=lambda c: f"{c['solver']}-{c['perturb']}-{c['z0'].shape}")
def test_states_equal_torchcde(case):
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
    stepper = Stepper(Bundle(random.header, random.tensors | given))
    states, previous = [case["z0"]], None
    for logsig in case["logsigs"]:
        states.append(stepper.step(states[-1], logsig, previous))
        previous = logsig
    np.testing.assert_allclose(states, case["z"], rtol=0, atol=ORACLE)


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
    }[name]
    np.testing.assert_allclose(out, [expected(float(v)) for v in values], rtol=1e-5, atol=1e-6)


def test_probabilities_survive_large_logits():
    bundle = make_bundle()
    stepper = Stepper(bundle)
    p = stepper.output(np.full(8, 1e4, np.float32))
    assert np.isfinite(p).all()
    assert p.sum() == pytest.approx(1.0)
