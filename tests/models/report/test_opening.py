"""A report opens with counts, plain models beside them, and steps that fit what the training shows."""

import msgspec
import numpy as np
import pytest
from bundles import make_bundle

from streamrde.models.report.opening import next_steps, sentences
from streamrde.models.report.quality import Answers
from streamrde.models.training.config import as_train_config
from streamrde.models.training.history import Epoch, Fitted, History
from streamrde.models.training.verdict import Verdict

CLASSES = {
    "test_streams": 4.0,
    "test_accuracy_end": 0.75,
    "test_majority_accuracy_end": 0.5,
    "test_nearest_accuracy_end": 0.25,
    "test_summaries_accuracy_end": 0.75,
    "train_accuracy_end": 1.0,
}
NUMBERS = {
    "test_streams": 60.0,
    "test_rmse": 2.0,
    "test_r2": 0.75,
    "test_mean_rmse": 4.0,
    "test_last_rmse": 3.0,
    "test_rmse_end": 1.5,
    "test_nearest_rmse_end": 1.25,
    "train_r2": 0.8,
}


def fitted(metrics, *, best=3, epochs=10, **header):
    bundle = make_bundle(**header)
    bundle = type(bundle)(msgspec.structs.replace(bundle.header, metrics=metrics), bundle.tensors)
    fields = {"loss": 1.0, "validation_loss": 1.0, "monitored": 1.0, "learning_rate": 0.1, "gradient_norm": 1.0}
    seen = tuple(
        msgspec.convert({"number": i + 1, "seconds": 1.0, "skipped": 0, **fields}, Epoch) for i in range(epochs)
    )
    return Fitted(bundle, (History(monitor="loss", epochs=seen, best=best),), {}, Verdict("", ()))


def config(**training):
    tables = {
        "data": {"files": "x.parquet", "channels": ["a"], "target": "y"},
        "windows": {"policy": "every", "seconds": 1.0},
    }
    return as_train_config(tables | {"training": {"epochs": 10, **training}})


def of_classes():
    """Four streams of two windows. Of the first three the last window is right, of the last only the first."""
    value = np.full((8, 3), 0.2)
    value[:, 0] = 0.6
    return Answers(list("abcd"), np.array([0, 2, 4, 6, 8]), np.arange(8.0), value, np.array([1, 0, 0, 0, 0, 0, 0, 2.0]))


def test_classes_are_counted_beside_plain_models_the_best_first():
    model = fitted(CLASSES)
    first, beside = sentences(model, "test", of_classes(), {})
    assert first.startswith("Right at the end of 3 of 4 test streams: 75.0 % (95 % interval 30.1 to 95.4 %)")
    assert first.endswith("and in 6 of 8 windows")
    assert beside == (
        "Right on the same streams: a linear model of summaries of each channel 3 (75.0 %), always the most common "
        "class 2 (50.0 %), the answer of the most similar training stream 1 (25.0 %)"
    )


def test_groups_that_are_right_together_widen_the_interval():
    alone = sentences(fitted(CLASSES), "test", of_classes(), {})[0]
    together = sentences(fitted(CLASSES), "test", of_classes(), {"a": "g", "b": "g", "c": "h", "d": "h"})[0]
    assert together != alone or "30.1 to 95.4" in together


def test_numbers_have_their_unit_and_their_plain_models():
    header = {"task": "regression", "labels": ("speed",), "outputs": 1, "units": ("m/s",)}
    answered = Answers(["a", "b"], np.array([0, 2, 4]), np.arange(4.0), np.zeros((4, 1)), np.array([[1], [np.nan]] * 2))
    assert sentences(fitted(NUMBERS, **header), "test", answered, {}) == [
        "Off by 2 m/s (root mean square) in 2 windows of 2 test streams, which explains 75.0 % of the variance",
        "Off by, on the same windows: the mean of training 4, the last value known 3",
        "At the streams' ends the model is off by 1.5, and the answer of the most similar training stream 1.25",
    ]
    assert "streamrde fit" in next_steps(fitted(NUMBERS, **header), "test", config())[0]


@pytest.mark.parametrize(
    ("metrics", "best", "training", "words", "first"),
    [
        ({}, 3, {}, ["knows its training streams by heart", "several members", "4 test streams are rough"], 0),
        ({}, 10, {"members": 3}, ["training.epochs = 20", "by heart"], 0),
        ({"train_accuracy_end": 0.8}, 3, {}, ["Even training streams are answered wrongly (80.0 % right)"], 0),
        ({"test_fitted_accuracy_end": 0.9}, 3, {}, ["streamrde fit fits in seconds does better"], 0),
        ({}, 3, {"dropout": 0.2}, ["training.dropout = 0.4"], 0),
    ],
)
def test_the_next_steps_follow_from_the_training(metrics, best, training, words, first):
    found = next_steps(fitted(CLASSES | metrics, best=best), "test", config(**training))
    assert words[0] in found[first]
    for word in words[1:]:
        assert any(word in text for text in found)


def test_a_good_model_of_many_streams_has_few_next_steps():
    good = CLASSES | {"test_streams": 500.0, "test_accuracy_end": 0.97}
    assert next_steps(fitted(good), "test", config(members=5)) == []
