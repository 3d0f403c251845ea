from __future__ import annotations

import numpy as np
import pytest
import torch

import streamrde as sr
from streamrde.models import NeuralRDE
from streamrde.models.training.config import TrainingConfig
from streamrde.models.training.examples import Example, Examples, collate
from streamrde.models.training.losses import Objective
from streamrde.models.training.mixing import mix
from streamrde.models.training.trainer import Trainer

CPU = torch.device("cpu")
LENGTHS = [3, 5, 4, 5]


def make_examples(classes: bool = False) -> Examples:
    rng = np.random.default_rng(0)
    made = []
    for i, length in enumerate(LENGTHS):
        target = np.full(length, i % 2) if classes else rng.normal(size=(length, 1))
        made.append(
            Example(f"s{i}", rng.normal(size=3), np.arange(1.0, length + 1), rng.normal(size=(length, 3)), target)
        )
    return Examples.join(made, padding=np.nan)


def test_each_stream_is_mixed_with_another_one_in_every_window_of_both() -> None:
    batch = collate(make_examples(), CPU)
    mixed = mix(batch, LENGTHS, beta=0.5, rng=np.random.default_rng(1))
    assert sorted(mixed.partner.tolist()) == [0, 1, 2, 3]
    for i, j in enumerate(mixed.partner.tolist()):
        assert i != j
        s, longest = float(mixed.share[i]), max(LENGTHS[i], LENGTHS[j])
        assert 0 < s < 1
        assert mixed.lengths[i] == longest
        torch.testing.assert_close(mixed.batch.x0[i], s * batch.x0[i] + (1 - s) * batch.x0[j])
        for k in range(5):
            own, other = (batch.logsigs[of, k] if k < LENGTHS[of] else None for of in (i, j))
            if own is None and other is None:
                assert mixed.batch.logsigs[i, k].isnan().all()
            elif own is None or other is None:
                torch.testing.assert_close(mixed.batch.logsigs[i, k], other if own is None else own)
            else:
                torch.testing.assert_close(mixed.batch.logsigs[i, k], s * own + (1 - s) * other)


def make_trainer(examples: Examples, **settings: object) -> Trainer:
    config = TrainingConfig(batch_size=4, epochs=5, warm_up=0.0, schedule="constant", **settings)
    torch.manual_seed(0)
    model = NeuralRDE(3, 1, 4, 1, field=sr.MLP(width=8, layers=1))
    return Trainer(model, config, Objective(config, model.header, examples, device=CPU), CPU)


def test_the_loss_has_both_targets_in_the_same_shares() -> None:
    examples = Examples.join([make_examples()[i] for i in (1, 3)])
    run = make_trainer(examples, mixup=1.0)
    run.epoch(examples, [])
    # The same draws and weights, by hand.
    other = make_trainer(examples)
    rng = np.random.default_rng(0)
    order = rng.permutation(2)
    batch = collate(examples[order], CPU)
    mixed = mix(batch, [5, 5], beta=1.0, rng=rng)
    with torch.no_grad():
        y = other._model.readouts(mixed.batch.x0, mixed.batch.logsigs).double()
    s = mixed.share[:, None, None]
    expected = s * (y - batch.target) ** 2 + (1 - s) * (y - batch.target[mixed.partner]) ** 2
    assert run.epochs[0].loss == pytest.approx(float(expected.mean()), rel=1e-5)


def test_mixing_goes_through_parts_of_long_streams() -> None:
    examples = make_examples()
    examples.padding = 0.0
    run = make_trainer(examples, mixup=0.4, truncate=2)
    before = {name: tensor.clone() for name, tensor in run.state.tensors.items() if name.startswith("model.")}
    run.epoch(examples, [])
    assert np.isfinite(run.epochs[0].loss)
    assert run.epochs[0].skipped == 0
    assert any(not torch.equal(run.state.tensors[name], tensor) for name, tensor in before.items())


def test_a_batch_of_one_stream_is_not_mixed() -> None:
    examples = make_examples()[1:2]
    losses = []
    for mixup in (0.0, 0.5):
        run = make_trainer(examples, mixup=mixup)
        run.epoch(examples, [])
        losses.append(run.epochs[0].loss)
    assert losses[0] == losses[1]
