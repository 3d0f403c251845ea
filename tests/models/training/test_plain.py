"""Models that take seconds, measured beside a trained one on the same streams."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from models.recordings import config_for, quiet, write_recordings

from streamrde.fitting.baselines import BASELINES
from streamrde.models import train
from streamrde.models.training.config import resolve_config
from streamrde.models.training.plain import plain_models
from streamrde.models.training.streams import read_parts


def test_plain_models_learn_from_training_streams_alone(tmp_path) -> None:
    config = resolve_config(config_for(write_recordings(tmp_path)))
    parts = read_parts(config, say=lambda text: None)
    found = plain_models(config, parts, classes=("left", "right"))
    assert {name.split("_", 1)[0] for name in found} == {"validation", "test"}
    assert {f"test_{name}_accuracy_end" for name in ("nearest", "summaries", "fitted")} <= found.keys()
    (nearest,) = (baseline for baseline in BASELINES if baseline.name == "nearest")
    truth = [np.array([r.target.single(r.stream, ["turn"], "").values[0, 0] for r in own]) for own in parts]
    rows, new = (np.stack([nearest.represent(r.t, r.x) for r in own]) for own in (parts.train, parts.test))
    answers = nearest.fit(rows, truth[0], 2, np.arange(len(rows)))(new)
    assert found["test_nearest_accuracy_end"] == np.mean(answers.argmax(axis=1) == truth[2])
    # What is known of the test streams does not change what was learned.
    without = plain_models(config, parts._replace(validation=[]), classes=("left", "right"))
    assert without == {name: value for name, value in found.items() if name.startswith("test_")}


def test_numbers_are_measured_at_the_ends_and_compare_turns_it_off(tmp_path) -> None:
    files = write_recordings(tmp_path)
    data = {"task": "regression", "target": ["speed"], "target_at": "stream"}
    config = config_for(files, data=data, training={"epochs": 1})
    metrics = train(config, console=quiet()).header.metrics
    assert {f"test_{name}_rmse_end" for name in ("nearest", "summaries", "fitted")} <= metrics.keys()
    metrics = train(config | {"compare": False}, console=quiet()).header.metrics
    assert not any("nearest" in name for name in metrics)


def test_several_numbers_are_measured_together(tmp_path) -> None:
    data = {"task": "regression", "target": ["speed", "turned"], "target_at": "stream"}
    files = write_recordings(tmp_path)
    for path in sorted(tmp_path.glob("*.parquet")):
        rows = pq.read_table(path)
        pq.write_table(rows.append_column("turned", pc.multiply(rows["speed"], -2.0)), path)
    config = resolve_config(config_for(files, data=data))
    found = plain_models(config, read_parts(config, say=lambda text: None), classes=())
    alone = resolve_config(config_for(files, data=data | {"target": ["speed"]}))
    one = plain_models(alone, read_parts(alone, say=lambda text: None), classes=())
    # The second target is twice the first, and so are its errors: their mean is 1.5 times the first one's.
    assert found["test_nearest_rmse_end"] == pytest.approx(1.5 * one["test_nearest_rmse_end"])
