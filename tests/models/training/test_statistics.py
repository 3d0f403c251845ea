"""A trained model can be given the statistics of its training streams."""

import pathlib

import msgspec
import pytest
from models.recordings import config_for, write_recordings

import streamrde as sr
from streamrde.errors import ConfigError
from streamrde.inference.bundle import Bundle
from streamrde.models import add_statistics

ROOT = pathlib.Path(__file__).parents[3]


def test_the_shipped_model_has_the_statistics_of_its_recipe(monkeypatch):
    monkeypatch.chdir(ROOT)
    shipped = sr.load(pathlib.Path(sr.__file__).parent / "demo" / "watch" / "model.safetensors")
    without = Bundle(msgspec.structs.replace(shipped.header, statistics=None), shipped.tensors)
    given = add_statistics(without, "configs/watch.toml")
    assert given.header.statistics == shipped.header.statistics
    assert given.fingerprint == without.fingerprint == shipped.fingerprint
    assert given.novelty_fingerprint == shipped.novelty_fingerprint
    assert given.header.statistics.interval == pytest.approx(0.02)


def test_a_recipe_of_other_channels_is_refused(tmp_path):
    shipped = sr.load(pathlib.Path(sr.__file__).parent / "demo" / "watch" / "model.safetensors")
    with pytest.raises(ConfigError, match="are not the model's"):
        add_statistics(shipped, config_for(write_recordings(tmp_path)))
