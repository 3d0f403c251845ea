from __future__ import annotations

import numpy as np
import pytest
import tolerances
import torch

import streamrde as sr
from streamrde.models import NeuralRDE
from streamrde.models.training.examples import Batch, Example, collate
from streamrde.models.training.propagation import propagate

LENGTHS = [5, 12, 1, 9]
MODELS = {
    "plain": {},
    "previous": {"first_stage": "previous", "solver": "euler"},
    "mean": {"pooling": "mean", "decay": 0.3},
    "linear": {"field": sr.Linear(), "pooling": "mean", "first_stage": "own"},
    "all": {"pooling": "mean", "decay": 0.3, "first_stage": "previous"},
}


def make(**changes: object) -> tuple[NeuralRDE, Batch]:
    torch.manual_seed(0)
    model = NeuralRDE(3, 2, 4, 2, **({"field": sr.MLP(width=6, layers=1), "dtype": torch.float64} | changes))
    rng = np.random.default_rng(0)
    examples = [
        Example("s", rng.normal(size=3), np.arange(k) + 1.0, 0.4 * rng.normal(size=(k, 6)), rng.normal(size=(k, 2)))
        for k in LENGTHS
    ]
    return model, collate(examples, torch.device("cpu"))


@pytest.mark.parametrize("windows", [1, 4, 6, 12])
@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
def test_the_state_that_is_carried_over_is_that_of_the_whole_stream(changes, windows) -> None:
    model, batch = make(**changes)
    whole = model(batch.x0, batch.logsigs)
    seen = np.zeros((4, 12), dtype=bool)
    for part in propagate(model, batch, LENGTHS, windows=windows):
        rows = np.arange(4)[part.rows if isinstance(part.rows, slice) else part.rows.numpy()]
        for y, i in zip(part.y, rows, strict=True):
            real = slice(part.begin, min(part.end, LENGTHS[i]))
            assert LENGTHS[i] > part.begin
            torch.testing.assert_close(y[: real.stop - real.start], whole[i, real], rtol=0, atol=tolerances.LAW)
            seen[i, real] = True
    assert seen.sum(axis=1).tolist() == LENGTHS


def gradients(model: NeuralRDE, loss: torch.Tensor) -> list[torch.Tensor]:
    return [g for g in torch.autograd.grad(loss, list(model.parameters()), allow_unused=True) if g is not None]


@pytest.mark.parametrize("windows", [0, 12, 99])
def test_in_one_part_gradients_are_those_of_the_whole(windows) -> None:
    model, batch = make(**MODELS["all"])
    (part,) = propagate(model, batch, LENGTHS, windows=windows)
    for own, full in zip(
        gradients(model, (part.y**2).sum()),
        gradients(model, (model(batch.x0, batch.logsigs) ** 2).sum()),
        strict=True,
    ):
        assert torch.equal(own, full)


def test_gradients_do_not_reach_back_beyond_the_part() -> None:
    model, batch = make()
    states = model.hidden_states(batch.x0, batch.logsigs)
    *_, last = propagate(model, batch, LENGTHS, windows=8)
    assert last.rows.tolist() == [1, 3]
    detached = model.hidden_states(batch.x0[[1, 3]], batch.logsigs[[1, 3], 8:], start=states[[1, 3], 8].detach())
    expected = gradients(model, model.outputs(detached[:, 1:]).sum())
    for own, full in zip(gradients(model, last.y.sum()), expected, strict=True):
        torch.testing.assert_close(own, full, rtol=0, atol=tolerances.LAW)
    assert torch.autograd.grad(last.y.sum(), model.initial.weight, allow_unused=True) == (None,)


def test_parts_without_weight_are_passed_through_without_gradients() -> None:
    model, batch = make(**MODELS["mean"])
    weight = torch.zeros_like(batch.weight)
    weight[1, 11] = 1.0
    (part,) = propagate(model, batch, LENGTHS, windows=4, weight=weight)
    assert (part.begin, part.end) == (8, 12)
    assert part.select(weight).sum() == 2
    whole = model(batch.x0, batch.logsigs)
    torch.testing.assert_close(part.y[0], whole[1, 8:], rtol=0, atol=tolerances.LAW)
