"""Several sources in one run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest
from bundles import make_bundle

import streamrde as sr
from streamrde import toml
from streamrde.config import RunConfig
from streamrde.connectors.ends import Batch, ConnectionCounts
from streamrde.connectors.quarantine import Quarantine
from streamrde.connectors.several import SeveralSource
from streamrde.disk import read_toml
from streamrde.errors import BrokerError, ConfigError, ParameterError
from streamrde.runtime.pipeline import Pipeline
from streamrde.runtime.silence import Silence
from streamrde.testing import CollectingSink, ScriptedSource, SourceConformance, batch_of


def run(main: Awaitable[object], seconds: float = 20.0) -> None:
    asyncio.run(asyncio.wait_for(main, seconds))


class TestSeveralSource(SourceConformance):
    """Streams named a come from one source, all others from another."""

    redelivers = False

    def open(self) -> SeveralSource:
        self.sources = {"first": ScriptedSource(live=True), "second": ScriptedSource(live=True)}
        return SeveralSource(self.sources)

    async def send(self, stream: str, t: float, x: tuple[float, float]) -> None:
        self.sources["first" if stream == "a" else "second"].send(batch_of([stream], [t], [x]))


def test_a_batch_is_acknowledged_to_its_source_and_has_its_name() -> None:
    async def main() -> None:
        one, two = ScriptedSource([batch_of(["a"], [1])] * 3), ScriptedSource([batch_of(["b"], [1])])
        async with (several := SeveralSource({"one": one, "two": two})):
            names = []
            async for batch in several:
                names.append(batch.source)
                await several.acknowledge(batch)
        assert sorted(names) == ["one"] * 3 + ["two"]
        assert (len(one.acknowledged), len(two.acknowledged)) == (3, 1)
        assert one.acknowledged[0].samples.streams.to_pylist() == ["a"]

    run(main())


def test_a_source_with_much_to_deliver_does_not_keep_the_others_waiting() -> None:
    async def main() -> None:
        busy, calm = ScriptedSource([batch_of(["a"], [t]) for t in range(100)]), ScriptedSource(live=True)
        async with (several := SeveralSource({"busy": busy, "calm": calm})):
            taken = 0
            async for batch in several:
                if batch.source == "calm":
                    break
                taken += 1
                if taken == 5:
                    calm.send(batch_of(["b"], [1]))
        assert 5 <= taken < 15

    run(main())


def test_the_next_batch_of_a_source_is_made_when_the_one_before_is_processed() -> None:
    made: list[int] = []

    class Counting(ScriptedSource):
        async def __aiter__(self) -> AsyncIterator[Batch]:
            async for batch in super().__aiter__():
                made.append(len(made))
                yield batch

    async def main() -> None:
        source = Counting([batch_of(["a"], [t]) for t in range(5)])
        async with (several := SeveralSource({"one": source})):
            taken = 0
            async for _ in several:
                taken += 1
                await asyncio.sleep(0.01)
                assert len(made) == taken

    run(main())


class Failing(ScriptedSource):
    """A source that breaks: where it is entered, or while it is read."""

    def __init__(self, *, entered: bool = False) -> None:
        super().__init__(live=True)
        self.entered, self.left = entered, False

    async def __aenter__(self) -> Failing:
        if self.entered:
            raise BrokerError("no")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.left = True

    async def __aiter__(self) -> AsyncIterator[Batch]:
        yield batch_of(["a"], [1])
        raise BrokerError("gone")


def test_an_error_of_one_source_ends_all() -> None:
    async def main() -> None:
        endless, failing = Failing(), Failing(entered=True)
        endless.entered = False
        with pytest.raises(BrokerError, match="no"):
            async with SeveralSource({"a": endless, "b": failing}):
                raise AssertionError("entered")
        assert endless.left
        live = ScriptedSource(live=True)
        async with (several := SeveralSource({"a": live, "b": Failing()})):
            batches = aiter(several)
            assert (await anext(batches)).source == "b"
            with pytest.raises(BrokerError, match="gone"):
                await anext(batches)

    run(main())


def test_a_stream_of_two_sources_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        one, two = (
            ScriptedSource([batch_of(["a", "c"], [1, 1])] * 2),
            ScriptedSource([batch_of(["a", "b", "c"], [2] * 3)]),
        )
        async with (several := SeveralSource({"one": one, "two": two})):
            async for _ in several:
                pass
            assert several.counts.merged == 2

    with caplog.at_level(logging.ERROR):
        run(main())
    assert len(caplog.records) == 1
    assert "gets samples from two sources" in caplog.text


def test_counts_connections_and_quarantines_are_those_of_all() -> None:
    one = ScriptedSource(quarantine=Quarantine(), topics="x/{stream}")
    two = ScriptedSource(quarantine=Quarantine())
    one.connection = ConnectionCounts(connected=True)
    one.counts.messages, two.counts.messages = 3, 4
    several = SeveralSource({"one": one, "two": two, "three": ScriptedSource()})
    assert several.counts.messages == 7
    assert several.connections == {"source one": one.connection}
    assert several.topic_of("a") == "x/a"
    assert several.waiting is None
    assert several.quarantine is not None
    several.quarantine.set_aside("a", 0.0)
    assert all(source.quarantine.holds("a", 1.0) for source in (one, two, several))
    assert several.quarantine.clear("a")
    assert len(several.quarantine) == 0
    with pytest.raises(ParameterError, match="at least one"):
        SeveralSource({})


def test_the_watermark_waits_for_the_source_that_is_behind() -> None:
    """Windows close by time only as far as every source has come."""

    async def main() -> None:
        ahead, behind = ScriptedSource(live=True), ScriptedSource(live=True)
        several = SeveralSource({"ahead": ahead, "behind": behind})
        fleet = sr.Fleet(make_bundle(interpolation="hold"), faults="drop")
        silence = Silence(advance="watermark", every=0.01)
        pipeline = Pipeline(several, fleet, sink := CollectingSink(), silence=silence, flush=False)
        running = asyncio.create_task(pipeline.run())
        ahead.send(batch_of(["a"], [0.0]))
        ahead.send(batch_of(["x"], [10.0]))
        await asyncio.sleep(0.1)
        assert sink.rows == []  # nobody knows how far the other source is
        behind.send(batch_of(["b"], [0.0]))
        behind.send(batch_of(["b"], [2.5]))
        while not any(row["stream"] == "a" for row in sink.rows):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert {row["window"] for row in sink.rows if row["stream"] == "a"} == {0, 1}
        pipeline.stop()
        await running

    run(main())


TABLES = {
    "model": "m.safetensors",
    "columns": {"channels": ["ax"], "time_unit": "ms"},
    "source": {
        "kind": "several",
        "of": {
            "plant": {"kind": "mqtt", "url": "mqtt://127.0.0.1:1", "topic": "sensors/{stream}/imu"},
            "phones": {"kind": "http", "time_unit": "s"},
        },
    },
    "sink": {"kind": "mqtt", "url": "mqtt://127.0.0.1:1", "topic": "predictions/{stream}"},
}


def config(folder: Path, **source: dict[str, object]) -> RunConfig:
    of = {name: {**TABLES["source"]["of"].get(name, {}), **keys} for name, keys in source.items()}
    tables = {**TABLES, "source": {"kind": "several", "of": {**TABLES["source"]["of"], **of}}}
    (path := folder / "run.toml").write_text(toml.dumps(tables), encoding="utf-8")
    return read_toml(path, RunConfig)


def test_a_configuration_has_a_table_for_each_source(tmp_path: Path) -> None:
    run_config = config(tmp_path)
    run_config.check()
    plant, phones = run_config.source.of["plant"], run_config.source.of["phones"]
    assert (plant.channels, plant.time_unit, phones.channels, phones.time_unit) == (("ax",), "ms", ("ax",), "s")
    assert run_config.source.time_units == {"ms", "s"}
    assert run_config.source.inflight == 2
    identity = run_config.identity("f")
    assert identity["source.of.plant.topic"] == "sensors/{stream}/imu"
    assert identity["source.of.phones.time_unit"] == "s"
    assert not run_config.without_waiting().source.of["plant"].wait
    assert list(run_config.sections.named()) == ["source", "source.of.plant", "source.of.phones", "sink"]


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ({"plant": {"urll": "x"}}, r"unknown key 'source\.of\.plant\.urll'; did you mean 'source\.of\.plant\.url'"),
        ({"more": {"kind": "mqqt"}}, r"source\.of\.more\.kind = \"mqqt\": use .*did you mean 'mqtt'"),
        ({"plant": {"topic": 5}}, r"source\.of\.plant\.topic = 5: expected text"),
    ],
)
def test_errors_name_the_table_of_the_source(tmp_path: Path, source: dict, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        config(tmp_path, **source)


def test_sources_that_cannot_work_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"source\.of\.phones and source\.of\.more have one host and port"):
        config(tmp_path, more={"kind": "http"}).check()
    with pytest.raises(ConfigError, match="would come back"):
        config(tmp_path, plant={"topic": "predictions/{stream}"}).check()
    more = {"kind": "mqtt", "url": "mqtt://127.0.0.1:1", "topic": "b/{stream}", "client_id": "c"}
    with pytest.raises(ConfigError, match=r"source\.of\.plant\.client_id and source\.of\.more\.client_id"):
        config(tmp_path, plant={"client_id": "c"}, more=more).check()
