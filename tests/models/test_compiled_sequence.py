"""The compiled states and their gradients beside the eager ones, which torch differentiates."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import streamrde as sr
from streamrde import kernels
from streamrde.errors import ShapeError
from streamrde.inference.solvers import TABLEAUX
from streamrde.models import NeuralRDE, neural_rde

pytestmark = pytest.mark.skipif(kernels.sequence_forward is None, reason="the NumPy reference runs")

ACTIVATIONS = ("relu", "tanh", "silu", "softplus", "gelu")
STAGES = [(solver, first) for solver in TABLEAUX for first in ("own", "previous")]
# Relative to the largest entry of each array. Sums of float64 in another order; float32 over a few windows.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-4}


def inputs(model: NeuralRDE, streams: int, windows: int, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (streams, windows, model.header.logsig_channels)
    x0 = torch.randn(streams, model.header.path_channels, generator=generator, dtype=torch.float64)
    logsigs = 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    logsigs[..., 0].abs_()
    return x0, logsigs


def states_and_gradients(model: NeuralRDE, *arguments: torch.Tensor, **more: object) -> dict[str, torch.Tensor]:
    model.zero_grad()
    states = model.hidden_states(*arguments, **more)
    factors = torch.randn(states.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (states * factors.to(states.dtype)).sum().backward()
    gradients = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    return {"states": states.detach(), "node": states.grad_fn.name(), **gradients}


def assert_compiled_equals_eager(
    model: NeuralRDE, x0: torch.Tensor, logsigs: torch.Tensor, monkeypatch: pytest.MonkeyPatch, **more: object
) -> None:
    compiled = states_and_gradients(model, x0, logsigs, **more)
    with monkeypatch.context() as patch:
        patch.setattr(neural_rde, "is_compiled", lambda *_: False)
        eager = states_and_gradients(model, x0, logsigs, **more)
    assert compiled.pop("node") == "_StatesBackward"
    assert eager.pop("node") != "_StatesBackward"
    assert compiled.keys() == eager.keys()
    for name, value in eager.items():
        tolerance = TOLERANCE[value.dtype] * max(float(value.abs().max()), 1e-9)
        torch.testing.assert_close(
            compiled[name], value, rtol=0, atol=tolerance, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("solver", "first_stage"), STAGES)
def test_every_solver_and_activation_has_the_eager_gradients(
    solver: str, first_stage: str, activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    field = sr.MLP(width=19, layers=2, activation=activation)
    model = NeuralRDE(
        3, 2, 9, 2, field=field, solver=solver, first_stage=first_stage, decay=0.3, substeps=2, dtype=torch.float64
    )
    x0, logsigs = inputs(model, 5, 4)
    mask = (torch.arange(5 * 19).reshape(5, 19) % 4 > 0) / 0.75
    assert_compiled_equals_eager(model, x0, logsigs, monkeypatch, mask=mask.double())


@pytest.mark.slow
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    channels=st.integers(2, 4),
    depth=st.integers(1, 3),
    hidden=st.integers(1, 40),
    width=st.integers(1, 70),
    layers=st.integers(1, 3),
    solver=st.sampled_from(sorted(TABLEAUX)),
    first_stage=st.sampled_from(["own", "previous"]),
    substeps=st.integers(1, 3),
    decay=st.sampled_from([0.0, 0.3]),
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=20),
    masked=st.booleans(),
    threads=st.integers(1, 3),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    activation=st.sampled_from(ACTIVATIONS),
    carried=st.booleans(),
    seed=st.integers(0, 9),
)
def test_any_size_has_the_eager_gradients(
    channels, depth, hidden, width, layers, solver, first_stage, substeps, decay, lengths, masked, threads, dtype,
    activation, carried, seed, monkeypatch,
) -> None:  # fmt: skip
    torch.manual_seed(seed)
    model = NeuralRDE(
        channels,
        depth,
        hidden,
        1,
        field=sr.MLP(width=width, layers=layers, activation=activation),
        solver=solver,
        first_stage=first_stage,
        substeps=substeps,
        decay=decay,
        dtype=dtype,
    )
    x0, logsigs = inputs(model, len(lengths), 6, seed=seed)
    for row, length in enumerate(lengths):
        logsigs[row, length:] = 0  # padding
    mask = torch.bernoulli(torch.full((len(lengths), width), 0.7)).to(dtype) / 0.7 if masked else None
    more = (
        {"start": torch.randn(len(lengths), hidden, dtype=dtype), "before": logsigs.roll(1, 1)[:, 0]} if carried else {}
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert_compiled_equals_eager(model, x0, logsigs, monkeypatch, mask=mask, **more)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("first_stage", ["own", "previous"])
def test_a_sequence_cut_in_time_goes_on_from_what_was_carried(first_stage: str) -> None:
    torch.manual_seed(1)
    model = NeuralRDE(3, 2, 6, 1, field=sr.MLP(width=8), first_stage=first_stage, decay=0.1, dtype=torch.float64)
    x0, logsigs = inputs(model, 4, 7)
    whole = model.hidden_states(x0, logsigs)
    begin = model.hidden_states(x0, logsigs[:, :3])
    rest = model.hidden_states(x0, logsigs[:, 3:], start=begin[:, -1], before=logsigs[:, 2])
    torch.testing.assert_close(torch.cat([begin, rest[:, 1:]], 1), whole, rtol=0, atol=1e-14)
    (rest * rest).sum().backward()
    cut = [parameter.grad.clone() for parameter in model.field.parameters()]
    model.zero_grad()
    (whole[:, 3:] ** 2).sum().backward()
    for own, expected in zip(cut, (parameter.grad for parameter in model.field.parameters()), strict=True):
        torch.testing.assert_close(own, expected, rtol=0, atol=1e-11 * float(expected.abs().max()))


def test_the_same_inputs_give_the_same_bits_with_as_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    model = NeuralRDE(4, 3, 16, 1, field=sr.MLP(width=64))
    x0, logsigs = inputs(model, 24, 12)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    first, again = (states_and_gradients(model, x0, logsigs) for _ in range(2))
    for name in first.keys() - {"node"}:
        assert torch.equal(first[name], again[name]), name


def test_a_stream_has_the_same_states_whatever_its_batch_mates_and_padding() -> None:
    torch.manual_seed(3)
    model = NeuralRDE(3, 2, 20, 1, field=sr.MLP(width=30))
    x0, logsigs = inputs(model, 17, 9)
    logsigs[4, 5:] = 0
    together = model.hidden_states(x0, logsigs)
    alone = model.hidden_states(x0[4:5], logsigs[4:5, :5])
    torch.testing.assert_close(together[4:5, :6], alone, rtol=0, atol=1e-6)
    assert torch.equal(together[4, 5:], together[4, 5].expand(5, -1))


def test_what_the_kernels_cannot_do_runs_eagerly() -> None:
    model = NeuralRDE(3, 2, 4, 1, field=sr.MLP(width=5), dtype=torch.float64)
    x0, logsigs = inputs(model, 2, 3)
    compiled = "_StatesBackward"
    assert model.hidden_states(x0, logsigs).grad_fn.name() == compiled
    assert model.hidden_states(x0, logsigs, precontract=False).grad_fn.name() != compiled
    assert model.hidden_states(x0, logsigs.clone().requires_grad_()).grad_fn.name() != compiled
    for changes in ({"substeps": "auto"}, {"field": sr.LogNCDE(width=5)}, {"field": sr.Linear()},
                    {"field": sr.MLP(width=5, final_activation="tanh")}):  # fmt: skip
        other = NeuralRDE(3, 2, 4, 1, dtype=torch.float64, **({"field": sr.MLP(width=5)} | changes))
        assert other.hidden_states(x0, logsigs).grad_fn.name() != compiled, changes


@pytest.mark.slow
def test_autocast_and_traced_graphs_run_eagerly() -> None:
    model = NeuralRDE(3, 2, 4, 1, field=sr.MLP(width=5))
    x0, logsigs = inputs(model, 2, 3)
    expected = model(x0, logsigs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(model(x0, logsigs).float(), expected, rtol=0.1, atol=0.1)
    program = torch.export.export(model, (x0, logsigs))
    torch.testing.assert_close(program.module()(x0, logsigs), expected, rtol=0, atol=1e-5)


def test_no_gradients_are_prepared_where_none_are_wanted() -> None:
    model = NeuralRDE(3, 2, 4, 1, field=sr.MLP(width=5))
    x0, logsigs = inputs(model, 2, 3)
    with torch.no_grad():
        assert model.hidden_states(x0, logsigs).grad_fn is None
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    assert model.hidden_states(x0, logsigs).grad_fn is None


def test_no_streams_and_no_windows_are_fine() -> None:
    model = NeuralRDE(3, 2, 4, 1, field=sr.MLP(width=5))
    for streams, windows in ((0, 3), (3, 0)):
        states = model.hidden_states(*inputs(model, streams, windows))
        assert states.shape == (streams, windows + 1, 4)
        states.sum().backward()


def test_a_mask_or_a_carried_state_of_another_shape_is_refused() -> None:
    model = NeuralRDE(3, 2, 4, 1, field=sr.MLP(width=5))
    x0, logsigs = inputs(model, 2, 3)
    with pytest.raises(ShapeError, match=r"mask has shape \(2, 4\); expected \(2, 5\)"):
        model.hidden_states(x0, logsigs, mask=torch.ones(2, 4))
    with pytest.raises(ShapeError, match=r"start has shape \(1, 4\); expected \(2, 4\)"):
        model.hidden_states(x0, logsigs, start=torch.zeros(1, 4))
    with pytest.raises(ShapeError, match=r"before has shape \(2, 3\); expected \(2, 6\)"):
        model.hidden_states(x0, logsigs, before=logsigs[:, 0, :3])
