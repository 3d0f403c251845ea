"""What examples/physionet2012.py makes of its data, and what it measures; test_documents runs it as a whole."""

import importlib.util
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from streamrde.models.training.config import load_train_config

_PATH = Path(__file__).parents[1] / "examples" / "physionet2012.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("physionet2012_example", _PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_row_alone_is_prepared_as_among_others(example) -> None:
    table = example.made_up(4)
    together = example.prepare(table)
    alone = pa.concat_tables(example.prepare(table.slice(i, 1)) for i in range(table.num_rows))
    for name in together.column_names:
        np.testing.assert_array_equal(together[name].to_numpy(), alone[name].to_numpy(), err_msg=name)


def test_the_configs_channels_are_those_that_are_prepared_and_age_is_none(example) -> None:
    channels = [channel.name for channel in load_train_config(example.CONFIG).data.channels]
    assert channels == example.CHANNELS
    assert "age" not in channels
    assert set(example.prepare(example.made_up(4)).column_names) == {"stream_id", "t", "label", *channels}


def test_faults_are_limited_and_what_was_not_observed_stays_so(example) -> None:
    table = example.made_up(1).slice(0, 2)
    values = {"ph": [735.0, None], "urine": [-5.0, 90.0], "mechvent": [None, None], "lactate": [None, 1.95]}
    for name, column in values.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(column, pa.float64()))
    found = {name: example.prepare(table)[name].to_numpy() for name in (*values, "lactate_seen", "icu1")}
    np.testing.assert_array_equal(found["ph"], [7.8, np.nan])
    np.testing.assert_allclose(found["urine"], np.log([10.0, 100.0]))
    np.testing.assert_array_equal(found["mechvent"], [0.0, np.nan])  # the first row is the admission
    np.testing.assert_allclose(found["lactate"], [np.nan, np.log(2.0)])
    np.testing.assert_array_equal(found["lactate_seen"], [0.0, 1.0])
    assert np.isfinite(found["icu1"]).tolist() == [True, False]


def test_points_are_none_for_the_healthy_and_more_the_further_from_that(example) -> None:
    table = example.made_up(1).slice(0, 4)
    values = {"hr": [80.0, 130.0, 300.0, None], "ph": [7.4, 7.2, 1.0, 735.0]}
    for name, column in values.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(column, pa.float64()))
    found = example.prepare(table)
    np.testing.assert_allclose(found["hr_points"].to_numpy(), [0, 7, 17, np.nan])
    np.testing.assert_allclose(found["ph_points"].to_numpy(), [0, 10, 12, 12])
    for name, bands in example.POINTS.items():
        assert min(points for _, points in bands) == 0, name
        assert np.all(np.diff([value for value, _ in bands]) > 0), name


def test_a_row_tells_what_is_charted_in_it_and_what_is_not(example) -> None:
    table = example.made_up(1).slice(0, 3)
    for name, column in {"gcs": [15.0, None, 3.0], "urine": [None, None, 0.0]}.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(column, pa.float64()))
    found = example.prepare(table)
    np.testing.assert_array_equal(found["gcs_now"].to_numpy(), [1, 0, 1])
    np.testing.assert_array_equal(found["urine_now"].to_numpy(), [0, 0, 1])


def test_the_curves_area_is_the_share_of_pairs_in_order(example) -> None:
    rng = np.random.default_rng(0)
    died, risk = rng.integers(0, 2, 60), rng.integers(0, 9, 60)
    pairs = [(a > b) + (a == b) / 2 for a in risk[died == 1] for b in risk[died == 0]]
    assert example.auc(died, risk) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_folds_have_every_stream_once_and_each_class_evenly(example) -> None:
    died = (np.arange(103) % 7 == 0).astype(int)
    folds = example.folds_of(np.arange(103), died, folds=5, seed=3)
    assert np.ptp(np.bincount(folds)) <= 1
    assert np.ptp(np.bincount(folds[died == 1])) <= 1
    assert (folds != example.folds_of(np.arange(103), died, folds=5, seed=4)).any()
