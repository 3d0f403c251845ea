"""The configuration of a fit has all that `sr.fit` takes, and what is written is read as it was."""

import inspect
from pathlib import Path

import msgspec
import pytest

import streamrde as sr
from streamrde.connectors.columns import ColumnKeys
from streamrde.errors import ConfigError
from streamrde.fitting.config import FitConfig, read_config, write_config

NOT_SETTINGS = {"say", "progress"}


def test_each_argument_of_fit_is_a_key_so_that_no_choice_is_lost() -> None:
    own = {field.name for field in msgspec.structs.fields(FitConfig)}
    assert own == inspect.signature(sr.fit).parameters.keys() - NOT_SETTINGS


def test_what_is_written_is_read_as_it_was(tmp_path: Path) -> None:
    config = FitConfig(
        data=("días/*.csv", 'a "b"\\c.parquet'), target="größe", stream="", group="", channels=("x", "y z"), seed=7,
        choice="48 windows, ridge", out="modell.safetensors",
    )  # fmt: skip
    write_config(tmp_path / "fit.toml", config)
    assert read_config(tmp_path / "fit.toml") == config
    assert "größe" in (tmp_path / "fit.toml").read_text("utf-8")


def test_keys_of_columns_are_written_as_they_were_given_and_read_again(tmp_path: Path) -> None:
    keys = ColumnKeys(missing={"x": (-9999, "off"), "*": ("?",)}, words={"open": 1.0}, units={"y": "m/s2"})
    config = FitConfig(data="a.csv", target="label", columns=keys)
    write_config(tmp_path / "fit.toml", config)
    assert read_config(tmp_path / "fit.toml") == config


def test_keys_that_stand_at_the_top_too_move_there_from_columns_and_are_given_once(tmp_path: Path) -> None:
    path = tmp_path / "fit.toml"
    text = 'data = "x"\ntarget = "y"\n{}\n[columns]\ntime = ["day", "clock"]\nchannels = ["a"]'
    path.write_text(text.format(""))
    config = read_config(path)
    assert (config.time, config.channels, config.columns) == (("day", "clock"), ("a",), ColumnKeys())
    path.write_text(text.format('channels = ["b"]'))
    with pytest.raises(ConfigError, match=r"channels is in \[columns\] and at the top of the file: give it once"):
        read_config(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('target = "y"', "'data' is missing"),
        ('data = "x"\ntarget = ""', r'target = "": give at least one'),
        ('data = "x"\ntarget = "y"\nseed = -1', "seed = -1: expected a whole number >= 0"),
        ('data = "x"\ntarget = "y"\nminutes = 0', "minutes = 0: expected a number > 0"),
        ('data = "x"\ntarget = "y"\ntask = "classify"', 'task = "classify": use'),
        ('data = "x"\ntarget = "y"\n[channel]', r"unknown key 'channel'; did you mean 'channels'\?"),
    ],
)
def test_a_bad_key_is_named_with_its_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "fit.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as error:
        read_config(path)
    assert str(path) in str(error.value)
