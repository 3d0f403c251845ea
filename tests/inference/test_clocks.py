"""Streams whose times cannot be right are told by their first samples."""

import pathlib

import msgspec
import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamrde
from streamrde import Fleet, Predictor, load
from streamrde.errors import ParameterError, TimeUnitError
from streamrde.inference.bundle import Bundle
from streamrde.inference.clocks import Watch, go_on_watching, watches_of
from streamrde.inference.statistics import StreamStatistics
from streamrde.times.plausible import TimeCheck

# Of a watch: 50 Hz, windows of 0.5 s, recordings of some minutes without a pause.
STATISTICS = StreamStatistics(
    samples_per_window=(24.0, 25.0, 26.0),
    interval=0.02,
    longest_silence=0.1,
    first=0.0,
    last=300.0,
    low=(-1.0,) * 6,
    high=(1.0,) * 6,
)
NOON = 1709640000.0
X = np.zeros((200, 6))
SHIPPED = pathlib.Path(streamrde.__file__).parent / "demo" / "watch" / "model.safetensors"


@pytest.fixture(scope="module", params=["known", "unknown"])
def bundle(request):
    return model(STATISTICS if request.param == "known" else None)


def model(statistics):
    bundle = load(SHIPPED)
    return Bundle(msgspec.structs.replace(bundle.header, statistics=statistics), bundle.tensors)


KNOWN, UNKNOWN = model(STATISTICS), model(None)


def pushes(bundle, t, **how):
    """Hand times in in every way there is."""
    t = np.asarray(t, dtype=np.float64)
    x = np.zeros((len(t), 6))
    yield lambda: Predictor(bundle, **how).push_many(t, x)
    predictor = Predictor(bundle, **how)
    yield lambda: [predictor.push(time, row) for time, row in zip(t.tolist(), x.tolist(), strict=True)]
    yield lambda: Fleet(bundle, **how).push(["w1"] * len(t), t, x)
    fleet = Fleet(bundle, **how)
    yield lambda: [fleet.push(["w1"], t[i : i + 1], x[i : i + 1]) for i in range(len(t))]


@pytest.mark.parametrize(
    ("t", "likely"),
    [
        (1709640000000 + 20.0 * np.arange(150), "milliseconds since 1970 .2024-03-05T12:00:00Z.; set time_unit = 'ms'"),
        (1709640000000000 + 2e4 * np.arange(4), "microseconds since 1970 .* set time_unit = 'us'"),
        (1709640000000000000 + 2e7 * np.arange(4), "nanoseconds since 1970 .* set time_unit = 'ns'"),
        (20240305120000 + np.arange(4.0), "digits of a date .* set time_format = '%Y%m%d%H%M%S'"),
        (20240305120000123 + np.arange(4.0) * 20, "digits of a date .* set time_format = '%Y%m%d%H%M%S%f'"),
        (202403051200 + np.arange(4.0), "digits of a date .* set time_format = '%Y%m%d%H%M'"),
        (np.array([5e15]), "none of another unit that makes it a date"),
        (-1709640000000 + 20.0 * np.arange(4), "is not a number of seconds"),
        (45356.5 + np.arange(200) * 0.02 / 86400, "Excel day numbers, not seconds; set time_unit = 'excel'"),
    ],
)  # fmt: skip
def test_times_of_another_unit_since_1970_are_an_error_that_names_it(bundle, t, likely):
    for push in pushes(bundle, t):
        with pytest.raises(TimeUnitError, match=f"stream '(w1)?': .*{likely}.*time_check = 'off'"):
            push()


@pytest.mark.parametrize(
    ("interval", "likely"),
    [
        (20.0, "milliseconds"),
        (2e4, "microseconds"),
        (2e7, "nanoseconds"),
        (5.0, "milliseconds"),  # a sensor four times as fast
        (100.0, "milliseconds"),  # five times as slow
        (0.02 / 60, "minutes"),
        (0.02 / 3600, "hours"),
        (0.02 / 86400, "days"),
        (0.04 / 3600, "hours"),
    ],
)
def test_a_counter_in_another_unit_is_told_by_the_rate_of_training(interval, likely):
    t = 7.0 + interval * np.arange(40)
    # Before the third gap a live stream's windows close, however far apart its samples are.
    for push in [*pushes(KNOWN, t)][: 4 if interval < 1000 else 1]:
        with pytest.raises(TimeUnitError, match=rf"apart, and in training they were 0.02 s apart .*look like {likely}"):
            push()


def test_seconds_read_as_milliseconds_are_told_by_the_rate_of_training():
    t = (NOON + 0.02 * np.arange(40)) / 1000
    check = TimeCheck(unit="ms")
    for push in pushes(KNOWN, t, time_check=check):
        with pytest.raises(TimeUnitError, match="look like seconds, not milliseconds; set time_unit = 's'"):
            push()
    for push in pushes(KNOWN, t / 1000, time_check=TimeCheck(unit="us")):
        with pytest.raises(TimeUnitError, match="look like seconds, not microseconds; set time_unit = 's'"):
            push()


def test_without_statistics_windows_from_sample_to_sample_tell():
    for push in pushes(UNKNOWN, 200.0 * np.arange(10)):
        with pytest.raises(TimeUnitError, match=r"400 windows of 0.5 s from one sample to the next\).*milliseconds"):
            push()


@pytest.mark.slow
@pytest.mark.parametrize("start", [0.0, 50_000.0, NOON, -1e9], ids=lambda start: f"from {start:g}")
@pytest.mark.parametrize(
    "gaps",
    [
        [0.02] * 100,
        [2.0] * 40,  # a hundred times slower
        [0.2] * 60,
        [1.0] * 40,
        [0.002] * 100,  # ten and a hundred times faster
        [0.0002] * 100,
        [900.0] + [0.02] * 100,  # one sample, then the sensor was off
        [900.0, 300.0] + [0.02] * 100,
        [0.02, 20.0] * 8,  # pauses
        [0.02] * 5 + [300.0] * 5,  # later on nothing is looked at
        [1e-5] * 14 + [0.02] * 100,  # a burst
        [0.5, 3.0, 1.2, 0.1, 7.0, 0.4] * 3,  # when something happens
        [19.0, 0.5] * 8,
    ],
)
def test_a_slower_faster_or_irregular_sensor_with_right_times_is_not_refused(bundle, start, gaps):
    t = start + np.cumsum([0.0, *gaps])
    if (np.diff(t) <= 0).any():
        pytest.skip("float64 cannot tell these times apart")
    for push in pushes(bundle, t):
        push()


def test_rows_out_of_order_are_not_taken_for_long_gaps():
    t = np.random.default_rng(0).permutation(np.arange(3000) * 0.02)
    fleet = Fleet(KNOWN, faults="drop")
    fleet.push(["w1"] * len(t), t, np.zeros((len(t), 6)))
    assert fleet.counts().late > 0


@pytest.mark.parametrize("t", [1709640000000 + 0.02 * np.arange(50), 20.0 * np.arange(20)])
def test_the_check_can_be_turned_off(t):
    for push in pushes(KNOWN, t, time_check="off"):
        push()
    with pytest.raises(ParameterError, match="use one of error, reject, off"):
        Predictor(KNOWN, time_check="no")
    with pytest.raises(ParameterError, match="use it with faults='drop'"):
        Fleet(KNOWN, time_check="reject")


def test_an_error_leaves_everything_as_it_was():
    fleet = Fleet(KNOWN)
    fleet.push(["a"] * 3, [0.0, 0.02, 0.04], X[:3])
    before = fleet.snapshot()
    with pytest.raises(TimeUnitError, match="row 1: stream 'b'"):
        fleet.push(["a", "b"], [0.06, 1.7e12], X[:2])
    assert fleet.snapshot() == before
    assert fleet.streams == ["a"]
    fleet.push(["a", "b"], [0.06, 1.7e9], X[:2])


def test_rejected_streams_are_counted_and_said_and_others_go_on():
    fleet, alone = Fleet(KNOWN, faults="drop", time_check="reject"), Fleet(KNOWN)
    t = 0.02 * np.arange(100)
    streams = ["good", "ms", "counter"] * 100
    batch = fleet.push(streams, np.stack([t, 1709640000000 + 1000 * t, 1000 * t], 1).ravel(), np.zeros((300, 6)))
    assert batch.filter(pc.equal(batch["stream"], "good")).equals(alone.push(["good"] * 100, t, X[:100]))
    assert set(fleet.suspects) == {"ms", "counter"}
    assert "time_unit = 'ms'" in fleet.suspects["ms"]
    assert "milliseconds" in fleet.suspects["counter"]
    assert fleet.counts("ms").rejected == 100
    assert fleet.counts("counter").rejected == 97  # three gaps tell it
    assert fleet.counts("good").samples == 100
    assert sum(fleet.counts()) == 300
    unused = fleet.unused
    assert set(unused["reason"].to_pylist()) == {"rejected"}
    assert unused.num_rows == 197
    assert unused["row"].to_pylist() == sorted(unused["row"].to_pylist())


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from([0.02, 0.02, 0.02, 20.0, 20.0, 1e-6, 1.7e12]), min_size=1, max_size=60),
    st.lists(st.integers(0, 60), max_size=6),
)
def test_the_fate_of_rows_does_not_depend_on_how_they_are_cut(gaps, cuts):
    t = np.cumsum(gaps)
    whole, parts = (Fleet(KNOWN, faults="drop", time_check="reject") for _ in range(2))
    expected = whole.push(["w"] * len(t), t, X[: len(t)])
    batches = []
    for rows in np.split(np.arange(len(t)), sorted(min(cut, len(t)) for cut in cuts)):
        batches.append(parts.push(["w"] * len(rows), t[rows], X[: len(rows)]))
    assert [row for batch in batches for row in batch.to_pylist()] == expected.to_pylist()
    assert parts.counts() == whole.counts()
    assert parts.suspects.keys() == whole.suspects.keys()


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from([0.02, 0.02, 0.02, 20.0, 20.0, 1e-6, 1.7e12]), min_size=1, max_size=60),
    st.lists(st.integers(0, 60), max_size=6),
)
def test_the_fate_of_rows_does_not_depend_on_snapshots_that_go_on_watching(gaps, cuts):
    t = np.cumsum(gaps)
    whole = Fleet(KNOWN, faults="drop", time_check="reject")
    expected = whole.push(["w"] * len(t), t, X[: len(t)])
    batches, kept, watches = [], {}, {}
    for rows in np.split(np.arange(len(t)), sorted(min(cut, len(t)) for cut in cuts)):
        part = Fleet(KNOWN, faults="drop", time_check="reject")
        part.restore(kept)
        go_on_watching(part, {name: watches.get(name) for name in kept})
        batches.append(part.push(["w"] * len(rows), t[rows], X[: len(rows)]))
        kept = part.snapshot()
        watches = msgspec.msgpack.decode(msgspec.msgpack.encode(watches_of(part, kept)), type=dict[str, Watch])
    assert [row for batch in batches for row in batch.to_pylist()] == expected.to_pylist()
    assert part.counts() == whole.counts()
    assert part.suspects == whole.suspects


def test_a_stream_whose_times_are_mended_is_used_again():
    fleet = Fleet(KNOWN, faults="drop", time_check="reject")
    fleet.push(["w"] * 20, 1709640000000 + 20.0 * np.arange(20), X[:20])
    assert fleet.suspects
    fleet.push(["w"] * 20, NOON + 0.02 * np.arange(20), X[:20])
    assert not fleet.suspects
    assert fleet.counts().samples == 11  # nine make it sure


def test_after_its_first_samples_a_predictor_takes_the_short_way():
    predictor = Predictor(KNOWN)
    for i in range(20):
        predictor.push(0.02 * i, [0.0] * 6)
    assert predictor._push_one == predictor._table.loop.push_one
    assert not predictor._table.clocks.watching
    restored = Predictor.restore(KNOWN, predictor.snapshot())
    assert not restored._table.clocks.watching
    predictor.flush()
    with pytest.raises(TimeUnitError):
        predictor.push(1.7e12, [0.0] * 6)


def test_datetimes_are_seconds_in_every_call():
    moments = np.datetime64("2024-03-05T12:00") + (20 * np.arange(150)).astype("m8[ms]")
    seconds = NOON + 0.02 * np.arange(150)
    for unit in ("ms", "us", "ns"):
        dates, numbers = Predictor(KNOWN), Predictor(KNOWN)
        expected = numbers.push_many(seconds, X[:150])
        for a, b in zip(dates.push_many(moments.astype(f"M8[{unit}]"), X[:150]), expected, strict=True):
            assert (a.window, a.t_start, a.t_end) == (b.window, b.t_start, b.t_end)
        later = np.datetime64("2024-03-05T12:00:10", unit)
        assert [p.t_end for p in dates.advance(later)] == [p.t_end for p in numbers.advance(NOON + 10)]
        fleet = Fleet(KNOWN)
        assert fleet.push(["w"] * 150, moments.astype(f"M8[{unit}]"), X[:150]).num_rows == len(expected)
        assert fleet.event_time == seconds[-1]
        fleet.advance(later)
        assert fleet.evict(idle=1.0, now=np.datetime64("2024-03-06", unit)) is not None
        assert len(fleet) == 0


def test_a_rejected_stream_is_a_trouble_of_the_fleet_once():
    told = []
    fleet = Fleet(KNOWN, faults="drop", time_check="reject", on_trouble=told.append)
    for first in range(0, 60, 10):
        rows = np.arange(first, first + 10)
        fleet.push(["ms", "good"] * 10, np.stack([1709640000000 + 20.0 * rows, 0.02 * rows], 1).ravel(), X[:20])
    assert [(trouble.stream, trouble.kind) for trouble in told] == [("ms", "unit")]
    assert "looks like milliseconds since 1970" in told[0].reason
    assert "its rows are rejected: set time_unit = 'ms'" in told[0].remedy
    assert [trouble.kind for trouble in fleet.troubles() if not trouble.over] == ["unit"]
