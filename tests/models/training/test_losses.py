from __future__ import annotations

import numpy as np
import pytest
import torch

from streamrde.models import NeuralRDE
from streamrde.models.training.config import TrainingConfig
from streamrde.models.training.examples import Batch, Example, collate
from streamrde.models.training.losses import Objective

CPU = torch.device("cpu")


def example(windows: int, target: object) -> Example:
    rng = np.random.default_rng(windows)
    return Example("s", np.zeros(3), np.arange(1.0, windows + 1), rng.normal(size=(windows, 3)), np.array(target))


def regression() -> tuple[list[Example], Batch]:
    examples = [example(3, [[1.0, np.nan], [2.0, 5.0], [np.nan, 6.0]]), example(1, [[4.0, 7.0]])]
    return examples, collate(examples, CPU)


def objective(outputs: int, task: str, emit: str = "every", train: tuple[Example, ...] = (), **config) -> Objective:
    labels = ("left", "right") if task == "classification" else ()
    header = NeuralRDE(3, 1, 2, outputs, task=task, emit=emit, labels=labels).header
    return Objective(TrainingConfig(**config), header, train, device=CPU)


@pytest.mark.parametrize(
    ("loss_on", "emit", "first"),
    [
        ("served", "every", [[1, 0], [1, 1], [0, 1]]),
        ("every", "last", [[1, 0], [1, 1], [0, 1]]),
        ("served", "last", [[0, 0], [1, 0], [0, 1]]),
        ("last", "every", [[0, 0], [1, 0], [0, 1]]),
        ("ramp", "every", [[1, 0], [2, 2], [0, 3]]),
    ],
)
def test_windows_count_as_they_should_and_every_stream_the_same(loss_on, emit, first) -> None:
    _, batch = regression()
    weights = objective(2, "regression", emit, loss_on=loss_on).weights(batch).numpy()
    np.testing.assert_allclose(weights[0], np.array(first) / np.sum(first))
    np.testing.assert_allclose(weights[1], [[0.5, 0.5], [0, 0], [0, 0]])


@pytest.mark.parametrize("loss", ["mse", "huber"])
def test_losses_of_numbers_are_means_over_streams_in_standard_deviations(loss) -> None:
    examples, batch = regression()
    shift, scale = np.array([1e8, -3.0]), np.array([2.0, 0.5])
    y = np.random.default_rng(0).normal(size=(2, 3, 2))
    total = 0.0
    for own, e in zip(y, examples, strict=True):
        error = np.abs(own[: len(e.target)] - (e.target - shift) / scale)
        each = error**2 if loss == "mse" else np.where(error <= 1.5, error**2, 3.0 * error - 1.5**2)
        total += np.nansum(each * np.array([0.5, 1.5])) / np.isfinite(e.target).sum() / 2
    judge = objective(2, "regression", loss=loss, huber=1.5, target_weights=(1.0, 3.0))
    scaling = {"shift": torch.tensor(shift), "scale": torch.tensor(scale)}
    given = judge.loss(torch.tensor(y), batch.target, judge.weights(batch), **scaling)
    assert float(given) == pytest.approx(total, rel=1e-12)


def test_classes_count_by_their_weights() -> None:
    examples = [example(2, [0, 0]), example(1, [1]), example(1, [1]), example(2, [-1, 1])]
    batch, y = collate(examples, CPU), torch.zeros(4, 2, 2)
    y[0, :, 0] = 3.0
    each = -torch.log_softmax(y[:, 0], dim=1)[torch.arange(4), torch.tensor([0, 1, 1, 1])]  # alike in both windows

    def loss(class_weights: object) -> float:
        judge = objective(2, "classification", train=tuple(examples), class_weights=class_weights)
        return float(judge.loss(y, batch.target, judge.weights(batch)))

    assert loss("equal") == pytest.approx(float(each.mean()))
    assert loss("balanced") == pytest.approx(float((each * torch.tensor([2.0, 2 / 3, 2 / 3, 2 / 3])).mean()))
    assert loss({"left": 5.0}) == pytest.approx(float((each * torch.tensor([5.0, 1, 1, 1])).mean()))


def test_weights_that_are_undone_leave_the_odds_of_the_data() -> None:
    # Nothing to tell the classes apart by: what is learned is how common they are, 1 of 4.
    examples = [example(1, [0]), example(1, [1]), example(1, [1]), example(1, [1])]
    judge = objective(2, "classification", train=tuple(examples), class_weights={"left": 6.0})
    model = NeuralRDE(3, 1, 2, 2, task="classification", labels=("left", "right"), dtype=torch.float64)
    with torch.no_grad():
        model.readout.weight.zero_()
    batch = collate(examples, CPU)
    optimiser = torch.optim.LBFGS([model.readout.bias], max_iter=100, tolerance_grad=1e-12, tolerance_change=0.0)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = judge.loss(model.readout.bias.expand(4, 1, 2), batch.target, judge.weights(batch))
        loss.backward()
        return loss

    optimiser.step(closure)
    bias = model.readout.bias.detach().clone()
    np.testing.assert_allclose(torch.softmax(bias, 0), [2 / 3, 1 / 3], atol=1e-6)
    judge.undo_weights(model)
    np.testing.assert_allclose(torch.softmax(model.readout.bias.detach(), 0), [1 / 4, 3 / 4], atol=1e-6)


def test_a_batch_without_targets_has_no_loss() -> None:
    batch = collate([example(2, [[np.nan], [np.nan]])], CPU)
    judge = objective(1, "regression")
    y = torch.zeros(1, 2, 1, requires_grad=True)
    loss = judge.loss(y, batch.target, judge.weights(batch))
    loss.backward()
    assert float(loss.detach()) == 0
    assert float(y.grad.abs().sum()) == 0


@pytest.mark.parametrize(("offset", "deviation"), [(1e8, 3.0), (-1e12, 0.5), (1e30, 1e24)])
def test_an_offset_of_the_targets_costs_the_loss_no_digit(offset, deviation) -> None:
    _, batch = regression()
    judge, y = objective(2, "regression"), torch.tensor(np.random.default_rng(0).normal(size=(2, 3, 2)))
    plain = judge.loss(y.float(), batch.target, judge.weights(batch))
    shift, scale = torch.full((2,), offset, dtype=torch.float64), torch.full((2,), deviation, dtype=torch.float64)
    y = y.float().requires_grad_()
    moved = judge.loss(y, batch.target * scale + shift, judge.weights(batch), shift=shift, scale=scale)
    assert float(moved.detach()) == pytest.approx(float(plain), rel=1e-3 if deviation == 0.5 else 1e-6)
    moved.backward()
    assert bool(y.grad.isfinite().all())
