"""A worker: one process of the cluster, with a pipeline for each partition that the group gives it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from typing import Any

import pyarrow as pa

from streamrde.cluster.counting import Counting
from streamrde.cluster.draining import Draining
from streamrde.cluster.member import Member, Task
from streamrde.cluster.partition import Partition
from streamrde.cluster.plan import Plan
from streamrde.connectors.ends import ConnectionCounts
from streamrde.errors import BundleError, StateError
from streamrde.inference.bundle import Bundle
from streamrde.runtime.metrics import Metrics
from streamrde.runtime.partitions import GroupMetrics
from streamrde.runtime.pipeline import Pipeline

logger = logging.getLogger(__name__)
# Threads that restore and commit: a broker that is away holds one for each partition.
_THREADS = 64
# Seconds between two sums over the partitions.
_COUNT_EVERY = 0.5
# Seconds between two looks if the partitions are read to their ends.
_LOOK_EVERY = 0.1
# Seconds to leave the group at the end. Its other members wait for a session otherwise.
_LEAVING = 10.0
# Share of max.poll.interval.ms that a revocation may take.
_SHARE = 0.5
_POLL_INTERVAL = 300_000


class Worker:
    """Work on the partitions that the group assigns, until stopped.

    The consumer is polled in a thread of its own, whatever the partitions do. The group takes a partition away only
    when it is drained, which has a limit below the consumer's poll interval.

    Args:
        plan: of the run.
        drain: seconds for which the end of the run, or a revocation, waits for the last checkpoints.
        until_end: end when the partitions that the changelog has are read, and leave those that the input has beside
            them, for `streamrde state rehash`.
        on_start: called when the group is joined.
        on_batch: called after every batch of any partition.
        on_predictions: called with the predictions of any partition. See `Pipeline`.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        drain: float = 30.0,
        until_end: bool = False,
        on_start: Callable[[], None] | None = None,
        on_batch: Callable[[Metrics], None] | None = None,
        on_predictions: Callable[[pa.RecordBatch], None] | None = None,
    ) -> None:
        self.metrics = Metrics()
        self.started = False
        self.rebalances = 0
        """Number of times that the group gave or took partitions."""
        self.connections: dict[str, ConnectionCounts] = {"source": ConnectionCounts()}
        self.partitions: dict[Task, Partition] = {}
        """The partitions that the worker has."""
        self._plan = plan
        self._until_end = plan.draining = until_end
        self._counting = Counting(plan.lookout)
        settings = plan.consumer
        interval = float(settings.get("max.poll.interval.ms", _POLL_INTERVAL)) * 1e-3
        self._drain = drain
        self._limit = min(drain, _SHARE * interval)
        self._on_start = on_start
        self._on_batch = on_batch
        self.on_predictions = on_predictions
        self._ended = Metrics()
        self._next_count = 0.0
        self._stopping = asyncio.Event()
        self._failure: BaseException | None = None
        self._leaving: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._member: Member

    async def run(self) -> Metrics:
        """Join the group and work until `stop`.

        Raises:
            StreamRDEError: the broker refuses for good, or no partition can go on.
        """
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="partition"))
        counts = self.connections["source"]
        counts.waiting = True
        try:
            await self._plan.reach()
        finally:
            counts.waiting = False
        self._member = Member(self._plan.consumer, self._plan.patterns, self, refusal=self._plan.refusal, counts=counts)
        self._member.start()
        self.started = True
        if self._on_start is not None:
            self._on_start()
        try:
            if self._until_end:
                await self._read_to_end()
            await self._stopping.wait()
        except asyncio.CancelledError:
            # Nothing more is waited for: the next owners repeat what was not committed.
            for partition in self.partitions.values():
                partition.lose()
            raise
        finally:
            await self._end()
        if self._failure is not None:
            raise self._failure
        return self.metrics

    async def _read_to_end(self) -> None:
        draining = Draining(self._counting)
        while not self._stopping.is_set():
            if self.rebalances and draining.done(self.partitions, self._member):
                logger.info("all that the partitions had is worked off")
                self._stopping.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY):
                    await self._stopping.wait()

    def stop(self, *, patience: float | None = None) -> None:
        """End after the batches that are being worked on: their checkpoints are committed, the rest is left."""
        self._stopping.set()

    def close(self) -> None:
        """Let go of everything, after `run`."""

    async def swap(self, bundle: Bundle, identity: dict[str, str] | None = None) -> None:
        """Continue with another model in all partitions.

        Raises:
            BundleError: it cannot continue the streams; the model stays.
        """
        try:
            self._plan.replace(bundle)
        except BundleError:
            self.metrics.swaps_refused += 1
            raise
        for partition in [*self.partitions.values()]:
            if (pipeline := partition.pipeline) is not None and pipeline.fleet.fingerprint != bundle.fingerprint:
                await pipeline.swap(bundle, identity)
            partition.retry()
        self.metrics.swaps += 1

    @property
    def pipelines(self) -> list[Pipeline]:
        """See `runtime.service.Served.pipelines`."""
        return [one.pipeline for one in self.partitions.values() if one.pipeline is not None]

    @property
    def fingerprints(self) -> tuple[str, str]:
        """See `runtime.service.Served.fingerprints`."""
        return self._plan.fingerprints

    @property
    def waiting(self) -> int | None:
        """See `runtime.service.Served.waiting`."""
        return sum(one.inlet.waiting for one in self.partitions.values() if one.inlet is not None)

    def count(self) -> None:
        """Bring `metrics` up to date: the sums over all partitions, those that are gone too."""
        own = self.metrics
        fresh = Metrics(began=own.began, ended=own.ended, swaps=own.swaps, swaps_refused=own.swaps_refused)
        fresh.add(self._ended, live=False)
        for one in self.partitions.values():
            fresh.add(one.past, live=False)
            if one.pipeline is not None:
                one.pipeline.count()
                fresh.add(one.pipeline.metrics)
        vars(own).update(vars(fresh))
        self._counting.count(self.partitions, getattr(self, "_member", None), self.rebalances)

    @property
    def group(self) -> GroupMetrics:
        """See `runtime.service.Served.group`."""
        return self._counting.group

    def obstacles(self) -> list[str]:
        """List the obstacles that now keep samples from becoming predictions."""
        counts, found = self.connections["source"], [] if self.started else ["starting"]
        if counts.waiting:
            found.append("waiting for the source's broker")
        if self.started and not counts.connected:
            found.append("the source's broker is away")
        owned = [*self.partitions.values()]
        if self.started and not self.rebalances:
            found.append("the group has given no partition yet")
        elif owned and not any(one.phase == "running" for one in owned):
            found.append(f"{len(owned)} partitions are being restored")
        found += [f"partition {one.task}: {one.failure}" for one in owned if one.failure]
        return found

    def status(self) -> dict[str, Any]:
        """Return the obstacles, the partitions, and which streams went wrong, the latest first."""
        self.count()
        latest = [
            trouble
            for one in self.partitions.values()
            if one.pipeline is not None
            for trouble in one.pipeline.troubles.status()
        ]
        latest = sorted(latest, key=lambda trouble: trouble["since"] or 0.0, reverse=True)[:20]
        return self.metrics.status(self.obstacles(), latest) | {
            "rebalances": self.rebalances,
            "partitions": [self._shown(one) for _, one in sorted(self.partitions.items())],
        }

    def _shown(self, one: Partition) -> Mapping[str, Any]:
        store = one.store
        return {
            "topic": one.task.topic,
            "partition": one.task.number,
            "phase": one.phase,
            "failure": one.failure,
            "streams": 0 if one.pipeline is None else one.pipeline.metrics.streams,
            "position": None if store is None else store.position,
            "strays": self._plan.lookout.strays(one.task),
            "twice": self._plan.lookout.twice(one.task),
            "lag": None if store is None else self._member.lag(one.task, store.position),
        }

    # What follows is called in the member's thread.

    def assigned(self, tasks: list[Task]) -> None:
        """See `Owner.assigned`."""
        self._loop.call_soon_threadsafe(self._take, tasks)

    def revoked(self, tasks: list[Task]) -> None:
        """See `Owner.revoked`."""
        done: Future[None] = asyncio.run_coroutine_threadsafe(self._release(tasks, self._limit), self._loop)
        try:
            done.result(self._limit + _LEAVING)
        except Late:
            self._abandon(tasks)

    def lost(self, tasks: list[Task]) -> None:
        """See `Owner.lost`."""
        self._abandon(tasks)
        self._loop.call_soon_threadsafe(self._lose, tasks)

    def fetched(self, messages: Sequence[Any]) -> None:
        """See `Owner.fetched`. It waits until the messages are where they belong, so that they cannot pile up."""
        runs = self._plan.unpack(messages)
        for run in runs:
            self._counting.see(run)
        taken: Future[None] = Future()

        def put() -> None:
            for run in runs:
                partition = self.partitions.get(Task(run.topic, run.partition))
                if partition is not None and (inlet := partition.taking) is not None:
                    inlet.put(run)
            taken.set_result(None)

        self._loop.call_soon_threadsafe(put)
        with contextlib.suppress(Late):
            taken.result(self._limit)

    def unplaced(self, task: Task, reason: str) -> None:
        """See `Owner.unplaced`."""
        self._loop.call_soon_threadsafe(self._unplace, task, reason)

    def failed(self, error: Exception) -> None:
        """See `Owner.failed`."""
        self._loop.call_soon_threadsafe(self._fail, error)

    def _abandon(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            if (partition := self.partitions.get(task)) is not None:
                partition.abandon()

    # What follows is called in the loop.

    def _take(self, tasks: list[Task]) -> None:
        self.rebalances += 1
        if self._stopping.is_set():
            return
        for task in filter(self._plan.has, tasks):
            if (before := self.partitions.pop(task, None)) is not None:
                before.lose()
                self._forget(before)
            self.partitions[task] = partition = Partition(task, self._parts, begin=self._member.begin, fatal=self._fail)
            partition.start()

    def _parts(self, task: Task) -> Any:
        counts = self.connections["source"]
        return self._plan.parts(task, self._member, counts, on_batch=self._batch_done, on_predictions=self._predicted)

    def _predicted(self, predictions: pa.RecordBatch) -> None:
        if self.on_predictions is not None:
            self.on_predictions(predictions)

    def _batch_done(self, metrics: Metrics) -> None:
        if self._on_batch is not None and (now := time.monotonic()) >= self._next_count:
            self._next_count = now + _COUNT_EVERY
            self.count()
            self._on_batch(self.metrics)

    async def _release(self, tasks: Sequence[Task], seconds: float) -> None:
        self.rebalances += 1
        found = [partition for task in tasks if (partition := self.partitions.get(task)) is not None]
        await asyncio.gather(*(partition.drain(seconds) for partition in found))
        for partition in found:
            if self.partitions.get(partition.task) is partition:
                del self.partitions[partition.task]
            self._forget(partition)

    def _lose(self, tasks: Sequence[Task]) -> None:
        self.rebalances += 1
        for task in tasks:
            if (partition := self.partitions.pop(task, None)) is not None:
                logger.warning("partition %s is lost: the group dropped this worker; nothing more is committed", task)
                partition.lose()
                self._forget(partition)

    def _unplace(self, task: Task, reason: str) -> None:
        if (partition := self.partitions.get(task)) is not None and (inlet := partition.taking) is not None:
            inlet.fail(
                StateError(
                    f"the messages at its position are not there ({reason}): they were deleted, or the topic was made "
                    "again; keep messages longer, or begin with a new group and a new changelog"
                )
            )

    def _forget(self, partition: Partition) -> None:
        """Keep the counts of a partition that is no longer here."""
        self._counting.forget(partition)
        self._ended.add(partition.past, live=False)
        partition.past = Metrics()

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
        self._stopping.set()

    async def _end(self) -> None:
        self._stopping.set()
        try:
            await self._release([*self.partitions], self._drain)
        finally:
            self._member.stop()
            await asyncio.shield(asyncio.to_thread(self._member.join, _LEAVING))
            self.count()
