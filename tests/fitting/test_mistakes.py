"""Where answers are wrong: classes, pairs, groups."""

import numpy as np

from streamrde.fitting.mistakes import by_class, by_group, confusion, most_confused

CODES = np.array([0, 0, 0, 1, 1, 2])
SAID = np.eye(4)[[0, 1, 1, 1, 0, 2]]
LABELS = ("a", "b", "c", "d")


def test_each_class_has_its_recall_and_precision() -> None:
    found = by_class(confusion(CODES, SAID), LABELS)
    assert [own.rows for own in found] == [3, 2, 1, 0]
    np.testing.assert_allclose([own.recall for own in found], [1 / 3, 1 / 2, 1, np.nan])
    np.testing.assert_allclose([own.precision for own in found], [1 / 2, 1 / 3, 1, np.nan])


def test_the_pair_most_often_confused_comes_first() -> None:
    assert most_confused(confusion(CODES, SAID), LABELS) == [("a", "b", 2, 3), ("b", "a", 1, 2)]


def test_the_worst_group_comes_first() -> None:
    groups = ["x", "y", "x", "z"]
    assert by_group(groups, np.array([0.0, 1.0, 1.0, 0.0]), root=False) == [("y", 1, 1.0), ("x", 2, 0.5), ("z", 1, 0.0)]
    assert by_group(groups, np.array([0.0, 4.0, 8.0, 0.0]), root=True)[0] == ("x", 2, 2.0)
