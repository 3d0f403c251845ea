from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from models.recordings import config_for, quiet, write_recordings

import streamrde as sr
from streamrde import toml
from streamrde.errors import ConfigError
from streamrde.models import train
from streamrde.models.choosing import contenders


@pytest.fixture(autouse=True)
def small(monkeypatch) -> None:
    """Propose models that train in a second."""
    monkeypatch.setattr(contenders, "_STACKS", (("rg_lru", 1, 8), ("gru", 1, 8)))
    monkeypatch.setattr(contenders, "_HIDDEN", 6)
    monkeypatch.setattr(contenders, "_STEPS", 10)
    monkeypatch.setattr(contenders, "_EPOCHS", (3, 3))


def tables_for(folder: Path, **changes) -> dict:
    """Tables of a run without a model."""
    tables = config_for(write_recordings(folder), **changes)
    for name in ("model", "training", "windows"):
        if name not in changes:
            tables.pop(name)
    tables["output"] = changes.get("output", {})
    return tables


def test_without_a_model_families_are_compared_and_the_best_is_written(tmp_path) -> None:
    out = {name: str(tmp_path / f"out.{name}") for name in ("model", "report", "metrics", "test")}
    out["test"] += ".parquet"
    path = tmp_path / "train.toml"
    path.write_text(toml.dumps(tables_for(tmp_path, output=out, choice={"minutes": 60})), "utf-8")
    console = quiet()
    bundle = train(path, console=console)
    shown = console.file.getvalue()
    for name in ("above, ridge", "stack, ", "nearest neighbour", "linear model on summaries", "always 'left'"):
        assert name in shown
    assert shown.count("  chosen\n") == 1
    assert [shown.index(f"{stage} ...\n") for stage in ("fit candidates", "train stacks", "measure the test part")]
    assert "on the test part, which was read once" in shown
    metrics = bundle.header.metrics
    assert metrics["validation_accuracy"] == 1.0
    assert metrics["test_accuracy"] == 1.0
    assert metrics["test_majority_accuracy"] < 1.0
    assert json.loads(Path(out["metrics"]).read_text()) == metrics
    assert [channel.unit for channel in bundle.header.channels] == ["m", ""]
    assert sr.load(out["model"]).fingerprint == bundle.fingerprint
    page = Path(out["report"]).read_text("utf-8")
    assert "stack, " in page
    assert "[choice]" in page
    assert len(pq.read_table(out["test"])) == 3 * 40


def test_the_name_of_the_choice_trains_the_same_model_again(tmp_path) -> None:
    tables = tables_for(tmp_path, choice={"name": "stack, gru, 1 block of 8, 3 epochs"}, training={"seed": 4})
    tables["training"] = {"seed": 4}
    first, second = train(tables, console=quiet()), train(tables, console=quiet())
    assert first.header.field.tag == "stack"
    assert first.fingerprint == second.fingerprint
    changed = train(tables, settings=["training.seed=5"], console=quiet())
    assert changed.fingerprint != first.fingerprint


def test_a_model_among_the_settings_is_trained_alone(tmp_path) -> None:
    bundle = train(tables_for(tmp_path), settings=["model.hidden=5", "training.epochs=1"], console=quiet())
    assert bundle.header.hidden == 5


def test_the_test_streams_change_the_test_measures_alone(tmp_path) -> None:
    tables = tables_for(tmp_path, choice={"name": "above, ridge"})
    first = train(tables, console=quiet())
    rows = pq.read_table(tables["data"]["files"])
    other = pa.array(np.where(np.asarray(rows["subject"]) == 7, 0.0, np.asarray(rows["a"])))
    pq.write_table(rows.set_column(rows.column_names.index("a"), "a", other), tables["data"]["files"])
    second = train(tables, console=quiet())
    assert [t.tobytes() for t in first.tensors.values()] == [t.tobytes() for t in second.tensors.values()]
    assert first.header.metrics["validation_log_loss"] == second.header.metrics["validation_log_loss"]
    assert first.header.metrics["test_log_loss"] != second.header.metrics["test_log_loss"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token": {"ends": True}}, r"token needs \[model\]"),
        ({"training": {"epochs": 3}}, r"training\.epochs needs \[model\]"),
        ({"output": {"seconds": [1.0]}}, r"output\.seconds needs \[model\]"),
        ({"windows": {"policy": "count", "n": 5}}, r"windows\.policy = \"count\" needs \[model\]"),
        ({"choice": {"minutes": 0}}, r"choice\.minutes"),
    ],
)
def test_keys_that_a_comparison_does_not_use_are_refused(tmp_path, changes, message) -> None:
    tables = tables_for(tmp_path) | changes
    with pytest.raises(ConfigError, match=message):
        train(tables, console=quiet())


def test_a_choice_beside_a_model_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"\[choice\].*leave out \[model\]"):
        train(config_for(write_recordings(tmp_path), choice={"minutes": 1.0}), console=quiet())
    with pytest.raises(ConfigError, match="--resume"):
        train(tables_for(tmp_path), resume=True, console=quiet())


@pytest.mark.parametrize("by", ["time", "stream"])
def test_parts_in_time_and_single_streams_are_left_out_as_the_split_says(tmp_path, by) -> None:
    tables = tables_for(tmp_path, choice={"name": "summaries, ridge"})
    tables["split"] = {"by": by, "validation": 0.2, "test": 0.2}
    if by == "time":
        tables["data"] |= {"segments": {"seconds": 0.8}}
    else:
        tables["split"]["group"] = ""
    metrics = train(tables, console=quiet()).header.metrics
    assert 0 <= metrics["validation_accuracy"] <= 1
    assert "test_accuracy" in metrics


@pytest.mark.parametrize("split", [{"column": "subject", "test": [7]}, {"by": "time", "validation": 0.2, "test": 0.3}])
def test_numbers_along_streams_are_answered_after_each_window(tmp_path, split) -> None:
    tables = tables_for(tmp_path, choice={"minutes": 60})
    tables["data"] |= {"target": ["b"], "task": "regression", "horizon": 0.2, "target_units": ["m"]}
    tables["split"], tables["windows"] = split, {"policy": "every", "seconds": 0.2}
    if split.get("by") == "time":
        write_recordings(tmp_path, streams=4, length=500)
    console = quiet()
    bundle = train(tables, console=console)
    shown = console.file.getvalue()
    for name in ("along, ", "stack, ", "last known value", "always the mean"):
        assert name in shown
    assert bundle.header.horizon == 0.2
    assert bundle.header.windows == sr.Every(0.2)
    assert bundle.header.units == ("m",)
    assert bundle.header.metrics["test_rmse"] < bundle.header.metrics["test_mean_rmse"]


def test_the_text_in_the_report_trains_the_same_model_again(tmp_path) -> None:
    tables = tables_for(tmp_path, choice={"minutes": 1e-6}, output={"report": str(tmp_path / "r.html")})
    console = quiet()
    first = train(tables, console=console)
    name = tomllib.loads(console.file.getvalue().rsplit("[choice] ", 1)[1].split(" trains")[0])["name"]
    again = train(tables | {"choice": {"name": name}}, console=quiet())
    assert again.fingerprint == first.fingerprint
