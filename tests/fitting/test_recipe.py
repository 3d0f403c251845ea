"""The search among candidates: what is reported, what ends it, and what is kept."""

from collections.abc import Iterator

import numpy as np
import pytest

from streamrde.errors import DataError
from streamrde.fitting import recipe
from streamrde.fitting.examples import Candidate, Examples, Family
from streamrde.fitting.families.reservoir import fit_reservoirs
from streamrde.fitting.progress import Budget, Event, Stage, Tried
from streamrde.fitting.readout import logistic_readout, ridge_readout
from streamrde.fitting.recordings import Recording
from streamrde.fitting.targets import Target


def recordings(count: int = 24) -> list[Recording]:
    """Turn left in one class and right in the other; two streams per person."""
    rng, t, found = np.random.default_rng(3), np.arange(40) / 10, []
    for i in range(count):
        sign = 1.0 if i % 2 else -1.0
        x = np.stack([np.cos(2 * t), sign * np.sin(2 * t)], axis=1) + 0.8 * rng.normal(size=(40, 2))
        target = Target(np.array([[float(i % 2)]]), None, ("left", "right"))
        found.append(Recording(f"s{i:02}", t, x, target, f"p{i // 2}", f"s{i:02}"))
    return found


def fit(**options: object) -> recipe.Fitted:
    return recipe.fit_recordings(recordings(), ["a", "b"], classify=True, **options)


def test_each_candidate_is_told_when_it_is_fitted() -> None:
    events: list[Event] = []
    fitted = fit(progress=events.append)
    tried = [event for event in events if isinstance(event, Tried)]
    assert fitted.choice in [event.name for event in tried]
    assert tried[0].best
    assert all(event.measures == fitted.table[event.name] for event in tried)
    last = {event.name: event for event in events if isinstance(event, Stage)}
    assert all(stage.done == stage.total for stage in last.values())


def test_a_spent_budget_ends_the_search_with_what_there_is() -> None:
    now = iter(range(0, 100_000, 1000))
    fitted = fit(budget=Budget(1, clock=lambda: float(next(now))))
    assert fitted.stopped == "time"
    assert len([name for name in fitted.table if "ridge" in name]) == 1


def test_the_best_of_one_kind_stands_for_all_of_it() -> None:
    def candidate(name: str, loss: float, kind: str = "") -> Candidate:
        return Candidate(name, np.zeros((4, 1)), np.full(4, loss), lambda: fit().bundle, kind=kind)

    tried = [
        candidate("a", 3, "k"),
        candidate("b", 5),
        candidate("c", 2, "k"),
        candidate("d", 6),
        candidate("e", 4, "k"),
    ]
    assert [own.name for own in recipe._best_of_kinds(tried, None)] == ["c", "b", "d"]


def interrupted(after: int) -> Family:
    def family(examples: Examples) -> Iterator[Candidate]:
        for i, candidate in enumerate(fit_reservoirs(examples)):
            if i == after:
                raise KeyboardInterrupt
            yield candidate

    return family


def test_an_interrupt_keeps_the_candidates_so_far(monkeypatch) -> None:
    monkeypatch.setattr(recipe, "FAMILIES", (interrupted(1),))
    fitted = fit()
    assert fitted.stopped == "interrupt"
    assert fitted.bundle.header.labels == ("left", "right")


def test_an_interrupt_before_the_first_candidate_ends_the_fit(monkeypatch) -> None:
    monkeypatch.setattr(recipe, "FAMILIES", (interrupted(0),))
    with pytest.raises(KeyboardInterrupt):
        fit()


def test_a_candidate_is_taken_by_its_name() -> None:
    names = [candidate.name for candidate in fit_reservoirs(fit().examples)]
    for name in names:
        assert fit(choice=name).choice == name
    with pytest.raises(DataError, match=r"choice = 'rigde': no candidate"):
        fit(choice="rigde")


@pytest.mark.parametrize("readout", [ridge_readout, logistic_readout])
@pytest.mark.parametrize("features", [7, 200])
def test_readouts_without_a_fold_give_the_answers_that_were_held_out(readout, features: int) -> None:
    rng = np.random.default_rng(0)
    codes, folds = np.arange(60) % 3, np.arange(60) % 4
    x = rng.normal(size=(60, features)) + codes[:, None]
    found = readout(x, codes[:, None].astype(float), 3, folds)
    for fold in range(4):
        own = folds == fold
        scores = found.without(fold)(x[own])
        probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(probabilities, found.held_out[own], atol=1e-6)
