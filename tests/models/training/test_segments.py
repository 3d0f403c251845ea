from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from models.recordings import config_for, write_recordings

from streamrde.errors import ConfigError, DataError
from streamrde.models.training.config import as_train_config
from streamrde.models.training.examples import Variation, prepare
from streamrde.models.training.streams import read_streams

RATE = 125


def write_long(folder, *, seconds: float = 10.0, names: tuple[str, ...] = ("a", "b")) -> str:
    """Recordings at 125 Hz with a whole number of seconds and one sample more, their target the whole seconds."""
    t = np.arange(round(seconds * RATE) + 1) / RATE
    table = {
        "stream_id": np.repeat(names, len(t)),
        "t": np.tile(t, len(names)),
        "x": np.tile(np.sin(7 * t), len(names)),
        "y": np.tile(np.floor(t), len(names)),
        "kind": np.repeat([name.upper() for name in names], len(t)),
    }
    pq.write_table(pa.table(table), folder / "long.parquet")
    return str(folder / "long.parquet")


def write_list(folder, **columns: object) -> str:
    pq.write_table(pa.table(columns), folder / "windows.parquet")
    return str(folder / "windows.parquet")


def config_of(files: str, segments: dict[str, object], **data: object):
    tables = {"files": files, "channels": [{"name": "x"}], "target": "y", "task": "regression", "segments": segments}
    return as_train_config({"data": tables | data, "windows": {"policy": "count", "n": 25}})


def test_a_rule_cuts_whole_segments_with_the_same_number_of_samples(tmp_path) -> None:
    said: list[str] = []
    config = config_of(write_long(tmp_path), {"seconds": 4.0, "every": 1.5})
    streams = read_streams(config.data, say=said.append)
    assert [s.stream for s in streams[:5]] == ["a@0", "a@1.5", "a@3", "a@4.5", "a@6"]
    assert len(streams) == 10
    assert {len(s.t) for s in streams} == {4 * RATE}
    assert {(s.group, s.source) for s in streams} == {("a", "a"), ("b", "b")}
    assert said == ["10 segments of 4 s every 1.5 s from 2 recordings; 2 samples at their ends are in none"]


def test_without_a_distance_segments_follow_each_other_up_to_a_last_whole_one(tmp_path) -> None:
    config = config_of(write_long(tmp_path, seconds=9 - 1 / RATE), {"seconds": 3.0})
    assert [s.stream for s in read_streams(config.data)] == ["a@0", "a@3", "a@6", "b@0", "b@3", "b@6"]
    assert read_streams(config_of(write_long(tmp_path, seconds=2), {"seconds": 3.0}).data) == []


def test_segments_share_the_samples_of_their_recording(tmp_path) -> None:
    first, second, *_ = read_streams(config_of(write_long(tmp_path), {"seconds": 4.0, "every": 1.0}).data)
    assert np.shares_memory(first.x, second.x)
    assert np.shares_memory(first.t, second.t)


def test_a_segment_has_the_windows_of_its_own_samples(tmp_path) -> None:
    config = config_of(write_long(tmp_path), {"seconds": 4.0, "every": 2.0})
    streams = read_streams(config.data)
    examples = prepare(streams, config, fills=np.zeros(1), classes=())
    assert [example.stream for example in examples] == [stream.stream for stream in streams]
    assert {example.logsigs.shape for example in examples} == {(20, 3)}  # 499 increments, the last window short
    np.testing.assert_allclose(examples[1].ends[:2], [0.2, 0.4])
    np.testing.assert_allclose(examples[1].logsigs[0, 1], np.sin(7 * 2.2) - np.sin(7 * 2.0))
    np.testing.assert_array_equal(examples[1].target[[0, 2, 4], 0], [2, 2, 3])  # at 2.2, 2.6 and 3 s


def test_listed_segments_bring_their_targets(tmp_path) -> None:
    listed = write_list(tmp_path, stream_id=["b", "a", "a"], t=[2.0, 5.0, 0.5], t_end=[4.0, 9.0, 1.5], rate=[3, 2, 1])
    config = config_of(write_long(tmp_path), {"file": listed}, target="rate")
    streams = read_streams(config.data)
    assert [s.stream for s in streams] == ["a@0.5", "a@5", "b@2"]
    assert [len(s.t) for s in streams] == [RATE, 4 * RATE, 2 * RATE]
    examples = prepare(streams, config, fills=np.zeros(1), classes=())
    assert [set(example.target[:, 0]) for example in examples] == [{1.0}, {2.0}, {3.0}]


def test_listed_segments_may_have_columns_of_other_names_and_a_group(tmp_path) -> None:
    listed = write_list(tmp_path, of=["a", "a"], begin=[0.0, 1.0], stop=[2.0, 3.0], who=["x", "y"])
    columns = {"stream": "of", "start": "begin", "end": "stop"}
    config = config_of(write_long(tmp_path), {"file": listed} | columns, target_at="window")
    streams = read_streams(config.data, group="who")
    assert [(s.group, s.source) for s in streams] == [("x", "a"), ("y", "a")]
    np.testing.assert_array_equal(np.unique(streams[1].target.values), [1, 2])


def test_segments_without_samples_are_counted(tmp_path) -> None:
    said: list[str] = []
    listed = write_list(tmp_path, stream_id=["a", "a"], t=[0.0, 100.0], t_end=[1.0, 101.0])
    assert len(read_streams(config_of(write_long(tmp_path), {"file": listed}).data, say=said.append)) == 1
    assert said == ["2 listed segments of 1 recordings", "1 of them have fewer than two samples and are left out"]


def test_classes_of_segments_are_those_of_their_rows(tmp_path) -> None:
    config = config_of(write_long(tmp_path), {"seconds": 5.0}, target="kind", task="classification")
    assert [s.target.labels for s in read_streams(config.data)] == [{"A"}, {"A"}, {"B"}, {"B"}]


def test_a_target_that_changes_within_a_segment_is_none_of_the_stream(tmp_path) -> None:
    config = config_of(write_long(tmp_path), {"seconds": 4.0}, target_at="stream")
    with pytest.raises(DataError, match=r"stream 'a@0' has 0, 1, 2 in column 'y'.*one value per stream"):
        read_streams(config.data)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"stream_id": ["c"], "t": [0.0], "t_end": [1.0]}, "row 0 is of recording 'c', which is not in data.files"),
        ({"stream_id": ["a"], "t": [1.0], "t_end": [1.0]}, "column 't_end', row 0 .*ends before it starts"),
        ({"stream_id": ["a"] * 2, "t": [1.0] * 2, "t_end": [2.0] * 2}, "'a@1' is listed twice; drop row 1"),
        ({"stream_id": ["a"], "t": [1.0]}, "has no column 't_end'"),
        ({"stream_id": ["a"], "t": [1.0], "t_end": [2.0], "y": [0.0]}, "has the target 'y' and not 'x'"),
    ],
)
def test_a_list_that_cannot_be_used_names_its_fault(tmp_path, columns, message) -> None:
    config = config_of(write_long(tmp_path), {"file": write_list(tmp_path, **columns)}, target=["y", "x"])
    with pytest.raises(DataError, match=message):
        read_streams(config.data)


@pytest.mark.parametrize("segments", [{}, {"seconds": 1.0, "file": "x"}, {"file": "x", "every": 1.0}])
def test_segments_need_either_a_rule_or_a_file(tmp_path, segments) -> None:
    tables = config_for(write_recordings(tmp_path))
    tables["data"] |= {"segments": segments}
    with pytest.raises(ConfigError, match=r"data\.segments"):
        as_train_config(tables)


def test_targets_of_a_stretched_stream_stay_with_their_samples(tmp_path) -> None:
    tables = {"files": write_long(tmp_path), "channels": [{"name": "x"}], "target": "y", "task": "regression"}
    augment = {"tempo": 0.5, "crop": 0.5}
    config = as_train_config({"data": tables, "windows": {"policy": "count", "n": RATE}, "augment": augment})
    streams = read_streams(config.data)
    variation = Variation(np.random.default_rng(0), np.ones(1))
    for example in prepare(streams, config, fills=np.zeros(1), classes=(), variation=variation):
        # A window of 125 samples lasts one second of the recording, however time was stretched.
        assert set(np.diff(example.target[:-1, 0])) == {1.0}


def test_rates_follow_the_tempo_and_other_targets_do_not(tmp_path) -> None:
    tables = {"files": write_long(tmp_path), "channels": [{"name": "x"}], "target": ["y", "x"], "task": "regression"}
    augment = {"tempo": 0.5, "rates": ["x"]}
    config = as_train_config({"data": tables, "windows": {"policy": "count", "n": RATE}, "augment": augment})
    streams = read_streams(config.data)
    plain = prepare(streams, config, fills=np.zeros(1), classes=())
    variation = Variation(np.random.default_rng(0), np.ones(1))
    tempos = set()
    varied = prepare(streams, config, fills=np.zeros(1), classes=(), variation=variation)
    for example, own in zip(varied, plain, strict=True):
        (tempo,) = set(np.round(example.ends / own.ends, 9))
        np.testing.assert_allclose(example.target[:, 0], own.target[:, 0])
        np.testing.assert_allclose(example.target[:, 1] * tempo, own.target[:, 1])
        tempos.add(tempo)
    assert len(tempos) > 1
