"""What could not end well is refused before a training begins, and what may surprise is said."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from models.recordings import config_for, quiet, write_recordings

import streamrde as sr
from streamrde.errors import ConfigError, DataError
from streamrde.models import train
from streamrde.models.sweeping.trial import parts_without_test
from streamrde.models.training import members as members_module
from streamrde.models.training.config import as_train_config
from streamrde.models.training.streams import read_parts


@pytest.fixture
def files(tmp_path) -> str:
    return write_recordings(tmp_path)


@pytest.fixture
def no_training(monkeypatch) -> None:
    """A refusal comes before the first epoch."""

    def never(*args: object, **options: object) -> None:
        raise AssertionError("the training was begun")

    monkeypatch.setattr(members_module, "optimise", never)


def forecast(files: str, folder, *, suffix: str = ".parquet", **data: object) -> dict[str, object]:
    """A model that predicts channel a itself, half a second ahead."""
    own = {"task": "regression", "target": ["a"], "horizon": 0.5} | data
    output = {"test": str(folder / f"test{suffix}"), "report": str(folder / "report.html"), "model": str(folder / "m")}
    return config_for(files, data=own, training={"epochs": 2}, output=output)


@pytest.mark.slow
@pytest.mark.parametrize("data", [{}, {"target": ["b", "a"]}, {"horizon": 0.0}], ids=["ahead", "several", "now"])
def test_a_target_may_be_a_channel_with_a_file_of_test_streams(files, tmp_path, data) -> None:
    config = forecast(files, tmp_path, **data)
    metrics = train(config, console=quiet()).header.metrics
    assert (tmp_path / "report.html").exists()
    names = pq.read_schema(tmp_path / "test.parquet").names
    truth = [f"target_{name}" for name in config["data"]["target"]]
    assert names == ["stream_id", "t", "a", "b", *truth]
    found = sr.score(tmp_path / "test.parquet", tmp_path / "m", out=tmp_path / "p.parquet", truth=truth).evaluation
    assert np.mean([own["rmse"] for own in found.values()]) == pytest.approx(metrics["test_rmse"], rel=1e-4)


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"test": "test.txt"}, r"output\.test = .*its extension must be one of \.parquet"),
        ({"test": "test"}, r"output\.test = .*its extension must be"),
        ({"test": "here/"}, r"output\.test = .*is a folder"),
        ({"model": "."}, r"output\.model = .*is a folder"),
        ({"report": "file/report.html"}, r"output\.report: nothing can be written in .*file"),
        ({"metrics": "file/deep/metrics.json"}, r"output\.metrics: nothing can be written"),
        ({"model": "same", "report": "same"}, r"output\.report and output\.model are both"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused_first(files, tmp_path, monkeypatch, output, message) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=message):
        train(config_for(files, output=output), console=quiet())


@pytest.mark.usefixtures("no_training")
def test_checkpoint_and_cache_that_cannot_be_written_are_refused_first(files, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    for table, key in (("training", "checkpoint"), ("data", "cache")):
        with pytest.raises(ConfigError, match=rf"{table}\.{key}: nothing can be written in"):
            train(config_for(files, **{table: {key: str(tmp_path / "file" / "deep")}}), console=quiet())


@pytest.mark.usefixtures("no_training")
def test_test_streams_that_a_file_cannot_hold_are_refused_first(files, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"CSV cannot record that the targets lie 0\.5 s ahead"):
        train(forecast(files, tmp_path, suffix=".csv"), console=quiet())
    table = pq.read_table(files).rename_columns(["stream_id", "time", "t", "b", "turn", "speed", "subject"])
    pq.write_table(table, files)
    config = forecast(files, tmp_path, time="time", channels=[{"name": "t"}, {"name": "b"}], target=["b"])
    with pytest.raises(ConfigError, match=r"output\.test: a channel is called 't'"):
        train(config, console=quiet())


def test_folders_of_outputs_are_made(files, tmp_path) -> None:
    deep = tmp_path / "not" / "there"
    names = {"model": "m", "metrics": "m.json", "report": "r.html", "test": "t.csv"}
    output = {key: str(deep / key / name) for key, name in names.items()}
    training = {"epochs": 1, "checkpoint": str(deep / "checkpoint" / "c")}
    train(config_for(files, output=output, training=training, data={"cache": str(deep / "cache")}), console=quiet())
    for key, name in (*names.items(), ("checkpoint", "c")):
        assert (deep / key / name).is_file()
    assert any((deep / "cache").iterdir())


def relabelled(files: str, labels: list[str]) -> str:
    table = pq.read_table(files)
    streams = table["stream_id"].to_pylist()
    pq.write_table(table.set_column(4, "turn", pa.array([labels[int(name[1:])] for name in streams])), files)
    return files


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("labels", "named"),
    [
        (["left", "right"] * 11 + ["left", "rare"], "'rare'"),
        (["up", "left"] + ["right"] * 22, "'left', 'up'"),
        (["left"] * 23 + ["right"], "'right'"),
    ],
)
def test_a_class_with_one_member_is_refused_with_the_line_that_leaves_it_out(files, labels, named) -> None:
    relabelled(files, labels)
    with pytest.raises(ConfigError, match=f"only one stream has the class {named}") as caught:
        train(config_for(files), console=quiet())
    line = str(caught.value).split("with ")[-1]
    assert line.startswith('data.filters = [["turn", "!=", ')


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ({"policy": "every", "seconds": 3600.0}, "windows.seconds = 3600, and the longest training stream lasts"),
        ({"policy": "every", "seconds": 9.0}, "check data.time_unit"),
        ({"policy": "count", "n": 40}, "windows.n = 40, and the longest training stream has 40 samples"),
    ],
)
def test_windows_longer_than_every_stream_are_said_before_the_training(files, windows, message) -> None:
    console = quiet()
    config = config_for(files, training={"epochs": 1})
    config["windows"] = windows
    train(config, console=console)
    before = console.file.getvalue().split("epoch 1/")[0].replace("\n", " ")
    assert "warning: windows." in before
    assert message in before


def test_streams_of_one_window_each_are_said(files) -> None:
    console = quiet()
    config = config_for(files, training={"epochs": 1})
    config["windows"] = {"policy": "adaptive", "norm": 1e6}
    train(config, console=console)
    assert "every training stream has one window" in console.file.getvalue()


@pytest.mark.parametrize("split", [{}, {"by": "stream"}, {"folds": 2, "by": "group"}])
def test_one_stream_is_advised_to_be_split_in_time_or_cut(tmp_path, split) -> None:
    files = write_recordings(tmp_path, streams=1, length=400)
    config = config_for(files, data={"task": "regression", "target": "b", "target_at": "window"})
    config["split"] = split
    with pytest.raises(ConfigError) as caught:
        read_parts(as_train_config(config))
    if "folds" not in split:
        assert 'by = "time"' in str(caught.value)
        assert "[data.segments] seconds = " in str(caught.value)
    config["split"] = {"by": "time"}
    parts = read_parts(as_train_config(config))
    assert all(parts)
    config["data"]["segments"] = {"seconds": 4.0}
    config["split"] = {"by": "stream"}
    assert all(read_parts(as_train_config(config)))


def with_split(files: str, *, name: str = "split", values: tuple[str, str] = ("train", "test")) -> str:
    table = pq.read_table(files)
    column = [values[subject >= 5] for subject in table["subject"].to_pylist()]
    pq.write_table(table.append_column(name, pa.array(column)), files)
    return files


@pytest.mark.parametrize(
    ("name", "values", "lines"),
    [
        ("split", ("train", "test"), '[split]\ncolumn = "split"\nvalidation = 0.15\ntest = ["test"]'),
        ("subset", ("TRAIN", "TEST"), '[split]\ncolumn = "subset"\nvalidation = 0.15\ntest = ["TEST"]'),
        ("Partition", ("training", "eval"), '[split]\ncolumn = "Partition"\nvalidation = 0.15\ntest = ["eval"]'),
    ],
)
def test_a_split_of_the_files_own_is_named_with_the_lines_to_write(files, name, values, lines) -> None:
    with_split(files, name=name, values=values)
    config = config_for(files)
    config["split"] = {"group": name}
    with pytest.raises(ConfigError) as caught:
        read_parts(as_train_config(config))
    assert lines in str(caught.value)
    said: list[str] = []
    config["split"] = {}
    read_parts(as_train_config(config), say=said.append)
    assert lines in said
    config["split"] = {"column": name, "validation": 0.15, "test": [values[1]], "by": "stream"}
    said.clear()
    parts = read_parts(as_train_config(config), say=said.append)
    assert len(parts.test) == 9
    assert not any("their own split" in text for text in said)


def test_a_split_column_with_other_values_is_none_of_the_files_own(files) -> None:
    with_split(files, values=("left", "right"))
    said: list[str] = []
    config = config_for(files)
    config["split"] = {}
    read_parts(as_train_config(config), say=said.append)
    assert not any("their own split" in text for text in said)


@pytest.mark.parametrize("folds", [3, 5])
def test_folds_of_a_sweep_divide_the_streams_of_an_official_split(files, folds) -> None:
    with_split(files)
    config = config_for(files)
    config["split"] = {"column": "split", "validation": [], "test": ["test"]}
    config = as_train_config(config | {"sweep": {"folds": folds}})
    judged: list[str] = []
    for fold in range(folds):
        parts = parts_without_test(config, config.sweep, fold=fold)
        names = {stream.stream for stream in parts.validation}
        assert names.isdisjoint(stream.stream for stream in parts.train)
        assert {label for stream in parts.validation for label in stream.target.labels} == {"left", "right"}
        judged += names
    assert sorted(judged) == [f"s{i:02d}" for i in range(15)]


@pytest.mark.parametrize(
    ("filters", "streams"),
    [([["subject", ">=", 2]], 18), ([["subject", "not in", [0, 7]], ["turn", "==", "left"]], 9), ([], 24)],
)
def test_rows_are_left_out_of_training_by_filters(files, filters, streams) -> None:
    config = config_for(files, data={"filters": filters})
    config["split"] = {}
    assert sum(map(len, read_parts(as_train_config(config)))) == streams


def test_filters_that_no_row_passes_are_named(files) -> None:
    config = config_for(files, data={"filters": [["subject", ">", 99]]})
    with pytest.raises(DataError, match=r"no row passes data\.filters"):
        read_parts(as_train_config(config))
    with pytest.raises(ConfigError, match="takes a list of values"):
        as_train_config(config_for(files, data={"filters": [["subject", "in", 1]]}))
    with pytest.raises(DataError, match="has no column 'subjekt'"):
        read_parts(as_train_config(config_for(files, data={"filters": [["subjekt", ">", 1]]})))
