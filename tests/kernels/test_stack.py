"""The compiled step of stacks against the one in NumPy, on every instruction set of this processor."""

from typing import get_args

import numpy as np
import pytest
from bundles import make_stack
from tolerances import LAW, STEPPER32

from streamrde import kernels
from streamrde.inference.ends import Layers
from streamrde.inference.fields.stack import Perceptron
from streamrde.inference.stacks import RECURRENCES
from streamrde.inference.steppers import ArrayStepper, make_stepper
from streamrde.inference.steppers.stack import CELLS, CompiledStack
from streamrde.windowing.tokens import Scale, Token

native = pytest.importorskip("streamrde.kernels._native")
pytestmark = pytest.mark.skipif(kernels.Stack is None, reason="the compiled kernels do not run")
KINDS = pytest.mark.parametrize("kind", sorted(RECURRENCES))
OPTIONS = {"lru": ("modes", 100), "s4d": ("modes", 10), "slice": ("block", 4), "rde": ("substeps", 10)}
TOKEN = Token(scales=(Scale(1), Scale(4, depth=1)), summaries=True)


@pytest.fixture(params=native.variants())
def variant(request):
    before = native.variant()
    native.choose(request.param)
    yield request.param
    native.choose(before)


def inputs(bundle, streams, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(streams, bundle.header.hidden)).astype(bundle.header.dtype)
    if (counter := bundle.header.field.counter) is not None:
        z[:, counter] = rng.integers(0, 70000, streams)
    tokens = rng.normal(size=(streams, bundle.header.logsig_channels))
    tokens[:, 0] = rng.uniform(0.0, 3.0, streams)
    tokens[::2, bundle.header.partition.places.summaries] = np.nan
    return z, tokens


@KINDS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(6, 0, "both"), (37, 11, "last"), (64, 70, "mean"), (1, 3, "both")])
def test_the_compiled_step_is_the_one_in_numpy(variant, kind, dtype, sizes):
    width, units, pool = sizes
    options = {"width": width, "gate_width": units, "pool": pool}
    if units and kind in OPTIONS:
        options["recurrence"] = RECURRENCES[kind](**{OPTIONS[kind][0]: 1 + units % OPTIONS[kind][1]})
    bundle = make_stack(kind, options=options, token=TOKEN, dtype=dtype)
    arrays, compiled = ArrayStepper(bundle), make_stepper(bundle)
    assert isinstance(compiled, CompiledStack)
    z, tokens = inputs(bundle, 21)
    tolerance = LAW if dtype == "float64" else STEPPER32
    for a, b in (
        (arrays.initial(np.zeros((2, 3))), compiled.initial(np.zeros((2, 3)))),
        (arrays.step(z, tokens), compiled.step(z, tokens)),
        (arrays.output(z), compiled.output(z)),
        (arrays.readout(z), compiled.readout(z)),
    ):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("block", [1, 2, 3, 4])
@pytest.mark.parametrize("damped", [True, False])
def test_flows_of_all_sizes_are_the_ones_in_numpy(variant, block, damped):
    options = {"width": 37, "blocks": 1, "recurrence": RECURRENCES["slice"](block=block, damped=damped)}
    bundle = make_stack("slice", options=options, dtype="float64")
    z, tokens = inputs(bundle, 7)
    tokens[:, 0] *= np.geomspace(1e-3, 10 if damped else 1, 7)  # from no squaring to eight
    a, b = (make(bundle).step(z, tokens) for make in (ArrayStepper, make_stepper))
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10 * np.abs(a).max())


@pytest.mark.parametrize(("perceptron", "last_norm"), [("swiglu", False), ("glu", True), ("gelu", False)])
def test_stacks_from_elsewhere_are_stepped_as_in_numpy(variant, perceptron, last_norm):
    recurrence = RECURRENCES["slice"](block=3, damped=False, started=True)
    options = {"width": 19, "gate_width": 21, "recurrence": recurrence}
    bundle = make_stack(options=options | {"perceptron": perceptron, "last_norm": last_norm}, dtype="float64")
    z, tokens = inputs(bundle, 21)
    compiled = make_stepper(bundle)
    assert isinstance(compiled, CompiledStack)
    a, b = ArrayStepper(bundle).step(z, tokens), compiled.step(z, tokens)
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10 * np.abs(a).max())


@pytest.mark.parametrize("kind", ["lru", "s4d"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_angles_are_turned_right_over_any_time(variant, kind, dtype):
    """Windows of ten million usual ones turn by more than the series for sines takes."""
    bundle = make_stack(kind, options={"blocks": 1}, dtype=dtype)
    bundle.tensors["field.blocks.0.recurrence.rate"][:] = -30
    bundle.tensors["field.input.weight"][:, 0] = 0
    for duration in (1.0, 1e3, 3e4, 1e5, 1e7):
        z, tokens = inputs(bundle, 3)
        tokens[:, 0] = duration * bundle.header.field.unit(bundle.header)
        a, b = (make(bundle).step(z, tokens) for make in (ArrayStepper, make_stepper))
        assert np.abs(a - b).max() < (1e-4 if dtype == "float32" else 1e-9)


@KINDS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_streams_bits_depend_neither_on_its_batch_nor_on_threads(variant, kind, dtype):
    bundle = make_stack(kind, options={"width": 20}, token=TOKEN, dtype=dtype)
    stepper = make_stepper(bundle)
    z, tokens = inputs(bundle, 61)
    together, outputs = stepper.step(z, tokens), stepper.output(z)
    for sizes in ([1] * 61, [2, 3, 5, 7, 13, 31], [60, 1], [12, 24, 25]):
        parts = np.split(np.arange(61), np.cumsum(sizes)[:-1])
        apart = np.concatenate([stepper.step(z[part], tokens[part]) for part in parts])
        assert apart.tobytes() == together.tobytes()
        assert np.concatenate([stepper.output(z[part]) for part in parts]).tobytes() == outputs.tobytes()
    many = [np.repeat(a, 60, axis=0) for a in (z, tokens)]
    assert make_stepper(bundle, threads=3).step(*many)[::60].tobytes() == together.tobytes()


@KINDS
def test_avx2_and_avx512_give_the_same_bits(kind):
    if not {"avx2", "avx512"} <= set(native.variants()):
        pytest.skip("this processor does not have both")
    bundle, before, found = make_stack(kind, options={"width": 37}), native.variant(), []
    for name in ("avx2", "avx512"):
        native.choose(name)
        found.append(make_stepper(bundle).step(*inputs(bundle, 5)).tobytes())
    native.choose(before)
    assert found[0] == found[1]


@KINDS
def test_a_state_that_is_not_finite_stays_visible_and_alone(variant, kind):
    bundle = make_stack(kind)
    z, tokens = inputs(bundle, 5)
    z[2, 13:] = np.nan
    moved = make_stepper(bundle).step(z, tokens)
    assert np.isnan(moved[2]).any()
    assert np.isfinite(moved[[0, 1, 3, 4]]).all()


def test_a_readout_of_several_layers_is_run_in_numpy():
    bundle = make_stack(readout=Layers(widths=(4,), activations=("tanh",)))
    z, _ = inputs(bundle, 3)
    arrays, compiled = ArrayStepper(bundle), make_stepper(bundle)
    assert isinstance(compiled, CompiledStack)
    np.testing.assert_array_equal(arrays.output(z), compiled.output(z))


def test_every_recurrence_and_perceptron_is_compiled():
    assert CELLS.keys() == RECURRENCES.keys() | set(get_args(Perceptron))


def test_arrays_that_do_not_fit_are_refused():
    stepper = make_stepper(make_stack())
    z, tokens = inputs(make_stack(), 3)
    with pytest.raises(ValueError, match="z has another shape"):
        stepper._native.step(z[:, :5].copy(), tokens, 1)
    with pytest.raises(ValueError, match="tokens has another shape"):
        stepper._native.step(z, tokens[:2], 1)
    with pytest.raises(TypeError, match="z"):
        stepper._native.step(z.astype(np.float64), tokens, 1)
    with pytest.raises(ValueError, match="not a stack"):
        kernels.Stack(False, 99, (6, 1, 8), True, True, 1.0, 0.0, (), (), None, [])
