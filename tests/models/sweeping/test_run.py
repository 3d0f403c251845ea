from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import tomllib

import pyarrow.parquet as pq
import pytest
from models.recordings import config_for, quiet, write_recordings

import streamrde.models.sweeping.run as run_module
import streamrde.models.sweeping.trial as trial_module
from streamrde.errors import ConfigError, ParameterError, WorkerError
from streamrde.models import sweep, train
from streamrde.models.sweeping.progress import table
from streamrde.models.sweeping.space import all_tables
from streamrde.models.training.config import as_train_config
from streamrde.tables import print_whole
from streamrde.toml import dumps

pytestmark = pytest.mark.slow


def config(tmp_path, over: dict[str, object], **tables: dict[str, object]) -> dict[str, object]:
    own = {"training": {"epochs": 3, "batch_size": 24, "learning_rate": 0.02}, "sweep": {"over": over, "rungs": 2}}
    return config_for(write_recordings(tmp_path), **(own | tables))


def test_the_best_third_is_trained_for_longer_and_the_best_is_ready_to_train(tmp_path) -> None:
    console = quiet()
    own = config(tmp_path, {"model.hidden": [4, 6], "training.learning_rate": [1e-7, 0.02]})
    found = sweep(own, out=tmp_path / "s.parquet", console=console)
    assert found.table["rung"].to_pylist() == [0] * 4 + [1] * 3
    assert found.table["epochs"].to_pylist() == [1] * 4 + [3] * 3
    assert found.standings[0].trial.values["training.learning_rate"] == 0.02
    assert found.standings[0].score == min(found.table["score"].to_pylist()[4:])
    assert any(standing.pareto for standing in found.standings)
    assert all(cost > 0 for cost in found.table["step_us"].to_pylist())
    assert not [name for name in found.table.column_names if name.startswith("test_")]
    assert pq.read_table(tmp_path / "s.parquet").num_rows == 7
    assert "[7/7]" in console.file.getvalue()
    bundle = train(as_train_config(tomllib.loads(dumps(all_tables(found.best)))), console=quiet())
    assert bundle.header.hidden == found.standings[0].trial.values["model.hidden"]
    assert bundle.header.metrics["test_streams"] == 3


def test_a_training_that_diverges_is_recorded_and_goes_no_further(tmp_path) -> None:
    over = {"training.learning_rate": [0.02, 1e12]}
    training = {"epochs": 5, "batch_size": 8, "gradient_norm": 1e12, "spike": 0, "rewinds": 0}
    found = sweep(config(tmp_path, over, training=training, sweep={"over": over, "rungs": 1}), console=quiet())
    assert [standing.score is None for standing in found.standings] == [False, True]
    assert "diverged" in found.standings[1].error
    over = {"training.learning_rate": [1e12]}
    own = config(tmp_path, over, training=training, sweep={"over": over, "rungs": 1})
    with pytest.raises(ParameterError, match=r"every training failed.*diverged"):
        sweep(own, console=quiet())


def test_a_sweep_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch) -> None:
    own, out = config(tmp_path, {"model.hidden": [4, 5, 6]}, training={"epochs": 1}), tmp_path / "s.parquet"
    whole = sweep(own, console=quiet())
    fit, calls = trial_module.fit, []

    def stopped(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return fit(*arguments, **options)

    monkeypatch.setattr(trial_module, "fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        sweep(own, out=out, console=quiet())
    assert pq.read_table(out).num_rows == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    console = quiet()
    resumed = sweep(own, out=out, resume=True, console=console)
    assert len(calls) == 4
    assert "resumed: 2 trainings were done" in console.file.getvalue()
    assert resumed.table["score"].to_pylist() == whole.table["score"].to_pylist()


def test_processes_give_what_one_gives(tmp_path) -> None:
    own = config(tmp_path, {"model.hidden": [4, 5]}, training={"epochs": 1})
    alone, together = (sweep(own, jobs=jobs, console=quiet()) for jobs in (1, 2))
    assert alone.table["score"].to_pylist() == pytest.approx(together.table["score"].to_pylist(), rel=1e-6)


def test_the_mean_over_seeds_decides(tmp_path) -> None:
    over = {"model.hidden": [4]}
    found = sweep(config(tmp_path, over, training={"epochs": 1}, sweep={"over": over, "repeats": 2}), console=quiet())
    scores = found.table["score"].to_pylist()
    assert scores[0] != scores[1]
    assert found.standings[0].score == pytest.approx(sum(scores) / 2)


def test_every_group_judges_once_where_there_are_folds(tmp_path, monkeypatch) -> None:
    seen = []
    fit = trial_module.fit
    monkeypatch.setattr(
        trial_module, "fit", lambda config, parts, **options: seen.append(parts) or fit(config, parts, **options)
    )
    own = config(
        tmp_path,
        {},
        training={"epochs": 1},
        split={"validation": [], "test": [7]},
        sweep={"over": {"model.hidden": [4]}, "folds": 3},
    )
    found = sweep(own, console=quiet())
    judging = [{stream.group for stream in parts.validation} for parts in seen]
    assert sorted(group for groups in judging for group in groups) == list("0123456")
    for parts, groups in zip(seen, judging, strict=True):
        assert not groups & {stream.group for stream in parts.train}
        assert not parts.test
    assert found.standings[0].score == pytest.approx(sum(found.table["score"].to_pylist()) / 3)
    with pytest.raises(ConfigError, match="only 7 groups"):
        sweep(own | {"sweep": {"folds": 8}}, console=quiet())


def test_a_sweep_runs_in_any_thread(tmp_path) -> None:
    found = []
    own = config(tmp_path, {"model.hidden": [4]}, training={"epochs": 1})
    thread = threading.Thread(target=lambda: found.append(sweep(own, console=quiet())))
    thread.start()
    thread.join()
    assert len(found) == 1


def test_without_validation_streams_there_is_nothing_to_judge_by(tmp_path) -> None:
    own = config(tmp_path, {"model.hidden": [4]}, split={"column": "subject", "validation": [], "test": [7]})
    with pytest.raises(ConfigError, match=r"set split\.validation"):
        sweep(own, console=quiet())


def test_trials_do_not_see_the_test_streams(tmp_path, monkeypatch) -> None:
    seen = []
    fit = trial_module.fit
    monkeypatch.setattr(
        trial_module, "fit", lambda config, parts, **options: seen.append(parts) or fit(config, parts, **options)
    )
    sweep(config(tmp_path, {"model.hidden": [4]}, training={"epochs": 1}), console=quiet())
    assert [(len(parts.train), len(parts.validation), len(parts.test)) for parts in seen] == [(18, 3, 0)]


class Dying:
    """A call whose process ends in the middle of it."""

    def __call__(self) -> None:
        os._exit(9)


def test_a_process_that_dies_is_a_clear_error() -> None:
    with pytest.raises(WorkerError, match="fewer jobs"), run_module._workers(2) as work:
        list(work([Dying()]))
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_sweep_ends_when_its_time_is_over_and_can_go_on(tmp_path, jobs) -> None:
    own = config(
        tmp_path,
        {},
        training={"epochs": 3},
        sweep={"over": {"model.hidden": [3, 4, 5, 6]}, "rungs": 2},
    )
    out = tmp_path / "sweep.parquet"
    short = sweep(own, out=out, minutes=1e-9, jobs=jobs, console=quiet())
    # The first one in any case: there is a result.
    assert short.table.num_rows == 1
    assert short.standings[0].score is not None
    assert short.unfinished == 4 - 1 + 3
    whole = sweep(own, out=out, resume=True, minutes=60, jobs=jobs, console=quiet())
    assert whole.unfinished == 0
    assert whole.table.num_rows == 4 + 3


@pytest.mark.parametrize("minutes", [0, -1.0, float("nan")])
def test_no_time_at_all_is_refused(tmp_path, minutes) -> None:
    with pytest.raises(ConfigError, match="minutes"):
        sweep(config(tmp_path, {}), minutes=minutes, console=quiet())


@pytest.mark.parametrize("width", [40, 80])
def test_the_table_of_a_sweep_keeps_its_scores_on_a_narrow_terminal(tmp_path, width) -> None:
    own = config(tmp_path, {}, training={"epochs": 1}, sweep={"over": {"model.hidden": [3, 4]}, "rungs": 1})
    found = sweep(own, console=quiet())
    console = quiet(width)
    print_whole(console, table(found.standings, found.best))
    for standing in found.standings:
        assert f"{standing.score:.4g}" in console.file.getvalue()
    assert "…" not in console.file.getvalue()
