"""Ends of a run that cannot work together are refused before anything is connected."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamrde.config import RunConfig
from streamrde.disk import read_toml
from streamrde.errors import ConfigError, ParameterError

URL = "mqtt://127.0.0.1:18830"


def config(folder: Path, *, source: str = "", sink: str = "", letters: str = "", model: str = "m") -> RunConfig:
    """A run whose sections have defaults that `source` and `sink` may set otherwise, line by line."""
    path = folder / "run.toml"
    sections = {
        "source": {"kind": '"mqtt"', "url": f'"{URL}"', "topic": '"sensors/{stream}/imu"', "client_id": '"in"'},
        "sink": {"kind": '"mqtt"', "url": f'"{URL}"', "topic": '"predictions/{stream}"', "client_id": '"out"'},
        "dead_letters": {"kind": '"mqtt"', "url": f'"{URL}"', "topic": '"dead"'} if letters else {},
    }
    for name, text in (("source", source), ("sink", sink), ("dead_letters", letters)):
        for line in filter(None, text.split("\n")):
            key, _, value = line.partition("=")
            sections[name][key.strip()] = value.strip()
    body = [f"[{n}]\n" + "\n".join(f"{k} = {v}" for k, v in keys.items()) for n, keys in sections.items() if keys]
    path.write_text(f'model = "{model}"\n' + "\n".join(body) + "\n")
    return read_toml(path, RunConfig)


def refused(folder: Path, match: str, **sections: str) -> None:
    with pytest.raises((ConfigError, ParameterError), match=match):
        config(folder, **sections).check()


def test_the_ends_of_a_usual_run_are_accepted_without_a_warning(tmp_path: Path) -> None:
    run = config(tmp_path)
    run.check()
    assert run.warnings() == []


@pytest.mark.parametrize(
    "sections",
    [
        {"source": 'client_id = "same"', "sink": 'client_id = "same"'},
        {"source": 'client_id = "same"', "sink": 'client_id = "same"\nurl = "mqtt://localhost:18830"'},
        {"source": 'client_id = "same"', "letters": 'client_id = "same"'},
        {"sink": 'client_id = "same"', "letters": 'client_id = "same"\nurl = "mqtt://user@127.0.0.1:18830"'},
    ],
)
def test_two_clients_of_one_name_at_one_broker_are_refused(tmp_path: Path, sections: dict[str, str]) -> None:
    refused(tmp_path, "are both 'same': .*give each its own", **sections)


def test_one_name_at_two_brokers_is_accepted(tmp_path: Path) -> None:
    run = config(tmp_path, source='client_id = "x"', sink='client_id = "x"\nurl = "mqtts://127.0.0.1:8883"')
    run.check()
    assert any("are both 'x', at two ports of one host" in warning for warning in run.warnings())
    config(tmp_path, source='client_id = "x"', sink='client_id = "x"\nurl = "mqtt://elsewhere:18830"').check()


@pytest.mark.parametrize(
    ("sections", "match"),
    [
        ({"source": 'topic = "site-{site}/{stream}/imu"'}, "must be a whole level in braces"),
        ({"source": 'topic = "{site}/{stream}/imu"'}, r"named by \{site\}/\{stream\}: write the same levels"),
        ({"sink": 'topic = "predictions/{site}/{stream}"'}, r"has \{site\}, \{stream\} and the source's streams are"),
        (
            {"source": 'topic = "{a}/{b}/{stream}"', "sink": 'topic = "p/{b}/{a}/{stream}"'},
            "the same levels in the same order",
        ),
        ({"source": 'topic = "{Stream}/imu"'}, "exactly one whole level"),
        ({"letters": 'topic = "dead/{stream}"'}, "without placeholders"),
        ({"letters": 'topic = "dead/site}"'}, "without placeholders"),
        ({"source": 'client_id = "run-{host}"'}, "source.client_id = 'run-{host}': there are no placeholders"),
        ({"sink": 'will = { topic = "state/{stream}" }'}, "without wildcards and braces"),
    ],
)
def test_placeholders_that_nothing_fills_are_refused(tmp_path: Path, sections: dict[str, str], match: str) -> None:
    run = config(tmp_path, **sections)
    with pytest.raises((ConfigError, ParameterError), match=match):
        run.check()


def test_a_name_of_several_levels_is_that_of_both_ends(tmp_path: Path) -> None:
    run = config(tmp_path, source='topic = "{site}/{stream}/imu"', sink='topic = "predictions/{site}/{stream}"')
    run.check()
    (warning,) = run.warnings()
    assert "is read by the source too where {stream} is 'imu'" in warning


@pytest.mark.parametrize(
    "sections",
    [
        {"source": 'topic = "+/{stream}"'},
        {"source": 'topic = "predictions/{stream}"'},
        {"source": 'topic = "{stream}/#"'},
        {"source": 'topic = "plant/{stream}/{channel}"', "sink": 'topic = "plant/{stream}/prediction"'},
        {"source": 'topic = "a/{stream}/#"', "sink": 'topic = "a/{stream}"'},
        {"source": 'topic = "+/{stream}/imu"', "sink": 'topic = "out/{stream}/imu"\nurl = "mqtt://localhost:18830"'},
        {"letters": 'topic = "sensors/dead/imu"'},
        {"source": 'topic = "all/{stream}/#"', "letters": 'topic = "all/dead/letters"'},
    ],
)
def test_a_loop_from_an_output_to_the_source_is_refused(tmp_path: Path, sections: dict[str, str]) -> None:
    refused(tmp_path, "would come back to it as input; choose a topic beside", **sections)


@pytest.mark.parametrize(
    "sections",
    [
        {"source": 'topic = "+/{stream}"', "sink": 'url = "mqtt://127.0.0.1:1"'},
        {"source": 'topic = "+/{stream}/imu"'},
        {"source": 'topic = "+/{stream}"', "sink": 'topic = "$out/{stream}"'},
        {"source": 'topic = "a/{stream}/b/#"', "sink": 'topic = "a/{stream}"'},
    ],
)
def test_outputs_that_the_source_does_not_read_are_no_loop(tmp_path: Path, sections: dict[str, str]) -> None:
    config(tmp_path, **sections).check()


def test_times_of_arrival_with_a_session_are_refused(tmp_path: Path) -> None:
    refused(tmp_path, "would get the time of its arrival", source='time = ""\nsession = true')
    config(tmp_path, source='time = ""').check()
    config(tmp_path, source='time = ""\nsession = true\nqos = 0').check()
    (warning,) = config(tmp_path, source='time = ""').warnings()
    assert 'set retained = "skip"' in warning
    assert config(tmp_path, source='time = ""\nretained = "skip"').warnings() == []


@pytest.mark.parametrize(
    ("topic", "wild"),
    [("plant/+/{stream}/imu", "+"), ("tele/{stream}/+", "+"), ("site/{stream}/#", "#")],
)
def test_topics_that_merge_devices_are_warned_about(tmp_path: Path, topic: str, wild: str) -> None:
    run = config(tmp_path, source=f'topic = "{topic}"', sink='topic = "predictions/of/the/{stream}/here"')
    run.check()
    (warning,) = run.warnings()
    assert f"topics that differ only in {wild} become one stream" in warning
    assert "such as {site}" in warning


def test_a_will_that_the_source_reads_or_two_clients_share_is_warned_about(tmp_path: Path) -> None:
    will = 'will = { topic = "sensors/svc/imu" }'
    run = config(tmp_path, source=will, sink=will)
    run.check()
    warnings = run.warnings()
    assert sum("is read by the source too" in warning for warning in warnings) == 2
    assert sum("have one topic" in warning for warning in warnings) == 1


def test_what_a_broker_may_lose_is_noted_where_there_is_a_session(tmp_path: Path) -> None:
    (note,) = [n for n in config(tmp_path, source="session = true").notes() if n.startswith("session")]
    for text in ("'in'", "max_queued_messages, 1000", "QoS 1", "set source.sequence to notice"):
        assert text in note
    (note,) = [
        n
        for n in config(tmp_path, source='session = true\nversion = "5"\nsequence = "n"').notes()
        if n.startswith("session")
    ]
    assert "for 7 days at most" in note
    assert "set source.sequence" not in note
    assert not any(n.startswith("session") for n in config(tmp_path).notes())


def test_what_mqtt_3_cannot_say_is_noted(tmp_path: Path) -> None:
    assert any(n.startswith("sink: MQTT 3.1.1 has no word for a refused message") for n in config(tmp_path).notes())
    assert config(tmp_path, sink='version = "5"').notes() == []


def test_a_run_waits_for_its_brokers_unless_it_is_told_not_to(tmp_path: Path) -> None:
    run = config(tmp_path, letters='client_id = "d"')
    assert all(section.link().wait for section in (run.source, run.sink, run.dead_letters))
    quick = run.without_waiting()
    assert not any(section.link().wait for section in (quick.source, quick.sink, quick.dead_letters))
    assert not config(tmp_path, source="wait = false").source.link().wait
    assert run.source.link().session_expiry == 7 * 86400
    assert not run.source.quiet_link().wait
