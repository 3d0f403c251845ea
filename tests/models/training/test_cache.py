from __future__ import annotations

import os
import pathlib

import numpy as np
import pytest
from models.recordings import config_for, write_recordings

from streamrde.models.training import cache, examples
from streamrde.models.training.config import TrainConfig, as_train_config
from streamrde.models.training.examples import Examples, prepare
from streamrde.models.training.streams import read_streams


@pytest.fixture
def runs(monkeypatch) -> list[int]:
    """How many streams were windowed, each time that some were."""
    counted: list[int] = []
    window = examples.window_recordings
    monkeypatch.setattr(
        examples, "window_recordings", lambda ts, *rest, **more: counted.append(len(ts)) or window(ts, *rest, **more)
    )
    return counted


def config_of(tmp_path: pathlib.Path, files: str, **tables: dict[str, object]) -> TrainConfig:
    config = config_for(files, **tables)
    config["data"] |= {"cache": str(tmp_path / "cache")}
    return as_train_config(config)


def windows(config: TrainConfig, *, fill: float = 0.0) -> Examples:
    streams = read_streams(config.data, group="subject")
    return prepare(streams, config, fills=np.full(2, fill), classes=("left", "right"))


def same(a: Examples, b: Examples) -> bool:
    arrays = ("streams", "x0", "first", "lengths", "ends", "logsigs", "target")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays)


def entries(tmp_path: pathlib.Path) -> list[pathlib.Path]:
    return sorted((tmp_path / "cache").iterdir())


def test_windows_are_computed_once_and_are_the_same_from_disk(tmp_path, runs) -> None:
    config = config_of(tmp_path, write_recordings(tmp_path))
    first = windows(config)
    assert same(windows(config), first)
    assert len(runs) == 1
    assert len(entries(tmp_path)) == 1
    assert same(windows(as_train_config(config_for(config.data.files))), first)  # without a cache
    assert len(runs) == 2


def test_whatever_decides_the_windows_is_part_of_the_key(tmp_path, runs) -> None:
    files = write_recordings(tmp_path)
    windows(config_of(tmp_path, files))
    for tables in (
        {"windows": {"policy": "every", "seconds": 0.9}},
        {"model": {"depth": 1}},
        {"model": {"interpolation": "hold"}},
        {"missing": {"counts": True}},
        {"training": {"logsignatures": "pysiglib"}},
    ):
        windows(config_of(tmp_path, files, **tables))
    windows(config_of(tmp_path, files), fill=1.0)
    os.utime(files, ns=(0, 0))
    windows(config_of(tmp_path, files))
    assert len(runs) == len(entries(tmp_path)) == 8
    windows(config_of(tmp_path, files, training={"learning_rate": 0.5}, model={"hidden": 9}))  # decide nothing here
    assert len(runs) == 8


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_entry_is_computed_anew(tmp_path, runs, damage) -> None:
    config = config_of(tmp_path, write_recordings(tmp_path))
    first = windows(config)
    (path,) = entries(tmp_path)
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes({"cut": data[:-8], "flipped": data, "empty": b"", "foreign": b"not a tensor" * 9}[damage])
    assert same(windows(config), first)
    assert len(runs) == 2
    assert same(windows(config), first)
    assert len(runs) == 2


def test_what_was_not_used_for_longest_makes_room(tmp_path, runs, monkeypatch) -> None:
    files = write_recordings(tmp_path)
    short, long = (config_of(tmp_path, files, windows={"policy": "every", "seconds": s}) for s in (0.4, 0.8))
    windows(short)
    windows(long)
    for i, path in enumerate(entries(tmp_path)):
        os.utime(path, ns=(i, i))
    windows(short)  # is used again
    monkeypatch.setattr(cache, "_LARGEST", sum(path.stat().st_size for path in entries(tmp_path)))
    windows(config_of(tmp_path, files, windows={"policy": "every", "seconds": 0.9}))
    windows(short)
    assert len(runs) == 3
    windows(long)
    assert len(runs) == 4
