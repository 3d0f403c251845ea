from __future__ import annotations

import numpy as np
import oracles
import pysiglib
import pytest
import tolerances
import torch
from bundles import make_recording
from models.recordings import config_for, write_recordings
from pysiglib import torch_api

import streamrde as sr
from streamrde.errors import ConfigError, DataError
from streamrde.fitting.targets import Target
from streamrde.models.training.augmentation import augment, random_rotation
from streamrde.models.training.config import AugmentConfig, as_train_config, resolve_config
from streamrde.models.training.streams import read_parts, read_streams
from streamrde.windowing.partition import Partition
from streamrde.windowing.recorded import window_recordings


@pytest.mark.parametrize("interpolation", ["linear", "hold"])
@pytest.mark.parametrize("windows", [sr.Every(1.0), sr.Every(0.7, align="epoch"), sr.Count(5)])
@pytest.mark.parametrize("depth", [1, 3, 4])
def test_windows_of_many_streams_are_those_of_each(interpolation, windows, depth) -> None:
    recordings = [make_recording(i, length, missing=0.2, t0=1e5 * i) for i, length in enumerate((30, 2, 1, 57))]
    fills = np.array([0.25, -0.5])
    ts, xs = zip(*recordings, strict=True)
    partition = Partition((0.25, -0.5), depth, windows, interpolation)
    many = window_recordings(ts, xs, partition)
    for (t, x), windowed in zip(recordings, many, strict=True):
        path = np.column_stack([t - t[0], x])
        expected = sr.logsig_windows(t, path, depth, windows, interpolation, fill=np.append(0.0, fills))
        np.testing.assert_array_equal(np.append(t[0], windowed.end), expected[0])
        np.testing.assert_allclose(windowed.logsigs, expected[1], rtol=0, atol=tolerances.ORACLE)


@pytest.mark.parametrize("case", oracles.cases("logsignatures"))
def test_pysiglib_method_1_is_the_words_basis(case) -> None:
    depth = int(case["depth"])
    path = np.array(case["path"])
    pysiglib.prepare_log_sig(path.shape[1], depth, method=1)
    np.testing.assert_allclose(pysiglib.log_sig(path, depth), case["words"], rtol=0, atol=tolerances.ORACLE)


def test_log_signatures_of_pysiglib_have_gradients() -> None:
    pysiglib.prepare_log_sig(3, 3, method=1)
    path = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: torch_api.log_sig(p, 3), (path,))


def test_recordings_are_read_stream_by_stream(tmp_path) -> None:
    config = as_train_config(config_for(write_recordings(tmp_path)))
    recordings = read_streams(config.data, group="subject")
    assert [recording.stream for recording in recordings] == [f"s{i:02d}" for i in range(24)]
    assert recordings[4].group == "1"
    assert recordings[4].target.labels == {"left"}
    assert recordings[4].x.shape == (40, 2)
    assert (np.diff(recordings[4].t) > 0).all()


def test_time_that_goes_back_is_refused(tmp_path) -> None:
    config = as_train_config(config_for(write_recordings(tmp_path, t=[1.0] * (24 * 40))))
    with pytest.raises(DataError, match="stream 's00' has time"):
        read_streams(config.data)


def test_a_windows_target_is_its_last_known_value() -> None:
    targets = np.array([[0.0], [1.0], [np.nan], [3.0], [np.nan], [np.nan]])
    start, end = np.array([0.0, 2.0, 3.0]), np.array([2.0, 3.0, 5.0])
    np.testing.assert_array_equal(Target(targets, np.arange(6.0)).at(start, end), [[1.0], [3.0], [np.nan]])


def test_a_rotation_is_a_rotation_within_its_angle() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        rotation = random_rotation(0.3, rng)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-14)
        assert np.linalg.det(rotation) == pytest.approx(1)
        assert np.arccos((np.trace(rotation) - 1) / 2) <= 0.3 + 1e-9


def test_an_augmented_stream_keeps_what_it_should() -> None:
    t, x = np.arange(50.0), np.random.default_rng(0).normal(size=(50, 3))
    options = {"names": ["a", "b", "c"], "deviation": np.ones(3)}
    turned, y, _ = augment(t, x, AugmentConfig(rotate=(("a", "b", "c"),)), rng=np.random.default_rng(1), **options)
    np.testing.assert_array_equal(turned, t)
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), np.linalg.norm(x, axis=1))
    cropped, y, _ = augment(t, x, AugmentConfig(crop=0.4, tempo=0.1), rng=np.random.default_rng(1), **options)
    assert 20 <= len(cropped) == len(y) <= 50
    assert 0.9 <= np.diff(cropped).mean() <= 1.1
    flips = [
        augment(t, x, AugmentConfig(flip=(("a", "c"),)), rng=np.random.default_rng(i), **options).x for i in range(9)
    ]
    signs = {tuple(np.sign((y / x).mean(axis=0)).tolist()) for y in flips}
    assert signs == {(1.0, 1.0, 1.0), (-1.0, 1.0, -1.0)}


def test_times_in_milliseconds_are_refused_before_the_training(tmp_path):
    seconds = np.concatenate([np.arange(100) * 0.02 + 60 * i for i in range(24)])
    files = write_recordings(tmp_path, length=100, t=seconds)
    every = {"policy": "every", "seconds": 0.5}
    assert len(read_parts(resolve_config(config_for(files, windows=every))).train) > 0
    for factor, start, unit in ((1e3, 0.0, "milliseconds"), (1e6, 0.0, "microseconds"), (1e3, 1709640000.0, "'ms'")):
        files = write_recordings(tmp_path / f"{factor}{start}", length=100, t=(seconds + start) * factor)
        config = config_for(files, windows=every)
        with pytest.raises(DataError, match=f"column 't': .*{unit}.*time_check = 'off'"):
            read_parts(resolve_config(config))
        config["data"]["time_unit"] = "ms" if factor == 1e3 else "us"
        assert len(read_parts(resolve_config(config)).train) > 0
    config["data"] |= {"time_unit": "s", "time_check": "off"}
    assert len(read_parts(resolve_config(config)).train) > 0
    config["data"]["time_unit"] = "seconds"
    with pytest.raises(ConfigError, match=r"did you mean 's'.*use one of s, ms"):
        read_parts(resolve_config(config))


def test_slow_sensors_and_long_windows_are_trained(tmp_path):
    for interval, window in ((60.0, 30.0), (3600.0, 86400.0), (1.0, 0.2), (1e-4, 0.5)):
        t = np.concatenate([np.arange(100) * interval + 1e6 * interval * i for i in range(24)])
        files = write_recordings(tmp_path / f"{interval}", length=100, t=t)
        assert read_parts(resolve_config(config_for(files, windows={"policy": "every", "seconds": window}))).train
