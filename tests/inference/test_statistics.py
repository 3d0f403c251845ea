"""What a model keeps of the streams it was trained on."""

import msgspec
import numpy as np
import pytest
from bundles import make_bundle

from streamrde import Adaptive, Count, Every, Gap
from streamrde.inference.bundle import Bundle, load
from streamrde.inference.header import header_differences
from streamrde.inference.statistics import bridge_of, stream_statistics
from streamrde.windowing.partition import Partition


def partition(windows, **fields):
    return Partition((7.0, 0.0), 2, windows, "linear", **fields)


def recordings():
    t = np.arange(41) * 0.25
    x = np.stack([np.full(41, np.nan), np.sin(t)], axis=1)
    late = np.append(t[:21], t[21:] + 60.0) + 1000.0
    return [t, late], [x, 2 * x]


def test_statistics_are_those_of_the_samples():
    ts, xs = recordings()
    told = stream_statistics(ts, xs, partition(Every(1.0)))
    assert told.samples_per_window[1] == 4
    assert told.interval == 0.25
    assert told.longest_silence == pytest.approx(60.25)
    assert (told.first, told.last) == (0.0, 1070.0)
    assert told.low == (7.0, 2 * np.nanmin(xs[0][:, 1]))  # a channel that was never observed has its fill value
    assert told.high == (7.0, 2 * np.nanmax(xs[0][:, 1]))


@pytest.mark.parametrize(("windows", "expected"), [(Count(5), 5), (Every(0.5), 2)])
def test_samples_are_counted_per_window_of_any_policy(windows, expected):
    ts, xs = recordings()
    assert stream_statistics(ts, xs, partition(windows, gap=Gap(seconds=10.0))).samples_per_window[1] == expected


def test_one_sample_has_statistics():
    told = stream_statistics([np.zeros(1)], [np.ones((1, 2))], partition(Every(1.0)))
    assert (told.interval, told.longest_silence, told.samples_per_window) == (0.0, 0.0, (1.0, 1.0, 1.0))


def test_statistics_change_neither_fingerprint_nor_state(tmp_path):
    bundle = make_bundle()
    ts, xs = recordings()
    channels = len(bundle.header.channels)
    xs = [np.resize(x, (len(x), channels)) for x in xs]
    told = stream_statistics(ts, xs, bundle.header.partition)
    other = Bundle(msgspec.structs.replace(bundle.header, statistics=told), bundle.tensors)
    assert other.fingerprint == bundle.fingerprint
    assert not header_differences(bundle.header, other.header)
    other.save(tmp_path / "m.safetensors")
    assert load(tmp_path / "m.safetensors").header.statistics == told


@pytest.mark.parametrize(
    ("intervals", "windows", "expected"),
    [
        (np.full(100, 0.5), Every(1.0), 1000),
        (np.full(100, 4000.0), Every(1.0), 8000),
        (np.append(np.full(1999, 0.5), 43200.0), Every(0.5), 1000),  # one wrong time among many
        (np.full(100, 1e9), Every(1.0), 100_000),
        (np.full(100, 1e9), Count(4), 1000),
        (np.full(3, 900.0), Adaptive(1.0, max_seconds=0.5), 3600),
    ],
)
def test_a_model_bridges_what_is_usual_in_training(intervals, windows, expected):
    assert bridge_of([np.append(0.0, intervals.cumsum()), np.zeros(1)], windows) == expected


def test_how_long_training_went_without_a_channel_is_kept():
    t = np.arange(10.0)
    x = np.ones((10, 2))
    x[2:7, 0] = np.nan  # five rows between two observations
    x[:4, 1] = np.nan  # before the first one is no pause
    never = np.ones((10, 2))
    never[:, 1] = np.nan
    told = stream_statistics([t, t, t, t], [x, x, never, np.ones((10, 2))], partition(Every(1.0)))
    assert told.longest_missing == (5, 0)
    assert told.unseen == (0.0, 0.25)
