"""scikit-learn's own checks of estimators, and its tools around them."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from streamrde.sklearn import LogSignatureTransformer, NeuralRDEClassifier, NeuralRDERegressor, excused_checks

FIRST = "above, ridge"
"""The first candidate: no other one is fitted."""


def waves(n=24, channels=2, length=40, seed=0):
    """Slow and fast waves, (n, channels, length), and which is which."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % 2
    t = np.arange(length) / 10
    phase = rng.uniform(0, 6, (n, channels, 1))
    X = np.sin((2 + 2 * kind[:, None, None]) * t + phase) + 0.1 * rng.normal(size=(n, channels, length))
    return X, np.array(["slow", "fast"])[kind]


@pytest.mark.parametrize(
    "estimator",
    [LogSignatureTransformer(), NeuralRDEClassifier(choice=FIRST), NeuralRDERegressor(choice=FIRST)],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.filterwarnings("ignore")  # the checks ask for warnings of their own
def test_the_checks_of_scikit_learn_pass(estimator):
    excused = excused_checks(estimator)
    ran = check_estimator(estimator, expected_failed_checks=excused, on_fail="raise")
    status = {one["check_name"]: one["status"] for one in ran}
    assert len(status) > 40
    assert {name for name, one in status.items() if one == "xfail"} == excused.keys(), "excuse no more than needed"
    assert {name for name, one in status.items() if one == "skipped"} <= {"check_array_api_input"}


def test_streams_are_cross_validated_and_searched_as_tables_are():
    X, y = waves()
    found = cross_validate(NeuralRDEClassifier(choice=FIRST), X, y, cv=3, scoring=["accuracy", "neg_log_loss"])
    assert found["test_accuracy"].mean() > 0.9
    search = GridSearchCV(NeuralRDEClassifier(choice=FIRST), {"step": [0.1, 1.0]}, cv=2, refit=True).fit(list(X), y)
    assert search.best_estimator_.get_params()["step"] in (0.1, 1.0)
    assert search.score(list(X), y) > 0.9


def test_log_signatures_stand_in_a_pipeline():
    X, y = waves()
    pipeline = make_pipeline(LogSignatureTransformer(depth=3, parts=4), StandardScaler(), RidgeClassifier())
    answers = cross_val_predict(pipeline, X, y, cv=3)
    assert (answers == y).mean() > 0.9


def test_groups_are_not_divided_between_learning_and_judging():
    X, y = waves()
    people = np.repeat(["a", "b", "c"], 8)
    fitted = NeuralRDEClassifier(choice=FIRST).fit(X, y, groups=people)
    assert fitted.bundle_.header.training["groups"] == "3"
    assert len(np.unique(fitted.report_.fitted.examples.folds)) == 3
