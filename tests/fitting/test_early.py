"""Answers before a stream ends are measured out of fold, and agree with the whole at its end."""

import numpy as np
import pytest

from streamrde.fitting import recipe
from streamrde.fitting.early import SHARES, early_answers
from streamrde.fitting.examples import Candidate, Examples
from streamrde.fitting.recordings import Recording
from streamrde.fitting.serving import answers_of
from streamrde.fitting.targets import Target
from streamrde.windowing import Every


def recordings() -> list[Recording]:
    """Move alike in the first half of each stream, and to different sides in the second."""
    rng, t, found = np.random.default_rng(3), np.arange(60) / 10, []
    for i in range(24):
        side = np.where(t > 3, (t - 3) * (1 if i % 2 else -1), 0.0)
        x = np.stack([np.cos(2 * t), side], axis=1) + 0.05 * rng.normal(size=(60, 2))
        target = Target(np.array([[float(i % 2)]]), None, ("left", "right"))
        found.append(Recording(f"s{i:02}", t, x, target, f"p{i // 2}", f"s{i:02}"))
    return found


@pytest.fixture(scope="module")
def fitted() -> recipe.Fitted:
    return recipe.fit_recordings(recordings(), ["a", "b"], classify=True, targets=("label",))


def test_what_cannot_be_known_yet_is_not_known(fitted: recipe.Fitted) -> None:
    found = early_answers(fitted.examples, fitted.chosen)
    assert [own.share for own in found] == list(SHARES)
    assert found[1].measures["accuracy"] < 0.8
    assert found[-1].measures["accuracy"] == 1.0
    assert found[2].seconds == pytest.approx(2.95)


def test_models_without_a_fold_give_the_answers_that_were_held_out(fitted: recipe.Fitted) -> None:
    examples, chosen = fitted.examples, fitted.chosen
    assert chosen.without is not None
    for fold in np.unique(examples.folds):
        own = np.flatnonzero(examples.folds == fold)
        answers = answers_of(chosen.without(int(fold)), [examples.recordings[i] for i in own])
        last = np.array([answer.value[-1] for answer in answers])
        np.testing.assert_allclose(last, chosen.held_out[own], atol=1e-4)


def test_a_candidate_without_such_models_has_no_early_answers(fitted: recipe.Fitted) -> None:
    assert early_answers(fitted.examples, fitted.chosen._replace(without=None)) == ()


def test_rows_along_a_stream_are_measured_by_the_part_that_they_are_in() -> None:
    """The answers are wrong until 2 s of 10 s have passed."""
    t, ends = np.arange(0.0, 10.5, 0.5), np.arange(1.0, 11.0)
    own = [Recording(f"s{i}", t, np.zeros((21, 1)), Target(np.zeros((21, 1)), t), f"s{i}", "") for i in range(2)]
    truth = np.zeros((20, 1))
    examples = Examples(
        own, ("a",), truth, (), np.repeat([0, 1], 10), np.repeat([0, 1], 10), 0, ("y",), np.repeat([0, 1], 10),
        np.tile(ends, 2), Every(1.0),
    )  # fmt: skip
    said = np.where(examples.ends < 3, 4.0, 0.0)[:, None]
    found = early_answers(examples, Candidate("it", said, said[:, 0] ** 2, lambda: None))  # type: ignore[arg-type, return-value]
    assert [(own.share, own.rows, own.measures["rmse"]) for own in found] == [
        (0.1, 2, 4.0), (0.25, 2, 4.0), (0.5, 6, 0.0), (1.0, 10, 0.0),
    ]  # fmt: skip
    blocks = examples._replace(folds=np.tile(np.arange(10) // 5, 2))
    assert early_answers(blocks, Candidate("it", said, said[:, 0] ** 2, lambda: None)) == ()  # type: ignore[arg-type, return-value]
