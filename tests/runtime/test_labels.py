"""Labels in columns beside the channels: predictions that depend neither on batches nor on crashes."""

from __future__ import annotations

import asyncio
import contextlib
import math

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from bundles import make_bundle, make_recording

import streamrde as sr
from streamrde.cli.printing import said_labels
from streamrde.config.labels import LabelsConfig
from streamrde.config.run import RunConfig
from streamrde.connectors import ends
from streamrde.connectors.files.file import LabelFileConfig
from streamrde.connectors.samples import Samples
from streamrde.connectors.sections import ModelOutline
from streamrde.connectors.several import SeveralSource
from streamrde.errors import BrokerError, ConfigError
from streamrde.runtime.checkpoints import CheckpointPolicy
from streamrde.runtime.exposition import Exposition
from streamrde.runtime.labels import LateLabels, learn
from streamrde.runtime.pipeline import Pipeline
from streamrde.runtime.recent import Recent
from streamrde.settings import convert
from streamrde.state import SqliteStore
from streamrde.testing import ScriptedSource, batch_of

BUNDLE = make_bundle(
    task="regression", labels=("u", "v"), outputs=2, windows=sr.Every(1.0), interpolation="hold", horizon=8.0
)
ROWS = 300
NAMES = np.array([f"s{i % 3}" for i in range(ROWS)])
T, X = make_recording(0, ROWS)


def rows_with_labels():
    """Samples of three streams; a row in four has labels too, and one in eight nothing else."""
    rng = np.random.default_rng(5)
    labels = rng.normal(size=(ROWS, 2)) * 3
    labels[rng.random(ROWS) < 0.75] = np.nan
    labels[rng.random(labels.shape) < 0.1] = np.nan
    x = X.copy()
    x[(rng.random(ROWS) < 0.5) & ~np.isnan(labels).all(axis=1)] = np.nan
    return np.concatenate([x, labels], axis=1)


ALL = rows_with_labels()


class Batch:
    def __init__(self, first, last):
        self.samples = Samples(pa.array(NAMES[first:last]), T[first:last], ALL[first:last])
        self.arrivals, self.messages, self.letters, self.ends = None, last - first, (), ()
        self.rows, self.source, self.labels = (first, last), "", False


class Source(ends.Source):
    """The rows from the first that was never acknowledged on, as a broker with a session would send them."""

    def __init__(self, size, first=0):
        self.first, self.size, self.acknowledged = first, size, first

    async def __aiter__(self):
        for first in range(self.first, ROWS, self.size):
            await asyncio.sleep(0)
            yield Batch(first, min(first + self.size, ROWS))

    async def acknowledge(self, batch):
        self.acknowledged = batch.rows[1]

    def stop(self):
        pass


class Sink(ends.Sink):
    def __init__(self, kept, dies=math.inf):
        self.kept, self.dies, self.written = kept, dies, 0

    async def write(self, batch):
        self.kept += [((r["stream"], r["window"]), tuple(r["value"])) for r in batch.to_pylist()]
        self.written += 1
        if self.written == self.dies:
            raise BrokerError("killed")


SHARED = sr.Adapt(share=True)


def pipeline(source, sink, store=None, adapt="best", **options):
    fleet = sr.Fleet(BUNDLE, faults="drop", adapt=adapt)
    return Pipeline(source, fleet, sink, store=store, labels=LateLabels(fleet), **options)


def one_by_one(adapt="best"):
    """Each row's label, then its sample, by hand."""
    fleet, kept = sr.Fleet(BUNDLE, faults="drop", adapt=adapt), {}
    for name, t, row in zip(NAMES, T, ALL, strict=True):
        if not np.isnan(row[2:]).all():
            fleet.label([name], row[None, 2:], t=[t])
            if np.isnan(row[:2]).all():
                continue
        for r in fleet.push([name], [t], row[None, :2]).to_pylist():
            kept[r["stream"], r["window"]] = tuple(r["value"])
    return kept, fleet


@pytest.mark.parametrize(
    ("size", "adapt"), [(1, "best"), (7, "best"), (64, "best"), (ROWS, "best"), (7, SHARED), (ROWS, SHARED)]
)
def test_batches_of_any_size_give_the_same_predictions(size, adapt):
    kept, expected = [], one_by_one(adapt)
    service = pipeline(Source(size), Sink(kept), adapt=adapt, flush=False)
    asyncio.run(asyncio.wait_for(service.run(), 20))
    assert dict(kept) == expected[0]
    assert service.fleet.snapshot() == expected[1].snapshot()
    found = service.fleet.adaptation()
    assert found.joined > 30
    assert found == expected[1].adaptation()
    # Labels change what is served.
    frozen = sr.Fleet(BUNDLE, faults="drop")
    sampled = ~np.isnan(ALL[:, :2]).all(axis=1) | np.isnan(ALL[:, 2:]).all(axis=1)
    plain = frozen.push(NAMES[sampled], T[sampled], ALL[sampled, :2]).to_pylist()
    assert {(r["stream"], r["window"]) for r in plain} == dict(kept).keys()
    assert {(r["stream"], r["window"]): tuple(r["value"]) for r in plain} != dict(kept)


@pytest.mark.parametrize("slice_windows", [1, 1000])
def test_windows_that_are_owed_close_before_their_labels(slice_windows):
    kept = []
    service = pipeline(Source(ROWS), Sink(kept), flush=False, slice_windows=slice_windows)
    asyncio.run(asyncio.wait_for(service.run(), 20))
    assert dict(kept) == one_by_one()[0]


@pytest.mark.parametrize("adapt", ["best", SHARED])
def test_a_run_that_dies_anywhere_goes_on_with_the_same_predictions(tmp_path, adapt):
    kept, expected = [], one_by_one(adapt)

    async def main():
        store, first = SqliteStore(tmp_path / "state.db"), 0
        for dies in (2, 5, 1, 9, 3, math.inf):
            source = Source(10, first)
            store.open({})
            service = pipeline(
                source, Sink(kept, dies), store, adapt, policy=CheckpointPolicy(seconds=60.0, messages=30), flush=False
            )
            with contextlib.suppress(BrokerError):
                await service.run()
            store.close()
            first = source.acknowledged
        assert first == ROWS
        # What came twice is counted, and changes nothing that is learned.
        assert service.fleet.adaptation().errors == expected[1].adaptation().errors
        assert service.fleet.adaptation().duplicate > 0

    asyncio.run(asyncio.wait_for(main(), 30))
    assert len(kept) > len(dict(kept)), "some were published twice"
    assert set(kept) == set(expected[0].items()), "and are the same"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"columns": ["u"]}, "labels.columns has 1 names: this model needs 2"),
        ({"columns": ["u", "u"]}, "2 different ones"),
        ({"columns": ["u", "a"]}, "'a', which is a channel too"),
        ({"columns": ["u", "v"], "adapt": "off"}, "leave \\[labels\\] out"),
    ],
)
def test_labels_that_do_not_fit_the_model_say_so(labels, message):
    run = {
        "model": "m",
        "source": {"kind": "mqtt", "topic": "in/{stream}", "url": "mqtt://h"},
        "sink": {"kind": "arrow", "path": "y"},
        "labels": labels,
    }
    config = convert(run, RunConfig)
    with pytest.raises(ConfigError, match=message):
        config.outline_of(BUNDLE)
    assert msgspec.structs.replace(config, labels=None).outline_of(BUNDLE).channels == ("a", "b")


def test_workers_that_share_topics_share_no_correction():
    run = {
        "model": "m",
        "source": {"kind": "kafka", "topic": "in", "url": "kafka://h", "group": "g"},
        "sink": {"kind": "kafka", "topic": "out", "url": "kafka://h"},
        "state": {"kind": "kafka"},
        "labels": {"columns": ["u", "v"], "share": True},
    }
    with pytest.raises(ConfigError, match=r"labels.share with state.kind = .kafka.: each worker has some"):
        convert(run, RunConfig).check()
    convert(run | {"labels": {"columns": ["u", "v"]}}, RunConfig).check()


HEADS = (
    sr.Head(name="p", outputs=2),
    sr.Head(name="q", outputs=3, task="classification", labels=("x", "y", "z")),
    sr.Head(name="r", outputs=2, task="classification", labels=("10", "20")),
)


def headed(**labels):
    bundle = make_bundle(heads=HEADS, outputs=7, labels=(), task="regression", windows=sr.Every(1.0))
    config = LabelsConfig(**labels)
    config.check(bundle.header)
    return bundle, config.classes(bundle.header)


def test_several_heads_have_columns_each_and_their_classes_names():
    with pytest.raises(ConfigError, match="needs 4 different ones, one per output of 'p', one with the class of 'q'"):
        headed(columns=["p0"])
    bundle, classes = headed(columns=["p0", "p1", "q", "r"])
    assert classes == {"q": ("x", "y", "z")}
    fleet = sr.Fleet(bundle, adapt="online")
    end = fleet.push(["s"] * 4, [0.0, 0.6, 1.2, 2.4], np.ones((4, 2)))["t_end"].to_pylist()
    rows = Samples(pa.array(["s", "s"]), np.array(end[:2]), np.array([[1, 2, 2, 20], [1, 2, 3, 30.0]]))
    found = learn(fleet, rows, rows.t, None)
    assert found["outcome"].to_pylist() == ["joined", "joined"]
    assert found["label"].to_pylist()[0] == [1, 2, 0, 0, 1, 0, 1], "20 is the name of the second class"
    assert np.isnan(found["label"].to_pylist()[1][2:]).all(), "there is no class 3, and none of the name 30"


def test_a_tally_counts_errors_and_coverage_of_what_was_issued_before_each_label():
    rng = np.random.default_rng(0)
    bundle = make_bundle(
        heads=HEADS[:2], outputs=5, labels=(), task="regression", windows=sr.Every(1.0)
    ).with_calibration([np.abs(rng.normal(size=(200, 3)))] * 2, np.repeat(np.arange(20), 10))
    fleet = sr.Fleet(bundle, adapt="best", intervals=0.8)
    labels, recent = LateLabels(fleet), Recent(2)
    labels.recent = recent
    t, x = make_recording(3, 200)
    ends = fleet.push(["s"] * 200, t, x)["t_end"].to_numpy()[-20:]
    values = np.concatenate([rng.normal(size=(20, 2)), rng.integers(0, 4, size=(20, 1))], axis=1)
    batches, real = [], fleet.label
    fleet.label = lambda *given, **more: batches.append(real(*given, **more)) or batches[-1]
    labels.learn(Samples(pa.array(["s"] * 20), ends, values))
    labels.learn(Samples(pa.array(["s", "s", "r"]), ends[[0, 0, 0]] - [0, 900, 0], values[:3]))
    (rows, again) = (batch.to_pylist() for batch in batches)
    assert {row["outcome"] for row in rows} == {"joined"}
    tally = labels.tally
    assert tally.names == ("p.0", "p.1", "q")
    assert tally.outcomes["joined"] == 20
    assert sum(tally.outcomes.values()) == 23
    assert (tally.outcomes["duplicate"], len(again)) == (1, 3)
    for method in ("served", "frozen", "last"):
        error = [row[method][1] - row["label"][1] for row in rows]
        assert tally.errors[method]["p.1"] == pytest.approx(np.sqrt(np.mean(np.square(error))))
        known = [row for row in rows if not np.isnan(row["label"][2])]
        wrong = [np.argmax(row[method][2:]) != np.argmax(row["label"][2:]) for row in known]
        assert tally.errors[method]["q"] == pytest.approx(np.mean(wrong))
    for i, name in enumerate(tally.names):
        assert tally.coverage[name] == pytest.approx(
            np.mean([r["covered"][i] for r in rows if r["covered"][i] is not None])
        )
    both = tally.joined(tally)
    assert both.outcomes["joined"] == 40
    assert both.errors == tally.errors
    assert "labels_joined" in both.summary()
    assert "20 joined" in said_labels(tally)
    (kept,) = recent.labels.since(0)
    assert kept.num_rows == 20
    assert kept["label"].to_pylist()[0].endswith((", x", ", y", ", z")) or values[0, 2] == 3


def test_numbers_that_are_no_class_are_counted():
    bundle = make_bundle(windows=sr.Every(1.0), interpolation="hold")
    fleet = sr.Fleet(bundle, adapt="online")
    kept = []
    service = Pipeline(ClassSource(), fleet, Sink(kept), labels=LateLabels(fleet), flush=False)
    asyncio.run(asyncio.wait_for(service.run(), 20))
    found = fleet.adaptation()
    assert found.joined > 0
    assert found.skipped > 0


class ClassSource(Source):
    """Rows with numbers of classes, some of which there are not."""

    def __init__(self):
        super().__init__(50)

    async def __aiter__(self):
        rng = np.random.default_rng(0)
        labels = rng.choice([0.0, 1.0, 2.0, 3.0, 1.5, np.nan], size=ROWS)
        for first in range(0, ROWS, 50):
            batch = Batch(first, first + 50)
            x = np.concatenate([X[first : first + 50], labels[first : first + 50, None]], axis=1)
            batch.samples = batch.samples._replace(x=x)
            yield batch


def own_source(**keys):
    """Labels by window or time from a source of their own: (fleet, source of samples, of labels, run)."""
    fleet = sr.Fleet(BUNDLE, faults="drop", adapt="best")
    samples, labels = ScriptedSource(live=True), ScriptedSource(live=True)
    source = SeveralSource({"": samples}).with_labels(labels)
    kept = []
    service = Pipeline(
        source, fleet, Sink(kept), labels=LateLabels(fleet, beside=False, windowed=True, **keys), flush=False
    )
    return fleet, samples, labels, service


def labels_batch(rows):
    names, t, u, v, window = zip(*rows, strict=True)
    return batch_of(names, t, np.array([u, v, window], dtype=float).T)


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def test_labels_from_a_source_of_their_own_wait_for_their_predictions_and_are_acknowledged_once_learned():
    async def main():
        fleet, samples, labels, service = own_source()
        running = asyncio.create_task(service.run())
        await until(lambda: service.started)
        # Nothing has come yet: labels wait, the second batch behind the first.
        labels.send(labels_batch([("s", 1.0 + 8.0, 1, 2, math.nan), ("s", 0, 1, 2, 1)]))
        labels.send(labels_batch([("s", -50.0, 1, 2, math.nan)]))
        await until(lambda: service.metrics.labels.waiting == 3)
        await asyncio.sleep(0.1)
        assert not labels.acknowledged
        samples.send(batch_of(["s"] * 3, [0.0, 0.5, 1.5]))
        await until(lambda: service.metrics.labels.outcomes["joined"] == 1)
        assert not labels.acknowledged, "window 1 is open"
        samples.send(batch_of(["s"], [2.5]))
        await until(lambda: len(labels.acknowledged) == 2)
        assert service.metrics.labels.outcomes["joined"] == 2
        assert service.metrics.labels.outcomes["unknown"] == 1
        # The same again changes nothing.
        before = fleet.snapshot()["s"]
        labels.send(labels_batch([("s", 1.0 + 8.0, 9, 9, math.nan), ("s", 0, 9, 9, 1), ("s", 0, 9, 9, 1.5)]))
        await until(lambda: len(labels.acknowledged) == 3)
        assert service.metrics.labels.outcomes["duplicate"] == 2
        assert fleet.adaptation().joined == 2
        assert len(before) == len(fleet.snapshot()["s"])
        assert service.status()["labels"]["joined"] == 2
        assert b'streamrde_labels_total{outcome="joined"} 2.0' in Exposition(service.metrics, connections={}).text()
        assert service.source.counts.merged == 0, "labels are not samples of the stream"
        service.stop()
        await running

    asyncio.run(asyncio.wait_for(main(), 30))


def test_only_labels_of_streams_with_new_predictions_are_looked_at_again():
    fleet = sr.Fleet(BUNDLE, faults="drop", adapt="best")
    labels, asked, real = LateLabels(fleet, beside=False), [], fleet.awaits
    fleet.awaits = lambda streams, **more: asked.append(len(streams)) or real(streams, **more)
    times = np.arange(1.0, 5.0) + 8.0
    for begin in (0, 500):
        names = [f"s{begin + i // 4}" for i in range(2000)]
        labels.take(batch_of(names, np.tile(times, 500), np.ones((2000, 2))))
    assert (asked, labels.waiting) == ([2000, 2000], 4000)
    asked.clear()
    fleet.push(["s3", "s3", "s700", "s700"], [0.5, 3.5, 0.5, 2.5], np.ones((4, 2)))
    left = {stream: int(real([stream] * 4, t=times).sum()) for stream in ("s3", "s700")}
    assert all(count < 4 for count in left.values())
    assert left["s3"] > 0 or left["s700"] > 0
    assert labels.settled(["s3", "s700", "stranger"]) == []
    assert (asked, labels.waiting) == ([4, 4], 3992 + sum(left.values()))
    assert labels.tally.outcomes["joined"] > 3
    assert labels.settled(["s3", "s700"]) == []
    assert sum(asked) == 8 + sum(left.values())
    asked.clear()
    assert labels.settled() == []
    assert sum(asked) == labels.waiting == 3992 + sum(left.values())


def test_labels_that_wait_too_long_are_unknown_and_hold_up_no_others():
    async def main():
        _, samples, labels, service = own_source(wait=0.2)
        running = asyncio.create_task(service.run())
        await until(lambda: service.started)
        labels.send(labels_batch([("stranger", 1.0, 1, 2, math.nan)]))
        samples.send(batch_of(["s"] * 2, [0.0, 1.5]))
        await until(lambda: service.metrics.predictions == 1)
        labels.send(labels_batch([("s", 0, 1, 2, 0)]))
        await until(lambda: service.metrics.labels.outcomes["joined"] == 1)
        await until(lambda: len(labels.acknowledged) == 2)
        assert service.metrics.labels.outcomes["unknown"] == 1
        service.stop()
        await running

    asyncio.run(asyncio.wait_for(main(), 30))


def test_labels_come_from_a_file_and_again_when_it_changes(tmp_path):
    path = tmp_path / "labels.csv"
    outline = ModelOutline(("u", "v"), pa.schema([]), {}, classes={"v": ("no", "yes")})

    async def main():
        source = LabelFileConfig(path=f"{path}", every=0.05).build(outline)
        found = []

        async def read():
            async for batch in source:
                found.append(batch.samples)

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.1)
        assert not found, "there is no file yet"
        path.write_text("stream_id,t,u,v\ns,1,0.5,yes\ns,2,,no\ns,3,1,maybe\n")
        await until(lambda: len(found) == 1 and source.counts.malformed == 1)
        np.testing.assert_array_equal(found[0].x, [[0.5, 1], [math.nan, 0]])
        path.write_text(path.read_text() + "r,4,2,no\n")
        await until(lambda: len(found) == 2)
        assert found[1].streams.to_pylist() == ["s", "s", "r"]
        source.stop()
        await reading

    asyncio.run(asyncio.wait_for(main(), 30))


MQTT = {"kind": "mqtt", "topic": "in/{stream}", "url": "mqtt://h"}


@pytest.mark.parametrize(
    ("source", "labels", "state", "message"),
    [
        (MQTT, {"kind": "several", "of": {"a": MQTT}}, None, "labels have one source"),
        ({"kind": "several", "of": {"labels": MQTT}}, MQTT, None, "this name is for the source in"),
        ({"kind": "file", "path": "x.csv"}, MQTT, None, 'source.kind = "file" is for'),
        (MQTT, {"kind": "file", "path": "s3://x/y.csv"}, None, "on this machine only"),
        (MQTT, {**MQTT, "url": 3}, None, "labels.source.url"),
        (MQTT, {**MQTT, "ur": "mqtt://h"}, None, "labels.source.ur"),
    ],
)
def test_sources_of_labels_that_cannot_work_say_so(source, labels, state, message):
    run = {
        "model": "m", "source": source, "sink": {"kind": "arrow", "path": "y"},
        "labels": {"columns": ["u", "v"], "source": labels},
    }  # fmt: skip
    with pytest.raises(ConfigError, match=message):
        convert(run, RunConfig).check()
