"""Streams in arrays, lists and frames, behind scikit-learn's interface."""

import pickle
import subprocess
import sys

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import xarray as xr
from test_sklearn_checks import FIRST, waves

import streamrde as sr
from streamrde.errors import DataError, ParameterError, ShapeError
from streamrde.sklearn import LogSignatureTransformer, NeuralRDEClassifier, NeuralRDERegressor


def rows_of(X, names):
    """A row per sample, streams in the order given, with names of their own."""
    n, _, length = X.shape
    columns = {f"c{i}": X[:, i].ravel() for i in range(X.shape[1])}
    return pd.DataFrame({"stream_id": np.repeat(names, length), "t": np.tile(np.arange(length) / 10, n), **columns})


@pytest.fixture(scope="module")
def fitted():
    X, y = waves()
    return NeuralRDEClassifier(step=0.1, choice=FIRST).fit(X, y), X, y


def test_an_answer_equals_the_live_predictors(fitted):
    classifier, X, _ = fitted
    predictor = classifier.predictor()
    last = [*predictor.push_many(np.arange(40) * 0.1, X[3].T), *predictor.flush()][-1]
    assert classifier.predict(X[3:4])[0] == last.label
    order = [list(last.labels).index(label) for label in classifier.classes_]
    assert np.array_equal(classifier.predict_proba(X[3:4])[0], np.asarray(last.value, float)[order])


def test_answers_over_time_are_those_of_parts_of_the_streams(fitted):
    classifier, X, _ = fitted
    table = classifier.predict_over_time(X[:2]).to_pandas()
    assert list(table.columns[:4]) == ["stream", "window", "t_start", "t_end"]
    assert set(table["stream"]) == {"0", "1"}
    end = table[table["stream"] == "1"].iloc[9]["t_end"]
    known = X[1:2, :, : int(end / 0.1 + 1e-6) + 1]
    early = classifier.predict_over_time(known).to_pandas().iloc[9]
    assert np.array_equal(early["value"], table[table["stream"] == "1"].iloc[9]["value"])


@pytest.mark.parametrize(
    "give",
    [
        lambda frame: frame,
        lambda frame: pl.from_pandas(frame),
        lambda frame: pa.Table.from_pandas(frame),
        lambda frame: duckdb.sql("select * from frame"),
        lambda frame: frame.to_dict("list"),
        lambda frame: frame.set_index(["stream_id", "t"]).to_xarray(),
    ],
    ids=["pandas", "polars", "arrow", "duckdb", "columns", "xarray"],
)
def test_frames_say_the_same_as_arrays(fitted, give):
    classifier, X, y = fitted
    names = [f"s{i:02}" for i in range(len(X))]
    own = NeuralRDEClassifier(choice=FIRST).fit(give(rows_of(X, names)), y)
    assert own.channels_ == ("c0", "c1")
    # Times of arrays are products of the step, which round otherwise.
    assert np.allclose(own.predict_proba(give(rows_of(X, names))), classifier.predict_proba(X), atol=1e-5)


def test_streams_of_frames_are_in_ascending_order_and_an_index_says_which_is_which(fitted):
    _, X, y = fitted
    numbers = np.random.default_rng(1).permutation(len(X)) + 5  # as text, 10 would stand before 5
    frame = rows_of(X, numbers)
    by_name = pd.Series(y, index=numbers, name="kind")
    own = NeuralRDEClassifier(choice=FIRST).fit(frame, by_name)
    assert own.score(frame, by_name) > 0.9
    order = np.argsort(numbers)
    same = NeuralRDEClassifier(choice=FIRST, step=0.1).fit(X[order], y[order])
    assert np.allclose(own.predict_proba(frame), same.predict_proba(X[order]), atol=1e-5)
    with pytest.raises(ParameterError, match="its index and the streams of X differ"):
        own.score(frame, by_name.rename({5: 500}))


def test_lists_hold_streams_of_different_lengths(fitted):
    classifier, X, y = fitted
    cut = [own[:, : 40 - i] for i, own in enumerate(X)]
    padded = X.copy()
    for i in range(len(X)):
        padded[i, :, 40 - i :] = np.nan
    assert np.array_equal(classifier.predict_proba(cut), classifier.predict_proba(padded))
    frames = [pd.DataFrame({"t": np.arange(own.shape[1]) * 0.1, "c0": own[0], "c1": own[1]}) for own in cut]
    assert np.array_equal(classifier.predict_proba(frames), classifier.predict_proba(cut))
    assert (classifier.predict([own[:, :20] for own in X]) == y).mean() > 0.8


def test_dimensions_of_xarray_are_known_by_their_names(fitted):
    classifier, X, _ = fitted
    turned = xr.DataArray(X, dims=("case", "channel", "time")).transpose("case", "time", "channel")
    assert np.array_equal(classifier.predict(turned), classifier.predict(X))


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.zeros((4, 40, 2)), ShapeError, "40 channels, but .* expecting 2 .*the axes look swapped"),
        (np.zeros((4, 3, 40)), ShapeError, "3 channels"),
        (np.zeros((4, 1, 2, 40)), ShapeError, "give .streams, channels, time."),
        ([np.zeros((2, 30)), np.zeros((30, 2))], ShapeError, r"X\[1\] has 30 channels .*swapped"),
        ([np.zeros((2, 30)), np.full((2, 20), np.inf)], ValueError, r"infinity: X\[1\]"),
        (pd.DataFrame({"pump": ["a"], "c0": [1.0], "c1": [2.0]}), DataError, "name the column with stream"),
        (pd.DataFrame({"stream_id": ["a"], "c0": [1.0]}), DataError, "no column 'c1'"),
        ("recordings.parquet", ValueError, "could not convert"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_remedy(fitted, X, error, message):
    with pytest.raises(error, match=message):
        fitted[0].predict(X)


def test_targets_of_another_number_are_refused(fitted):
    _, X, y = fitted
    frame = rows_of(X, [f"s{i:02}" for i in range(len(X))])
    with pytest.raises(ShapeError, match=r"24 streams and y 960 values.*groupby"):
        NeuralRDEClassifier().fit(frame, np.repeat(y, 40))
    with pytest.raises(ShapeError, match="y has 1 class"):
        NeuralRDEClassifier().fit(X, ["a"] * len(X))
    with pytest.raises(ShapeError, match="groups 3 values"):
        NeuralRDEClassifier().fit(X, y, groups=[1, 2, 3])
    with pytest.raises(ParameterError, match="above 0"):
        NeuralRDEClassifier(step=0.0).fit(X, y)


def test_a_stream_without_a_window_gets_the_plainest_answer_and_a_warning(fitted):
    classifier, X, _ = fitted
    with pytest.warns(UserWarning, match="1 of 2 streams close no window"):
        found = classifier.predict_proba([X[0], X[1][:, :1]])
    assert found[1].tolist() == [0.5, 0.5]


def test_a_model_goes_on_as_a_file_and_in_other_processes(fitted, tmp_path):
    classifier, X, _ = fitted
    classifier.save(tmp_path / "model.safetensors")
    assert sr.load(tmp_path / "model.safetensors").fingerprint == classifier.bundle_.fingerprint
    copy = pickle.loads(pickle.dumps(classifier))
    assert copy.report_ is None
    assert np.array_equal(copy.predict_proba(X), classifier.predict_proba(X))


def test_several_numbers_are_predicted_at_once():
    rng = np.random.default_rng(0)
    speed = rng.uniform(1, 4, 60)
    size = rng.uniform(1, 2, 60)
    X = (size[:, None] * np.sin(speed[:, None] * np.arange(50) / 5))[:, None, :]
    y = pd.DataFrame({"speed": speed, "size": size})
    regressor = NeuralRDERegressor(step=0.2).fit(X[:45], y[:45])
    assert regressor.bundle_.header.labels == ("speed", "size")
    assert regressor.predict(X[45:]).shape == (15, 2)
    assert regressor.score(X[45:], y[45:]) > 0.8
    one = NeuralRDERegressor(choice=FIRST).fit(X[:45], speed[:45])
    assert one.predict(X[45:]).shape == (15,)


def test_log_signatures_are_those_of_the_path_and_its_parts():
    X, _ = waves(n=3)
    X[0, 0, 5] = np.nan
    transformer = LogSignatureTransformer(depth=3, step=0.1).fit(X)
    t = np.arange(40) * 0.1
    path = np.concatenate([np.broadcast_to(t, (3, 1, 40)), X], axis=1).swapaxes(1, 2)
    assert np.allclose(transformer.transform(X)[1:], sr.logsignature(path[1:], 3))
    path[0, 5, 1] = (path[0, 4, 1] + path[0, 6, 1]) / 2
    assert np.allclose(transformer.transform(X)[0], sr.logsignature(path[0], 3))
    assert list(transformer.get_feature_names_out()[:4]) == ["1:t", "1:c0", "1:c1", "1:t.c0"]
    parts = LogSignatureTransformer(depth=2, parts=3, step=0.1).fit(X)
    assert parts.transform(X).shape == (3, 3 * sr.logsignature_channels(3, 2))
    assert np.allclose(parts.transform(X)[1][:6], sr.logsignature(path[1, :14], 2))  # 13 of 39 steps
    assert np.array_equal(parts.transform([X[1][:, :1]])[0], np.zeros(18))


def test_training_goes_by_the_same_file_as_on_the_command_line():
    pytest.importorskip("torch")
    X, y = waves(n=16, length=30)
    config = {
        "split": {"column": "split", "test": ["test"], "validation": []},
        "windows": {"policy": "count", "n": 5},
        "model": {"hidden": 4, "field": {"field": "mlp", "width": 8, "layers": 1}},
        "training": {"epochs": 30, "patience": 0, "learning_rate": 0.02, "batch_size": 8},
    }
    classifier = NeuralRDEClassifier(config=config).fit(X, y)
    assert classifier.report_ is None
    assert classifier.bundle_.header.field.tag == "mlp"
    assert classifier.bundle_.header.labels == ("fast", "slow")
    assert classifier.score(X, y) > 0.8
    with pytest.raises(ParameterError, match="leave out config"):
        NeuralRDEClassifier(config=config, minutes=1.0).fit(X, y)


def test_a_missing_extra_names_the_command():
    code = "import sys; sys.modules['sklearn'] = None; import streamrde.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'streamrde[sklearn]'" in done.stderr


def test_the_model_is_the_one_that_fit_makes_of_the_same_rows():
    X, y = waves()
    names = [f"s{i:02}" for i in range(len(X))]
    frame = rows_of(X, names)
    people = pd.Series(np.repeat(["a", "b", "c"], 8), names)
    report = sr.fit(
        frame.assign(label=np.repeat(y, 40), person=np.repeat(people.to_numpy(), 40)), "label", group="person"
    )
    own = NeuralRDEClassifier().fit(frame, pd.Series(y, names), groups=people)
    assert own.bundle_.fingerprint == report.bundle.fingerprint
    assert own.report_.choice == report.choice


def test_data_frames_go_in_and_out_of_scores_and_fleets(fitted):
    classifier, X, _ = fitted
    frame = rows_of(X, [f"s{i:02}" for i in range(len(X))])
    wanted = classifier.predict_over_time(frame)
    given = [
        frame,
        pl.from_pandas(frame),
        duckdb.sql("select * from frame"),
        frame.set_index(["stream_id", "t"]).to_xarray(),
    ]
    for rows in given:
        scored = (
            sr.score(rows, classifier.bundle_).read_all().sort_by([("stream", "ascending"), ("window", "ascending")])
        )
        assert scored.column("value").equals(wanted.column("value"))
        assert (
            pl.DataFrame(scored).height == len(scored.to_pandas()) == duckdb.from_arrow(scored).shape[0] == len(wanted)
        )
    for rows in given[:2]:
        closed = classifier.fleet().push(rows["stream_id"], rows["t"], rows[["c0", "c1"]])
        assert len(closed.to_pandas()) == pl.DataFrame(closed).height > 0
