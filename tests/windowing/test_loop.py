"""The loop: compiled and reference are twins, and nothing depends on how rows are cut into calls."""

import contextlib

import naive
import numpy as np
import pytest
from bundles import make_recording
from hostile import BUILT_IN, POLICIES, Table, make_hostile, make_partition, windows_of
from hypothesis import given, settings
from hypothesis import strategies as st

import streamrde as sr
from streamrde import kernels
from streamrde.kernels.outcome import Refusal
from streamrde.windowing.loop import WINDOWS_OF_A_ROW
from streamrde.windowing.ordering import Fault
from streamrde.windowing.recorded import window_recordings
from streamrde.windowing.rows import COUNTS

orders = st.sampled_from(
    [
        sr.Order(),
        sr.Order(duplicates="first"),
        sr.Order(lateness=0.6),
        sr.Order(lateness_samples=3, duplicates="last"),
        sr.Order(lateness=1.0, max_held=2, merge=True),
        sr.Order(merge=True, duplicates="last"),
    ]
)


@st.composite
def partitions(draw, policies=tuple(POLICIES)):
    return make_partition(
        draw(st.sampled_from(policies)),
        draw(st.sampled_from(["linear", "hold"])),
        missing=draw(
            st.builds(
                sr.Missing,
                wait_samples=st.sampled_from([2, 256]),
                wait_seconds=st.sampled_from([None, 0.8]),
                counts=st.booleans(),
                elapsed=st.booleans(),
            )
        ),
        gap=draw(st.sampled_from([None, sr.Gap(seconds=3.0), sr.Gap(seconds=3.0, state="carry")])),
        time=draw(st.booleans()),
    )


seeds = st.integers(0, 2**32)


@pytest.mark.slow
@pytest.mark.skipif(kernels.Loop is None, reason="there are no compiled kernels")
@given(partitions(tuple(BUILT_IN)), orders, seeds, st.sampled_from([None, 0.5]), st.sampled_from([0, 2]))
def test_the_compiled_loop_is_the_references_twin(partition, order, seed, grid, restart_after):
    slots, t, x = make_hostile(seed, 60, grid=grid)
    compiled = Table(partition, order, restart_after=restart_after)
    reference = Table(partition, order, reference=True, restart_after=restart_after)
    for part in np.array_split(np.arange(len(t)), 3):
        for call in (
            lambda table, part=part: table.push(slots[part], t[part], x[part]),
            lambda table, part=part: table.advance(np.nanmax(t[part]) - 2.0),
        ):
            for ours, theirs in zip(call(compiled), call(reference), strict=True):
                assert ours.dtype == theirs.dtype
                assert ours.shape == theirs.shape
                assert ours.tobytes() == theirs.tobytes()
            assert compiled.state() == reference.state()
    for ours, theirs in zip(compiled.flush(), reference.flush(), strict=True):
        assert ours.tobytes() == theirs.tobytes()
    assert compiled.state() == reference.state()


@pytest.mark.slow
@given(
    partitions(),
    orders,
    seeds,
    st.lists(st.integers(0, 70), max_size=5),
    st.sampled_from([None, 0.5]),
    st.integers(0, 2),
)
def test_cuts_and_snapshots_change_nothing(partition, order, seed, cuts, grid, restart_after):
    slots, t, x = make_hostile(seed, 60, grid=grid)
    whole = Table(partition, order, restart_after=restart_after)
    at_once = [whole.push(slots, t, x), whole.flush()]
    table, parts = Table(partition, order, restart_after=restart_after), []
    for part in np.split(np.arange(len(t)), sorted(cuts)):
        parts.append(table.push(slots[part], t[part], x[part]))
        table = table.moved(partition, order)
    parts.append(table.flush())
    assert table.state() == whole.state()
    for slot in range(3):
        assert windows_of(parts, slot) == windows_of(at_once, slot)


@pytest.mark.slow
@given(partitions(), orders, seeds, st.integers(1, 4))
def test_a_stream_whose_clock_begins_again_goes_on_as_after_a_gap(partition, order, seed, after):
    """From the late row that is one too many on, the stream is as one that never had another time."""
    t, x = make_recording(seed, 40)
    again = np.concatenate([1000.0 + t, t])
    slots, x = np.zeros(len(again), np.intp), np.concatenate([x, x])
    table = Table(partition, order, streams=1, restart_after=after)
    taken = [table.push(slots, again, x), table.flush()]
    lost = len(t) + after - 1
    assert table.rows[0, COUNTS].tolist() == [len(again) - after + 1, after - 1, 0, 0, 0]
    assert taken[0].unused["row"].tolist() == list(range(len(t), len(t) + after))
    assert taken[0].unused["fault"].tolist() == [Fault.LATE] * (after - 1) + [Fault.RESTARTED]
    fresh = Table(partition, order, streams=1)
    expected = windows_of([fresh.push(slots[lost:], again[lost:], x[lost:]), fresh.flush()], 0)
    got = [window for window in windows_of(taken, 0) if window[2] < 1000.0]
    assert [window[2:4] for window in got] == [window[2:4] for window in expected]
    assert [window[0] for window in windows_of(taken, 0)] == list(range(len(windows_of(taken, 0))))


@pytest.mark.slow
@given(partitions(), orders, seeds)
def test_streams_do_not_see_each_other(partition, order, seed):
    slots, t, x = make_hostile(seed, 60)
    together = Table(partition, order)
    batches = [together.push(slots, t, x), together.flush()]
    for slot in range(3):
        own, alone = slots == slot, Table(partition, order)
        parts = [alone.push(slots[own], t[own], x[own]), alone.flush()]
        assert windows_of(parts, slot) == windows_of(batches, slot)
        assert alone.rows[slot].tobytes() == together.rows[slot].tobytes()


@given(partitions(), seeds, st.integers(0, 2**32), st.sampled_from([0.3, 2.0]))
def test_any_shuffle_within_lateness_gives_the_sorted_result(partition, seed, shuffle, lateness):
    t, x = make_recording(seed, 40, missing=0.3)
    rng = np.random.default_rng(shuffle)
    # Never behind a row that is later by more than `lateness`: the key of a row is its time and less than that.
    order = np.argsort(t + rng.uniform(0, lateness, len(t)), kind="stable")
    slots = np.zeros(len(t), dtype=np.intp)
    sorted_, shuffled = Table(partition), Table(partition, sr.Order(lateness=lateness))
    expected = [sorted_.push(slots, t, x), sorted_.flush()]
    got = [shuffled.push(slots, t[order], x[order]), shuffled.flush()]
    assert windows_of(got, 0) == windows_of(expected, 0)
    assert shuffled.rows[0, COUNTS].tolist() == [len(t), 0, 0, 0, 0]
    overtaken = max(int((order[:place] > row).sum()) for place, row in enumerate(order))
    by_count = Table(partition, sr.Order(lateness_samples=overtaken))
    got = [by_count.push(slots, t[order], x[order]), by_count.flush()]
    assert windows_of(got, 0) == windows_of(expected, 0)


@pytest.mark.slow
@given(partitions(), seeds)
def test_recordings_are_cut_as_streams_are(partition, seed):
    recordings = [make_recording(seed + i, length, missing=0.3, t0=1e3 * i) for i, length in enumerate((25, 1, 14))]
    for i, (t, _) in enumerate(recordings):
        t[10 + i :] += 4.0  # a gap
    ts, xs = zip(*recordings, strict=True)
    table = Table(partition)
    slots = np.repeat(np.arange(3), [len(t) for t in ts])
    takens = [table.push(slots, np.concatenate(ts), np.concatenate(xs)), table.flush()]
    windowed = window_recordings(ts, xs, partition)
    episodes = takens[0].episodes
    began = sorted(zip(episodes["slot"], episodes["episode"], map(bytes, takens[0].origins), strict=True))
    assert [(w.stream, w.first.tobytes()) for w in windowed] == [(slot, first) for slot, _, first in began]
    for slot in range(3):
        own = [w for w in windowed if w.stream == slot]
        rows = [(a, b, c.tobytes()) for w in own for a, b, c in zip(w.start, w.end, w.logsigs, strict=True)]
        assert rows == [row[2:] for row in windows_of(takens, slot)]


@pytest.mark.slow
@given(partitions(), seeds, st.lists(st.floats(0, 1), max_size=3))
def test_how_often_time_is_told_changes_nothing(partition, seed, fractions):
    t, x = make_recording(seed, 20, missing=0.3)
    t[12:] += 7.0  # a gap
    table, plain = Table(partition, streams=1), Table(partition, streams=1)
    slots, told = np.zeros(1, dtype=np.intp), []
    for i in range(len(t)):
        told.append(table.push(slots, t[i : i + 1], x[i : i + 1]))
        if i + 1 < len(t):
            told += [table.advance(t[i] + fraction * (t[i + 1] - t[i])) for fraction in sorted(fractions)]
    told.append(table.flush())
    expected = [plain.push(np.zeros(len(t), dtype=np.intp), t, x), plain.flush()]
    assert windows_of(told, 0) == windows_of(expected, 0)


@pytest.mark.slow
@settings(max_examples=25)
@given(partitions(), seeds)
def test_every_row_is_counted_once(partition, seed):
    slots, t, x = make_hostile(seed, 80, grid=0.25)
    for order in (sr.Order(), sr.Order(lateness=0.5, duplicates="first"), sr.Order(merge=True, duplicates="last")):
        table = Table(partition, order)
        taken = table.push(slots, t, x)
        table.flush()
        counts = table.rows[:, COUNTS].sum(axis=0)
        assert counts.sum() == len(t)
        # What was left out is listed; a repeat that replaced another one is listed too.
        assert len(taken.unused) == counts[1:4].sum()
        assert (np.diff(taken.unused["row"]) > 0).all()


@pytest.mark.slow
@given(partitions(), seeds, st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from(["first", "last"]), st.booleans())
def test_order_is_that_of_the_rules_in_plain_words(partition, seed, lateness, duplicates, merge):
    slots, t, x = make_hostile(seed, 60, streams=1, grid=0.25)
    table = Table(partition, sr.Order(lateness=lateness, duplicates=duplicates, merge=merge), streams=1)
    taken = [table.push(slots, t, x), table.flush()]
    samples, fates = naive.put_in_order(
        zip(t.tolist(), x.tolist(), strict=True), lateness=lateness, duplicates=duplicates, merge=merge
    )
    names = ["samples", "late", "duplicate", "rejected", "merged"]
    assert table.rows[0, COUNTS].tolist() == [fates.count(name) for name in names]
    used = {"samples", "merged"}
    assert [(i, Fault(f).name.lower()) for i, f in taken[0].unused.tolist()] == [
        (i, fate) for i, fate in enumerate(fates) if fate not in used
    ]
    plain = Table(partition, streams=1)
    times, values = np.array([time for time, _ in samples]), np.array([value for _, value in samples]).reshape(-1, 2)
    expected = [plain.push(np.zeros(len(times), np.intp), times, values), plain.flush()]
    assert windows_of(taken, 0) == windows_of(expected, 0)


@pytest.mark.slow
@pytest.mark.skipif(kernels.Loop is None, reason="there are no compiled kernels")
@pytest.mark.parametrize("interpolation", ["linear", "hold"])
@pytest.mark.parametrize("drop", [True, False])
def test_threads_change_nothing_on_hostile_rows(interpolation, drop):
    partition = make_partition(sr.Every(1.0), interpolation, gap=sr.Gap(seconds=3.0), missing=sr.Missing(counts=True))
    order = sr.Order(lateness=0.5, duplicates="first")
    slots, t, x = make_hostile(3, 20_000, streams=100, grid=0.05)
    tables = [Table(partition, order, streams=100) for _ in range(3)]
    for part in np.array_split(np.arange(len(t)), 2):
        results = []
        for table, threads in zip(tables, (1, 2, 5), strict=True):
            with contextlib.nullcontext() if drop else pytest.raises(Refusal) as refused:
                outcome = table.loop.push(
                    table.rows, slots[part], t[part], np.ascontiguousarray(x[part]), drop, threads
                )
            results.append([array.tobytes() for array in outcome] if drop else refused.value.args)
        assert results[1:] == results[:1] * 2
    assert all(table.state() == tables[0].state() for table in tables)


def in_slices(table, slots, t, x, windows):
    """What a push gives that may close so many windows at a time, and what each call closed."""
    takens = [table.loop.push(table.rows, slots, t, np.ascontiguousarray(x), True, 1, windows)]
    while len(owing := takens[-1].owing):
        takens.append(table.loop.go_on(table.rows, owing, windows, max(1, windows // 2)))
    return takens


@pytest.mark.slow
@settings(max_examples=25)
@given(partitions(), orders, seeds, st.integers(1, 9), st.sampled_from([1.0, 40.0, 3000.0]))
def test_a_bound_on_the_windows_of_a_call_changes_none_of_them(partition, order, seed, windows, stretch):
    partition = partition._replace(bridge=2000)
    slots, t, x = make_hostile(seed, 40)
    t = 10.0 + stretch * t  # long silences: many windows from one sample to the next
    whole, sliced = Table(partition, order), Table(partition, order)
    at_once, parts = [], []
    for part in np.array_split(np.arange(len(t)), 3):
        at_once.append(whole.push(slots[part], t[part], x[part]))
        takens = in_slices(sliced, slots[part], t[part], x[part], windows)
        closed_by_samples = len(part) * (1 + WINDOWS_OF_A_ROW) + 2 * len(part)
        assert all(len(taken.windows) <= windows + closed_by_samples for taken in takens)
        parts += takens
        assert sliced.state() == whole.state()
        now = np.full(3, np.nanmax(t[part]) - 2.0)
        at_once.append(whole.loop.advance(whole.rows, whole.slots, now))
        waiting = sliced.slots
        while len(waiting):
            parts.append(sliced.loop.advance(sliced.rows, waiting, now[waiting], windows, 2))
            assert len(parts[-1].windows) <= windows + 2 * len(part)
            waiting = parts[-1].owing
        assert sliced.state() == whole.state()
    at_once.append(whole.flush())
    waiting = sliced.slots
    while len(waiting):
        parts.append(sliced.loop.flush(sliced.rows, waiting, windows, 2))
        waiting = parts[-1].owing
    assert sliced.state() == whole.state()
    for slot in range(3):
        assert windows_of(parts, slot) == windows_of(at_once, slot)
        for name in ("cuts", "episodes"):
            count = [sum((getattr(part, name)["slot"] == slot).sum() for part in calls) for calls in (parts, at_once)]
            assert count[0] == count[1]


@pytest.mark.slow
@given(partitions(), orders, seeds, st.integers(1, 9), st.lists(st.integers(0, 50), max_size=4))
def test_a_stream_that_owes_windows_takes_samples_and_snapshots_as_if_it_did_not(partition, order, seed, windows, cuts):
    partition = partition._replace(bridge=2000)
    slots, t, x = make_hostile(seed, 40)
    t = 10.0 + 60.0 * t
    whole, table = Table(partition, order), Table(partition, order)
    at_once, parts = [whole.push(slots, t, x), whole.flush()], []
    for part in np.split(np.arange(len(t)), sorted(cuts)):
        parts.append(table.loop.push(table.rows, slots[part], t[part], np.ascontiguousarray(x[part]), True, 1, windows))
        if len(parts[-1].owing):
            parts.append(table.loop.go_on(table.rows, parts[-1].owing, windows, windows))
        table = table.moved(partition, order)
    parts.append(table.flush())
    assert table.state() == whole.state()
    for slot in range(3):
        assert windows_of(parts, slot) == windows_of(at_once, slot)


@pytest.mark.slow
@pytest.mark.skipif(kernels.Loop is None, reason="there are no compiled kernels")
@given(partitions(tuple(BUILT_IN)), orders, seeds, st.integers(1, 9))
def test_the_compiled_loop_closes_and_owes_the_same_windows_as_the_reference(partition, order, seed, windows):
    partition = partition._replace(bridge=2000)
    slots, t, x = make_hostile(seed, 40)
    t = 10.0 + 60.0 * t
    compiled, reference = Table(partition, order), Table(partition, order, reference=True)
    # Streams one after the other: the compiled loop takes rows in this order, and shares the bound out in it.
    place = np.argsort(slots, kind="stable")
    ours, theirs = (in_slices(table, slots[place], t[place], x[place], windows) for table in (compiled, reference))
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert [column.tobytes() for column in one] == [column.tobytes() for column in other]
    assert compiled.state() == reference.state()
