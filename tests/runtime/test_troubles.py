"""Streams that go wrong are written to the log once, shown in metrics and status, and treated as the rules say."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from pathlib import Path

import numpy as np
import pytest
from brokers import MOSQUITTO, free_port, mosquitto
from bundles import make_bundle, make_recording, make_statistics
from services import config, eventually, get, publish, samples, service

import streamrde as sr
from streamrde.cli.pipeline import report
from streamrde.config import RunConfig
from streamrde.connectors.quarantine import Quarantine
from streamrde.disk import read_toml
from streamrde.errors import ConfigError, ParameterError
from streamrde.inference.troubles import Trouble
from streamrde.runtime.exposition import Exposition
from streamrde.runtime.health import HealthServer
from streamrde.runtime.pipeline import Pipeline
from streamrde.runtime.troubles import StreamRules, TroubleLog
from streamrde.testing import CollectingSink, ScriptedSource, batch_of

BUNDLE = make_bundle(statistics=make_statistics())
T, X = make_recording(0, 100)


def source(batches):
    """Batches of streams with topics, which can be set aside."""
    return ScriptedSource(batches, quarantine=Quarantine(seconds=60.0), topics="sensors/{stream}/imu")


def carried(batches, rules=None, **options):
    """A pipeline after it has worked off batches."""
    rules = rules or StreamRules()
    fleet = sr.Fleet(
        options.pop("bundle", BUNDLE),
        faults="drop",
        plausible=rules.plausible,
        vigilance=rules.vigilance,
        restart_after=rules.restart_after,
    )
    pipeline = Pipeline(source(batches), fleet, CollectingSink(), rules=rules, **options)
    asyncio.run(asyncio.wait_for(pipeline.run(), 60.0))
    return pipeline


def reboots(names, size=25):
    """Each stream's counter of uptime begins again at 0 after half of the samples."""
    t = np.concatenate([T[:50], T[:50]])
    for i in range(0, 100, size):
        for name in names:
            yield batch_of([name] * size, t[i : i + size], X[i : i + size])


def test_a_reboot_is_written_once_with_topic_reason_and_remedy_and_counted(caplog):
    pipeline = carried(list(reboots(["dev1"])))
    (line,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert line.startswith("stream 'dev1' (topic sensors/dev1/imu): its times went back")
    assert "late = 'restart'" in line
    summary = pipeline.metrics.summary()
    assert (summary["trouble_restart"], summary["trouble_late"], summary["late"]) == (1, 0, 49)
    exposition = Exposition(pipeline.metrics, connections={})
    assert samples(exposition.text().decode())["streamrde_stream_troubles_total/restart"] == 1
    shown = pipeline.status()
    assert shown["troubles"]["restart"] == 1
    (latest,) = shown["latest"]
    assert (latest["stream"], latest["kind"], latest["topic"]) == ("dev1", "restart", "sensors/dev1/imu")
    assert latest["since"] > 1e9
    json.dumps(shown)


def test_a_reboot_begins_a_segment_where_the_rules_say_so(caplog):
    pipeline = carried(list(reboots(["dev1"])), StreamRules(late="restart"))
    assert pipeline.metrics.counts.late == 9
    assert pipeline.metrics.summary()["trouble_restart"] == 1
    assert "its time begins again at" in caplog.text
    assert [latest["over"] for latest in pipeline.status()["latest"] or pipeline.metrics.latest_troubles] == [True]
    windows = [row["window"] for row in pipeline.sink.rows]
    assert windows == list(range(len(windows)))


def test_a_stream_that_is_late_may_be_set_aside_as_long_as_it_is():
    pipeline = carried(list(reboots(["dev1"])), StreamRules(late="set aside"))
    assert len(pipeline.source.quarantine) == 1
    with pytest.raises(ParameterError, match="late = 'set aside' is for a source that can leave messages unread"):
        Pipeline(ScriptedSource(), sr.Fleet(BUNDLE), CollectingSink(), rules=StreamRules(late="set aside"))


@pytest.mark.slow
def test_lines_about_many_streams_are_limited_and_the_rest_is_counted(caplog):
    pipeline = carried(list(reboots([f"s{i}" for i in range(300)], size=50)))
    lines = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(lines) <= 10 * 7 + 7, "ten lines in ten seconds, however slow the machine"
    assert (
        sum(line.startswith("stream") for line in lines)
        + sum(int(line.split()[1]) for line in lines if line.startswith("and "))
        == 300
    )
    assert pipeline.metrics.troubles["restart"] == 300


def test_lines_come_again_when_time_has_passed(caplog):
    now = [0.0]
    log = TroubleLog(sr.Fleet(BUNDLE), clock=lambda: now[0])

    def trouble(i):
        log.report(Trouble(f"s{i}", "restart", "", "why", "what helps", 0.0))

    for i in range(14):
        trouble(i)
    assert len(caplog.records) == 10
    log.catch_up(at_once=False)
    assert len(caplog.records) == 10
    now[0] = 10.5
    trouble(14)
    assert [r.getMessage() for r in caplog.records[10:]] == [
        "and 4 more streams went wrong: 4 restart",
        "stream 's14': why; what helps",
    ]


def test_an_overload_is_said_counted_and_leaves_every_prediction_finite(caplog):
    x = X.copy()
    x[50, 0] = 9.9e37
    pipeline = carried([batch_of(["dev1"] * 100, T, x)])
    assert "channel 'a' has 9.9e+37, which is not plausible" in caplog.text
    assert pipeline.metrics.implausible == {"a": 1, "b": 0}
    assert pipeline.metrics.summary()["implausible"] == 1
    assert len(pipeline.sink.rows) > 20
    assert all(np.isfinite(row["value"]).all() for row in pipeline.sink.rows)
    text = Exposition(pipeline.metrics, connections={}).text().decode()
    assert samples(text)["streamrde_implausible_values_total/a"] == 1


@pytest.mark.parametrize("codes", [(-9999.0, -9999.0), (1e30, -1e30), (32767.0, 65535.0)])
def test_codes_for_no_value_are_not_samples(codes):
    x = X.copy()
    x[30:60] = codes
    missing = X.copy()
    missing[30:60] = np.nan
    assert carried([batch_of(["d"] * 100, T, x)]).sink.rows == carried([batch_of(["d"] * 100, T, missing)]).sink.rows


def test_limits_of_the_configuration_count(caplog):
    rules = StreamRules(limits={"a": (-0.5, 0.5)}, implausible="reject")
    pipeline = carried([batch_of(["d"] * 100, T, X)], rules)
    rejected = int((np.abs(X[:, 0]) > 0.5).sum())
    assert pipeline.metrics.counts.rejected == rejected > 0
    assert "the limits are -0.5 and 0.5" in caplog.text


def test_a_channel_never_seen_is_said_unless_it_is_to_be_ignored(caplog):
    x = X.copy()
    x[:, 1] = np.nan
    pipeline = carried([batch_of(["d"] * 10, T[i : i + 10], x[i : i + 10]) for i in range(0, 100, 10)])
    assert caplog.text.count("channel 'b' did not come in any of its") == 1
    assert pipeline.metrics.summary()["trouble_unseen"] == 1
    assert pipeline.status()["latest"][0]["channel"] == "b"
    caplog.clear()
    ignoring = carried([batch_of(["d"] * 100, T, x)], StreamRules(unseen="ignore"))
    assert ignoring.metrics.summary()["trouble_unseen"] == 0
    assert caplog.text == ""


def test_ordinary_streams_say_nothing(caplog):
    pipeline = carried([batch_of(["a", "b"] * 50, np.repeat(T[:50], 2), X)])
    assert caplog.text == ""
    assert pipeline.status()["latest"] == []
    assert not any(pipeline.metrics.troubles.values())


def test_the_end_of_a_run_tells_people_what_went_wrong(capsys):
    pipeline = carried(list(reboots([f"dev{i}" for i in range(7)])))
    report(pipeline.metrics, False, "done")
    printed = capsys.readouterr().out
    assert "streams that went wrong: 7 restart" in printed
    assert "dev6: its times went back" in printed
    assert "and 2 more" in printed
    report(pipeline.metrics, True, "done")
    assert json.loads(capsys.readouterr().out)["latest_troubles"][0]["stream"] == "dev6"


def test_status_is_json_over_http():
    async def main():
        pipeline = Pipeline(source([]), sr.Fleet(BUNDLE), CollectingSink())
        server = HealthServer(obstacles=list, metrics=bytes, status=pipeline.status, port=0)
        async with server:
            return await asyncio.to_thread(get, server.port, "/status")

    code, text = asyncio.run(main())
    found = json.loads(text)
    assert (code, found["ready"], found["obstacles"], found["latest"]) == (200, False, ["starting"], [])


def test_rules_that_cannot_work_are_named(tmp_path):
    path = config(tmp_path, "mqtt://127.0.0.1:1", 0, streams='late = "restart"\nlimits = { a = [-1.0, 1.0] }')
    settings = read_toml(path, RunConfig)
    assert settings.streams.restart_after == 10
    assert settings.streams.plausible.limits == {"a": (-1.0, 1.0)}
    for text, match in (
        ('late = "begin"', "restart"),
        ("late_rows = 1", "late_rows"),
        ("limits = { a = [1.0] }", "limits"),
        ('implausible = "drop"', "missing"),
    ):
        with pytest.raises(ConfigError, match=match):
            read_toml(config(tmp_path, "mqtt://127.0.0.1:1", 0, streams=text), RunConfig)


@pytest.mark.slow
@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: apt-get install mosquitto")
@pytest.mark.parametrize("late", ["warn", "restart"])
def test_over_a_broker_each_kind_of_trouble_is_said_once_and_shown(tmp_path: Path, late: str):
    def row(t: float, a: float = 0.1, **more: float) -> bytes:
        return json.dumps({"t": t, "a": a} | more).encode()

    port = free_port()
    with mosquitto(tmp_path) as url:
        path = config(tmp_path, url, port, streams=f'late = "{late}"')
        with service(path) as process:
            eventually(lambda: get(port, "/readyz")[0] == 200, process)
            for name, times in (
                ("reboot", [*np.arange(40) / 10, *np.arange(40) / 10]),
                ("ahead", [1.7e9, *(1.7e9 + np.arange(1, 20) / 10), 1.7e9 + 12e8, *(1.7e9 + np.arange(20, 60) / 10)]),
                ("overload", np.arange(60) / 10),
                ("typo", np.arange(60) / 10),
            ):
                values = {"b": 0.2} if name != "typo" else {"bb": 0.2}
                publish(
                    url,
                    *(
                        (f"a/{name}", row(t, 9.9e37 if name == "overload" and i == 30 else 0.1, **values))
                        for i, t in enumerate(times)
                    ),
                )
            wanted = 40 + 40 + 61 + 60 + 60

            def all_there() -> dict[str, float] | None:
                now = samples(get(port, "/metrics")[1])
                return (
                    now if sum(v for k, v in now.items() if k.startswith("streamrde_samples_total")) == wanted else None
                )

            metrics = eventually(all_there, process)
            shown = json.loads(get(port, "/status")[1])
            process.send_signal(signal.SIGTERM)
            out, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    kinds = {(latest["stream"], latest["kind"]) for latest in shown["latest"]}
    ahead = ("ahead", "late") if late == "warn" else ("ahead", "restart")
    # What lies hours ahead is also a silence that is cut.
    assert kinds == {("reboot", "restart"), ahead, ("ahead", "cut"), ("overload", "implausible"), ("typo", "unseen")}
    assert all(latest["topic"] == f"a/{latest['stream']}" for latest in shown["latest"])
    assert metrics["streamrde_implausible_values_total/a"] == 1
    assert metrics["streamrde_stream_troubles_total/unseen"] == 1
    assert metrics["streamrde_samples_total/late"] == (79 if late == "warn" else 18)
    warned = [json.loads(line)["message"] for line in errors.splitlines() if json.loads(line)["level"] == "warning"]
    for name in ("reboot", "ahead", "overload", "typo"):
        said = sum(f"stream {name!r} (topic a/{name})" in line for line in warned)
        assert said == sum(stream == name for stream, _ in kinds), warned
    summary = json.loads(out)
    assert summary["implausible"] == 1
    assert {latest["stream"] for latest in summary["latest_troubles"]} == {"reboot", "ahead", "overload", "typo"}
