"""A run works in slices: one sample far ahead, a backlog or a silence holds up nobody else, and nothing is lost."""

from __future__ import annotations

import asyncio
import pathlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from bundles import make_bundle

import streamrde as sr
from streamrde.errors import ParameterError
from streamrde.runtime.checkpoints import CheckpointPolicy
from streamrde.runtime.pace import Pace
from streamrde.runtime.pipeline import Pipeline
from streamrde.runtime.silence import Silence
from streamrde.state import MemoryStore
from streamrde.testing import CollectingSink, ScriptedSource, batch_of

BUNDLE = make_bundle(interpolation="linear")
WINDOWS = 8


def rows_of(names, t):
    return batch_of(names, t, np.sin(np.outer(t, [0.3, 0.7])))


class Sink(CollectingSink):
    @property
    def rows(self):
        return sorted(((r["stream"], r["window"], tuple(r["value"])) for r in super().rows), key=lambda r: r[:2])


def far_ahead():
    """One stream is silent for 900 windows, while another goes on."""
    t = np.concatenate([np.arange(4.0), 900.0 + np.arange(4.0)])
    other = np.arange(12.0)
    return [rows_of(["far"] * 8, t), *(rows_of(["other"] * 4, other[i : i + 4]) for i in (0, 4, 8))]


def expected(batches):
    fleet = sr.Fleet(BUNDLE)
    parts = [fleet.push(b.samples.streams, b.samples.t, b.samples.x) for b in batches] + [fleet.flush()]
    sink = Sink()
    sink.batches = parts
    return sink.rows


def test_others_are_served_while_one_sample_closes_many_windows():
    batches, sink = far_ahead(), Sink()
    pipeline = Pipeline(ScriptedSource(batches), sr.Fleet(BUNDLE), sink, slice_windows=WINDOWS)
    metrics = asyncio.run(pipeline.run())
    assert sink.rows == expected(batches)
    assert metrics.predictions == len(sink.rows)
    assert all(batch.num_rows <= 16 + WINDOWS + 4 * 8 for batch in sink.batches)
    streams = [set(batch["stream"].to_pylist()) for batch in sink.batches]
    last_of_other = max(i for i, names in enumerate(streams) if "other" in names)
    assert sum(names == {"far"} for names in streams[:-1]) > 20, "the windows of one sample came in many slices"
    first_other = min(i for i, names in enumerate(streams) if "other" in names)
    assert first_other < 10
    assert last_of_other >= first_other


def test_owed_windows_are_saved_acknowledged_and_closed_by_the_next_run():
    batches = far_ahead()
    store, first, second = MemoryStore(), Sink(), Sink()
    store.open({"model": BUNDLE.fingerprint})
    source = ScriptedSource(batches[:1])
    pipeline = Pipeline(
        source, sr.Fleet(BUNDLE), first, store=store, policy=CheckpointPolicy(messages=1), slice_windows=WINDOWS
    )
    asyncio.run(pipeline.run())
    assert source.acknowledged == batches[:1]
    assert len(first.rows) < 900, "a run that ends leaves what is owed in its state"
    source, fleet = ScriptedSource(batches[1:]), sr.Fleet(BUNDLE)
    again = Pipeline(source, fleet, second, store=store, flush=True, slice_windows=WINDOWS)
    asyncio.run(again.run())
    both = Sink()
    both.batches = [*first.batches, *second.batches]
    assert both.rows == expected(batches)


def test_a_backlog_is_taken_in_slices_between_which_the_loop_turns():
    rows = 30_000
    names = [f"s{i % 7}" for i in range(rows)]
    batch, sink, turns = rows_of(names, np.arange(rows) / 7 * 0.01), Sink(), 0

    async def scenario():
        nonlocal turns
        pipeline = Pipeline(ScriptedSource([batch]), sr.Fleet(BUNDLE, faults="drop"), sink)
        running = asyncio.create_task(pipeline.run())
        while not running.done():
            turns += 1
            await asyncio.sleep(0)
        return await running

    metrics = asyncio.run(scenario())
    assert metrics.rows == rows
    assert metrics.batches == 1
    assert turns >= rows // 4096
    assert sink.rows == expected([batch])


@pytest.mark.slow
def test_a_run_ends_in_order_while_windows_are_owed():
    batches, sink = far_ahead()[:1], Sink()

    async def scenario():
        source = ScriptedSource(batches, live=True)
        pipeline = Pipeline(source, sr.Fleet(BUNDLE), sink, slice_windows=1)
        running = asyncio.create_task(pipeline.run())
        while not sink.batches:
            await asyncio.sleep(0)
        pipeline.stop()
        return await asyncio.wait_for(running, 60)

    asyncio.run(scenario())
    assert sink.rows == expected(batches)


def test_samples_that_wait_for_owed_windows_are_bounded(monkeypatch):
    monkeypatch.setattr("streamrde.runtime.pipeline._MOST_HELD", 3)
    held = []
    t = np.concatenate([[0.0], 500.0 + np.arange(40.0)])
    batches = [rows_of(["far"] * 2, t[:2]), *(rows_of(["far"], [at]) for at in t[2:])]
    fleet, sink = sr.Fleet(BUNDLE), Sink()
    pipeline = Pipeline(
        ScriptedSource(batches),
        fleet,
        sink,
        slice_windows=WINDOWS,
        on_batch=lambda _: held.append(fleet.slices(windows=1).held),
    )
    asyncio.run(pipeline.run())
    assert max(held) <= 3
    assert sink.rows == expected(batches)


@pytest.mark.parametrize("ahead", [10 * 365.25 * 86400.0, 1.7e12, 1.7e15, 1.7e18], ids=["10 years", "ms", "us", "ns"])
def test_a_sample_far_ahead_cuts_its_stream_once_and_is_said(ahead):
    """Whatever the unit: a bounded number of windows, a count, and a word."""
    noticed = []
    t = np.append(np.arange(6.0), ahead)
    batches = [rows_of(["far"] * 7, t), rows_of(["other"] * 4, np.arange(4.0))]
    fleet, sink = sr.Fleet(BUNDLE, on_trouble=noticed.append), Sink()
    metrics = asyncio.run(Pipeline(ScriptedSource(batches), fleet, sink).run())
    assert len(sink.rows) == 5 + 3
    assert metrics.states.cuts == fleet.state_counts().cuts == metrics.summary()["cuts"] == 1
    (trouble,) = noticed
    assert (trouble.stream, trouble.kind) == ("far", "cut")
    assert "bridges 1000 s" in str(trouble)


def test_a_fleet_that_was_slow_gets_smaller_slices_and_a_fast_one_larger_ones():
    pace = Pace(1000)
    for _ in range(20):
        pace.adapt(1.0)
    assert pace.windows == 15
    assert pace.rows == 64
    for _ in range(20):
        pace.adapt(0.001)
    assert pace.windows == 1000
    with pytest.raises(ParameterError, match="at least 1 window"):
        Pace(0)


def test_dictionary_encoded_streams_are_sliced_as_plain_ones():
    names = [f"s{i % 7}" for i in range(9000)]
    plain = rows_of(names, np.arange(9000) * 0.01)
    coded = replace(plain, samples=plain.samples._replace(streams=plain.samples.streams.dictionary_encode()))
    sinks = []
    for batch in (plain, coded):
        sinks.append(Sink())
        asyncio.run(Pipeline(ScriptedSource([batch]), sr.Fleet(BUNDLE), sinks[-1]).run())
    assert sinks[0].rows == sinks[1].rows


@pytest.mark.slow
def test_a_silence_by_the_clock_is_worked_off_in_slices_and_the_clock_is_served():
    """A night in which nothing comes: windows close up to what the model bridges, a slice at a time."""
    bundle = make_bundle(interpolation="hold")

    class Night:
        time_now = 0.0

        def now(self):
            return self.time_now

        async def sleep(self, seconds):
            self.time_now += 300.0
            await asyncio.sleep(0)

    clock, sink = Night(), Sink()
    names = [f"s{i}" for i in range(20)]

    async def scenario():
        source = ScriptedSource([rows_of(names, np.zeros(20)), rows_of(names, np.full(20, 0.5))], live=True)
        silence = Silence(advance="clock", every=1.0)
        pipeline = Pipeline(source, sr.Fleet(bundle), sink, silence=silence, clock=clock, slice_windows=50)
        run = asyncio.create_task(pipeline.run())
        while clock.now() < 8 * 3600:
            await asyncio.sleep(0)
        source.stop()
        await run

    asyncio.run(scenario())
    assert all(batch.num_rows <= 50 + 20 for batch in sink.batches)
    last = {}
    for stream, window, _ in sink.rows:
        last[stream] = window
    assert set(last) == set(names)
    assert all(800 <= window <= 1001 for window in last.values()), "held up to what the model bridges, and no further"


@pytest.mark.slow
def test_the_benchmark_of_hostile_times_measures_every_case():
    script = pathlib.Path(__file__).parents[1] / "benchmarks" / "hostile_times.py"
    command = [sys.executable, str(script), "--seconds", "0.5", "--streams", "5", "--scale", "0.01"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()
    assert len(shown) == 9
    figures = [[float(cell.replace(",", "")) for cell in line[28:].split()] for line in shown[1:]]
    assert all(len(row) == 5 for row in figures)
    assert all(row[-1] > 0 for row in figures[5:])  # what was bridged has its windows
