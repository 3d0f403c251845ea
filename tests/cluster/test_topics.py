"""Topics of a shared run: a changelog that does not fit its input is refused, a dangerous one is told."""

from __future__ import annotations

import pytest

from streamrde.cluster.topics import changelog_of, check_topics, input_warnings, marker_of, retention_text, warnings_of
from streamrde.errors import StateError

LOG = "pumps.sensors.state"


def test_a_changelog_is_named_after_group_and_topic():
    assert changelog_of(None, group="pumps", topic="sensors") == LOG
    assert changelog_of("state-of-{topic}", group="pumps", topic="sensors") == "state-of-sensors"


def test_as_many_partitions_as_the_input_are_right():
    check_topics({LOG: 4, "sensors": 4}, changelog=LOG, source="sensors")
    check_topics({"sensors": 4}, changelog=LOG, source="sensors")


def test_another_count_of_partitions_is_refused_with_the_command():
    with pytest.raises(StateError, match=r"has 4 partitions.*has 6.*streamrde state rehash run\.toml"):
        check_topics({LOG: 4, "sensors": 6}, changelog=LOG, source="sensors", config="run.toml")


def test_a_changelog_that_is_being_moved_is_refused():
    with pytest.raises(StateError, match="run the same command again"):
        check_topics({LOG: 4, "sensors": 4, marker_of(LOG): 1}, changelog=LOG, source="sensors")


@pytest.mark.parametrize("policy", ["delete", "compact,delete"])
def test_a_changelog_that_deletes_is_told_with_the_command(policy):
    (warning,) = warnings_of({"cleanup.policy": policy}, LOG, broker="h:9092")
    assert f"kafka-configs.sh --bootstrap-server h:9092 --alter --entity-type topics --entity-name {LOG}" in warning
    assert "cleanup.policy=compact" in warning


def test_deletions_that_vanish_before_a_restore_is_over_are_told():
    settings = {"cleanup.policy": "compact", "delete.retention.ms": "1000"}
    assert "delete.retention.ms=86400000" in warnings_of(settings, LOG, broker="h:9092")[0]
    assert warnings_of({"cleanup.policy": "compact", "delete.retention.ms": "86400000"}, LOG, broker="h:9092") == []
    assert warnings_of({}, LOG, broker="h:9092") == []


def test_an_input_that_is_compacted_is_told_with_the_command():
    (warning,) = input_warnings({"cleanup.policy": "compact"}, "sensors", broker="h:9092")
    assert "--entity-name sensors --add-config cleanup.policy=delete" in warning
    assert input_warnings({"cleanup.policy": "delete"}, "sensors", broker="h:9092") == []
    assert input_warnings({}, "sensors", broker="h:9092") == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"retention.ms": "604800000", "retention.bytes": "-1"}, "kept for 7 days; what a run does not read"),
        ({"retention.ms": "7200000", "retention.bytes": "5000000"}, "kept for 2 hours or 5 MB of each partition"),
        ({"retention.ms": "-1"}, "kept for ever"),
        ({}, "not told"),
    ],
)
def test_the_time_that_a_run_may_be_away_is_told(settings, words):
    assert words in retention_text(settings)
