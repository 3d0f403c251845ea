from __future__ import annotations

import numpy as np
import pytest
import torch

import streamrde as sr
from streamrde.errors import ParameterError
from streamrde.models import NeuralRDE
from streamrde.models.training.config import TrainingConfig
from streamrde.models.training.examples import Example
from streamrde.models.training.losses import Objective
from streamrde.models.training.trainer import Trainer

CPU = torch.device("cpu")


def examples(*scales: float) -> list[Example]:
    rng = np.random.default_rng(0)
    made = []
    for scale in scales:
        logsigs = scale * rng.normal(size=(4, 3))
        made.append(Example("s", np.zeros(3), np.arange(4) + 1.0, logsigs, np.cumsum(logsigs[:, 1:2], axis=0)))
    return made


def trainer(train: list[Example], **config: object) -> Trainer:
    torch.manual_seed(0)
    settings = TrainingConfig(**({"batch_size": 1, "length_pool": 1} | config))
    model = NeuralRDE(3, 1, 4, 1, field=sr.MLP(width=8, layers=1))
    return Trainer(model, settings, Objective(settings, model.header, train, device=CPU), CPU)


def test_a_stream_without_a_finite_gradient_is_left_out_and_counted() -> None:
    broken = examples(*[0.5] * 5, 1e30)
    run = trainer(broken, epochs=2)
    assert not run.epoch(broken, [])
    epoch = run.epochs[0]
    assert epoch.skipped == 1
    assert np.isfinite([epoch.loss, epoch.gradient_norm]).all()
    assert not epoch.rewound


def test_training_in_which_no_step_can_be_taken_is_undone_and_then_given_up() -> None:
    broken = examples(*[1e30] * 12)
    run = trainer(broken, epochs=3, rewinds=1)
    before = {name: tensor.clone() for name, tensor in run.state.tensors.items()}
    run.epoch(broken, [])
    assert run.epochs[0].rewound
    assert run.epochs[0].skipped == 10  # in a row: the rest is not tried
    assert all(torch.equal(run.state.tensors[name], tensor) for name, tensor in before.items())
    with pytest.raises(ParameterError, match=r"diverged: the loss is nan in epoch 2, after 1 rewinds"):
        run.epoch(broken, [])


def test_validation_that_is_never_finite_is_refused() -> None:
    train = examples(*[0.5] * 4)
    run = trainer(train, epochs=1)
    assert not run.epoch(train, examples(1e30))
    with pytest.raises(ParameterError, match="in no epoch is the loss of the validation streams finite"):
        run.finish()


def test_of_equal_measures_the_one_with_less_loss_is_kept() -> None:
    train = examples(*[0.5] * 6)
    run = trainer(train, epochs=3, monitor="r2_end", learning_rate=0.01)
    better = [run.epoch(train, train) for _ in range(3)]
    assert better[0]
    history = run.finish()
    scores = [(epoch.monitored, -epoch.validation_loss) for epoch in history.epochs]
    assert history.best == 1 + max(range(3), key=scores.__getitem__)


def test_the_state_learns_at_its_share_of_the_readouts_rate() -> None:
    train = examples(*[0.5] * 4)

    def moved(rate: float) -> dict[str, float]:
        run = trainer(train, batch_size=4, weight_decay=0.0, warm_up=0.0, schedule="constant", state_rate=rate)
        weights = {name: weight.detach() for name, weight in run._model.named_parameters()}
        before = {name: weight.clone() for name, weight in weights.items()}
        run.epoch(train, [])
        return {name: float((weight - before[name]).abs().max()) for name, weight in weights.items()}

    alike, slow = moved(1.0), moved(0.01)
    # AdamW's first step is the rate, whatever the gradient.
    expected = {name: (1.0 if name.startswith("readout") else 0.01) * far for name, far in alike.items()}
    assert slow == pytest.approx(expected, rel=1e-2)
