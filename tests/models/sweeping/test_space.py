from __future__ import annotations

import tomllib

import pytest
from models.recordings import config_for

from streamrde.errors import ConfigError
from streamrde.models.sweeping.space import (
    all_tables,
    default_space,
    flattened,
    ladder,
    short_keys,
    trials,
)
from streamrde.models.training.config import SweepConfig, as_train_config
from streamrde.toml import dumps, value


def config(**tables: dict[str, object]):
    return as_train_config(config_for("x.parquet", **tables))


def test_all_combinations_are_tried_in_a_fixed_order() -> None:
    own = config(sweep={"over": {"model": {"hidden": [4, 8]}, "windows.seconds": [0.5, 1.0]}})
    found, left_out = trials(own)
    assert [(t.number, t.values["model.hidden"], t.values["windows.seconds"]) for t in found] == [
        (1, 4, 0.5),
        (2, 4, 1.0),
        (3, 8, 0.5),
        (4, 8, 1.0),
    ]
    assert left_out == []
    assert found[2].config.model.hidden == 8
    assert found[2].config.windows.seconds == 0.5
    assert found[2].config.output.model == ""


@pytest.mark.slow
def test_of_many_combinations_some_are_drawn_each_once() -> None:
    over = {"model.hidden": list(range(1, 101)), "model.depth": [1, 2], "training.learning_rate": [0.1, 0.2, 0.3]}
    drawn = [trials(config(sweep={"over": over, "trials": 20, "seed": seed}))[0] for seed in (0, 0, 1)]
    told = [[str(trial.values) for trial in own] for own in drawn]
    assert len(set(told[0])) == 20
    assert told[0] == told[1] != told[2]


def test_a_combination_that_contradicts_itself_is_left_out_and_told() -> None:
    over = {
        "model.field": [{"field": "log_ncde", "width": 8, "layers": 1}, {"field": "mlp"}],
        "training.dropout": [0, 0.1],
    }
    found, left_out = trials(config(sweep={"over": over}))
    assert len(found) == 3
    assert len(left_out) == 1
    assert "training.dropout=0.1" in left_out[0]


@pytest.mark.parametrize(
    ("over", "match"),
    [
        ({"model.breadth": [4]}, "none of the 1 combinations can be trained.*breadth"),
        ({"model.hidden": []}, "'model.hidden' has no values"),
        ({"model.hidden": 4}, r"'model.hidden' is 4; list its values, as \[4\]"),
        ({"split.test": [[1]]}, "'split.test' must be the same in all trials"),
        ({"training.seed": [1, 2]}, "'training.seed' must be the same in all trials"),
    ],
)
def test_a_space_that_cannot_be_swept_is_a_clear_error(over, match) -> None:
    with pytest.raises(ConfigError, match=match):
        trials(config(sweep={"over": over}))


@pytest.mark.parametrize(
    ("windows", "key", "values"),
    [
        ({"policy": "every", "seconds": 2.0}, "windows.seconds", [1.0, 2.0, 4.0]),
        ({"policy": "count", "n": 1}, "windows.n", [1, 2]),
        ({"policy": "adaptive", "norm": 0.5}, "windows.norm", [0.25, 0.5, 1.0]),
    ],
)
def test_by_default_what_is_configured_is_varied(windows, key, values) -> None:
    own = as_train_config(config_for("x.parquet") | {"windows": windows})
    assert default_space(own)[key] == values
    assert default_space(own)["model.depth"] == [1, 2, 3]
    assert default_space(own)["model.solver"] == ["euler", "midpoint"]


def test_depths_with_very_many_features_are_not_tried_by_default() -> None:
    data = {"channels": [{"name": f"c{i}"} for i in range(19)]}
    assert default_space(config(data=data))["model.depth"] == [1, 2]


def test_each_rung_trains_longer_with_fewer_trials_but_never_fewer_than_three() -> None:
    assert [tuple(rung) for rung in ladder(SweepConfig(rungs=3), 24, 60)] == [(7, 24), (20, 8), (60, 3)]
    assert [tuple(rung) for rung in ladder(SweepConfig(rungs=1), 24, 60)] == [(60, 24)]
    assert [tuple(rung) for rung in ladder(SweepConfig(rungs=3), 2, 2)] == [(1, 2), (2, 2)]


def test_headings_are_short_where_they_stay_apart() -> None:
    assert short_keys(["model.hidden", "a.width", "b.width"]) == {
        "model.hidden": "hidden",
        "a.width": "a.width",
        "b.width": "b.width",
    }
    assert flattened({"a": {"b": [1], "c.d": [2]}}) == {"a.b": [1], "a.c.d": [2]}


def test_a_configuration_survives_being_written_as_toml() -> None:
    own = config(augment={"flip": [["a"]], "crop": 0.5}, model={"notes": 'a "quote", a \\ and a line\nbreak'})
    text = dumps(all_tables(own))
    assert as_train_config(tomllib.loads(text)) == own


@pytest.mark.parametrize("item", [True, 3, 0.1, 1e-30, 'x"\\\n\x7fé', [1, [2.5]], {"a b": {"c": [False]}}], ids=repr)
def test_values_are_read_back_as_they_were(item) -> None:
    assert tomllib.loads(f"value = {value(item)}")["value"] == item
