"""The order of confirmation, checkpoint and acknowledgement, and what happens where each of them fails."""

from __future__ import annotations

import asyncio
import contextlib
import math

import numpy as np
import pyarrow as pa
import pytest
from bundles import make_bundle, make_recording

import streamrde as sr
from streamrde.connectors import ends
from streamrde.connectors.ends import DeadLetter
from streamrde.connectors.files.parts import PartSink
from streamrde.connectors.samples import Samples
from streamrde.errors import BrokerError, DataError, StateError, StateFullError
from streamrde.runtime import Metrics
from streamrde.runtime.checkpoints import CheckpointPolicy
from streamrde.runtime.pipeline import Pipeline
from streamrde.state import MemoryStore, SqliteStore

BUNDLE = make_bundle()
T, X = make_recording(0, 400)
NAMES = [f"s{i % 5}" for i in range(400)]


class Batch:
    def __init__(self, first, last, letters=()):
        self.samples = Samples(pa.array(NAMES[first:last], pa.string()), T[first:last], X[first:last])
        self.arrivals, self.messages, self.letters, self.ends = None, last - first, letters, ()
        self.rows, self.source = (first, last), ""


class Source(ends.Source):
    """Rows of the recording from the first that was never acknowledged on, as a broker with a session would send."""

    def __init__(self, log, first=0, last=400, size=10, endless=False):
        self.log, self.first, self.last, self.size, self.endless = log, first, last, size, endless
        self.acknowledged, self.taken, self.stopped = first, 0, asyncio.Event()

    async def __aiter__(self):
        for first in range(self.first, self.last, self.size):
            await asyncio.sleep(0)
            if self.stopped.is_set():
                return
            self.taken = min(first + self.size, self.last)
            yield Batch(first, self.taken)
        if self.endless:
            await self.stopped.wait()

    async def acknowledge(self, batch):
        assert batch.rows[0] == self.acknowledged, "in their order, each once"
        self.acknowledged = batch.rows[1]
        self.log.append(("acknowledged", batch.rows[1]))

    def stop(self):
        self.stopped.set()


class Sink(ends.Sink):
    def __init__(self, log, kept):
        self.log, self.kept = log, kept

    async def write(self, batch):
        for row in batch.to_pylist():
            self.kept.append(((row["stream"], row["window"]), tuple(row["value"])))
        self.log.append(("confirmed", max(batch["t_end"].to_pylist())))


class LoggedStore(MemoryStore):
    def __init__(self, log):
        super().__init__()
        self.log, self.failure, self.commits = log, None, 0

    def commit(self, checkpoint):
        if self.failure is not None:
            raise self.failure
        super().commit(checkpoint)
        self.commits += 1
        self.log.append(("saved", self.commits))


def undisturbed():
    batch = sr.Fleet(BUNDLE).push(pa.array(NAMES), T, X)
    return {(r["stream"], r["window"]): tuple(r["value"]) for r in batch.to_pylist()}


def pipeline(source, sink, store, **options):
    store.open({})
    options = {"policy": CheckpointPolicy(seconds=60.0, messages=30)} | options
    return Pipeline(source, sr.Fleet(BUNDLE, faults="drop"), sink, store=store, **options)


def run(main, seconds=20.0):
    return asyncio.run(asyncio.wait_for(main, seconds))


def test_the_sink_confirms_then_state_is_saved_then_input_is_acknowledged():
    log, kept = [], []

    async def main():
        await pipeline(Source(log), Sink(log, kept), LoggedStore(log)).run()

    run(main())
    saved = confirmed = 0
    for what, value in log:
        if what == "saved":
            saved = value
        elif what == "acknowledged":
            assert saved > 0
    assert [value for what, value in log if what == "acknowledged"][-1] == 400
    assert dict(kept) == undisturbed()
    first_saved = log.index(("saved", 1))
    assert all(what == "confirmed" for what, _ in log[:first_saved])
    confirmed = [value for what, value in log if what == "confirmed"]
    assert confirmed == sorted(confirmed)
    assert sum(what == "saved" for what, _ in log) >= 400 / 60, "about every 30 messages"


@pytest.mark.parametrize("lazily", [False, True])
@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_run_that_dies_anywhere_goes_on_and_gives_the_same_predictions(tmp_path, store, lazily):
    kept = []

    class Dying(Sink):
        """Dies when it has confirmed, before anything is saved: the worst moment."""

        async def write(self, batch):
            await super().write(batch)
            if len(self.log) == self.dies:
                raise BrokerError("killed")

    async def main():
        state = MemoryStore() if store == "memory" else SqliteStore(tmp_path / "state.db")
        first = 0
        for dies in (2, 5, 1, 9, 3, math.inf):
            log = []
            source, sink = Source(log, first), Dying(log, kept)
            sink.dies = dies
            with contextlib.suppress(BrokerError):
                await pipeline(source, sink, state, lazily=lazily).run()
            state.close()
            first = source.acknowledged
        assert first == 400

    run(main())
    assert dict(kept) == undisturbed()
    assert len(kept) > len(dict(kept)), "some were published twice"
    assert len(set(kept)) == len(dict(kept)), "and are the same"


def test_a_checkpoint_comes_after_some_seconds_where_messages_are_few():
    log = []

    async def main():
        source = Source(log, last=20, endless=True)
        running = asyncio.create_task(
            pipeline(source, Sink(log, []), LoggedStore(log), policy=CheckpointPolicy(seconds=0.05, messages=999)).run()
        )
        while source.acknowledged < 20:
            await asyncio.sleep(0.01)
        source.stop()
        await running

    run(main())


def test_a_full_disk_holds_the_intake_back_and_nothing_is_lost():
    log, kept = [], []

    async def main():
        source, store = Source(log, endless=True), LoggedStore(log)
        service = pipeline(source, Sink(log, kept), store, policy=CheckpointPolicy(seconds=0.2, messages=30))
        store.failure = StateFullError("full")
        running = asyncio.create_task(service.run())
        while not service.metrics.store_full:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert source.acknowledged == 0
        assert source.taken <= 110, "bounded: one checkpoint that waits, two checkpoints' worth, what was under way"
        store.failure = None
        while source.acknowledged < 400:
            await asyncio.sleep(0.01)
        assert not service.metrics.store_full
        service.stop()
        await running

    run(main())
    assert dict(kept) == undisturbed()
    assert len(kept) == len(dict(kept))


def test_a_full_disk_at_the_end_is_an_error_within_the_patience_and_nothing_is_acknowledged():
    log = []

    async def main():
        source, store = Source(log, last=20, endless=True), LoggedStore(log)
        service = pipeline(source, Sink(log, []), store)
        store.failure = StateFullError("full")
        running = asyncio.create_task(service.run())
        while source.taken < 20:
            await asyncio.sleep(0.01)
        service.stop(patience=0.1)
        with pytest.raises(StateFullError):
            await running
        assert source.acknowledged == 0

    run(main())


def test_a_store_that_fails_ends_the_run_although_no_message_comes():
    log = []

    async def main():
        source, store = Source(log, last=20, endless=True), LoggedStore(log)
        store.failure = StateError("gone")
        policy = CheckpointPolicy(seconds=0.05, messages=999)
        with pytest.raises(StateError, match="gone"):
            await pipeline(source, Sink(log, []), store, policy=policy).run()
        assert source.acknowledged == 0

    run(main())


def test_a_slow_sink_slows_the_intake():
    log = []

    class Slow(Sink):
        async def write(self, batch):
            await asyncio.sleep(0.01)
            assert self.source.taken - self.rows <= 10
            self.rows = self.source.taken
            await super().write(batch)

    async def main():
        source, sink = Source(log), Slow(log, [])
        sink.source, sink.rows = source, 0
        await Pipeline(source, sr.Fleet(BUNDLE), sink).run()
        assert source.acknowledged == 400

    run(main())


def test_dead_letters_are_safe_before_their_message_is_acknowledged():
    log = []

    class Letters(Sink):
        async def write(self, letters):
            self.log.append(("letter", letters[0].reason))

    class Unreadable(Source):
        async def __aiter__(self):
            yield Batch(0, 10, letters=(DeadLetter("why", "a/b", b"?", 0.0),))

    async def main():
        await pipeline(Unreadable(log), Sink(log, []), LoggedStore(log), dead_letters=Letters(log, [])).run()

    run(main())
    kinds = [what for what, _ in log]
    assert kinds.index("letter") < kinds.index("saved") < kinds.index("acknowledged")


def test_a_stream_whose_predictions_are_no_numbers_is_set_aside_where_states_are_kept():
    tensors = dict(BUNDLE.tensors)
    tensors["readout.weight"] = np.full_like(tensors["readout.weight"], 3e38)
    broken = sr.Bundle(BUNDLE.header, tensors)
    aside = []

    class Quarantine:
        def set_aside(self, stream, now):
            aside.append(stream)

    async def main():
        source = Source([], last=100)
        source.quarantine = Quarantine()
        metrics = await Pipeline(source, sr.Fleet(broken, on_range="keep"), Sink([], []), flush=False).run()
        assert metrics.not_finite > 0
        assert set(aside) <= set(NAMES)
        assert source.acknowledged == 100

    with np.errstate(all="ignore"):
        run(main())
    assert aside


def parts(folder):
    rows = [row for path in sorted(folder.glob("part-*")) for row in pa.parquet.read_table(path).to_pylist()]
    return [((row["stream"], row["window"]), tuple(row["value"])) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("dies_after", ["written", "saved", "renamed"])
def test_each_prediction_is_in_one_part_wherever_a_run_dies(tmp_path, monkeypatch, dies_after):
    """The process dies right after a part was written, after the checkpoint, or after the part got its name."""
    folder, store = tmp_path / "parts", SqliteStore(tmp_path / "state.db")

    class Dying(PartSink):
        dies = math.inf

        def stage(self):
            staged = super().stage()
            if dies_after == "written" and self._position.parts >= self.dies:
                raise BrokerError("killed")
            return staged

        def staged(self):
            if dies_after == "saved" and self._position.parts >= self.dies:
                raise BrokerError("killed")
            super().staged()
            if dies_after == "renamed" and self._position.parts >= self.dies:
                raise BrokerError("killed")

    async def main():
        first = 0
        for dies in (1, 2, 4, math.inf):
            sink = Dying(folder, sr.Fleet(BUNDLE).schema, rows=40)
            sink.dies = dies
            source = Source([], first)
            with contextlib.suppress(BrokerError):
                await pipeline(source, sink, store).run()
            store.close()
            first = source.acknowledged
        assert first == 400

    run(main())
    found = parts(folder)
    assert dict(found) == undisturbed()
    assert len(found) == len(dict(found))
    assert not list(folder.glob(".staged*"))
    assert len(list(folder.iterdir())) > 3


def test_parts_of_another_run_are_not_written_over(tmp_path):
    (tmp_path / "part-000001.parquet").write_bytes(b"")

    async def main():
        await pipeline(Source([]), PartSink(tmp_path, sr.Fleet(BUNDLE).schema), MemoryStore()).run()

    with pytest.raises(DataError, match="of another run"):
        run(main())


def test_a_swapped_model_is_saved_with_its_streams_and_the_lazy_ones_follow(tmp_path):
    other = make_bundle(seed=9)
    store = SqliteStore(tmp_path / "state.db")

    async def main():
        store.open({"model": BUNDLE.fingerprint})
        fleet = sr.Fleet(BUNDLE, faults="drop")
        await Pipeline(Source([], last=100), fleet, Sink([], []), store=store).run()
        # Only s0 becomes live; the others stay in the store as the old model left them.
        service = Pipeline(
            Source([], 100, 101), sr.Fleet(BUNDLE, faults="drop"), Sink([], []), store=store, lazily=True
        )
        original = service.source.acknowledge

        async def acknowledge(batch):
            await original(batch)

        service.source.acknowledge = acknowledge
        await service.swap(other, {"model": other.fingerprint})
        await service.run()
        store.close()
        with pytest.raises(StateError, match="model was"):
            store.open({"model": BUNDLE.fingerprint})
        store.open({"model": other.fingerprint})
        fleet = sr.Fleet(other, faults="drop")
        metrics = await Pipeline(Source([], 101), fleet, Sink([], []), store=store, metrics=Metrics()).run()
        assert len(fleet) == 5
        assert metrics.rows == 299
        store.close()

    run(main())


def test_a_stream_that_ends_within_a_batch_closes_its_windows_and_begins_anew_after_it():
    """Rows before the end, the end, rows after it: as two fleets, one after the other, and a third stream in both."""
    kept, log = [], []

    class Ending(Source):
        async def __aiter__(self):
            first, last = Batch(0, 200), Batch(200, 400)
            batch = Batch(0, 400)
            batch.ends = ((0, "s3"), (200, "s1"), (200, "never seen"), (200, "s/"), (400, "s2"))
            self.parts = first, last
            yield batch

    source = Ending(log, size=400)

    async def main():
        await Pipeline(source, sr.Fleet(BUNDLE, faults="drop"), Sink(log, kept), flush=True).run()

    run(main())
    fleet, expected = sr.Fleet(BUNDLE), []
    first, last = source.parts
    for part, ended in ((first, ["s1"]), (last, None)):
        for batch in (fleet.push(part.samples.streams, part.samples.t, part.samples.x), fleet.flush(ended)):
            expected += [((row["stream"], row["window"]), tuple(row["value"])) for row in batch.to_pylist()]
    assert sorted(kept) == sorted(expected)
    assert kept.count(next(row for row in kept if row[0] == ("s1", 0))) == 1
    assert [key for key, _ in kept].count(("s1", 0)) == 2, "its windows are counted anew"


def test_the_end_of_a_group_ends_all_streams_below_it():
    kept, log = [], []

    class Ending(Source):
        async def __aiter__(self):
            batch = Batch(0, 200)
            names = [f"plant/gateway/{name}" if name in ("s1", "s2") else name for name in NAMES[:200]]
            batch.samples = batch.samples._replace(streams=pa.array(names, pa.string()))
            batch.ends = ((200, "plant/gateway"), (200, "plant/gateway/"))
            yield batch

    async def main():
        fleet = sr.Fleet(BUNDLE, faults="drop")
        await Pipeline(Ending(log, size=400), fleet, Sink(log, kept), flush=False).run()
        return fleet

    assert sorted(run(main()).streams) == ["s0", "s3", "s4"]
