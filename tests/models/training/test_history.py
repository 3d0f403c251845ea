from __future__ import annotations

import numpy as np
import pytest
import torch
from models.recordings import config_for, quiet, write_recordings

from streamrde.models.training.config import as_train_config
from streamrde.models.training.run import fit
from streamrde.models.training.streams import read_parts


def fitted(tmp_path, **tables):
    config = as_train_config(config_for(write_recordings(tmp_path), **tables))
    torch.manual_seed(0)
    return fit(config, read_parts(config), console=quiet())


@pytest.mark.slow
def test_a_run_keeps_what_happened_in_each_epoch(tmp_path) -> None:
    result = fitted(tmp_path, training={"epochs": 4, "patience": 0})
    (history,) = result.histories
    assert [epoch.number for epoch in history.epochs] == [1, 2, 3, 4]
    assert history.best == 1 + int(np.argmin([epoch.validation_loss for epoch in history.epochs]))
    assert result.bundle.header.metrics["epochs"] == history.best
    for epoch in history.epochs:
        assert epoch.seconds > 0
        assert epoch.loss > 0
        assert epoch.gradient_norm > 0
        assert epoch.skipped == 0
    assert history.epochs[-1].learning_rate < history.epochs[0].learning_rate


def test_a_run_keeps_its_predictions_of_every_part(tmp_path) -> None:
    result = fitted(tmp_path, training={"epochs": 1})
    assert {part: len(examples) for part, (examples, _) in result.parts.items()} == {
        "train": 18,
        "validation": 3,
        "test": 3,
    }
    for examples, outputs in result.parts.values():
        assert [y.shape for y in outputs] == [(len(example.logsigs), 2) for example in examples]


def test_without_validation_the_last_epoch_is_kept(tmp_path) -> None:
    split = {"validation": [], "test": [7]}
    history = fitted(tmp_path, training={"epochs": 2}, split=split).histories[0]
    assert history.best == 2
    assert history.epochs[0].validation_loss is None
    assert history.epochs[0].monitored is None


@pytest.mark.parametrize("part", ["train", "test"])
def test_the_metrics_are_those_of_the_predictions(tmp_path, part) -> None:
    result = fitted(tmp_path, training={"epochs": 2})
    examples, outputs = result.parts[part]
    right = [y[-1].argmax() == example.target[-1] for example, y in zip(examples, outputs, strict=True)]
    assert np.mean(right) == result.bundle.header.metrics[f"{part}_accuracy_end"]


def test_a_diverged_epoch_is_undone_and_training_goes_on_at_half_the_rate(tmp_path) -> None:
    # One step an epoch: the first loss is that of the random weights, and any step of this length makes it far worse.
    training = {"epochs": 6, "learning_rate": 1e3, "schedule": "constant", "gradient_norm": 100.0, "warm_up": 0.0}
    training |= {"batch_size": 32, "rewinds": 20, "patience": 0}
    (history,) = fitted(tmp_path, training=training).histories
    undone = [epoch for epoch in history.epochs if epoch.rewound]
    assert undone
    assert all(epoch.validation_loss is None for epoch in undone)
    rates = [epoch.learning_rate for epoch in history.epochs]
    assert rates[-1] == pytest.approx(1e3 / 2 ** sum(epoch.rewound for epoch in history.epochs[:-1]))


def test_averaged_weights_know_nothing_of_those_that_training_began_with(tmp_path) -> None:
    averaged, plain = (
        fitted(tmp_path, training={"epochs": 1, "batch_size": 32, "averaging": decay}).bundle for decay in (0.9, 0.0)
    )
    for name, tensor in averaged.tensors.items():
        np.testing.assert_array_equal(tensor, plain.tensors[name], err_msg=name)
