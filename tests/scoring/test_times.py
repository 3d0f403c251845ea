"""Recorded times that cannot be right are an error that names the likely unit; text and dates are understood."""

import datetime
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import streamrde as sr
from streamrde.errors import DataError

SHIPPED = pathlib.Path(sr.__file__).parent / "demo" / "watch" / "model.safetensors"
CHANNELS = [channel.name for channel in sr.load(SHIPPED).header.channels]
NOON = 1709640000.0
SECONDS = 0.02 * np.arange(150)
X = np.random.default_rng(0).normal(size=(150, 6))


def write(folder, t, suffix):
    path = folder / f"a{suffix}"
    table = pa.table({"t": t, **dict(zip(CHANNELS, X.T, strict=True))})
    pa.csv.write_csv(table, path) if suffix == ".csv" else pq.write_table(table, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("t", "keys", "likely"),
    [
        (np.arange(150) * 20 + 1709640000000, {}, "milliseconds since 1970 .*set time_unit = 'ms'"),
        (np.arange(150) * 20_000 + 1709640000000000, {}, "microseconds since 1970 .*set time_unit = 'us'"),
        (np.arange(150) * 20_000_000 + 1709640000000000000, {}, "nanoseconds since 1970 .*set time_unit = 'ns'"),
        (np.arange(150) * 20 + 20240305120000000, {}, "digits of a date .*time_format = '%Y%m%d%H%M%S%f'"),
        (45356.5 + SECONDS / 86400, {}, "Excel day numbers, not seconds; set time_unit = 'excel'"),
        (NOON + SECONDS, {"time_unit": "ms"}, "look like seconds, not milliseconds; set time_unit = 's'"),
        (np.arange(150) * 20, {}, "look like milliseconds, not seconds"),
    ],
)
def test_times_of_another_unit_are_an_error_that_names_it(tmp_path, suffix, t, keys, likely):
    path = write(tmp_path, t, suffix)
    out = tmp_path / "out.parquet"
    for how in ({}, {"faults": "drop"}):
        with pytest.raises(DataError, match=f"{path.name}.*{likely}.*time_check = 'off'"):
            sr.score(path, SHIPPED, out=out, stream="", **keys, **how)
    with pytest.raises(DataError, match=likely):
        sr.score(path, SHIPPED, stream="", **keys).read_all()
    assert not out.exists()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("t", "keys"),
    [
        (np.arange(150) * 20 + 1709640000000, {"time_unit": "ms"}),
        (np.arange(150) * 20_000 + 1709640000000000, {"time_unit": "us"}),
        (np.arange(150) * 20 + 20240305120000000, {"time_format": "%Y%m%d%H%M%S%f"}),
        (45356.5 + SECONDS / 86400, {"time_unit": "excel"}),
        ([str(np.datetime64(int(1000 * (NOON + s)), "ms")) + "Z" for s in SECONDS], {}),
        ([str(np.datetime64(int(1000 * (NOON + 3600 + s)), "ms")) for s in SECONDS], {"time_zone": "Europe/Berlin"}),
        (
            [f"{datetime.datetime.fromtimestamp(NOON + s, datetime.UTC):%d/%m/%Y %H:%M:%S.%f}" for s in SECONDS],
            {"time_format": "%d/%m/%Y %H:%M:%S.%f"},
        ),
    ],
)
def test_the_same_recording_in_any_form_of_time_has_the_same_windows(tmp_path, suffix, t, keys):
    table = sr.score(write(tmp_path, t, suffix), SHIPPED, stream="", **keys).read_all()
    expected = sr.Predictor(sr.load(SHIPPED))
    windows = [*expected.push_many(NOON + SECONDS, X), *expected.flush()]
    np.testing.assert_allclose(table["t_end"].to_numpy(), [p.t_end for p in windows], rtol=0, atol=2e-5)
    np.testing.assert_allclose(
        table["value"].combine_chunks().flatten().to_numpy(), np.ravel([p.value for p in windows]), atol=2e-2
    )


@pytest.mark.slow
def test_a_wrong_unit_can_be_overridden_or_its_streams_skipped(tmp_path):
    path = write(tmp_path, np.arange(150) * 20 + 1709640000000, ".parquet")
    assert sr.score(path, SHIPPED, stream="", time_check="off").read_all().num_rows > 1000
    (tmp_path / "b").mkdir()
    good = write(tmp_path / "b", NOON + SECONDS, ".parquet").rename(tmp_path / "c.parquet")
    summary = sr.score(
        [path, good], SHIPPED, out=tmp_path / "out.parquet", stream="",
        faults="drop", time_check="reject",
    )  # fmt: skip
    assert summary.counts.rejected == 150
    assert summary.predictions == 6


def test_rows_out_of_order_are_sorted_and_not_taken_for_a_wrong_unit(tmp_path):
    order = np.random.default_rng(0).permutation(150)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"t": SECONDS[order], **dict(zip(CHANNELS, X[order].T, strict=True))}), path)
    summary = sr.score(path, SHIPPED, out=tmp_path / "out.parquet", stream="")
    assert (summary.sorted, summary.predictions) == (1, 6)
