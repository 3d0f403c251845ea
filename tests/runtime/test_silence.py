"""Time that passes without data, on a clock that is advanced by hand."""

import asyncio

import numpy as np
import pytest
from bundles import make_bundle

import streamrde as sr
from streamrde.errors import ParameterError
from streamrde.runtime import ManualClock, Silence, SystemClock, Timekeeper
from streamrde.runtime.archive import StoreArchive
from streamrde.runtime.checkpoints import CheckpointPolicy
from streamrde.runtime.pipeline import Pipeline
from streamrde.state import MemoryStore
from streamrde.testing import CollectingSink, ScriptedSource, batch_of


def make_fleet(**options):
    return sr.Fleet(make_bundle(interpolation="hold"), **options)


def ends(batch):
    return [] if batch is None else list(zip(batch["stream"].to_pylist(), batch["t_end"].to_pylist(), strict=True))


def push(fleet, keeper, streams, t, source=""):
    fleet.push(streams, t, np.ones((len(t), 2)))
    keeper.observe(np.array(t), source)


def test_the_watermark_closes_windows_of_streams_that_are_silent():
    fleet, clock = make_fleet(), ManualClock()
    keeper = Timekeeper(fleet, Silence(advance="watermark", every=1.0), clock)
    push(fleet, keeper, ["a", "b", "b"], [0.0, 0.0, 2.5])
    assert keeper.tick() is None  # not due
    clock.advance(1.0)
    assert ends(keeper.tick()) == [("a", 1.0), ("a", 2.0)]
    assert keeper.tick() is None
    clock.advance(5.0)
    assert ends(keeper.tick()) == []  # the clock is not what tells the time


def test_nothing_closes_before_lateness_allows():
    fleet, clock = make_fleet(order=sr.Order(lateness=2.0)), ManualClock(100.0)
    keeper = Timekeeper(fleet, Silence(advance="clock"), clock)
    push(fleet, keeper, ["a", "a"], [100.0, 100.5])
    closed = []
    for _ in range(5):
        clock.advance(1.0)
        closed.append(ends(keeper.tick()))
    assert closed == [[], [], [("a", 101.0)], [("a", 102.0)], [("a", 103.0)]]


def test_the_slowest_source_holds_the_watermark_until_it_has_been_silent_for_long():
    fleet, clock = make_fleet(), ManualClock()
    keeper = Timekeeper(fleet, Silence(advance="watermark", source_idle=10.0), clock)
    push(fleet, keeper, ["a"], [0.0], "north")
    push(fleet, keeper, ["b"], [1.5], "south")
    push(fleet, keeper, ["c"], [7.2], "north")
    assert keeper.time == 1.5
    clock.advance(8.0)
    push(fleet, keeper, ["c"], [9.0], "north")
    assert keeper.time == 1.5
    clock.advance(8.0)
    assert keeper.time == 9.0
    clock.advance(80.0)
    assert keeper.time == 9.0
    assert ends(keeper.tick())[-1] == ("b", 8.5)


def test_a_sample_from_the_future_is_not_believed():
    fleet, clock = make_fleet(), ManualClock(1000.0)
    keeper = Timekeeper(fleet, Silence(advance="watermark", ahead=60.0), clock)
    push(fleet, keeper, ["a", "a", "b"], [1000.0, 1000.5, 1e9])
    keeper.observe(np.array([np.nan, np.inf]))
    assert keeper.time == 1000.5


@pytest.mark.parametrize("returning", ["anew", "state"])
def test_an_idle_stream_ends_and_returns(returning):
    archive = {} if returning == "state" else None
    fleet, clock = make_fleet(archive=archive), ManualClock()
    keeper = Timekeeper(fleet, Silence(advance="watermark", idle=30.0, returning=returning), clock)
    push(fleet, keeper, ["a", "a", "b"], [0.0, 0.5, 40.0])
    clock.advance(1.0)
    assert ends(keeper.tick())[-1] == ("a", 40.0)
    assert fleet.streams == ["b"]
    fleet.push(["a", "a"], [50.0, 51.0], np.ones((2, 2)))
    assert fleet.flush(["a"]).num_rows == 1
    assert (fleet.counts().samples, len(fleet)) == (5, 1)


def test_nothing_to_do_is_nothing():
    clock = ManualClock()
    for silence in (Silence(), Silence(advance="watermark")):
        keeper = Timekeeper(make_fleet(), silence, clock)
        clock.advance(2.0)
        assert keeper.tick() is None


def test_a_clock_that_is_set_back_puts_nothing_off():
    class Jumping:
        def __init__(self):
            self.time = 1e6

        def now(self):
            return self.time

        async def sleep(self, seconds):
            raise NotImplementedError

    fleet, clock = make_fleet(), Jumping()
    keeper = Timekeeper(fleet, Silence(advance="watermark"), clock)
    push(fleet, keeper, ["a", "b"], [0.0, 5.0])
    clock.time = 0.0
    assert ends(keeper.tick()) == [("a", float(k)) for k in range(1, 6)]


def test_a_manual_clock_wakes_its_sleepers_in_order():
    async def run():
        clock, woken = ManualClock(), []

        async def sleeper(seconds):
            await clock.sleep(seconds)
            woken.append((seconds, clock.now()))

        tasks = [asyncio.create_task(sleeper(seconds)) for seconds in (3.0, 1.0, 2.0, 0.0)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        cancelled = asyncio.create_task(sleeper(1.5))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.sleep(0)
        clock.advance(2.0)
        for _ in range(3):
            await asyncio.sleep(0)
        clock.advance(1.0)
        await asyncio.gather(*tasks)
        return woken

    assert asyncio.run(run()) == [(0.0, 0.0), (1.0, 2.0), (2.0, 2.0), (3.0, 3.0)]
    with pytest.raises(ParameterError, match="advanced by at least 0"):
        ManualClock().advance(-1.0)


def test_the_system_clock_goes():
    clock = SystemClock()
    before = clock.now()
    asyncio.run(clock.sleep(0.0))
    assert clock.now() >= before > 1.6e9


class Script(ScriptedSource, CollectingSink):
    """A source that delivers what it is handed, and a sink that keeps what it gets."""

    def __init__(self):
        ScriptedSource.__init__(self, live=True)
        CollectingSink.__init__(self)

    def push(self, streams, t):
        self.send(batch_of(streams, t))

    @property
    def rows(self):
        return [(r["stream"], r["window"], r["t_end"]) for r in super().rows]


async def until(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it does not happen")


def test_a_run_closes_windows_and_ends_streams_while_nothing_comes():
    async def go():
        clock, script = ManualClock(1000.0), Script()
        fleet = make_fleet()
        silence = Silence(advance="clock", every=0.5, idle=10.0)
        pipeline = Pipeline(script, fleet, script, silence=silence, clock=clock)
        task = asyncio.create_task(pipeline.run())
        script.push(["a", "a"], [1000.0, 1000.2])
        await until(lambda: len(script.acknowledged) == 1)
        assert script.rows == []
        for _ in range(3):
            await until(lambda: clock.sleepers)
            clock.advance(0.5)
        await until(lambda: script.rows == [("a", 0, 1001.0)])
        await until(lambda: clock.sleepers)
        clock.advance(20.0)
        await until(lambda: len(fleet) == 0)
        pipeline.stop()
        await task
        assert script.rows[-1] == ("a", 20, 1021.0)
        assert pipeline.metrics.predictions == len(script.rows) == 21

    asyncio.run(go())


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("lazily", [False, True])
def test_a_stream_that_silence_ended_returns_with_its_state(saved, lazily):
    async def go():
        clock, script, store = ManualClock(), Script(), MemoryStore()
        store.open({})
        fleet = make_fleet(archive=StoreArchive(store))
        pipeline = Pipeline(
            script,
            fleet,
            script,
            store=store,
            policy=CheckpointPolicy(seconds=3600.0, messages=1 if saved else 100),
            lazily=lazily,
            silence=Silence(advance="watermark", idle=5.0, returning="state"),
            clock=clock,
        )
        task = asyncio.create_task(pipeline.run())
        script.push(["a", "a"], [0.0, 1.5])
        script.push(["b"], [9.0])
        await until(lambda: "b" in fleet)
        await until(lambda: clock.sleepers)
        clock.advance(1.0)
        await until(lambda: "a" not in fleet)
        if saved:
            script.push(["b"], [9.1])  # its message makes a checkpoint due
            await until(lambda: not fleet.archive.unsaved)
        windows = [window for stream, window, _ in script.rows if stream == "a"]
        script.push(["a", "a"], [20.0, 21.0])
        await until(lambda: script.rows[-1][2] == 21.0)
        assert script.rows[-1] == ("a", windows[-1] + 1, 21.0)
        pipeline.stop()
        await task

    asyncio.run(go())


class Letters:
    """Keeps dead letters."""

    def __init__(self):
        self.kept = []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        return None

    async def write(self, letters):
        self.kept += letters


@pytest.mark.parametrize("wanted", [True, False])
def test_rows_that_are_not_used_go_where_dead_letters_go(wanted):
    async def go():
        script, letters = Script(), Letters()
        fleet = sr.Fleet(make_bundle(), faults="drop", order=sr.Order(lateness=1.0, duplicates="first"))
        pipeline = Pipeline(script, fleet, script, dead_letters=letters, letters_of_rows=wanted)
        task = asyncio.create_task(pipeline.run())
        script.push(["a", "a", "a", "a"], [0.0, 5.0, -2.0, 5.0])
        script.push(["a"], [6.0])
        await until(lambda: len(script.acknowledged) == 2)
        pipeline.stop()
        metrics = await task
        assert (metrics.counts.late, metrics.counts.duplicate) == (1, 1)
        assert [(k.reason, k.topic, k.payload) for k in letters.kept] == [
            ("late row", "a", b'{"t":-2.0,"a":1.0,"b":1.0}'),
            ("duplicate row", "a", b'{"t":5.0,"a":1.0,"b":1.0}'),
        ][: 2 * wanted]

    asyncio.run(go())
