from __future__ import annotations

import pyarrow.parquet as pq
import pytest
from models.recordings import config_for

from streamrde.errors import ConfigError, DataError
from streamrde.models.sweeping.results import Outcome, Results, standings
from streamrde.models.sweeping.space import trials
from streamrde.models.training.config import as_train_config

CONFIG = as_train_config(
    config_for("x.parquet", sweep={"over": {"model.hidden": [2, 4, 8, 16], "windows": [{"policy": "count", "n": 4}]}})
)
TRIALS = trials(CONFIG)[0]


def outcome(trial: int, score: float | None, *, cost: float = 1.0, rung: int = 0, repeat: int = 0) -> Outcome:
    return Outcome(
        trial=trial,
        rung=rung,
        repeat=repeat,
        epochs=3 ** (rung + 1),
        values=TRIALS[trial - 1].values,
        score=score,
        step_us=cost,
        stream_us=2 * cost,
        parameters=10 * trial,
        measures={"validation_rmse": 0.5},
        error="" if score is not None else "diverged",
    )


def test_outcomes_are_kept_in_a_file_after_each_and_read_again(tmp_path) -> None:
    path = tmp_path / "new" / "sweep.parquet"
    results = Results(path, config=CONFIG, resume=False)
    for own in (outcome(2, 0.5), outcome(1, None)):
        results.add(own)
        assert pq.read_table(path).num_rows == len(results.outcomes)
    table = pq.read_table(path)
    assert table["trial"].to_pylist() == [1, 2]
    assert table["model.hidden"].to_pylist() == [2, 4]
    assert table["windows"].to_pylist() == ['{"policy":"count","n":4}'] * 2
    assert table["validation_rmse"].to_pylist() == [0.5, 0.5]
    assert table["error"].to_pylist() == ["diverged", ""]
    assert Results(path, config=CONFIG, resume=True).outcomes == results.outcomes


def test_results_are_not_overwritten_nor_mixed_up(tmp_path) -> None:
    path = tmp_path / "sweep.parquet"
    Results(path, config=CONFIG, resume=False).add(outcome(1, 0.5))
    with pytest.raises(ConfigError, match="use --resume to continue its sweep"):
        Results(path, config=CONFIG, resume=False)
    other = as_train_config(config_for("y.parquet"))
    with pytest.raises(ConfigError, match="to a sweep with another configuration"):
        Results(path, config=other, resume=True)
    path.write_bytes(b"no parquet")
    with pytest.raises(DataError, match="not a Parquet file"):
        Results(path, config=CONFIG, resume=True)


@pytest.mark.parametrize("less", [True, False])
def test_trials_stand_by_rung_then_by_mean_score_and_failed_ones_last(less) -> None:
    sign = 1 if less else -1
    ranked = standings(
        TRIALS,
        [
            outcome(1, None),
            outcome(2, sign * 0.1),
            *(outcome(trial, sign * 0.5, rung=0) for trial in (3, 4)),
            *(outcome(3, sign * score, rung=1, repeat=i) for i, score in enumerate((0.2, 0.4))),
            *(outcome(4, sign * score, rung=1, repeat=i) for i, score in enumerate((0.35, 0.15))),
        ],
        less=less,
    )
    assert [standing.trial.number for standing in ranked] == [4, 3, 2, 1]
    assert ranked[0].score == pytest.approx(sign * 0.25)
    assert ranked[0].spread == pytest.approx(0.2 / 2**0.5)
    assert ranked[0].epochs == 9
    assert ranked[3].error == "diverged"


def test_the_front_has_what_nothing_is_better_and_cheaper_than() -> None:
    own = [outcome(1, 0.1, cost=9), outcome(2, 0.2, cost=3), outcome(3, 0.3, cost=3), outcome(4, 0.4, cost=1)]
    ranked = standings(TRIALS, own, less=True)
    assert [standing.pareto for standing in ranked] == [True, True, False, True]


def test_a_trial_with_a_failed_repeat_has_failed() -> None:
    ranked = standings(TRIALS, [outcome(1, 0.1), outcome(1, None, repeat=1), outcome(2, 0.9)], less=True)
    assert [standing.score for standing in ranked] == [0.9, None]
