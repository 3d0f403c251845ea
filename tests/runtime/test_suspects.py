"""A run in which times cannot be right goes on, says so, and shows it."""

import asyncio
import json
import logging
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

import streamrde as sr
from streamrde.config import RunConfig
from streamrde.config.run import outline_of
from streamrde.connectors.codecs import JsonCodec
from streamrde.connectors.samples import Columns
from streamrde.connectors.sections import Section, SourceConfig
from streamrde.disk import read_toml
from streamrde.errors import ConfigError, DataError, ParameterError, TimeUnitError
from streamrde.inference.clocks import expectation_of
from streamrde.runtime.pipeline import Pipeline
from streamrde.runtime.replay import load_recording
from streamrde.testing import CollectingSink, ScriptedSource, batch_of

SHIPPED = pathlib.Path(sr.__file__).parent / "demo" / "watch" / "model.safetensors"
WATCH = sr.load(SHIPPED)
CHANNELS = [channel.name for channel in WATCH.header.channels]
X = np.random.default_rng(0).normal(size=(200, 6))
NOON = 1709640000.0


def run(batches, **how):
    sink = CollectingSink()
    fleet = sr.Fleet(WATCH, **({"faults": "drop", "time_check": "reject"} | how))
    in_the_way = []
    source = ScriptedSource(batch_of(names, t, X[: len(t)]) for names, t in batches)
    pipeline = Pipeline(source, fleet, sink, on_batch=lambda _: in_the_way.extend(pipeline.obstacles()))
    asyncio.run(asyncio.wait_for(pipeline.run(), 60))
    return pipeline, sink.rows, in_the_way


def test_a_stream_in_another_unit_is_rejected_and_said_once_and_the_others_go_on(caplog):
    caplog.set_level(logging.WARNING)
    t = 0.02 * np.arange(150)
    batches = [(["good", "bad"], (NOON + s, 1e6 * (NOON + s))) for s in t.tolist()]
    pipeline, rows, in_the_way = run(batches)
    assert {row["stream"] for row in rows} == {"good"}
    assert len(rows) == 6
    lines = [r.getMessage() for r in caplog.records if "'bad'" in r.getMessage()]
    assert len(lines) == 1
    assert "microseconds since 1970 (2024-03-05T12:00:00Z); its rows are rejected: set time_unit = 'us'" in lines[0]
    summary = pipeline.metrics.summary()
    assert (summary["suspects"], summary["rejected"], summary["samples"]) == (1, 150, 150)
    assert not in_the_way


def test_a_run_none_of_whose_streams_has_right_times_says_so_and_is_not_ready(caplog):
    _, rows, in_the_way = run([(["a", "b"], (1e3 * (NOON + s), 1e3 * (NOON + s))) for s in (0.0, 0.02, 0.04)])
    assert not rows
    assert sum("no stream has times that can be right" in r.getMessage() for r in caplog.records) == 1
    assert in_the_way == ["no stream has times that can be right"] * 3


def test_an_error_stops_the_run_where_it_is_asked_for():
    with pytest.raises(TimeUnitError, match="set time_unit = 'us'"):
        run([(["a"], [1e6 * NOON])], time_check="error")


def config(tmp_path, source, **top):
    keys = "".join(f"{name} = {json.dumps(value)}\n" for name, value in top.items())
    path = tmp_path / "run.toml"
    sink = f'[sink]\nkind = "arrow"\npath = "{tmp_path}/out.parquet"\n'
    path.write_text(f'model = "{SHIPPED}"\n{keys}[source]\n{source}\n{sink}')
    return read_toml(path, RunConfig)


LIVE = 'kind = "mqtt"\nurl = "mqtt://127.0.0.1"\ntopic = "sensors/{stream}/imu"\n'


class Recorded(Section, SourceConfig, frozen=True, tag="recorded"):
    live = False


def test_a_live_run_rejects_and_a_recorded_one_stops_and_arrival_times_are_not_judged(tmp_path):
    live = config(tmp_path, LIVE + 'time_unit = "ms"')
    assert (live.check_of_times().action, live.check_of_times().unit) == ("reject", "ms")
    assert config(tmp_path, LIVE + 'time = ""').check_of_times().action == "off"
    assert config(tmp_path, LIVE, faults="error").check_of_times().action == "error"
    assert config(tmp_path, LIVE, time_check="off").check_of_times().action == "off"
    assert replace(live, source=Recorded()).check_of_times().action == "error"


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ('time_unit = "minutes"', "did you mean 'min'.*use one of s, ms, us, ns, min, h, d, excel"),
        ('time_unit = "epoch"', "use one of s, ms, us, ns, min, h, d, excel"),
        ('time_zone = "Berlin"', "no such zone"),
        ('time_format = "HH:MM"', "has no date"),
    ],
)
def test_a_form_of_time_that_is_not_there_is_refused_before_connecting(tmp_path, keys, match):
    with pytest.raises((ConfigError, ParameterError), match=match):
        config(tmp_path, LIVE + keys).source.build(outline_of(WATCH))


def recording(tmp_path, t, name="a.parquet"):
    table = pa.table({"t": t, **dict(zip(CHANNELS, X[: len(t)].T, strict=True))})
    pq.write_table(table, tmp_path / name)
    return str(tmp_path / name)


@pytest.mark.parametrize(
    ("t", "likely"),
    [
        (np.arange(150) * 20 + 1709640000000, "time_unit = 'ms'"),
        (np.arange(150) * 20_000 + 1709640000000000, "time_unit = 'us'"),
        (np.arange(150) * 20.0, "milliseconds, not seconds"),
        (np.arange(150) * 20 + 20240305120000000, "time_format = '%Y%m%d%H%M%S%f'"),
        (45356.5 + np.arange(150) * 0.02 / 86400, "time_unit = 'excel'"),
    ],
)
def test_replay_refuses_times_that_cannot_be_right(tmp_path, t, likely):
    path, columns = recording(tmp_path, t), Columns(channels=tuple(CHANNELS), stream=None)
    with pytest.raises(DataError, match=f"a.parquet: column 't': .*{likely}"):
        load_recording(path, columns, expected=expectation_of(WATCH.header))
    assert len(load_recording(path, columns).t) == 150


def test_payloads_with_text_times_run_through():
    codec = JsonCodec(Columns(channels=tuple(CHANNELS)))
    decoded = [codec.decode(b'{"t": "2024-03-05T12:00:%06.3fZ", "ax": 0.5}' % (0.02 * i)) for i in range(50)]
    _, rows, _ = run([(["w"], t) for t, _ in decoded])
    assert [row["t_end"] for row in rows] == [NOON + 0.5, NOON + 0.98]
    assert rows[0]["t_start"] == NOON
