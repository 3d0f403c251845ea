"""[columns] describes samples once for a run; a source's own keys win; what nobody can read is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamrde.config import RunConfig
from streamrde.connectors.columns import ColumnKeys, Columns, path_of
from streamrde.connectors.mqtt.config import MqttSourceConfig
from streamrde.connectors.payloads import PayloadConfig
from streamrde.disk import read_toml
from streamrde.errors import ConfigError, ParameterError
from streamrde.scoring.job import Job
from streamrde.settings import convert

RUN = """
model = "m"
{top}
[source]
kind = "{kind}"
url = "mqtt://127.0.0.1:1883"
{source}
[sink]
kind = "mqtt"
url = "mqtt://127.0.0.1:1883"
topic = "out/{{stream}}"
"""
TOPIC = 'topic = "in/{stream}"'


def run(folder: Path, *, top: str = "", source: str = TOPIC, kind: str = "mqtt") -> RunConfig:
    path = folder / "run.toml"
    path.write_text(RUN.format(top=top, source=source, kind=kind))
    return read_toml(path, RunConfig)


def payloads(config: RunConfig) -> tuple[PayloadConfig, ...]:
    return config.source.payloads()


def test_columns_are_the_default_of_a_source_and_its_own_keys_win(tmp_path: Path) -> None:
    top = '[columns]\ntime = "ts"\ntime_unit = "ms"\nchannels = ["a", "b"]\nmissing = [-9999, "?"]'
    (only,) = payloads(run(tmp_path, top=top))
    assert (only.time, only.time_unit, only.channels, only.missing) == ("ts", "ms", ("a", "b"), (-9999, "?"))
    (flat,) = payloads(run(tmp_path, top=top, source=TOPIC + '\ntime = "t"\nchannels = ["c", "d"]'))
    assert (flat.time, flat.time_unit, flat.channels) == ("t", "ms", ("c", "d"))


def test_columns_are_the_default_of_every_topic(tmp_path: Path) -> None:
    topics = 'topics = [{ topic = "a/{stream}" }, { topic = "b/{stream}", time = "when", time_unit = "s" }]'
    first, second = payloads(run(tmp_path, top='[columns]\ntime = "ts"\ntime_unit = "ms"', source=topics))
    assert (first.time, first.time_unit) == ("ts", "ms")
    assert (second.time, second.time_unit) == ("when", "s")


def test_limits_of_columns_are_those_of_the_streams(tmp_path: Path) -> None:
    top = "[columns]\nlimits = { ax = [-1.0, 1.0] }"
    assert run(tmp_path, top=top).streams.plausible.limits == {"ax": (-1.0, 1.0)}
    with pytest.raises(ConfigError, match=r"limits are in \[columns\] and in \[streams\]: give them once"):
        run(tmp_path, top=top + "\n[streams]\nlimits = { ax = [-2.0, 1.0] }")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ('tiem = "x"', "unknown key 'columns.tiem'; did you mean 'columns.time'"),
        ('time_unit = "sec"', "columns: time_unit = 'sec'"),
        ("limits = { ax = [1.0, 1.0] }", "limits of 'ax' are .*: give the smallest and the largest value"),
        ("words = { open = inf }", "words, scale and offset have the number inf"),
        ('records = "a..b"', "records = 'a..b': give a path"),
    ],
)
def test_a_key_that_cannot_work_is_named(tmp_path: Path, keys: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, top="[columns]\n" + keys)


def test_without_columns_a_run_is_what_it_was(tmp_path: Path) -> None:
    config = run(tmp_path)
    assert payloads(config) == (PayloadConfig(topic="in/{stream}"),)
    assert config.source.identity() == {
        "source.topic": "in/{stream}", "source.time_unit": "s", "source.channels": "",
    }  # fmt: skip


def test_columns_are_made_for_a_models_channels() -> None:
    keys = ColumnKeys(stream=("site", "device"), time=("day", "clock"), missing={"*": ("?",), "b": (-1,)})
    columns = keys.columns_for(["a", "b"])
    assert (columns.stream, columns.levels, columns.date, columns.time) == ("site", ("device",), "day", "clock")
    assert (columns.missing_of("a"), columns.missing_of("b")) == (("?",), ("?", -1))
    with pytest.raises(ParameterError, match="missing names 'c', which is none of the channels' columns"):
        Columns(channels=("a",), missing={"c": (1,)})
    with pytest.raises(ConfigError, match="columns: records is not for packed payloads; leave it out"):
        Columns(channels=("a",), records="r").refuse_others("packed payloads")


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("a", ("a",)), ("a.b", ("a", "b")), ("a[0]", ("a", 0)), ("a[0][12].b", ("a", 0, 12, "b")), ("[2]", (2,)),
        ("", ()), ("a..b", ()), ("a.", ()), ("a[]", ()), ("a[-1]", ()), ("a[1", ()), ("a[1]b", ()), ("a[x]", ()),
    ],
)  # fmt: skip
def test_paths_have_names_and_places(path: str, steps: tuple[str | int, ...]) -> None:
    assert path_of(path) == steps


def test_limits_of_columns_are_those_of_plausible_values_in_a_scoring_job() -> None:
    tables = {"columns": {"limits": {"a": [0.0, 1.0]}}}
    job = convert(tables, Job)
    assert (job.plausible.limits, job.columns.limits) == ({"a": (0.0, 1.0)}, {})
    assert job.checked() == job
    with pytest.raises(ConfigError, match=r"limits are in \[columns\] and in \[plausible\]: give them once"):
        convert(tables | {"plausible": {"limits": {"a": [0.0, 2.0]}}}, Job)


def test_a_rate_is_for_files_without_a_time():
    with pytest.raises(ParameterError, match='rate = 32 is for files without a time: set time = ""'):
        ColumnKeys(rate=32.0).columns_for(["a"])
    assert ColumnKeys(rate=32.0, time="").columns_for(["a"]).rate == 32.0
    with pytest.raises(ParameterError, match="rate = 0: give the rows per second"):
        ColumnKeys(rate=0, time="")
    with pytest.raises(ConfigError, match="rate is for files"):
        MqttSourceConfig(url="mqtt://h", topic="a/{stream}", time="", rate=32.0).subscriptions(["a"])
