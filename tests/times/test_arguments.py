"""Times as callers hand them in."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pytest

from streamrde.errors import ParameterError, SampleError
from streamrde.times import as_time, as_times

NOON = datetime(2024, 3, 5, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("unit", ["h", "m", "s", "ms", "us", "ns", "ps", "10ms", "25s"])
def test_datetime64_of_any_unit_is_seconds_since_1970(unit):
    moments = np.array(["2024-03-05T12", "2024-03-05T13"], "M8[h]")
    if unit == "ps":
        moments = np.array(["1970-02-01T12", "1970-02-01T13"], "M8[h]")
    start = float(moments[0].astype("M8[s]").astype(np.int64))
    assert as_times("t", moments.astype(f"M8[{unit}]")).tolist() == [start, start + 3600]


@pytest.mark.parametrize(("text", "days"), [("2024-03-05", 19787), ("2024-03", 19783), ("2024", 19723)])
def test_datetime64_of_days_months_and_years_is_their_first_midnight(text, days):
    assert as_times("t", np.array([text], "M8"))[0] == days * 86400


@pytest.mark.parametrize(
    "times",
    [
        [datetime(2024, 3, 5, 12, tzinfo=UTC)],
        [datetime(2024, 3, 5, 12)],  # noqa: DTZ001, without a zone it is UTC
        [np.datetime64("2024-03-05T12:00", "ns")],
        ["2024-03-05T12:00:00Z"],
        np.array(["2024-03-05T12:00:00"]),
        [pd.Timestamp("2024-03-05T13:00", tz="Europe/Berlin")],
        pd.DatetimeIndex(["2024-03-05T12:00"]),
        pd.DatetimeIndex(["2024-03-05T13:00"], tz="Europe/Berlin"),
        pd.Series(pd.to_datetime(["2024-03-05T12:00"])),
        polars.Series([datetime(2024, 3, 5, 12)]),  # noqa: DTZ001
        pa.array([datetime(2024, 3, 5, 12)], pa.timestamp("ms")),  # noqa: DTZ001
        pa.chunked_array([pa.array([datetime(2024, 3, 5, 12)])]),  # noqa: DTZ001
        [NOON],
        [int(NOON)],
    ],
    ids=lambda times: type(times).__name__,
)
def test_dates_and_times_of_every_library_are_seconds_since_1970(times):
    assert as_times("t", times).tolist() == [NOON]
    assert as_times("t", times).dtype == np.float64


def test_durations_are_seconds_and_nat_is_nan():
    assert as_times("t", np.array([1500], "m8[ms]")).tolist() == [1.5]
    assert as_times("t", [timedelta(milliseconds=1500)]).tolist() == [1.5]
    assert as_times("t", [date(1970, 1, 2)]).tolist() == [86400.0]
    assert np.isnan(as_times("t", np.array(["NaT"], "M8[ns]"))).all()
    assert np.isnan(as_times("t", pd.to_datetime([None])))[0]
    masked = np.ma.array(np.array([0, 1], "M8[s]"), mask=[False, True])
    for times in (masked, np.ma.array([0.0, 1.0], mask=[False, True]), [datetime(1970, 1, 1, tzinfo=UTC), None]):
        np.testing.assert_array_equal(as_times("t", times), [0.0, np.nan])


@pytest.mark.parametrize("values", [["noon"], ["2024", object()], [np.timedelta64(1, "M")], [1j]])
def test_what_is_no_time_is_an_error(values):
    with pytest.raises(SampleError, match=r"^t has a value that is no"):
        as_times("t", values)


def test_one_time_may_be_any_of_these():
    for t in (NOON, int(NOON), np.float64(NOON), np.datetime64("2024-03-05T12:00"), "2024-03-05T12:00Z"):
        assert as_time(t) == NOON
    assert as_time(datetime(2024, 3, 5, 12, tzinfo=UTC)) == as_time(pd.Timestamp("2024-03-05 12:00")) == NOON
    for t in (np.nan, np.inf, np.datetime64("NaT"), "noon", None, 10**400):
        with pytest.raises(ParameterError, match=r"^t="):
            as_time(t)
