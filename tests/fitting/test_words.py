"""Sentences on how good a model is, and on what to be careful with."""

import numpy as np

from streamrde.fitting.examples import Candidate, Examples
from streamrde.fitting.intervals import Interval
from streamrde.fitting.recordings import Recording
from streamrde.fitting.targets import Target
from streamrde.fitting.words import cautions, explain_names, intervals_of, percent, sentences


def examples(codes: list[int], groups: list[int], *, labels: tuple[str, ...] = ("run", "walk")) -> Examples:
    t = np.arange(3.0)
    rows = np.arange(len(codes))
    own = [
        Recording(
            f"s{i}", t, np.zeros((3, 1)), Target(np.array([[float(codes[i])]]), None, labels), f"g{groups[i]}", ""
        )
        for i in rows
    ]
    truth = np.array(codes, float)[:, None]
    return Examples(own, ("a",), truth, labels, np.array(groups), rows % 2, 0, ("y",), rows)


def candidate(held_out: np.ndarray) -> Candidate:
    return Candidate("it", held_out, np.ones(len(held_out)), lambda: None)  # type: ignore[arg-type, return-value]


def test_100_percent_is_said_of_all_alone() -> None:
    assert [percent(share) for share in (1.0, 0.99996, 0.9995, 0.5)] == ["100.0 %", "100.00 %", "99.95 %", "50.0 %"]


def test_a_classifier_is_right_on_so_many_streams() -> None:
    own = examples([0, 1] * 20, list(range(40)))
    said = np.eye(2)[own.codes]
    said[0] = [0.0, 1.0]
    limits = intervals_of(own, candidate(said))
    lines = sentences(own, {"accuracy": 39 / 40, "auc": 0.97}, limits, {"plainest": {"accuracy": 0.5}})
    assert lines[0] == "right on 39 of 40 streams that it had not seen: 97.5 % (95 % interval 87.1 to 99.6 %)"
    assert lines[1].startswith("ranks a 'walk' above a 'run' 97.0 % of the time (AUC 0.970")
    assert lines[-1] == "plain models on the same: always 'run' 50.0 %"


def test_plain_models_that_are_better_as_good_or_within_the_interval_are_named_once() -> None:
    own = examples([0, 1] * 20, list(range(40)))
    limits = {"accuracy": Interval(0.7, 0.9)}
    plain = {name: {"accuracy": share} for name, share in
             (("plainest", 0.5), ("nearest", 0.85), ("summaries", 0.8), ("persistence", 0.75))}  # fmt: skip
    found = cautions(own, {"accuracy": 0.8}, limits, plain)
    assert [text.split(":")[0] for text in found[:2]] == ["a plain model is better", "a plain model is as good"]
    assert "'persistence' (last known value) is right on 75.0 %, which is within" in found[2]
    assert len(found) == 3
    assert not any("log loss" in text for text in found)


def test_probabilities_count_too() -> None:
    own = examples([0, 1] * 20, list(range(40)))
    limits, found = {"accuracy": Interval(0.7, 0.9)}, {"accuracy": 0.8, "log_loss": 0.5}
    plain = {
        "plainest": {"accuracy": 0.85, "log_loss": 0.6},
        "nearest": {"accuracy": 0.5, "log_loss": 0.4},
        "summaries": {"accuracy": 0.5, "log_loss": 0.6},
    }
    better, sharper = cautions(own, found, limits, plain)
    assert better.endswith("its probabilities are worse: log loss 0.6, and 0.5 of this model")
    assert sharper == (
        "the plain model 'nearest' (nearest neighbour) has better probabilities: log loss 0.4, and 0.5 of this model"
    )


def test_few_groups_and_classes_of_one_group_are_said() -> None:
    own = examples([0, 1, 0, 1, 2, 2], [0, 0, 1, 1, 2, 2], labels=("run", "walk", "rest"))
    found = cautions(own, {"accuracy": 0.9}, {"accuracy": Interval(0.8, 1.0)}, {})
    assert found[0].startswith("there are only 3 groups")
    assert found[1].startswith("in one of the groups alone: class rest;")


def test_several_numbers_have_a_sentence_each() -> None:
    own = examples([0, 1] * 20, list(range(40)), labels=())
    truth = np.random.default_rng(0).normal(size=(40, 2))
    own = own._replace(truth=truth, targets=("hr", "rr"))
    limits = intervals_of(own, candidate(truth + 0.5))
    measures = {"hr_rmse": 0.5, "hr_r2": 0.75, "rr_rmse": 0.5, "rr_r2": -0.1, "rmse": 0.5}
    lines = sentences(own, measures, limits, {"plainest": {"rmse": 1.0}})
    assert lines[0].startswith("hr: off by 0.5 (root mean squared error) on 40 streams")
    assert lines[0].endswith("explains 75.0 % of the variance")
    assert lines[1].endswith("explains none of the variance")
    assert lines[2] == "plain models on the same: always the mean 1"


def test_a_test_part_has_a_sentence_of_its_own() -> None:
    own = examples([0, 1] * 20, list(range(40)))
    found = {"accuracy": 1.0, "auc": 1.0, "test_accuracy": 0.875, "test_majority_accuracy": 0.5}
    limits = intervals_of(own, candidate(np.eye(2)[own.codes]))
    last = sentences(own, found, limits, {"plainest": {"accuracy": 0.5}, "nearest": {"accuracy": 0.6}})[-1]
    said = "on the test part, which was read once: right on 87.5 %; plain models: always 'run' 50.0 %"
    assert last == said
    beside = {"plainest": {"accuracy": 0.5}}
    assert sentences(own, found | {"test_silent": 0.0}, limits, beside)[-1] == said
    without = "; the plainest answer stands for 1 stream without a window"
    assert sentences(own, found | {"test_silent": 1.0}, limits, beside)[-1] == said + without


def test_the_names_of_candidates_are_explained() -> None:
    text = explain_names(
        ["rates in bands and pulses, ridge", "above, ridge", "above and best, ridge, sensors turned for above"]
    )
    assert text.startswith("In the names, 'above' counts")
    assert all(word in text for word in ("'best'", "frequency band", "activity", "'sensors turned'"))
    assert "curves" not in text
    assert explain_names(["other"]) == ""
