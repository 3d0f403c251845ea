from __future__ import annotations

import pytest
from models.recordings import config_for

import streamrde as sr
from streamrde.errors import ConfigError
from streamrde.models.training.config import as_train_config, load_train_config
from streamrde.models.training.overrides import override


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("a.b=5", 5),
        ("a.b = 0.5", 0.5),
        ("a.b=true", True),
        ("a.b=[1, 2]", [1, 2]),
        ('a.b={kind="x", n=2}', {"kind": "x", "n": 2}),
        ("a.b=/data/some file.parquet", "/data/some file.parquet"),
        ('a.b="quoted = text"', "quoted = text"),
        ("a.b=x=y", "x=y"),
        ("a.b=", ""),
        ("a.b=1\nc=2", "1\nc=2"),
    ],
)
def test_a_setting_takes_the_place_of_a_key(setting, value) -> None:
    tables = {"a": {"b": "before", "c": 1}}
    assert override(tables, [setting]) == {"a": {"b": value, "c": 1}}
    assert tables == {"a": {"b": "before", "c": 1}}


def test_the_last_of_two_settings_wins_and_missing_tables_are_made() -> None:
    assert override({}, ["a.b.c=1", "a.b.c=2", "a.b.d=3"]) == {"a": {"b": {"c": 2, "d": 3}}}


@pytest.mark.parametrize("setting", ["training.epochs", "=5", "training..epochs=5"])
def test_a_setting_without_key_or_value_is_refused(setting) -> None:
    with pytest.raises(ConfigError, match=r"write it as key=value, such as training\.epochs=5"):
        override({}, [setting])


def test_a_setting_through_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.files is not a table"):
        override({"data": {"files": "x"}}, ["data.files.path=y"])


def test_a_wrong_setting_has_the_errors_of_the_file(tmp_path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('[data]\nfiles = "x"\nchannels = [{ name = "a" }]\ntarget = "y"\n')
    config = load_train_config(path, ["training.epochs=5", 'windows={policy="count", n=50}', "data.files=z"])
    assert (config.training.epochs, config.windows, config.data.files) == (5, sr.Count(50), "z")
    with pytest.raises(ConfigError, match=r"run\.toml with training\.epoch=5: .*unknown key 'training\.epoch'"):
        load_train_config(path, ["training.epoch=5"])
    with pytest.raises(ConfigError, match=r"run\.toml with training\.epochs=many: training\.epochs = \"many\": exp"):
        load_train_config(path, ["training.epochs=many"])


def test_settings_apply_to_tables_and_to_a_config() -> None:
    tables = config_for("x")
    config = as_train_config(tables, ["training.seed=3"])
    assert config.training.seed == 3
    assert config.training.epochs == 25


def test_columns_of_a_training_are_those_of_data_and_each_key_is_given_once() -> None:
    tables = config_for("x.csv", data={"files": "x.csv"})
    config = as_train_config({**tables, "columns": {"time": ["day", "clock"], "time_zone": "Europe/Vienna"}})
    assert (config.data.time, config.data.time_zone) == (("day", "clock"), "Europe/Vienna")
    assert as_train_config(config) == config
    tables["data"]["time_zone"] = "UTC"
    with pytest.raises(ConfigError, match=r"time_zone is in \[columns\] and in \[data\]: give it once"):
        as_train_config({**tables, "columns": {"time_zone": "Europe/Vienna"}})
    with pytest.raises(ConfigError, match=r"unknown key 'tme'"):
        as_train_config({**tables, "columns": {"tme": "x"}})
