"""The shipped model on real recordings: every way through the package, and what training said of it."""

import asyncio

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from brokers import any_broker

import streamrde as sr
from streamrde.connectors.files.arrow import FileSink
from streamrde.connectors.files.reading import read
from streamrde.connectors.mqtt import MqttSource, SamplePublisher
from streamrde.demo.watch_data import COLUMNS, MODEL, held_out_files, truth
from streamrde.runtime import run
from streamrde.runtime.replay import Recording, load_recording, replay


@pytest.fixture(scope="module")
def bundle():
    return sr.load(MODEL)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Predictions of all held-out streams, by stream and window, from files to a file."""
    out = tmp_path_factory.mktemp("scored") / "predictions.parquet"
    sr.score(held_out_files(), MODEL, out=out)
    return {(r["stream"], r["window"]): r for r in pa.parquet.read_table(out).to_pylist()}


def bits(row):
    return np.array(row["value"], np.float32).tobytes(), row["t_start"], row["t_end"], row["label"]


def test_a_predictor_one_sample_at_a_time_gives_the_scored_bits(bundle, scored):
    recording = load_recording(held_out_files()[0], COLUMNS)
    for name in sorted(set(recording.streams))[:2]:
        own = recording.streams == name
        predictor = sr.Predictor(bundle)
        got = [p for t, x in zip(recording.t[own], recording.x[own], strict=True) for p in predictor.push(t, x)]
        got += predictor.flush()
        assert len(got) == sum(stream == name for stream, _ in scored)
        for p in got:
            assert (p.value.tobytes(), p.t_start, p.t_end, p.label) == bits(scored[name, p.window])


@pytest.mark.slow
def test_a_fleet_in_random_cuts_gives_the_scored_bits(bundle, scored):
    recording = load_recording(held_out_files(), COLUMNS)
    cuts = np.sort(np.random.default_rng(0).integers(0, len(recording.t), 50))
    fleet = sr.Fleet(bundle)
    batches = [
        fleet.push(recording.streams[part], recording.t[part], recording.x[part])
        for part in np.split(np.arange(len(recording.t)), cuts)
    ]
    got = {(r["stream"], r["window"]): r for b in [*batches, fleet.flush()] for r in b.to_pylist()}
    assert got.keys() == scored.keys()
    assert all(bits(got[key]) == bits(scored[key]) for key in got)


@pytest.mark.slow
def test_over_mqtt_come_the_scored_bits(bundle, scored, tmp_path):
    whole = load_recording(held_out_files()[1], COLUMNS)
    own = np.isin(whole.streams, sorted(set(whole.streams))[:4])
    recording = Recording(whole.streams[own], whole.t[own], whole.x[own])

    async def live(url):
        fleet = sr.Fleet(bundle, faults="drop")
        source = MqttSource(url, topic="w/{stream}", columns=COLUMNS)
        connected = asyncio.Event()
        service = asyncio.create_task(
            run(source, fleet, FileSink(tmp_path / "live.parquet", fleet.schema), on_start=connected.set)
        )
        await asyncio.wait_for(connected.wait(), 20)
        async with SamplePublisher(url, topic="w/{stream}", columns=COLUMNS, batch=10) as sensors:
            await replay(recording, sensors, speed=0)
        while fleet.counts().samples < len(recording.t):
            await asyncio.sleep(0.02)
        source.stop()
        return await service

    with any_broker(tmp_path) as url:
        asyncio.run(asyncio.wait_for(live(url), 60))
    rows = pa.parquet.read_table(tmp_path / "live.parquet").to_pylist()
    streams = set(recording.streams)
    expected = {key for key in scored if key[0] in streams}
    assert {(r["stream"], r["window"]) for r in rows} == expected
    assert all(bits(r) == bits(scored[r["stream"], r["window"]]) for r in rows)


def test_the_scored_accuracy_is_what_training_measured(bundle, scored):
    last = {stream: row["label"] for (stream, _), row in sorted(scored.items())}
    labels = truth()
    right = sum(last[stream] == labels[stream] for stream in labels)
    assert right / len(labels) == pytest.approx(bundle.header.metrics["test_accuracy_end"], abs=1e-9)
    windows = np.mean([row["label"] == labels[stream] for (stream, _), row in scored.items()])
    assert windows == pytest.approx(bundle.header.metrics["test_accuracy_windows"], abs=1e-5)


def test_no_person_is_in_two_files():
    for path in held_out_files():
        subjects = {s for batch in read(path, COLUMNS, extra=("subject",)) for s in batch.extra["subject"].to_pylist()}
        assert subjects == {int(path[-10:-8])}
