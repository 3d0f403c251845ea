"""Predictions from nested payloads with units and words of their own are those from flat ones in the model's."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from bundles import make_bundle

from streamrde import Fleet
from streamrde.config import RunConfig
from streamrde.config.run import outline_of
from streamrde.connectors.ends import Sink
from streamrde.connectors.mqtt import MqttAddress
from streamrde.connectors.mqtt.connection import MqttConnection
from streamrde.runtime.pipeline import Pipeline
from streamrde.settings import convert

# Samples in the model's units, m/s2 for the first channel. NaN was not observed.
T = np.arange(0.0, 6.0, 0.25)
X = np.stack([np.sin(T), np.where(T % 1 == 0.5, math.nan, (T % 1 < 0.5).astype(float))], axis=1)
SHAPES: dict[str, dict[str, Any]] = {
    "nested": {
        "topic": "in/{stream}", "time_unit": "ms", "time": "meta.ts", "channels": ["values.acc[1]", "values.door"],
        "units": {"values.acc[1]": "g"}, "words": {"open": 1, "closed": 0}, "missing": {"values.door": ["?"]},
    },
    "long": {
        "topic": "gateway", "records": "data", "name": "id", "value": "v", "time": "t", "stream": "who",
        "scale": {"acc": 0.5}, "offset": {"acc": 1.0}, "channels": ["acc", "door"],
    },
}  # fmt: skip


def messages(shape: str) -> list[tuple[str, Any]]:
    """Topic and payload of each message of the samples."""
    found: list[tuple[str, Any]] = []
    for t, (acc, door) in zip(T.tolist(), X.tolist(), strict=True):
        if shape == "nested":
            word = {1.0: "Open", 0.0: "closed"}.get(door, "?")
            values = {"acc": [9.9, acc / 9.80665], "door": word}
            found.append(("in/w1", {"meta": {"ts": round(t * 1000)}, "values": values}))
        else:
            rows = [{"id": "acc", "v": (acc - 1.0) / 0.5}, {"id": "battery", "v": "low"}, {"id": "door", "v": door}]
            rows[2]["v"] = "unavailable" if math.isnan(door) else str(door == 1.0)
            found.append(("gateway", {"who": "w1", "t": t, "data": rows}))
    return found


class Kept(Sink):
    """A sink that keeps predictions."""

    def __init__(self) -> None:
        self.batches: list[pa.RecordBatch] = []

    async def write(self, batch: pa.RecordBatch) -> None:
        self.batches.append(batch)


@pytest.mark.parametrize("shape", SHAPES)
def test_predictions_do_not_depend_on_the_shape_of_payloads(mosquitto_url: str, shape: str) -> None:
    columns = {key: value for key, value in SHAPES[shape].items() if key != "topic"}
    tables = {
        "model": "m",
        "source": {"kind": "mqtt", "url": mosquitto_url, "topic": SHAPES[shape]["topic"]},
        "sink": {"kind": "mqtt", "url": mosquitto_url, "topic": "out/{stream}"},
        "columns": columns,
    }
    config, bundle, sink = convert(tables, RunConfig), make_bundle(), Kept()
    sent = messages(shape)

    async def main() -> None:
        source = config.source.build(outline_of(bundle))
        pipeline = Pipeline(source, Fleet(bundle, faults="drop", plausible=config.streams.plausible), sink, flush=True)
        running = asyncio.create_task(pipeline.run())
        while not pipeline.started:
            await asyncio.sleep(0.01)
        async with MqttConnection(MqttAddress.parse(mosquitto_url)) as publisher:
            for topic, payload in sent:
                await publisher.publish(topic, json.dumps(payload).encode(), 1)
            await publisher.drain()
        while source.counts.messages < len(sent):
            await asyncio.sleep(0.01)
        pipeline.stop()
        assert (await running).summary()["malformed"] == 0
        assert source.counts.unused == (len(sent) if shape == "long" else 0)

    asyncio.run(asyncio.wait_for(main(), 60))
    fleet = Fleet(bundle, faults="drop")
    expected = [fleet.push(["w1"] * len(T), T, X), fleet.flush()]
    found, wanted = (pa.Table.from_batches([b for b in own if b.num_rows]) for own in (sink.batches, expected))
    assert found["stream"].to_pylist() == wanted["stream"].to_pylist()
    np.testing.assert_allclose(found["t_end"].to_numpy(), wanted["t_end"].to_numpy())
    values = [np.stack(own["value"].to_numpy()) for own in (found, wanted)]
    np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-5)
