"""Fill in the metrics of a worker's partitions."""

from __future__ import annotations

import time
from collections.abc import Mapping

from streamrde.cluster.lookout import Lookout
from streamrde.cluster.member import Member, Task
from streamrde.cluster.partition import Partition
from streamrde.connectors.kafka.fetched import Run
from streamrde.runtime.metrics import Metrics
from streamrde.runtime.partitions import GroupMetrics, PartitionMetrics


class Counting:
    """Keep the metrics of the partitions that a worker has.

    Args:
        lookout: what it saw of keys.
    """

    def __init__(self, lookout: Lookout) -> None:
        self.group = GroupMetrics()
        self.stamped: dict[Task, float] = {}
        """The broker's time of each partition's latest message, seconds since 1970."""
        self.fetched: dict[Task, int] = {}
        """The offset after each partition's latest message."""
        self._lookout = lookout
        self._fenced = 0

    def see(self, run: Run) -> None:
        """Note what was fetched. It is called in the member's thread."""
        task = Task(run.topic, run.partition)
        self.fetched[task] = run.end
        if run.messages:
            self.stamped[task] = run.messages[-1].stamped

    def count(self, partitions: Mapping[Task, Partition], member: Member | None, rebalances: int) -> None:
        """Bring the metrics up to date."""
        group = self.group
        group.rebalances = rebalances
        group.fenced = self._fenced + sum(one.fenced for one in partitions.values())
        group.partitions = {(task.topic, task.number): self._of(one, member) for task, one in partitions.items()}

    def forget(self, partition: Partition) -> None:
        """Keep what counts for the worker of a partition that is no longer here."""
        self._fenced += partition.fenced
        partition.fenced = 0
        self.stamped.pop(partition.task, None)
        self.fetched.pop(partition.task, None)
        self._lookout.forget(partition.task)

    def _of(self, one: Partition, member: Member | None) -> PartitionMetrics:
        task, store, work = one.task, one.store, Metrics()
        work.add(one.past, live=False)
        if one.pipeline is not None:
            work.add(one.pipeline.metrics)
        found = PartitionMetrics(
            *task,
            restoring=one.phase in ("assigned", "restoring"),
            streams=work.streams,
            rows=work.rows,
            commits=work.checkpoints,
            aborts=one.aborted,
            commit_time=work.checkpoint_time,
            strays=self._lookout.strays(task),
            twice=self._lookout.twice(task),
        )
        if store is not None:
            found.aborts += store.transactions.aborted
            found.lag_messages = (0 if member is None else member.lag(task, store.position)) or 0
            found.state_bytes, found.lost = store.size, store.lost
            found.restore_seconds, found.restore_bytes = store.restored.seconds, store.restored.size
        if found.lag_messages and (stamped := self.stamped.get(task, 0.0)) > 0.0:
            found.lag_seconds = max(0.0, time.time() - stamped)
        return found
