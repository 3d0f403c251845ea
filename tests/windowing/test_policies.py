"""One conformance suite for every window policy, built in or not: what holds for all, and what each one promises."""

import itertools

import naive
import numpy as np
import pytest
from bundles import make_recording
from hostile import BUILT_IN, POLICIES, Table, make_partition, windows_of
from hypothesis import given
from hypothesis import strategies as st
from tolerances import LAW, ORACLE

import streamrde as sr
from streamrde.errors import OrderError, ParameterError

FILL = [0.25, -0.25]
policies = st.sampled_from(POLICIES)
interpolations = st.sampled_from(["linear", "hold"])
seeds = st.integers(0, 2**32)


class Through(sr.WindowPolicy, frozen=True, tag="through"):
    """A built-in policy as a stranger: only what the protocol says of it."""

    windows: sr.Every | sr.Count | sr.Adaptive

    def edge(self, window):
        return self.windows.edge(window)

    def closes(self, window):
        return self.windows.closes(window)


def with_time(t, x):
    return np.column_stack([t - t[0], x])


def whole(windows, interpolation, t, x, depth=2, **options):
    """Edges and log-signatures of a recording with missing values."""
    return sr.logsig_windows(t, with_time(t, x), depth, windows, interpolation, fill=[0.0, *FILL], **options)


@pytest.mark.parametrize("interpolation", ["linear", "hold"])
@pytest.mark.parametrize("windows", POLICIES, ids=str)
def test_logsig_windows_has_the_bits_of_the_stream(windows, interpolation):
    for seed in range(20):
        t, x = make_recording(seed, 40, missing=0.3, t0=50.0)
        edges, logsigs = whole(windows, interpolation, t, x)
        table = Table(make_partition(windows, interpolation), streams=1)
        slots, parts = np.zeros(len(t), dtype=np.intp), []
        for i in range(len(t)):
            parts.append(table.push(slots[i : i + 1], t[i : i + 1], x[i : i + 1]))
        parts.append(table.flush())
        got = windows_of(parts, 0)
        assert [row[4] for row in got] == [logsig.tobytes() for logsig in logsigs]
        np.testing.assert_array_equal([row[3] for row in got], edges[1:])
        np.testing.assert_array_equal([row[2] for row in got], edges[:-1])


def path_points(t, x, interpolation):
    """Points of the whole path, and the time of each."""
    if interpolation == "linear":
        return t, np.column_stack([t - t[0], naive.fill_straight(t, x, FILL)])
    held = [np.where(np.isnan(x[0]), FILL, x[0])]
    for row in x[1:]:
        held.append(np.where(np.isnan(row), held[-1], row))
    times, points = [t[0]], [np.append(0.0, held[0])]
    for i in range(1, len(t)):
        times += [t[i], t[i]]
        points += [np.append(t[i] - t[0], held[i - 1]), np.append(t[i] - t[0], held[i])]
    return np.array(times), np.array(points)


@given(policies, interpolations, seeds)
def test_windows_are_the_path_between_their_edges(windows, interpolation, seed):
    t, x = make_recording(seed, 30, missing=0.3)
    edges, logsigs = whole(windows, interpolation, t, x)
    times, points = path_points(t, x, interpolation)
    at_sample = [not isinstance(windows, sr.Every) and np.isclose(t, edge).any() for edge in edges]
    assert edges[-1] == t[-1]
    for k, (begin, end) in enumerate(itertools.pairwise(edges)):
        # A window that a sample closes has its jump; one that time closes leaves it to the next.
        first = np.searchsorted(times, begin + 1e-9 if at_sample[k] else begin - 1e-9)
        ends_with_jump = at_sample[k + 1] or k == len(logsigs) - 1
        last = np.searchsorted(times, end + 1e-9 if ends_with_jump else end - 1e-9)
        inside = points[first:last]

        def at(time, after):
            i = np.searchsorted(times, time + (1e-9 if after else -1e-9))
            if i == 0 or i == len(times):
                return points[0] if i == 0 else points[-1]
            share = (time - times[i - 1]) / (times[i] - times[i - 1]) if times[i] > times[i - 1] else 1.0
            return points[i - 1] + share * (points[i] - points[i - 1])

        path = [at(begin, at_sample[k] or k == 0), *inside, at(end, ends_with_jump)]
        np.testing.assert_allclose(logsigs[k], naive.logsignature(path, 2), rtol=0, atol=LAW)


@given(interpolations, seeds, st.sampled_from(BUILT_IN))
def test_the_protocol_says_all_there_is_to_a_policy(interpolation, seed, windows):
    t, x = make_recording(seed, 40, missing=0.3)
    edges, logsigs = whole(windows, interpolation, t, x)
    again, through = whole(Through(windows), interpolation, t, x)
    assert logsigs.tobytes() == through.tobytes()
    np.testing.assert_allclose(edges, again, rtol=1e-15)


def norm(path, depth):
    logsig = naive.logsignature(path, depth)
    words = naive.lyndon_words(np.shape(path)[1], depth)
    return max(abs(value) ** (1 / len(word)) for word, value in zip(words, logsig, strict=True))


@given(interpolations, seeds, st.sampled_from([0.4, 1.0, 3.0]), st.sampled_from([0.0, 0.7]))
def test_an_adaptive_window_closes_with_the_sample_that_makes_it_large(interpolation, seed, limit, shortest):
    t, x = make_recording(seed, 30)
    edges, _ = whole(sr.Adaptive(limit, min_seconds=shortest), interpolation, t, x)
    times, points = path_points(t, x, interpolation)
    for begin, end in itertools.pairwise(edges):
        samples = t[(t > begin) & (t <= end)]
        sizes = []
        for time in samples:
            own = (times > begin) & (times <= time)
            start = points[np.searchsorted(times, begin, side="right") - 1]
            sizes.append(norm([start, *points[own]], 2))
        long = samples - begin >= shortest - 1e-9
        assert not (np.array(sizes)[:-1] > limit)[long[:-1]].any()
        assert end == t[-1] or (sizes[-1] > limit and long[-1])


def test_an_adaptive_window_ends_by_time_too():
    t, x = np.array([0.0, 0.4, 7.3, 7.6]), np.zeros((4, 2))
    for interpolation in ("linear", "hold"):
        edges, _ = whole(sr.Adaptive(50.0, max_seconds=2.0), interpolation, t, x)
        np.testing.assert_allclose(edges, [0, 2, 4, 6, 7.6])
    scaled = sr.Adaptive(0.5, scale=(0.0, 1.0, 1.0))  # time does not count
    x[2:] = 1.0
    np.testing.assert_array_equal(whole(scaled, "hold", t, x)[0], [0.0, 7.3, 7.6])


@given(policies, seeds, st.integers(2, 29))
def test_hold_sees_nothing_of_the_future(windows, seed, changed):
    t, x = make_recording(seed, 30, missing=0.3)
    other_t, other_x = t.copy(), x.copy()
    rng = np.random.default_rng(seed)
    other_t[changed:] += rng.exponential(0.5, 30 - changed).cumsum()
    other_x[changed:] = rng.normal(size=(30 - changed, 2))
    until = np.arange(changed)
    closed = []
    for times, samples in ((t, x), (other_t, other_x)):
        table = Table(make_partition(windows, "hold"), streams=1)
        first = table.push(np.zeros(changed, np.intp), times[until], samples[until])
        told = table.advance(t[changed - 1])
        rest = table.push(np.zeros(30 - changed, np.intp), times[changed:], samples[changed:])
        closed.append(windows_of([first, told], 0))
        # And what is closed stays so: nothing later has a window again.
        assert len({row[0] for row in windows_of([first, told, rest], 0)}) == len(windows_of([first, told, rest], 0))
    assert closed[0] == closed[1]


@given(policies, seeds, st.integers(2, 29), st.sampled_from([1, 3, 256]))
def test_linear_waits_for_the_next_observations_and_no_longer(windows, seed, changed, wait):
    t, x = make_recording(seed, 30, missing=0.3)
    partition = make_partition(windows, "linear", missing=sr.Missing(wait_samples=wait))
    table = Table(partition, streams=1)
    taken = table.push(np.zeros(changed, np.intp), t[:changed], x[:changed])
    settled = table.rows[0, 2]  # the last sample on the path
    waiting = table.loop.held(0)
    assert len(waiting) <= wait
    if len(waiting):  # it waits for a channel that was not observed since
        place = changed - len(waiting)
        assert waiting[0, 0] == t[place]
        assert np.isnan(x[place:changed]).all(axis=0).any() or wait < 256
    else:
        assert settled == t[changed - 1]
    assert all(row[3] <= settled for row in windows_of([taken], 0))


@pytest.mark.parametrize("length", [1, 2, 40])
def test_linear_fills_as_torchcde_does(length):
    torch, torchcde = pytest.importorskip("torch"), pytest.importorskip("torchcde")
    t, x = make_recording(length, length, missing=0.4)
    x[0] = [0.3, -0.2]  # torchcde fills a leading NaN from the future
    filled = torchcde.linear_interpolation_coeffs(torch.tensor(x), torch.tensor(t)).numpy() if length > 1 else x
    np.testing.assert_allclose(naive.fill_straight(t, x, FILL), filled, rtol=0, atol=LAW)
    for windows in POLICIES[:3]:
        expected = sr.logsig_windows(t, with_time(t, filled), 3, windows)[1]
        np.testing.assert_allclose(whole(windows, "linear", t, x, 3)[1], expected, rtol=0, atol=ORACLE)


def test_hold_is_torchcdes_rectilinear_interpolation():
    torch, torchcde = pytest.importorskip("torch"), pytest.importorskip("torchcde")
    t, x = make_recording(4, 33, missing=0.3)
    x[0] = [0.3, -0.2]
    path = with_time(t, x)
    points = torchcde.linear_interpolation_coeffs(torch.tensor(path), rectilinear=0).numpy()
    _, logsigs = sr.logsig_windows(t, path, 3, sr.Count(4), "hold")
    for k, logsig in enumerate(logsigs):
        # Of four samples: time moves and then the value jumps, four times.
        np.testing.assert_allclose(logsig, sr.logsignature(points[8 * k : 8 * k + 9], 3), rtol=0, atol=ORACLE)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: sr.Adaptive(0.0), "finite and > 0"),
        (lambda: sr.Adaptive(1.0, min_seconds=-1.0), ">= 0"),
        (lambda: sr.Adaptive(1.0, min_seconds=2.0, max_seconds=1.0), "at least min_seconds"),
        (lambda: sr.Adaptive(1.0, scale=(1.0, -1.0)), "factors"),
        (lambda: sr.logsig_windows([0.0, 1.0], [[0.0], [1.0]], 1, sr.Adaptive(1.0, scale=(1.0, 2.0))), "2 factors"),
        (lambda: sr.Gap(seconds=0.0), "finite and > 0"),
        (lambda: sr.Gap(seconds=1.0, state="keep"), "'reset' or 'carry'"),
        (lambda: sr.Missing(wait_samples=0), "at least 1"),
        (lambda: sr.Missing(wait_seconds=-1.0), ">= 0"),
        (lambda: sr.logsig_windows([0.0, 1e9], [[0.0], [1.0]], 1, sr.Every(0.1)), "more than 100000 windows after"),
    ],
)
def test_a_rule_that_cannot_work_is_named(call, match):
    with pytest.raises(ParameterError, match=match):
        call()


def test_an_edge_that_does_not_move_on_is_an_error():
    class Stuck(sr.WindowPolicy, frozen=True, tag="stuck"):
        def edge(self, window):
            return window.start

    with pytest.raises(ParameterError, match=r"edge\(\) gave 0.0 for the window that begins at 0.0"):
        sr.logsig_windows([0.0, 1.0], [[0.0], [1.0]], 1, Stuck())
    with pytest.raises(OrderError):
        sr.logsig_windows([0.0, 0.0], [[0.0], [1.0]], 1, Stuck())


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_a_count_may_be_an_integer_of_numpy(kind):
    assert sr.Count(kind(3)) == sr.Count(3)
    assert type(sr.Count(kind(3)).n) is int


@pytest.mark.parametrize("n", [True, np.True_, 3.0, np.float64(3.0), "3", None, 0])
def test_a_count_is_a_whole_number(n):
    with pytest.raises(ParameterError, match="must be a whole number of at least 1"):
        sr.Count(n)


def test_a_duration_may_be_a_float_of_numpy():
    assert sr.Every(np.float32(0.5)) == sr.Every(0.5)
    assert type(sr.Every(np.float32(0.5)).seconds) is float
    assert type(sr.Every(np.int64(2)).seconds) is float
