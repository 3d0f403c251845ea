from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from models.recordings import config_for, quiet, write_recordings

from streamrde.errors import ConfigError
from streamrde.fitting.inputs import SplitConfig
from streamrde.fitting.recordings import Recording
from streamrde.fitting.targets import Target
from streamrde.models import train
from streamrde.models.training.config import as_train_config
from streamrde.models.training.splits import leakage, split, warnings_of


def recordings_of(groups: str, *, given: str = "", classes: str = "") -> list[Recording]:
    """Streams s0, s1, ... of a group, a listed value and a class of one letter each."""
    names = tuple(sorted(set(classes)))
    values = [[[float(names.index(name))]] for name in classes] or [[[0.0]]] * len(groups)
    targets = [Target(np.array(value), None, names) for value in values]
    return [
        Recording(f"s{i}", np.arange(11.0), np.zeros((11, 1)), targets[i], group, f"s{i}", given[i : i + 1])
        for i, group in enumerate(groups)
    ]


def segments_of(recordings: int, *, each: int, seconds: float, every: float) -> list[Recording]:
    starts = every * np.arange(each)
    none = Target(np.zeros((1, 1)), None)
    return [
        Recording(f"r{i}@{start:g}", start + np.arange(0.0, seconds), np.zeros((int(seconds), 1)), none, *[f"r{i}"] * 2)
        for i in range(recordings)
        for start in starts
    ]


def test_by_given_values() -> None:
    config = SplitConfig(column="g", validation=("b",), test=("c",))
    parts = split(recordings_of("aabbcc", given="aabbcc"), config)
    assert [[recording.group for recording in part] for part in parts] == [["a", "a"], ["b", "b"], ["c", "c"]]


@pytest.mark.parametrize("groups", ["aabbccddee", "abcdefghij"], ids=["grouped at random", "random"])
def test_at_random_a_group_is_never_divided(groups) -> None:
    recordings = recordings_of(groups)
    seen = set()
    for seed in range(5):
        parts = split(recordings, SplitConfig(validation=0.2, test=0.2, seed=seed))
        kept = [{recording.group for recording in part} for part in parts]
        assert sum(map(len, kept)) == len(set(groups))
        assert [len(part) for part in parts] == [6, 2, 2]
        seen.add(tuple(sorted(kept[2])))
    assert len(seen) > 1


def test_validation_and_test_may_be_left_out() -> None:
    parts = split(recordings_of("abc"), SplitConfig(validation=0.0, test=()))
    assert [len(part) for part in parts] == [3, 0, 0]


def test_a_share_is_drawn_from_the_streams_that_no_list_names() -> None:
    recordings = recordings_of("abcdefghijkl", given="rrrrrrrrrrtt")
    parts = split(recordings, SplitConfig(by="stream", column="part", validation=0.3, test=("t",)))
    assert [len(part) for part in parts] == [7, 3, 2]
    assert {recording.given for recording in parts.test} == {"t"}


def test_shares_have_the_classes_as_often_as_all() -> None:
    recordings = recordings_of("".join(map(chr, range(33, 133))), classes="y" * 14 + "n" * 86)
    for seed in range(4):
        parts = split(recordings, SplitConfig(validation=0.1, test=0.2, seed=seed))
        positive = [sum(recording.target.labels == {"y"} for recording in part) for part in parts]
        assert [len(part) for part in parts] == [70, 10, 20]
        assert sum(positive) == 14
        assert abs(positive[2] - 2.8) < 1
        assert abs(positive[1] - 1.4) < 1
    loose = split(recordings, SplitConfig(stratify=False, validation=0.1, test=0.2))
    assert [len(part) for part in loose] == [70, 10, 20]


def test_every_group_is_the_test_in_one_fold() -> None:
    recordings = recordings_of("abcdefghijklm" * 2, classes="yynnnnnnnnnnn" * 2)
    tested: list[str] = []
    for fold in range(4):
        parts = split(recordings, SplitConfig(folds=4, fold=fold, validation=0.2))
        assert not {r.group for r in parts.train} & {r.group for r in parts.test}
        assert len(parts.validation) == 6
        assert sum(r.target.labels == {"y"} for r in parts.test) <= 2
        tested += [recording.stream for recording in parts.test]
    assert sorted(tested) == sorted(recording.stream for recording in recordings)
    again = split(recordings, SplitConfig(folds=4, fold=3, validation=0.2))
    assert [recording.stream for recording in again.test] == [recording.stream for recording in parts.test]


def test_segments_of_a_recording_stay_together_unless_each_is_drawn_alone() -> None:
    segments = segments_of(10, each=5, seconds=6, every=3)
    parts = split(segments, SplitConfig(validation=0.2, test=0.2))
    assert [len(part) for part in parts] == [30, 10, 10]
    assert leakage(parts) == {}
    config = SplitConfig(by="stream", validation=0.0, test=0.2)
    parts = split(segments, config)
    assert [len(part) for part in parts] == [40, 0, 10]
    found = leakage(parts)
    assert found["test_streams_shared_group"] == 10
    assert found["test_streams_overlapping"] > 0
    (warning,) = warnings_of(parts, config)
    assert warning.startswith("10 of 10 test streams are of the same recording as training streams, and ")


def test_a_group_on_both_sides_is_warned_about() -> None:
    config = SplitConfig(column="part", group="subject", validation=(), test=("t",))
    parts = split(recordings_of("aabb", given="rrrt"), config)
    assert leakage(parts) == {"test_streams_shared_group": 1.0}
    assert warnings_of(parts, config) == [
        "1 of 1 test streams are of the same 'subject' as training streams: what is measured there says little about "
        "new ones"
    ]


def test_by_time_every_recording_is_cut_into_parts() -> None:
    parts = split(recordings_of("ab"), SplitConfig(by="time", validation=0.2, test=0.2))
    assert [[stream.t.tolist() for stream in part] for part in parts] == [
        [[0, 1, 2, 3, 4, 5]] * 2,
        [[6, 7]] * 2,
        [[8, 9, 10]] * 2,
    ]
    assert [stream.stream for stream in parts.test] == ["s0@8", "s1@8"]
    apart = split(recordings_of("a"), SplitConfig(by="time", validation=0.0, test=0.5, embargo=2.0))
    assert [stream.t.tolist() for part in apart for stream in part] == [[0, 1, 2, 3, 4], [7, 8, 9, 10]]


def test_by_time_segments_across_a_border_are_left_out() -> None:
    said: list[str] = []
    segments = segments_of(1, each=10, seconds=3, every=2)
    config = SplitConfig(by="time", validation=0.0, test=0.5, embargo=1.0)
    parts = split(segments, config, say=said.append)
    assert [[s.stream for s in part] for part in parts] == [
        ["r0@0", "r0@2", "r0@4", "r0@6"],
        [],
        ["r0@12", "r0@14", "r0@16", "r0@18"],
    ]
    assert said == ["2 segments lie across the borders between parts in time and are left out"]
    assert leakage(parts) == {"test_streams_shared_group": 4.0}
    assert warnings_of(parts, config) == []


def test_targets_of_one_part_in_time_are_not_those_of_another() -> None:
    recording = recordings_of("a")[0]
    target = Target(np.arange(11.0)[:, None], recording.t)
    segments = [Recording("r@2", recording.t[2:4], recording.x[2:4], target, "r", "r")]
    segments.append(Recording("r@8", recording.t[8:], recording.x[8:], target, "r", "r"))
    parts = split(segments, SplitConfig(by="time", validation=0.0, test=0.5))
    assert parts.train[0].target.values.max() == 6


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"by": "time", "validation": ["a"], "column": "g"}, "must be shares"),
        ({"embargo": 1.0}, 'only split.by = "time" leaves time out'),
        ({"fold": 5, "folds": 5}, "folds are numbered from 0"),
        ({"folds": 1}, "leaves nothing to train on"),
        ({"folds": 3, "test": ["a"], "column": "g"}, "leave out one of split.test"),
        ({"validation": 0.5, "test": 0.5}, "leave nothing to train on"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields, message) -> None:
    tables = config_for("x", split={"column": "", "validation": 0.1, "test": 0.1} | fields)
    with pytest.raises(ConfigError, match=message):
        as_train_config(tables)


def test_more_folds_than_groups_are_refused() -> None:
    with pytest.raises(ConfigError, match="there are only 2 groups"):
        split(recordings_of("ab"), SplitConfig(folds=3))


def test_a_share_of_one_group_leaves_nothing_and_says_what_to_do() -> None:
    config = SplitConfig(column="part", validation=0.2, test=("t",))
    with pytest.raises(ConfigError, match=r'set split\.by = "stream"'):
        split(recordings_of("rrrt", given="rrrt"), config)


def test_a_run_warns_of_leakage_and_keeps_the_counts(tmp_path) -> None:
    console = quiet()
    splits = {"column": "subject", "by": "stream", "validation": 0.2, "test": 0.25}
    bundle = train(config_for(write_recordings(tmp_path), split=splits, training={"epochs": 1}), console=console)
    assert bundle.header.metrics["test_streams"] == 6
    assert bundle.header.metrics["test_streams_shared_group"] > 0
    assert "test streams are of the same 'subject' as training streams" in console.file.getvalue()
    assert bundle.header.training["split"].startswith("by stream, whatever its subject; validation: 0.2; test: 0.25")


def test_a_given_division_into_train_and_test_leaves_a_share_for_validation(tmp_path) -> None:
    files = write_recordings(tmp_path)
    table = pq.read_table(files)
    given = ["test" if subject > 5 else "train" for subject in table["subject"].to_pylist()]
    pq.write_table(table.append_column("split", pa.array(given)), files)
    splits = {"column": "split", "by": "stream", "validation": 0.2, "test": ["test"]}
    metrics = train(config_for(files, split=splits, training={"epochs": 1}), console=quiet()).header.metrics
    assert [metrics[f"{part}_streams"] for part in ("train", "validation", "test")] == [14, 4, 6]
    assert not [name for name in metrics if "shared" in name]
