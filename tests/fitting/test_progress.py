"""Events of a fit, and its budget of time."""

import pytest

from streamrde.fitting.progress import Budget


def test_a_budget_is_spent_when_its_minutes_have_passed() -> None:
    now = [100.0]
    budget = Budget(0.5, clock=lambda: now[0])
    assert (budget.left, budget.spent) == (30.0, False)
    now[0] = 129.0
    assert (budget.passed, budget.left, budget.spent) == (29.0, 1.0, False)
    now[0] = 131.0
    assert (budget.left, budget.spent) == (0.0, True)


def test_without_minutes_a_budget_is_never_spent() -> None:
    now = [0.0]
    budget = Budget(clock=lambda: now[0])
    now[0] = 1e9
    assert budget.left == float("inf")
    assert not budget.spent


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_is_a_time_above_0(minutes: float) -> None:
    with pytest.raises(ValueError, match="minutes"):
        Budget(minutes)
