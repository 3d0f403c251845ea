"""River's interface: a sample at a time, with labels at once and late, in River's own evaluation."""

import copy
import datetime as dt
import pickle
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

import streamrde as sr
from streamrde.errors import ParameterError

base = pytest.importorskip("river.base")
from river import evaluate, metrics  # noqa: E402

from streamrde.river import Predictor  # noqa: E402


def wandering(streams, seed):
    """Targets that follow a channel, at a distance that is each stream's own."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(streams):
        x = 0.3 * np.cumsum(rng.normal(size=200))
        y = np.convolve(x, np.ones(5) / 5)[:200] + 2 * rng.normal()
        found.append(pa.table({"stream": [f"s{i}"] * 200, "t": np.arange(200.0), "x": x, "y": y}))
    return pa.concat_tables(found)


def samples(rows, target="y"):
    return [({"stream": row["stream"], "t": row["t"], "x": row["x"]}, row[target]) for row in rows.to_pylist()]


@pytest.fixture(scope="module")
def bundle():
    return sr.fit(wandering(8, 0), "y").bundle


def test_labels_make_predictions_better_in_rivers_evaluation(bundle):
    found = {}
    for adapt in ("frozen", "online"):
        model = Predictor(bundle, stream="stream", adapt=adapt)
        assert isinstance(model, base.Regressor)
        found[adapt] = evaluate.progressive_val_score(samples(wandering(3, 1)), model, metrics.MAE()).get()
    assert found["online"] < 0.7 * found["frozen"]


def test_without_a_model_all_is_learned_from_labels_in_rivers_evaluation():
    rows = samples(wandering(2, 7))
    settings = {"stream": "stream", "adapt": "online", "channels": ["x"], "windows": 5.0, "targets": {"y": (0.0, 3.0)}}
    model = Predictor(**settings)
    assert isinstance(model, base.Regressor)
    nothing = evaluate.progressive_val_score(rows, Predictor(**{**settings, "adapt": "frozen"}), metrics.MAE()).get()
    assert evaluate.progressive_val_score(rows, model, metrics.MAE()).get() < 0.3 * nothing
    x = {"stream": "s0", "t": 1000.0, "x": 1.0}
    assert copy.deepcopy(model).predict_one(x) == pickle.loads(pickle.dumps(model)).predict_one(x)
    assert model.clone().fleet.adaptation().joined == 0
    with pytest.raises(ParameterError, match="give a model, or channels"):
        Predictor()
    with pytest.raises(ParameterError, match="channels are those of the model"):
        Predictor(sr.reservoir(["x"], windows=sr.Every(1.0), targets=["y"]), channels=["x"])


def test_classes_are_learned_without_a_model():
    rng = np.random.default_rng(0)
    fast = np.repeat(rng.integers(0, 2, 40), 20)
    wave = np.sin(np.cumsum(np.where(fast, 1.5, 0.3)))
    rows = [({"t": i / 4, "x": wave[i]}, ["slow", "fast"][fast[i]]) for i in range(800)]
    model = Predictor(adapt="online", channels=["x"], classes=["slow", "fast"])
    assert isinstance(model, base.Classifier)
    assert evaluate.progressive_val_score(rows, model, metrics.Accuracy()).get() > 0.8


def test_predictions_and_labels_are_those_of_a_fleet(bundle):
    rows = samples(wandering(2, 2))
    model, fleet = Predictor(bundle, stream="stream", adapt="online"), sr.Fleet(bundle, adapt="online")
    newest = {}
    for x, y in rows:
        name = x["stream"]
        closed = fleet.push([name], [x["t"]], [[x["x"]]])
        if len(closed):
            newest[name] = closed.column("value")[-1].as_py()[0]
            assert model.predict_one(x) == newest[name]
            fleet.label([name], [y], window=[closed.column("window")[-1].as_py()])
        assert model.predict_one(x) == newest.get(name)  # asking again is no second sample
        model.learn_one(x, y)
        model.learn_one(x, y + 100)  # a window learns one label
    assert model.fleet.snapshot() == fleet.snapshot()


def test_labels_come_late_in_rivers_evaluation(bundle):
    start = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    rows = [(x | {"t": start + dt.timedelta(seconds=x["t"])}, y) for x, y in samples(wandering(1, 3))]
    model = Predictor(bundle, adapt="online")
    evaluate.progressive_val_score(rows, model, metrics.MAE(), moment="t", delay=dt.timedelta(seconds=20))
    found = model.fleet.adaptation()
    assert found.joined > 10
    assert found.unknown == found.expired == found.duplicate == 0


def test_a_label_comes_to_what_was_predicted_at_its_sample(bundle):
    rows = samples(wandering(1, 4))
    model = Predictor(bundle)
    shown = [model.predict_one(x) for x, _ in rows]
    assert shown[0] is None
    assert [model.predict_one(x) for x, _ in rows] == shown  # as it was, not as it is
    model.learn_one({"t": 1000.0, "x": 0.0}, float("nan"))
    assert model.fleet.counts().samples == 201


def test_classes_have_probabilities_in_rivers_evaluation():
    rng = np.random.default_rng(0)
    kind = np.array(["slow", "fast"])
    parts = [
        pa.table(
            {
                "stream": [f"s{i}"] * 60,
                "t": np.arange(60) / 10,
                "x": np.sin((2 + 2 * (i % 2)) * np.arange(60) / 10 + rng.uniform(0, 6)),
                "kind": [kind[i % 2]] * 60,
            }
        )
        for i in range(30)
    ]
    bundle = sr.fit(pa.concat_tables(parts[:20]), "kind", choice="above, ridge").bundle
    rows = samples(pa.concat_tables(parts[20:]), "kind")
    model = Predictor(bundle, stream="stream", adapt="frozen")
    assert isinstance(model, base.Classifier)
    assert evaluate.progressive_val_score(rows, model, metrics.Accuracy()).get() > 0.7
    again = model.clone()
    shown = [(again.predict_proba_one(x), y) for x, y in rows]
    losses = [-np.log(max(found[y], 1e-15)) for found, y in shown if found]
    entropy = evaluate.progressive_val_score(rows, model.clone(), metrics.CrossEntropy()).get()
    assert entropy == pytest.approx(np.mean(losses), rel=1e-6)
    assert sum(model.predict_proba_one(rows[-1][0]).values()) == pytest.approx(1)
    with pytest.raises(ParameterError, match="'slow'"):
        again.learn_one(rows[-1][0], "other")


def test_several_numbers_come_by_their_names():
    rows = wandering(4, 5).append_column("z", pa.array(np.tile(np.arange(200.0), 4)))
    bundle = sr.fit(rows, ["y", "z"], channels=["x"]).bundle
    model = Predictor(bundle, stream="stream")
    assert isinstance(model, base.MultiTargetRegressor)
    for x, y in samples(rows)[:200]:
        found = model.predict_one(x)
        model.learn_one(x, {"y": y})  # z is not known
    assert found.keys() == {"y", "z"}
    assert model.fleet.adaptation().joined > 5


def test_copies_go_on_where_the_model_is_and_clones_begin_again(bundle):
    rows = samples(wandering(1, 6))
    model = Predictor(bundle)
    for x, y in rows[:100]:
        model.predict_one(x)
        model.learn_one(x, y)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for x, y in rows[100:]:
        wanted = model.predict_one(x)
        assert [own.predict_one(x) for own in copies] == [wanted, wanted]
        for own in (model, *copies):
            own.learn_one(x, y)
    assert model.clone().predict_one(rows[150][0]) is None


def test_wrong_samples_are_refused_with_the_remedy(bundle):
    model = Predictor(bundle, stream="stream")
    with pytest.raises(ParameterError, match=r"x has no 't'.*name the key of the time"):
        model.predict_one({"stream": "a", "x": 1.0})
    with pytest.raises(ParameterError, match="x has no 'stream'"):
        model.predict_one({"t": 0.0, "x": 1.0})
    with pytest.raises(ParameterError, match="no channel of x, the model"):
        model.predict_one({"stream": "a", "t": 0.0, "X": 1.0})
    model.predict_one({"stream": "a", "t": 0.0, "x": None, "other": 1})  # not observed, and not the model's
    assert model.fleet.counts().samples == 1


def test_a_missing_extra_names_the_command():
    code = "import sys; sys.modules['river'] = None; import streamrde.river"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'streamrde[river]'" in done.stderr
