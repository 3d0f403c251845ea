"""Times in every form become the same float64 seconds."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrde.errors import ParameterError
from streamrde.times import NotATimeError, TimeForm, to_seconds, zero_seconds
from streamrde.times.units import UNITS

NOON = datetime(2024, 3, 5, 12, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("unit", "number", "seconds"),
    [
        ("s", NOON, NOON),
        ("ms", 1709640000123, 1709640000.123),
        ("us", 1709640000123456, 1709640000.123456),
        ("ns", 1709640000123456789, 1709640000.1234567),
        ("min", 28494000, NOON),
        ("min", 0.5, 30.0),
        ("h", 474900, NOON),
        ("d", 19787.5, NOON),
        ("excel", 45356.5, NOON),
        ("excel", 25569, 0.0),
    ],
)
def test_a_number_of_a_unit_becomes_seconds(unit, number, seconds):
    form = TimeForm(unit)
    assert form.seconds(number) == seconds
    assert form.column(pa.array([number])).tolist() == [seconds]
    assert to_seconds(np.array([number]), unit).tolist() == [seconds]


@pytest.mark.parametrize("unit", list(UNITS))
@given(st.floats(-1e9, 4e9))
def test_what_is_encoded_is_read_back_to_the_last_places(unit, t):
    form = TimeForm(unit)
    back = form.seconds(form.encode(t))
    assert abs(back - t) <= 1e-6 if unit == "excel" else abs(back - t) <= 2e-15 * abs(t) + 1e-300


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2024-03-05T12:00:00Z", NOON),
        ("2024-03-05T12:00:00", NOON),
        ("2024-03-05 13:00:00+01:00", NOON),
        ("2024-03-05 12:00", NOON),
        ("2024-03-05", NOON - 43200),
        (" 2024-03-05T12:00:00.25Z ", NOON + 0.25),
        ("2024-03-05T12:00:00,25Z", NOON + 0.25),
        ("20240305T120000Z", NOON),
        ("2024-03-05T12:00:00.123456789Z", 1709640000.1234567),
        ("1709640000", NOON),
        ("1709640000.5", NOON + 0.5),
        ("-2.5e1", -25.0),
    ],
)
def test_iso_text_and_numbers_as_text_are_times_alone_and_in_columns(text, seconds):
    form = TimeForm()
    assert form.seconds(text) == seconds
    for kind in (pa.string(), pa.large_string()):
        assert form.column(pa.array([text], kind)).tolist() == [seconds]
    assert form.column(pa.array([text]).dictionary_encode()).tolist() == [seconds]
    # Beside another form of the same, as loggers write times whose fraction happens to be zero.
    assert form.column(pa.array([text, "2024-03-05T12:00:00.5Z"])).tolist() == [seconds, NOON + 0.5]


@pytest.mark.parametrize(
    ("form", "value", "seconds"),
    [
        (TimeForm(format="%d/%m/%Y %H:%M:%S"), "05/03/2024 12:00:00", NOON),
        (TimeForm(format="%d.%m.%Y %H:%M:%S.%f"), "05.03.2024 12:00:00.250", NOON + 0.25),
        (TimeForm(format="%m/%d/%y %I:%M %p"), "03/05/24 12:00 PM", NOON),
        (TimeForm(format="%Y-%m-%d %H:%M:%S %z"), "2024-03-05 13:00:00 +0100", NOON),
        (TimeForm(format="%Y%m%d%H%M%S"), 20240305120000, NOON),
        (TimeForm(format="%Y%m%d%H%M%S"), "20240305120000", NOON),
        (TimeForm(format="%Y%m%d%H%M%S%f"), 20240305120000123, NOON + 0.123),
        (TimeForm(format="%Y%m%d%H%M"), 202403051200.0, NOON),
        (TimeForm(format="%Y%m%d"), 20240305, NOON - 43200),
        (TimeForm(format="%y%j%H%M"), 240651200, NOON),
    ],
)
def test_a_format_reads_text_and_digits(form, value, seconds):
    assert form.seconds(value) == seconds
    assert form.column(pa.array([value])).tolist() == [seconds]
    assert form.seconds(form.encode(seconds)) == pytest.approx(seconds, abs=1e-6)


def test_arrow_timestamps_dates_durations_and_decimals_carry_their_unit():
    form = TimeForm("ms")
    for unit in ("s", "ms", "us", "ns"):
        noon = pa.array([datetime(2024, 3, 5, 12)], pa.timestamp(unit))  # noqa: DTZ001
        assert form.column(noon).tolist() == [NOON]
        assert form.column(pa.array([timedelta(seconds=90)], pa.duration(unit))).tolist() == [90.0]
    zoned = pa.array([datetime(2024, 3, 5, 12, tzinfo=UTC)], pa.timestamp("us", "Asia/Tokyo"))
    assert form.column(zoned).tolist() == [NOON]
    for kind in (pa.date32(), pa.date64()):
        assert form.column(pa.array([date(2024, 3, 5)], kind)).tolist() == [NOON - 43200]
    assert TimeForm().column(pa.array([Decimal("1709640000.250")])).tolist() == [NOON + 0.25]
    with pytest.raises(TypeError, match="time64"):
        form.column(pa.array([1], pa.time64("us")))


def test_a_python_datetime_is_a_time_with_its_offset():
    form = TimeForm()
    assert form.seconds(datetime(2024, 3, 5, 12)) == NOON  # noqa: DTZ001, without a zone it is UTC
    assert form.seconds(datetime(2024, 3, 5, 14, tzinfo=timezone(timedelta(hours=2)))) == NOON


@pytest.mark.parametrize("value", [True, None, [1], {"a": 1}, b"1"])
def test_what_is_no_time_is_an_error_that_shows_it(value):
    with pytest.raises(NotATimeError, match="is not a time; send seconds"):
        TimeForm().seconds(value)


@pytest.mark.parametrize("text", ["noon", "", "05/03/2024 12:00:00", "2024-13-01", "12:00:00"])
def test_text_that_is_no_iso_time_names_time_format(text):
    with pytest.raises(NotATimeError, match="time_format"):
        TimeForm().seconds(text)
    with pytest.raises(NotATimeError, match="time_format") as info:
        TimeForm().column(pa.array(["2024-03-05", text]))
    assert info.value.place == 1


def test_local_times_are_read_in_their_zone_alone_and_in_columns():
    form = TimeForm(zone="Europe/Berlin")
    texts = ["2024-03-05 13:00:00", "2024-07-05 14:00:00", "2024-10-27 01:59:59", "2024-10-27 03:00:00"]
    expected = [datetime.fromisoformat(f"{t}{z}").timestamp() for t, z in zip(texts, ("+01", "+02", "+02", "+01"))]  # noqa: B905
    assert [form.seconds(text) for text in texts] == expected
    assert form.column(pa.array(texts)).tolist() == expected
    naive = pa.array([datetime.fromisoformat(text) for text in texts])
    for unit in ("s", "ms", "us", "ns"):
        assert form.column(naive.cast(pa.timestamp(unit))).tolist() == expected
    assert form.seconds("2024-03-05 13:00:00Z") == NOON + 3600  # text that names its zone keeps it
    assert TimeForm("excel", zone="Europe/Berlin").seconds(45356.5) == NOON - 3600
    assert TimeForm(format="%Y%m%d%H%M", zone="America/New_York").seconds(202403050700) == NOON


@pytest.mark.parametrize("value", ["2024-10-27 02:30:00", datetime(2024, 10, 27, 2, 30)])  # noqa: DTZ001
def test_a_local_time_that_came_twice_names_both_readings_unless_the_form_says_which(value):
    form = TimeForm(zone="Europe/Berlin")
    readings = "2024-10-27T00:30:00Z or 2024-10-27T01:30:00Z; set time_ambiguous"
    with pytest.raises(NotATimeError, match=readings):
        form.seconds(value)
    with pytest.raises(NotATimeError, match=readings) as info:
        form.column(pa.array(["2024-10-26 00:00:00", str(value)]))
    assert info.value.place == 1
    for which, utc in (("earlier", "00:30"), ("later", "01:30")):
        form = TimeForm(zone="Europe/Berlin", ambiguous=which)
        expected = datetime.fromisoformat(f"2024-10-27T{utc}Z").timestamp()
        assert form.seconds(value) == form.column(pa.array([str(value)]))[0] == expected


@pytest.mark.parametrize(
    ("zone", "text"),
    [("Europe/Berlin", "2024-03-31 02:30:00"), ("America/New_York", "2024-03-10 02:15:00")],
)
def test_a_local_time_that_never_came_is_an_error(zone, text):
    with pytest.raises(NotATimeError, match=f"{zone} never showed"):
        TimeForm(zone=zone).seconds(text)
    with pytest.raises(NotATimeError, match=f"{zone} never showed"):
        TimeForm(zone=zone).column(pa.array([text]))
    earlier, later = (TimeForm(zone=zone, ambiguous=which).seconds(text) for which in ("earlier", "later"))
    assert later - earlier == 3600


@given(st.datetimes(datetime(1975, 1, 1), datetime(2035, 1, 1)), st.sampled_from(["earlier", "later"]))  # noqa: DTZ001
def test_columns_of_local_times_agree_with_single_ones(moment, which):
    for zone in ("Europe/London", "Australia/Lord_Howe", "Asia/Kathmandu"):
        form = TimeForm(zone=zone, ambiguous=which)
        assert form.column(pa.array([moment], pa.timestamp("us")))[0] == form.seconds(moment)


def test_a_zone_with_plain_numbers_is_an_error():
    with pytest.raises(NotATimeError, match="leave time_zone out"):
        TimeForm(zone="Europe/Berlin").seconds(1709640000)
    with pytest.raises(NotATimeError, match="leave time_zone out"):
        TimeForm("ms", zone="Europe/Berlin").column(pa.array([1]))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"unit": "minutes"}, "did you mean 'min'\\? use one of s, ms, us, ns, min, h, d, excel"),
        ({"unit": "sec"}, "time_unit = 'sec'.*use one of s, ms"),
        ({"unit": "Ms"}, "did you mean 'ms'"),
        ({"zone": "Europe/Berln"}, "no such zone"),
        ({"zone": "../etc/passwd"}, "no such zone"),
        ({"format": "%H:%M:%S"}, "has no date"),
        ({"format": "%Y-%Q"}, "strptime"),
        ({"format": "yyyy-mm-dd"}, "has no date"),
        ({"format": "%Y-%m-%d %Z"}, "%z"),
        ({"ambiguous": "first"}, "use one of error, earlier, later"),
    ],
)
def test_a_choice_that_is_not_there_lists_what_is(keys, message):
    with pytest.raises(ParameterError, match=message):
        TimeForm(**keys)


def test_digits_of_a_date_must_be_whole_numbers_and_a_date():
    form = TimeForm(format="%Y%m%d%H%M%S")
    for value in (20240305120000.5, float("nan"), 20241305120000, 1709640000):
        with pytest.raises(NotATimeError):
            form.seconds(value)


def test_the_zero_of_times_is_a_moment():
    assert zero_seconds("2000-01-01T00:00:00Z") == 946684800.0
