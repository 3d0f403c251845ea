"""Perceptrons at the two ends of a model."""

import msgspec
import numpy as np
import pytest
from bundles import make_bundle, make_recording
from tolerances import STEPPER32

import streamrde as sr
from streamrde.errors import BundleError
from streamrde.inference.card import sections
from streamrde.inference.ends import Layers
from streamrde.inference.fields import External
from streamrde.inference.steppers import ArrayStepper, make_stepper

INITIAL = Layers(widths=(6, 5), activations=("silu", "identity"), final_activation="tanh")
READOUT = Layers(widths=(4,), activations=("relu",))
STEPPERS = pytest.mark.parametrize("make", [ArrayStepper, make_stepper])


@STEPPERS
@pytest.mark.parametrize("outputs", [1, 3])
def test_each_layer_and_its_activation_come_in_turn(make, outputs):
    bundle = make_bundle(initial=INITIAL, readout=READOUT, outputs=outputs, labels=())
    given, stepper = bundle.tensors, make(bundle)
    x0 = np.random.default_rng(0).normal(size=(4, 3))
    h = (x0 - given["x0.shift"]) * given["x0.scale"]
    h = h @ given["initial.0.weight"].T + given["initial.0.bias"]
    h = (h / (1 + np.exp(-h))) @ given["initial.1.weight"].T + given["initial.1.bias"]
    z = np.tanh(h @ given["initial.2.weight"].T + given["initial.2.bias"])
    np.testing.assert_allclose(stepper.initial(x0), z, rtol=STEPPER32, atol=STEPPER32)
    y = np.maximum(z @ given["readout.0.weight"].T + given["readout.0.bias"], 0)
    y = y @ given["readout.1.weight"].T + given["readout.1.bias"]
    exp = np.exp(y)
    p = exp / (1 + exp) if outputs == 1 else exp / exp.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(stepper.output(z.astype(np.float32)), p, rtol=1e-4, atol=1e-5)


def test_a_model_with_perceptrons_at_its_ends_is_saved_loaded_and_served_alike_by_predictor_and_fleet(tmp_path):
    bundle = make_bundle(initial=INITIAL, readout=READOUT)
    bundle.save(tmp_path / "model.safetensors")
    again = sr.load(tmp_path / "model.safetensors")
    assert again.fingerprint == bundle.fingerprint != make_bundle().fingerprint
    t, x = make_recording(4, 50)
    served = (predictor := sr.Predictor(again)).push_many(t, x) + predictor.flush()
    rows = sr.Fleet(bundle).push(["s"] * len(t), t, x).to_pylist()
    assert [row["value"] for row in rows] == [p.value.tolist() for p in served[: len(rows)]]
    cut = sr.Predictor.restore(again, (first := sr.Predictor(again)).push_many(t[:20], x[:20]) and first.snapshot())
    rest = cut.push_many(t[20:], x[20:]) + cut.flush()
    assert [p.value.tolist() for p in rest] == [p.value.tolist() for p in served[-len(rest) :]]


def test_headers_that_contradict_themselves_are_refused():
    bundle = make_bundle(initial=INITIAL, readout=READOUT)
    for changes, match in (
        ({"initial": Layers(widths=(6, 5), activations=("silu",))}, "2 widths and 1 activations"),
        ({"readout": Layers(widths=(9,), activations=("relu",))}, r"readout\.0"),
        ({"readout": Layers()}, r"readout\."),
        ({"members": 2}, "one linear layer"),
    ):
        with pytest.raises(BundleError, match=match):
            sr.Bundle(msgspec.structs.replace(bundle.header, **changes), bundle.tensors)


def test_the_card_tells_of_ends_that_are_more_than_a_layer():
    told = dict(
        next(section.rows for section in sections(make_bundle(initial=INITIAL)) if section.title == "the model")
    )
    assert "6 silu" in told["initial"]
    assert "readout" not in told
    assert "Mine, not in this file" in dict(
        next(
            section.rows
            for section in sections(make_bundle(readout=External(name="Mine")))
            if section.title == "the model"
        )
    )["readout"]  # fmt: skip
