from __future__ import annotations

import numpy as np
import pytest
import torch

import streamrde as sr
from streamrde.errors import ParameterError
from streamrde.models import NeuralRDE
from streamrde.models.scaling import Scaling
from streamrde.models.training.initialisation import carry_average, carry_sample, shrink_field

MEAN, DEVIATION, WINDOW, WINDOWS = np.array([5.0, -2.0]), np.array([2.0, 0.5]), 0.25, 40


def started() -> NeuralRDE:
    torch.manual_seed(0)
    model = NeuralRDE(3, 1, 6, 1, field=sr.MLP(width=4, layers=1), solver="euler", dtype=torch.float64)
    shift, scale = np.append(0.0, MEAN), np.append(1.0, 1 / DEVIATION)
    model.set_scaling(Scaling(shift, scale, np.array([3.0, 0.2, 0.7]), np.zeros(1), np.ones(1)))
    shrink_field(model, 1e-9)
    carry_sample(model)
    carry_average(model, WINDOW * WINDOWS)
    return model


def test_the_state_carries_the_sample_and_its_average_so_far() -> None:
    rng = np.random.default_rng(0)
    samples = MEAN + DEVIATION * rng.uniform(-1, 1, size=(WINDOWS + 1, 2))
    # With "hold" time moves first: a window has the sample it began with, and jumps at its end.
    path = np.column_stack([WINDOW * np.arange(WINDOWS + 1), samples])
    model = started()
    states = model.hidden_states(torch.tensor(path[:1]), torch.tensor(np.diff(path, axis=0)[None])).detach().numpy()[0]
    standard = (samples - MEAN) / DEVIATION
    np.testing.assert_allclose(states[:, 1:3], standard, atol=1e-6)
    exact = np.cumsum(np.tanh(0.4 * standard[:-1]) / 0.4, axis=0) / WINDOWS
    np.testing.assert_allclose(states[1:, 3:5], exact, atol=1e-6)
    np.testing.assert_allclose(states[-1, 3:5], standard[:-1].mean(axis=0), atol=0.02)


@pytest.mark.parametrize("field", [{"layers": 2}, {"last_activation": "relu"}, {"final_activation": "tanh"}])
def test_averages_need_one_layer_of_tanh(field) -> None:
    with pytest.raises(ParameterError, match=r"start='average'.*layers = 1.*use start = 'sample'"):
        carry_average(NeuralRDE(3, 1, 6, 1, field=sr.MLP(**({"width": 4, "layers": 1} | field))), 1.0)
