"""A window that closes alone has the prediction that it has among many."""

import msgspec
import numpy as np
import pytest

from streamrde import Fleet, Head, Linear, Prediction, Predictor
from streamrde.features import FeatureSpec, Pool
from streamrde.features.expansion import Expansion
from streamrde.inference.lone_window import LoneWindow
from streamrde.inference.plausibility import Plausible
from streamrde.kernels import IMPLEMENTATION
from streamrde.windowing.tokens import Scale, Token
from tests.bundles import make_bundle, make_recording, make_reservoir, make_stack

TOKEN = Token(scales=(Scale(1), Scale(3)), ends=True)
MODELS = {
    "neural RDE": make_bundle(),
    "in NumPy": make_bundle(field=Linear(), solver="rk4"),
    "two classes": make_bundle(outputs=1, labels=("x", "y")),
    "numbers": make_bundle(task="regression", labels=()),
    "in float64": make_bundle(task="regression", labels=(), value_dtype="float64"),
    "tokens": make_bundle(token=TOKEN, clip=3.0),
    "ensemble": make_bundle(members=2),
    "stack": make_stack(token=TOKEN),
    "stack, ensemble": make_stack("lru", token=TOKEN, members=2),
    "stack, numbers": make_stack("lstm", task="regression", labels=()),
    "reservoir": make_reservoir(token=TOKEN),
    "reservoir, many classes": make_reservoir(token=TOKEN, outputs=11, labels=tuple("abcdefghijk")),
    "reservoir, expanded": make_reservoir(
        token=TOKEN, spec=FeatureSpec(pools=(Pool("last", "ends"),)), expansion=Expansion(quantiles=9, pairs=40)
    ),
    "reservoir, two classes": make_reservoir(outputs=1, labels=("x", "y")),
    "reservoir, numbers": make_reservoir(task="regression", labels=()),
}


def fields(prediction):
    values = msgspec.structs.asdict(prediction) | {"value": prediction.value.tolist()}
    values["heads"] = {name: (head.value.tolist(), head.label) for name, head in prediction.heads.items()}
    # A NaN equals itself here.
    return repr(values)


def pushed(predictor, t, x):
    return [prediction for time, row in zip(t.tolist(), x, strict=True) for prediction in predictor.push(time, row)]


@pytest.mark.parametrize("name", MODELS)
def test_a_lone_window_is_predicted_to_the_bit(name, monkeypatch):
    t, x = make_recording(3, 120, missing=0.05)
    alone = Predictor(MODELS[name], stream="s")
    calls = []
    predict = LoneWindow.predict
    monkeypatch.setattr(LoneWindow, "predict", lambda *args: calls.append(args) or predict(*args))
    found = pushed(alone, t, x)
    if IMPLEMENTATION.name != "reference":  # which reports no push by itself
        assert len(calls) > 10  # or this test compares one way with itself
    together = Predictor(MODELS[name], stream="s").push_many(t, x)
    assert len(calls) < len(found) or not calls
    assert [fields(a) for a in found] == [fields(b) for b in together]
    assert found[0].value.dtype == together[0].value.dtype
    fleet = Fleet(MODELS[name])
    fleet.push(["s"] * len(t), t, x)
    assert fleet.snapshot()["s"] == alone.snapshot()


def test_a_state_that_leaves_its_range_is_flagged_and_counted():
    bundle = make_bundle(hidden_range=True)
    bundle.tensors["range.low"][:] = bundle.tensors["range.high"][:] = 0.0
    t, x = make_recording(3, 60)
    for on_range in ("mend", "keep", "reset"):
        alone, together = Predictor(bundle, on_range=on_range), Predictor(bundle, on_range=on_range)
        assert [fields(a) for a in pushed(alone, t, x)] == [fields(b) for b in together.push_many(t, x)]
        assert alone.state_counts == together.state_counts
        assert alone.state_counts.out_of_range
        assert alone.snapshot() == together.snapshot()


@pytest.mark.filterwarnings("ignore::streamrde.inference.troubles.ImplausibleValueWarning")
@pytest.mark.parametrize("bundle", [make_bundle(), make_reservoir()], ids=["neural RDE", "reservoir"])
def test_an_infinite_log_signature_is_flagged_and_counted(bundle):
    t = np.arange(40) * 0.3
    x = np.where((np.arange(40) == 20)[:, None], 1e200, 1.0) * np.array([1.0, -1.0])
    with np.errstate(all="ignore"):
        alone, together = (Predictor(bundle, plausible=Plausible(otherwise="use")) for _ in range(2))
        found, expected = pushed(alone, t, x), together.push_many(t, x)
    assert [fields(a) for a in found] == [fields(b) for b in expected]
    assert "not_finite" in [prediction.flag for prediction in found]
    assert alone.state_counts == together.state_counts
    assert alone.snapshot() == together.snapshot()


def test_whoever_asks_for_more_of_a_window_gets_it():
    heads = (Head(name="a", outputs=2, task="classification"), Head(name="b", outputs=1))
    t, x = make_recording(3, 60)
    for bundle, options in (
        (make_bundle(heads=heads, labels=()), {}),
        (make_bundle(pooling="mean"), {}),
        (make_bundle(first_stage="previous"), {}),
        (make_bundle(), {"step_error": True}),
    ):
        found = pushed(Predictor(bundle, **options), t, x)
        assert [fields(a) for a in found] == [fields(b) for b in Predictor(bundle, **options).push_many(t, x)]
        assert bool(found[0].heads) == bool(bundle.header.heads)
        assert (found[0].step_error is not None) == bool(options)


def test_predictions_cannot_be_changed():
    (prediction, *_) = pushed(Predictor(make_bundle()), *make_recording(3, 60))
    assert isinstance(prediction, Prediction)
    with pytest.raises(AttributeError):
        prediction.window = 3
    assert prediction.heads == {}
    assert repr(prediction).startswith("Prediction(stream='', window=0, t_start=0.0, ")
    assert prediction != pushed(Predictor(make_bundle()), *make_recording(3, 60))[0]
