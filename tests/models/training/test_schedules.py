from __future__ import annotations

import pytest

from streamrde.models.training.config import TrainingConfig
from streamrde.models.training.schedules import Plateau, rate_share

STEPS = 40


def shares(**changes: object) -> list[float]:
    config = TrainingConfig(**changes)
    return [rate_share(config, i / STEPS, 1 / STEPS) for i in range(STEPS)]


def test_the_cosine_rises_to_its_highest_and_falls_to_nothing() -> None:
    rates = shares(schedule="cosine", warm_up=0.25)
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[10] == 1
    assert rates[25] == pytest.approx(0.5)
    assert rates == sorted(rates[:10]) + sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.01


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_other_rates_stay_after_the_warm_up(schedule) -> None:
    rates = shares(schedule=schedule, warm_up=0.05)
    assert rates == [0.5] + [1.0] * (STEPS - 1)
    assert shares(schedule=schedule, warm_up=0.0) == [1.0] * STEPS


def test_the_first_step_of_a_short_run_is_taken_at_the_full_rate() -> None:
    assert rate_share(TrainingConfig(warm_up=0.05), 0.0, 1.0) == 1.0


def test_a_plateau_is_so_many_epochs_without_a_better_one() -> None:
    plateau = Plateau()
    better = [True, False, False, True, False, False, False, False, False, False]
    falls = [plateau.falls(better=value, epochs=3) for value in better]
    assert falls == [False] * 6 + [True, False, False, True]
