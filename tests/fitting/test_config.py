"""The configuration of a fit has all that `sr.fit` takes, and what is written is read as it was."""

import inspect
from pathlib import Path

import msgspec
import pytest

import streamrde as sr
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
