from __future__ import annotations

import math

import numpy as np
import pytest

from streamrde.models.training.stability import Losses, Steps


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan), (1.0, math.inf)])
def test_a_step_that_is_not_finite_is_not_taken(loss, norm) -> None:
    steps = Steps()
    for i in range(10):
        assert not steps.lost, i
        assert not steps.takes(loss, norm, spike=0)
    assert steps.lost
    assert steps.takes(1.0, 1.0, spike=0)
    assert not steps.lost


def test_a_spike_is_not_taken_and_a_rise_that_stays_soon_is() -> None:
    steps = Steps()
    assert all(steps.takes(1.0, norm, spike=10) for norm in [1.0, 50.0] + [1.0] * 100)
    assert not steps.takes(1.0, 11.0, spike=10)
    assert steps.takes(1.0, 9.0, spike=10)
    assert steps.takes(1.0, 11.0, spike=0)
    taken = [steps.takes(1.0, 1e3, spike=10) for _ in range(100)]
    assert not taken[0]
    assert taken.index(True) < 60
    assert all(taken[60:])


@pytest.mark.parametrize(
    ("losses", "diverged"),
    [
        ([1.0, 0.9, 1.1, 0.8, 1.2], False),
        ([1.0, 0.5, 0.1, 0.5], False),
        ([1.0, 0.5, 0.1, 0.6], True),
        ([1.0, 2.1], True),
        ([1.0, math.nan], True),
        ([math.inf], True),
    ],
)
def test_an_epoch_has_diverged_where_more_than_half_of_the_progress_is_undone(losses, diverged) -> None:
    judge = Losses()
    verdicts = [judge.diverged(loss) for loss in losses]
    assert verdicts == [False] * (len(losses) - 1) + [diverged]


def test_epochs_of_few_streams_are_judged_together() -> None:
    rng = np.random.default_rng(0)
    # Squared errors of 4 streams, of which one may be large, while the model learns nothing and forgets nothing.
    losses = (rng.normal(size=(300, 4)) ** 2).mean(axis=1)
    alone, judge = Losses(), Losses()
    assert any(alone.diverged(loss) for loss in losses)
    assert not any(judge.diverged(loss, streams=4, enough=200) for loss in losses)
    worse = [judge.diverged(3 * loss, streams=4, enough=200) for loss in losses]
    assert 10 < worse.index(True) <= 50
    # After a return to earlier weights, nothing of what was undone counts.
    assert judge.recent == [] or not worse[-1]
    assert judge.diverged(math.nan, streams=4, enough=200)
