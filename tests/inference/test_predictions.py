"""What predictions say of a model's outputs."""

import json

import msgspec
import numpy as np
import pytest
from bundles import make_bundle, make_recording

import streamrde as sr
from streamrde.errors import BundleError
from streamrde.inference.header import Head
from streamrde.inference.predictions import prediction_schema


@pytest.mark.parametrize(
    ("labels", "classes"), [(("well", "ill"), ("well", "ill")), (("ill",), ("not ill", "ill")), ((), ("0", "1"))]
)
def test_a_classification_with_one_logit_gives_the_probability_of_its_second_class(labels, classes):
    bundle = make_bundle(outputs=1, labels=labels)
    t, x = make_recording(1, 60)
    served = (predictor := sr.Predictor(bundle)).push_many(t, x) + predictor.flush()
    p = np.array([prediction.value for prediction in served])
    assert p.shape[1] == 1
    assert ((p > 0) & (p < 1)).all()
    assert {prediction.label for prediction in served} == set(classes)
    for prediction in served:
        assert prediction.label == classes[int(prediction.value[0] > 0.5)]
        assert prediction.labels == labels[-1:]
    fleet = sr.Fleet(bundle)
    batch = fleet.push(["s"] * len(t), t, x)
    assert batch["label"].to_pylist() == [prediction.label for prediction in served[: batch.num_rows]]
    np.testing.assert_array_equal([row["value"] for row in batch.to_pylist()], p[: batch.num_rows])
    assert json.loads(batch.schema.field("value").metadata[b"outputs"]) == list(labels[-1:])


def test_two_logits_and_one_say_the_same_of_the_same_odds():
    two = make_bundle(outputs=2, labels=("a", "b"))
    one = make_bundle(outputs=1, labels=("a", "b"))
    tensors = dict(two.tensors)
    tensors |= {name: one.tensors[name] for name in ("output.shift", "output.scale")}
    for name in ("readout.weight", "readout.bias"):
        tensors[name] = two.tensors[name][1:] - two.tensors[name][:1]
    t, x = make_recording(2, 40)
    by_two, by_one = (sr.Predictor(b).push_many(t, x) for b in (two, sr.Bundle(one.header, tensors)))
    for a, b in zip(by_two, by_one, strict=True):
        np.testing.assert_allclose(b.value, a.value[1:], rtol=1e-5)
        assert a.label == b.label


def test_a_head_of_one_logit_stands_beside_others():
    heads = (
        Head(name="alarm", task="classification", outputs=1, labels=("no", "yes")),
        Head(name="load", outputs=2, labels=("u", "v")),
    )
    bundle = make_bundle(outputs=3, task="regression", labels=(), heads=heads)
    t, x = make_recording(3, 30)
    for prediction in sr.Predictor(bundle).push_many(t, x):
        alarm = prediction.heads["alarm"]
        assert 0 < alarm.value[0] < 1
        assert alarm.label == ("yes" if alarm.value[0] > 0.5 else "no")
        assert prediction.heads["load"].label is None
    assert prediction_schema(bundle.header).field("label_alarm").type == "string"


def test_more_labels_than_one_logit_can_tell_apart_are_refused():
    bundle = make_bundle()
    header = msgspec.structs.replace(bundle.header, outputs=1, labels=("a", "b", "c"))
    with pytest.raises(BundleError, match="one logit parts two classes"):
        sr.Bundle(header, bundle.tensors)
