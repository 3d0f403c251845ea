"""Predictions of open windows in a running pipeline."""

import asyncio

import numpy as np
import pytest
from bundles import make_bundle

import streamrde as sr
from streamrde.config.durations import seconds_of
from streamrde.connectors.codecs import decode_prediction, encode_prediction
from streamrde.connectors.ends import Sink, Source
from streamrde.errors import ConfigError
from streamrde.inference.novelty import TrainingWindows
from streamrde.runtime.exposition import Exposition
from streamrde.runtime.pipeline import Pipeline
from streamrde.runtime.provisional import Provisional
from streamrde.testing import batch_of


def batch(streams, t):
    return batch_of(streams, t, np.ones((len(t), 2)) * np.array(t)[:, None])


class Ends(Source, Sink):
    """Source and sink in one: samples, then silence until something provisional has come out."""

    def __init__(self, batches):
        self.batches, self.written = batches, []
        self.spoken = asyncio.Event()

    async def __aiter__(self):
        for batch in self.batches:
            yield batch
            await asyncio.wait_for(self.spoken.wait(), 30)
            self.spoken.clear()

    def stop(self):
        return None

    async def write(self, batch):
        self.written += batch.to_pylist()
        if "provisional" in batch.schema.names:
            self.spoken.set()


def test_open_windows_are_told_between_their_ends_and_marked():
    async def run():
        ends = Ends([batch(["a", "b"], [0.0, 0.0]), batch(["a"], [0.6]), batch(["a"], [1.5])])
        pipeline = Pipeline(ends, sr.Fleet(make_bundle()), ends, provisional=0.01, flush=False)
        return ends, await pipeline.run()

    ends, metrics = asyncio.run(run())
    told = [(row["stream"], row["window"], row["t_end"], row.get("provisional", False)) for row in ends.written]
    # Only streams that had samples since; the committed one among them, without the mark.
    assert told[2:] == [("a", 0, 0.6, True), ("a", 0, 1.0, False), ("a", 1, 1.5, True)]
    assert sorted(told[:2]) == [("a", 0, 0.0, True), ("b", 0, 0.0, True)]
    assert (metrics.predictions, metrics.provisional) == (1, 4)
    assert metrics.summary()["provisional"] == 4
    payloads = [decode_prediction(encode_prediction(row)) for row in ends.written]
    assert [payload.get("provisional", False) for payload in payloads] == [row[3] for row in told]


def test_a_run_tells_how_novel_windows_are_and_counts_drifts():
    bundle = make_bundle(novelty=TrainingWindows(windows=400, streams=10, alarm=0.5))
    t = np.arange(60) / 2

    async def run():
        ends = Ends([batch(["a"] * 60, t)])
        ends.spoken.set()
        fleet = sr.Fleet(bundle, novelty=True)
        return ends, await Pipeline(ends, fleet, ends, flush=True).run(), fleet

    ends, metrics, fleet = asyncio.run(run())
    assert [row["novelty"] is None for row in ends.written] == [False] * 29 + [True]
    assert metrics.novel == fleet.state_counts().novel
    assert metrics.drifts == fleet.state_counts().drifts > 0
    assert metrics.summary()["states_drifts"] == metrics.drifts
    text = Exposition(metrics, connections={}).text().decode()
    assert f"streamrde_stream_drifts_total {float(metrics.drifts)}" in text
    assert f"streamrde_windows_novel_total {float(metrics.novel)}" in text
    payload = decode_prediction(encode_prediction(ends.written[0]))
    assert payload["novelty"] == ends.written[0]["novelty"]
    assert b"novelty" not in encode_prediction(ends.written[-1])


def test_nothing_is_told_twice_nor_of_streams_that_ended():
    fleet = sr.Fleet(make_bundle())
    provisional = Provisional(fleet, 1.0)
    assert provisional.peek() is None
    fleet.push(["a", "b"], [0.0, 0.0], np.ones((2, 2)))
    provisional.mark(["a", "b"])
    fleet.flush(["b"])
    before = fleet.snapshot()
    assert provisional.peek()["stream"].to_pylist() == ["a"]
    assert fleet.snapshot() == before
    assert provisional.peek() is None


def test_durations_have_units():
    assert [seconds_of("x", text) for text in ("200ms", "2 s", "1.5min", "4us")] == [0.2, 2.0, 90.0, 4e-6]
    for text in ("200", "0s", "-1s", "fast"):
        with pytest.raises(ConfigError, match=r'x = ".*": write a number and a unit'):
            seconds_of("x", text)
