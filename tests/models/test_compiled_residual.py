"""The compiled blocks of stacks and their gradients beside the eager ones, which torch differentiates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bundles import make_stack
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamrde import kernels
from streamrde.inference.stacks import RECURRENCES
from streamrde.models import NeuralRDE
from streamrde.models.compiled_residual import Branch, residual
from streamrde.models.fields import stack
from streamrde.models.stacks import make_recurrence

native = pytest.importorskip("streamrde.kernels._native")
pytestmark = pytest.mark.skipif(kernels.residual_forward is None, reason="the NumPy reference runs")
COMPILED = sorted(set(RECURRENCES) - {"rde"})
OPTIONS = {"lru": {"modes": 5}, "s4d": {"modes": 3}, "slice": {"block": 3}}
PERCEPTRONS = "swiglu", "glu", "gelu"
# Relative to the largest entry of each array. Sums in another order.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


@pytest.fixture(params=native.variants())
def variant(request):
    before = native.variant()
    native.choose(request.param)
    yield request.param
    native.choose(before)


def states_and_gradients(model: NeuralRDE, *arguments: torch.Tensor, **more: object) -> dict[str, torch.Tensor]:
    model.zero_grad()
    states = model.hidden_states(*arguments, **more)
    generator = torch.Generator().manual_seed(2)
    read = states if more["through"] else states[:, :, model.header.field.read_part(model.header)]
    (read * torch.randn(read.shape, generator=generator, dtype=torch.float64).to(read.dtype)).sum().backward()
    start = more["start"]
    gradients = {name: own.grad.clone() for name, own in model.named_parameters() if own.grad is not None}
    found = {"states": states.detach(), "start": start.grad.clone(), **gradients}
    if (counter := model.header.field.counter) is not None:
        found["start"][:, counter] = 0  # the number of windows is no weight
    start.grad = None
    return found


def assert_compiled_equals_eager(
    monkeypatch, kind, *, streams=3, windows=5, masked=True, through=True, dtype="float64", seed=0, **options
) -> None:
    recurrence = RECURRENCES[kind](**options.pop("recurrence", {}))
    bundle = make_stack(kind, seed, options=options | {"recurrence": recurrence}, dtype=dtype, clip=3.0)
    model, header = NeuralRDE.from_bundle(bundle), bundle.header
    rng = np.random.default_rng(seed)
    tokens = rng.normal(size=(streams, windows, header.logsig_channels))
    tokens[:, :, 0] = rng.uniform(0.0, 2.0, size=(streams, windows))
    start = torch.tensor(rng.normal(size=(streams, header.hidden)), dtype=model.dtype)
    if header.field.counter is not None:
        start[:, header.field.counter] = 3
    width = header.field.dropout_width
    mask = torch.tensor(rng.integers(0, 2, (streams, width)) * 2.0, dtype=model.dtype) if masked else None
    arguments = torch.zeros(streams, header.path_channels), torch.tensor(tokens)
    more = {"start": start.requires_grad_(), "mask": mask, "through": through}
    compiled = states_and_gradients(model, *arguments, **more)
    with monkeypatch.context() as patch:
        patch.setattr(stack, "is_compiled", lambda *_: False)
        patch.setattr(stack, "are_compiled", lambda *_: False)
        eager = states_and_gradients(model, *arguments, **more)
    assert compiled.keys() == eager.keys()
    for name, value in eager.items():
        tolerance = TOLERANCE[value.dtype] * max(float(value.abs().max()), 1e-9)
        torch.testing.assert_close(
            compiled[name], value, rtol=0, atol=tolerance, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("kind", COMPILED)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_recurrence_has_the_eager_gradients(variant, kind, dtype, monkeypatch) -> None:
    # More streams than go together, and more tokens than a chunk has.
    for streams, windows, width, through in ((70, 3, 20, True), (3, 50, 16, False)):
        assert_compiled_equals_eager(
            monkeypatch, kind, streams=streams, windows=windows, width=width, through=through, dtype=dtype,
            recurrence=OPTIONS.get(kind, {}),
        )  # fmt: skip


@pytest.mark.parametrize("perceptron", PERCEPTRONS)
def test_every_perceptron_has_the_eager_gradients(variant, perceptron, monkeypatch) -> None:
    assert_compiled_equals_eager(monkeypatch, "rg_lru", perceptron=perceptron, gate_width=19)


@pytest.mark.parametrize("block", [1, 2, 3, 4])
@pytest.mark.parametrize("damped", [True, False])
def test_flows_of_all_sizes_have_the_eager_gradients(variant, block, damped, monkeypatch) -> None:
    recurrence = {"block": block, "damped": damped, "started": block % 2 == 0}
    assert_compiled_equals_eager(monkeypatch, "slice", recurrence=recurrence, width=9, last_norm=block < 4)


@pytest.mark.parametrize("pool", ["both", "last", "mean"])
@pytest.mark.parametrize("through", [True, False])
def test_what_is_pooled_has_the_eager_gradients(pool, through, monkeypatch) -> None:
    assert_compiled_equals_eager(monkeypatch, "rg_lru", pool=pool, through=through, last_norm=through)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(COMPILED),
    streams=st.integers(1, 140),
    windows=st.integers(1, 20),
    width=st.integers(2, 40),  # the norm of one number is its sign: what is left of gradients is rounding
    gate_width=st.integers(0, 40),
    perceptron=st.sampled_from(PERCEPTRONS),
    masked=st.booleans(),
    through=st.booleans(),
    threads=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_any_size_has_the_eager_gradients(
    kind, streams, windows, width, gate_width, perceptron, masked, through, threads, seed, monkeypatch
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert_compiled_equals_eager(
            monkeypatch, kind, streams=streams, windows=windows, masked=masked, through=through, seed=seed,
            recurrence=OPTIONS.get(kind, {}), width=width, gate_width=gate_width, perceptron=perceptron,
        )  # fmt: skip
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", COMPILED)
def test_gradients_are_those_of_small_differences(kind) -> None:
    torch.manual_seed(0)
    spec = RECURRENCES[kind](**OPTIONS.get(kind, {}))
    made = make_recurrence(spec, 3, dtype=torch.float64)
    norm, x = torch.rand(3, dtype=torch.float64) + 0.5, torch.randn(4, 2, 3, dtype=torch.float64)
    state = torch.randn(2, spec.state_size(3), dtype=torch.float64)
    time = torch.rand(4, 2, 1, dtype=torch.float64)
    keep = torch.tensor([[1.0, 0.0, 2.0], [0.5, 1.0, 0.0]], dtype=torch.float64)
    branch = made.branch()
    given_layers = branch.token, branch.carried, branch.out
    weights = [own.detach().requires_grad_() for layer in given_layers if layer for own in layer if own is not None]
    vectors = [own.detach().clone().requires_grad_() for own in branch.vectors]

    def run(x, state, norm, *more):
        left = iter(more)
        layers = [layer and tuple(None if own is None else next(left) for own in layer) for layer in given_layers]
        again = Branch(branch.name, *layers, vectors=tuple(left), option=branch.option)
        return residual(again, norm, x, keep=keep, time=time, state=state)

    inputs = [own.requires_grad_() for own in (x, state, norm)]
    assert torch.autograd.gradcheck(run, (*inputs, *weights, *vectors))


def test_the_same_inputs_give_the_same_bits_and_validation_keeps_nothing() -> None:
    bundle = make_stack()
    model = NeuralRDE.from_bundle(bundle)
    x0, tokens = torch.zeros(5, bundle.header.path_channels), torch.rand(5, 9, bundle.header.logsig_channels)
    found = []
    for _ in range(2):
        model.zero_grad()
        states = model.hidden_states(x0, tokens)
        states.square().sum().backward()
        found.append([states.detach(), *(own.grad for own in model.parameters() if own.grad is not None)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    with torch.no_grad():
        assert torch.equal(model.hidden_states(x0, tokens), found[0][0])


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    x, norm, weight = np.zeros((3, 2, 4)), np.ones(4), np.zeros((12, 4))
    bias, out, rate = np.zeros(12), np.zeros((4, 4)), np.zeros(4)
    time, state = np.zeros((3, 2)), np.zeros((2, 4))
    right = [(x, None, time, state), 0, 1, norm, ((weight, bias), None, (out, None)), (rate,), True, 1]
    assert [own.shape for own in kernels.residual_forward(*right)][:2] == [(3, 2, 4), (3, 2, 4)]
    for place, wrong in (
        (0, (x[0], None, time, state)),
        (0, (x, np.zeros((3, 4)), time, state)),
        (0, (x, None, time[:1], state)),
        (0, (x, None, time, state[:, :2])),
        (0, (x.astype(np.float32), None, time, state)),
        (1, -1),
        (1, 99),
        (2, 0),
        (2, 5),
        (3, norm[:3]),
        (4, ((weight[:11], bias), None, (out, None))),
        (4, ((weight, bias[:2]), None, (out, None))),
        (4, ((weight, bias), (out, None), (out, None))),
        (4, ((weight, bias), None, None)),
        (4, (None, None, (out, None))),
        (5, ()),
        (5, (rate[:2],)),
    ):
        given_arguments = [*right]
        given_arguments[place] = wrong
        with pytest.raises((TypeError, ValueError)):
            kernels.residual_forward(*given_arguments)
    tape = kernels.residual_forward(*right)[2]
    for y, states, kept in ((x[:, :1], x, tape), (x, x[:2], tape), (x, x, tape[:-1])):
        with pytest.raises((TypeError, ValueError)):
            kernels.residual_backward(*right[:6], y.copy(), None, states, kept, 1)
