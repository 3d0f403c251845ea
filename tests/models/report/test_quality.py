from __future__ import annotations

import numpy as np
import pytest

from streamrde.models.report import quality
from streamrde.models.training.examples import Example
from streamrde.models.training.history import Predicted


def example(stream: str, ends: list[float], target: object) -> Example:
    return Example(stream, np.zeros(3), np.array(ends), np.zeros((len(ends), 6)), np.asarray(target))


def answered(*rights: list[int], window: float = 0.5) -> quality.Answers:
    """Streams of class 1 whose answer after each window is the given class, with logits 2 and 0."""
    examples = [
        example(f"s{i}", [window * (k + 1) for k in range(len(own))], [1] * len(own)) for i, own in enumerate(rights)
    ]
    outputs = [np.array([[0.0, 2.0] if said else [2.0, 0.0] for said in own]) for own in rights]
    return quality.answers(Predicted(examples, outputs), classify=True)


def test_logits_become_probabilities_and_every_window_has_its_streams_class() -> None:
    own = answered([1, 0], [1])
    np.testing.assert_allclose(own.value.sum(axis=1), 1)
    assert own.value[0, 1] == pytest.approx(1 / (1 + np.exp(-2)))
    assert own.right.tolist() == [1, 0, 1]
    assert own.example.tolist() == [0, 0, 1]
    assert own.at_end.tolist() == [1, 2]
    assert quality.confusion(own, own.at_end).tolist() == [[0, 0], [1, 1]]


def test_a_class_that_is_not_known_counts_nowhere() -> None:
    predicted = Predicted([example("s", [1.0, 2.0], [1, -1])], [np.array([[0.0, 2.0], [0.0, 2.0]])])
    own = quality.answers(predicted, classify=True)
    assert np.isnan(own.right[1])
    assert own.at_end.tolist() == [0]
    assert quality.confusion(own, np.arange(2)).sum() == 1


def test_accuracy_over_time_is_of_the_streams_that_still_run() -> None:
    own = answered(*[[0, 0, 1, 1]] * 6, *[[0, 1]] * 4)
    curve = quality.accuracy_over_time(own)
    assert curve.seconds.tolist() == [0.5, 1.0, 1.5, 2.0]
    assert curve.value.tolist() == [0.0, 0.4, 1.0, 1.0]
    assert curve.streams.tolist() == [10, 10, 6, 6]
    # Wilson's interval of 6 of 6.
    assert curve.low[2] == pytest.approx(1 / (1 + 1.959964**2 / 6))
    assert curve.high[2] == pytest.approx(1.0)


def test_a_curve_ends_where_too_few_streams_go_on() -> None:
    own = answered(*[[0, 1]] * 99, [1] * 40)
    assert quality.accuracy_over_time(own).seconds.max() == 1.0


def test_error_over_time_leaves_out_windows_without_a_target() -> None:
    examples = [example("a", [1.0, 2.0, 3.0], [[1.0], [np.nan], [1.0]]), example("b", [1.0, 2.0, 3.0], [[1.0]] * 3)]
    outputs = [np.array([[2.0], [9.0], [1.0]]), np.array([[4.0], [1.5], [1.0]])]
    curve = quality.error_over_time(quality.answers(Predicted(examples, outputs), classify=False), 0)
    np.testing.assert_allclose(curve.value, [np.sqrt((1 + 9) / 2), 0.5, 0.0])
    assert curve.streams.tolist() == [2, 1, 2]


def test_the_area_under_the_curve_is_that_of_the_streams_that_run() -> None:
    examples = [example(f"s{i}", [1.0, 2.0, 3.0], [i % 2] * 3) for i in range(6)]
    outputs = [np.array([[0.0, 0.0], [0.0, i % 2], [0.0, 1.0]]) for i in range(6)]
    curve = quality.auc_over_time(quality.answers(Predicted(examples, outputs), classify=True))
    assert curve.value.tolist() == [0.5, 1.0, 0.5]


def test_quantiles_of_residuals_follow_the_prediction() -> None:
    rng = np.random.default_rng(0)
    value = rng.uniform(0, 1, 4000)
    middle, bands = quality.residual_quantiles(
        value, value * rng.uniform(-1, 1, 4000), quantiles=np.array([0.05, 0.5, 0.95])
    )
    np.testing.assert_allclose(bands[2], 0.9 * middle, atol=0.08)
    np.testing.assert_allclose(bands[1], 0, atol=0.12)


@pytest.mark.parametrize("classify", [True, False])
def test_the_worst_streams_come_first(classify) -> None:
    if classify:
        own = answered([1, 1], [0, 0], [1, 0])
    else:
        examples = [example(f"s{i}", [1.0, 2.0], [[1.0], [3.0]]) for i in range(3)]
        outputs = [np.full((2, 1), 2.0) + shift for shift in (0.0, 5.0, 2.0)]
        own = quality.answers(Predicted(examples, outputs), classify=False)
    assert [stream.stream for stream in quality.worst_streams(own, classify=classify, most=2)] == ["s1", "s2"]


@pytest.mark.parametrize("classify", [True, False])
def test_errors_by_another_quantity_are_those_of_its_bins(classify) -> None:
    if classify:
        own = answered([1, 0, 0, 1])
    else:
        target = [[0.0, 0.0], [2.0, np.nan], [0.0, 4.0], [2.0, 4.0]]
        outputs = [np.array([[0.0, 0.0], [3.0, 0.0], [1.0, 2.0], [2.0, 4.0]])]
        own = quality.answers(Predicted([example("s", [1.0, 2.0, 3.0, 4.0], target)], outputs), classify=False)
    by = np.array([0.1, 0.2, 0.3, np.nan])
    errors, windows = quality.error_by(own, by, np.array([0.0, 0.1, 0.3, 1.0]), classify=classify)
    assert windows.tolist() == [1, 2, 0]
    deviation = np.std([0, 4, 4])
    expected = 1.0 if classify else np.sqrt((1 + 1 + (2 / deviation) ** 2) / 3)
    np.testing.assert_allclose(errors[:2], [0.0, expected])
    assert np.isnan(errors[2])
