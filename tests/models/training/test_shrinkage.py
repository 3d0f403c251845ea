from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from bundles import make_stack
from models.recordings import config_for, quiet, write_recordings

from streamrde.models import NeuralRDE
from streamrde.models.training.config import TrainingConfig, as_train_config
from streamrde.models.training.examples import Example
from streamrde.models.training.losses import Objective
from streamrde.models.training.measures import predict
from streamrde.models.training.run import fit
from streamrde.models.training.shrinkage import factors, shrink
from streamrde.models.training.streams import read_parts

CPU = torch.device("cpu")


def drawn(groups: int, size: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return true values that differ between groups, noise, and the groups."""
    rng = np.random.default_rng(0)
    true = np.repeat(rng.normal(size=(groups, 2)), size, axis=0) + 0.3 * rng.normal(size=(groups * size, 2))
    return true, rng.normal(size=true.shape), [f"g{i // size}" for i in range(len(true))]


def test_the_factor_gives_the_least_error_over_groups_of_equal_weight() -> None:
    true, noise, groups = drawn(20, 10)
    predicted = true + 0.5 * noise
    # A group with fewer streams counts the same.
    keep = np.array([name != "g3" or i % 10 < 2 for i, name in enumerate(groups)])
    true, predicted, names = true[keep], predicted[keep], [g for g, own in zip(groups, keep, strict=True) if own]
    weights = np.ones_like(true)
    found = factors(true, predicted, weights, names)

    def error(share: float) -> float:
        squares = (true[:, 0] - share * predicted[:, 0]) ** 2
        return float(np.mean([squares[np.array(names) == name].mean() for name in sorted(set(names))]))

    shares = np.linspace(0, 1, 1001)
    assert found[0] == pytest.approx(shares[np.argmin([error(share) for share in shares])], abs=2e-3)
    assert 0.6 < found.min() < found.max() < 0.95


def test_what_is_not_learned_is_not_claimed_and_nothing_is_enlarged() -> None:
    true, noise, groups = drawn(20, 10)
    weights = np.ones_like(true)
    assert factors(true, noise, weights, groups).tolist() == [0, 0]
    assert factors(true, -true, weights, groups).tolist() == [0, 0]
    assert factors(true, 0.5 * true, weights, groups).tolist() == [1, 1]
    # Good in one group of many, and nothing elsewhere: that is chance.
    lucky = np.where(np.array(groups)[:, None] == "g4", true, 0.0)
    assert factors(true, lucky, weights, groups).tolist() == [0, 0]
    assert factors(true, np.zeros_like(true), weights, groups).tolist() == [0, 0]
    # One group alone cannot tell.
    assert factors(true[:10], noise[:10], weights[:10], groups[:10]).tolist() == [1, 1]


def test_entries_without_a_weight_do_not_count() -> None:
    true, noise, groups = drawn(10, 4)
    weights = (np.random.default_rng(1).random(true.shape) < 0.7).astype(float)
    wild = np.where(weights == 0, 1e9, 0.0)
    one, other = (factors(true + own, true + 0.2 * noise + own, weights, groups) for own in (0.0, wild))
    np.testing.assert_array_equal(one, other)


def test_a_model_keeps_what_it_learned_and_answers_the_mean_for_the_rest() -> None:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    header = make_stack(task="regression", labels=(), outputs=2, emit="last").header
    model = NeuralRDE.from_header(header)
    model.output_shift[:] = torch.tensor([5.0, -3.0])
    made, groups = [], [f"g{i % 8}" for i in range(40)]
    for i in range(40):
        tokens = rng.normal(size=(3 + i % 3, header.logsig_channels))
        tokens[:, 0] = 0.8
        x0 = np.zeros(header.path_channels)
        with torch.no_grad():
            answer = model(torch.tensor(x0)[None], torch.tensor(tokens)[None])[0].double().numpy()
        target = np.full(answer.shape, np.nan)
        target[-1] = answer[-1, 0], rng.normal() - 3.0
        made.append(Example(f"s{i}", x0, np.arange(1.0, len(tokens) + 1), tokens, target))
    before = predict(model, made, batch_size=16, device=CPU)
    objective = Objective(TrainingConfig(), header, made, device=CPU)
    found = shrink(model, made, groups, objective, batch_size=16)
    assert found[0] == pytest.approx(1.0, abs=1e-4)
    assert found[1] == 0.0
    for old, new in zip(before, predict(model, made, batch_size=16, device=CPU), strict=True):
        np.testing.assert_allclose(new[:, 0], old[:, 0], atol=1e-3)
        assert (new[:, 1] == -3.0).all()


def test_training_says_what_it_claims(tmp_path) -> None:
    tables = config_for(write_recordings(tmp_path), training={"epochs": 1})
    tables["data"] |= {"target": ["speed", "a"], "task": "regression"}
    tables |= {"model": {"field": {"field": "stack", "width": 4, "blocks": 1}}, "output": {}}
    config, console = as_train_config(tables), quiet()
    fit(config, read_parts(config), console=console)
    assert re.search(r"suits the validation streams: speed [01]\.\d\d, a [01]\.\d\d", console.file.getvalue())
