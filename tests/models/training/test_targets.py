from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from models.recordings import config_for, quiet, write_recordings

import streamrde as sr
from streamrde.errors import ConfigError
from streamrde.fitting.targets import Target
from streamrde.inference.card import card
from streamrde.models import train
from streamrde.models.training.config import as_train_config
from streamrde.models.training.examples import prepare
from streamrde.models.training.streams import read_parts, read_streams

# float32 in torch and in the kernels
SERVED = 1e-5


def write_changing(folder, *, streams: int = 10, length: int = 80) -> str:
    """A sine of each stream's own phase, sampled irregularly; its value and its sign as targets, some not recorded."""
    rng = np.random.default_rng(3)
    t = np.cumsum(rng.uniform(0.02, 0.6, (streams, length)), axis=1)
    x = np.sin(t + rng.uniform(0, 6, (streams, 1)))
    value = np.where(rng.random(x.shape) < 0.2, np.nan, x)
    sign = np.where(x > 0, "up", "down").astype(object)
    sign[rng.random(x.shape) < 0.2] = None
    table = {"stream_id": np.repeat([f"s{i}" for i in range(streams)], length), "t": t.ravel(), "x": x.ravel()}
    table |= {"value": pa.array(value.ravel(), from_pandas=True), "sign": pa.array(sign.ravel(), pa.string())}
    pq.write_table(pa.table(table), folder / "changing.parquet")
    return str(folder / "changing.parquet")


def changing(folder, *, target: str = "value", horizon: float = 0.0, **tables: dict[str, object]) -> dict[str, object]:
    data = {"files": write_changing(folder), "channels": [{"name": "x"}], "target": target, "horizon": horizon}
    data |= {"task": "classification" if target == "sign" else "regression", "target_at": "window"}
    split = {"column": "", "validation": 0.2, "test": 0.3}
    training = {"epochs": 3, "batch_size": 4}
    config = config_for("", data=data, split=split, training=training, windows={"policy": "every", "seconds": 0.5})
    return config | {name: config.get(name, {}) | table for name, table in tables.items()}


def test_a_target_ahead_is_what_is_known_that_much_later(tmp_path) -> None:
    config = as_train_config(changing(tmp_path, horizon=1.0))
    streams = read_streams(config.data)
    for stream, example in zip(streams, prepare(streams, config, fills=np.zeros(1), classes=()), strict=True):
        for end, target in zip(stream.t[0] + example.ends, example.target[:, 0], strict=True):
            own = (stream.t > end - 0.5) & (stream.t <= end)
            later = (stream.t > end + 0.5 + 1e-9) & (stream.t <= end + 1.0) & np.isfinite(stream.target.values[:, 0])
            if end < stream.t[-1]:  # the last window is short
                expected = stream.target.values[later, 0][-1:] if own.any() and later.any() else [np.nan]
                np.testing.assert_array_equal(target, expected[0])


def test_a_segments_target_ahead_may_lie_beyond_it(tmp_path) -> None:
    tables = changing(tmp_path, horizon=1.0, data={"segments": {"seconds": 5.0}, "horizon": 1.0})
    tables["data"] |= changing(tmp_path)["data"] | {"segments": {"seconds": 5.0}, "horizon": 1.0}
    streams = read_streams(as_train_config(tables).data)
    first = streams[0]
    assert first.t[-1] < first.t[0] + 5 < first.target.t[-1] <= first.t[-1] + 1


def test_a_part_in_time_knows_no_target_of_the_next(tmp_path) -> None:
    split = {"by": "time", "validation": 0.2, "test": 0.2}
    parts = read_parts(as_train_config(changing(tmp_path, horizon=2.0, split=split)))
    for before, after in zip(parts.train, parts.validation, strict=True):
        assert before.target.t[-1] < after.t[0]


def test_classes_may_change_along_a_stream(tmp_path) -> None:
    training = {"epochs": 60, "learning_rate": 0.02, "patience": 0}
    bundle = train(changing(tmp_path, target="sign", training=training), console=quiet())
    assert bundle.header.labels == ("down", "up")
    assert bundle.header.target_at == "window"
    assert bundle.header.metrics["test_accuracy_windows"] > 0.7
    assert len(bundle.header.learned.noise) == 2


def test_a_stream_may_be_short_of_values_but_not_have_two(tmp_path) -> None:
    files = write_recordings(tmp_path)
    table = pq.read_table(files)
    speed = [None if i % 3 else v for i, v in enumerate(table["speed"].to_pylist())]
    pq.write_table(table.set_column(table.schema.get_field_index("speed"), "speed", pa.array(speed)), files)
    data = {"target": "speed", "task": "regression", "target_at": "stream"}
    streams = read_streams(as_train_config(config_for(files, data=data)).data)
    assert {stream.target.t for stream in streams} == {None}
    assert streams[0].target.values.shape == (1, 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"horizon": 1.0}, 'data.horizon=1: .*set data.target_at = "window"'),
        ({"horizon": -1.0}, "horizon"),
    ],
)
def test_a_horizon_needs_targets_of_windows(tmp_path, data, message) -> None:
    with pytest.raises(ConfigError, match=message):
        as_train_config(config_for("x", data=data))


def test_the_card_tells_what_is_to_be_predicted(tmp_path) -> None:
    console = quiet()
    bundle = train(changing(tmp_path, horizon=1.5, training={"epochs": 1}), console=console)
    assert bundle.header.horizon == 1.5
    # How strongly to correct it by labels comes from the streams of validation.
    learned, metrics = bundle.header.learned, bundle.header.metrics
    assert learned.streams == metrics["validation_streams"]
    assert 0 < learned.labels < metrics["validation_windows"]
    assert np.isfinite(learned.errors).all()
    assert sr.Fleet(bundle, adapt="best").adaptation().served == {}
    console.print(card(bundle, "m"))
    assert "the last value of each window, 1.5 s ahead of it" in console.file.getvalue()


def segmented(folder) -> dict[str, object]:
    data = {"target": "speed", "task": "regression", "target_at": "stream", "segments": {"seconds": 2.0, "every": 1.0}}
    return config_for(write_recordings(folder), data=data, training={"epochs": 2})


@pytest.mark.parametrize(
    ("make", "target"),
    [
        (lambda folder: config_for(write_recordings(folder), training={"epochs": 2}), "turn"),
        (segmented, "speed"),
        (lambda folder: changing(folder), "value"),
        (lambda folder: changing(folder, horizon=1.0), "value"),
        (lambda folder: changing(folder, target="sign", horizon=0.7), "sign"),
        (lambda folder: changing(folder, model={"interpolation": "hold"}), "value"),
        (lambda folder: changing(folder, split={"by": "time", "validation": 0.2, "test": 0.3}), "value"),
    ],
    ids=["class", "segments", "windows", "horizon", "class ahead", "hold", "in time"],
)
def test_score_measures_the_test_streams_as_training_did(tmp_path, make, target) -> None:
    paths = {name: str(tmp_path / name) for name in ("model.safetensors", "test.parquet", "predictions.parquet")}
    config = make(tmp_path)
    config["output"] |= {"model": paths["model.safetensors"], "test": paths["test.parquet"]}
    header = train(config, console=quiet()).header
    metrics = header.metrics
    # Streams that were trained on, in earlier time, do not say how strongly to correct a model by labels.
    assert (header.learned is None) == (header.target_at == "stream" or config["split"].get("by") == "time")
    summary = sr.score(
        paths["test.parquet"], paths["model.safetensors"], out=paths["predictions.parquet"], truth=[target]
    )
    found = summary.evaluation
    assert summary.predictions == metrics["test_windows"]
    if "accuracy" in found:
        assert found["accuracy"] == pytest.approx(metrics["test_accuracy_windows"], abs=SERVED)
        assert found["log_loss"] == pytest.approx(metrics["test_log_loss_windows"], abs=SERVED)
        assert found["accuracy_at_end"] == pytest.approx(metrics["test_accuracy_end"], abs=SERVED)
    else:
        assert found[target]["rmse"] == pytest.approx(metrics["test_rmse"], abs=SERVED)
        assert found[target]["mae"] == pytest.approx(metrics["test_mae"], abs=SERVED)
        assert found[target]["rmse_at_end"] == pytest.approx(metrics["test_rmse_end"], abs=SERVED)


def test_targets_of_all_time_are_those_of_every_window() -> None:
    target = Target(np.array([[2.0, np.nan]]), None)
    np.testing.assert_array_equal(target.at(np.zeros(3), np.ones(3)), [[2.0, np.nan]] * 3)
    assert target.between(5, 6) is target
