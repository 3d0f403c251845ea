"""Metrics of the partitions that a worker owns."""

from __future__ import annotations

from services import samples

from streamrde.runtime.exposition import Exposition
from streamrde.runtime.metrics import Metrics
from streamrde.runtime.partitions import GroupMetrics, PartitionMetrics


def test_each_owned_partition_has_its_own_numbers():
    group = GroupMetrics(rebalances=2)
    exposition = Exposition(Metrics(), connections={}, group=group)
    assert samples(exposition.text().decode())["streamrde_partitions"] == 0
    one = PartitionMetrics("sensors", 3, restoring=True, lag_messages=7, lag_seconds=1.5, streams=4, commits=2)
    one.commit_time.add([0.002, 0.2])
    group.partitions = {("sensors", 3): one, ("sensors", 11): PartitionMetrics("sensors", 11, aborts=1)}
    shown = samples(exposition.text().decode())
    assert shown["streamrde_partitions"] == 2
    assert shown["streamrde_rebalances_total"] == 2
    of = {name: shown[f"streamrde_partition_{name}/3/sensors"] for name in ("restoring", "lag_messages", "lag_seconds")}
    assert of == {"restoring": 1, "lag_messages": 7, "lag_seconds": 1.5}
    assert shown["streamrde_partition_commits_total/3/sensors"] == 2
    assert shown["streamrde_partition_aborts_total/11/sensors"] == 1
    assert shown["streamrde_partition_commit_seconds_count/3/sensors"] == 2
    assert shown["streamrde_partition_commit_seconds_bucket/0.01/3/sensors"] == 1


def test_a_partition_that_was_taken_away_is_shown_no_more():
    group = GroupMetrics(partitions={("sensors", 0): PartitionMetrics("sensors", 0)})
    exposition = Exposition(Metrics(), connections={}, group=group)
    assert "sensors" in exposition.text().decode()
    group.partitions.clear()
    assert "sensors" not in exposition.text().decode()


def test_a_run_of_its_own_has_no_partitions():
    assert b"partition" not in Exposition(Metrics(), connections={}).text()
