"""One partition of the input at one worker, from its assignment until it is given up.

    assigned ──> restoring ──> running ──> draining ──> gone
                   │  ▲          │            │
                   ▼  │          ▼            ▼
                  failed <───────┴─────────> lost

assigned    the group has given the partition to this worker. It is paused at the consumer.
restoring   its producer shuts out every other owner, then its state is read back. The consumer goes on polling.
running     a pipeline takes its messages, and every checkpoint is a transaction.
draining    the group wants it back, or the run ends: after the batch that is being worked on, the rest is committed.
gone        everything is committed. The next owner may begin.
lost        another member may have it already: it was dropped without a commit.
failed      its state cannot be read, or another owner shut this one out. It is restored again after a pause, for as
            long as the group leaves it here. Other partitions go on.

The state in memory is only ever thrown away, never mended: whatever is not certain is read again from the topics.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

from streamrde.cluster.inlet import Inlet
from streamrde.cluster.member import Task
from streamrde.cluster.store import KafkaStore
from streamrde.cluster.transactions import AbandonedError, FencedError
from streamrde.errors import BrokerError, SnapshotError, StateError
from streamrde.runtime.metrics import Metrics
from streamrde.runtime.pipeline import Pipeline

logger = logging.getLogger(__name__)
Phase: TypeAlias = Literal["assigned", "restoring", "running", "draining", "gone", "lost", "failed"]
# Pauses before a partition that failed is restored again, in seconds.
_PAUSE = 0.5
_PAUSE_MOST = 30.0


class LayoutError(StateError):
    """The topics do not fit each other, so that no partition may go on."""


class Parts(NamedTuple):
    """Hold what a partition needs for one life, from restoring to its end."""

    store: KafkaStore
    check: Callable[[], object]
    """Check the topics. What it raises is not this partition's alone. It blocks."""
    open: Callable[[], None]
    """Take the partition over and read its state. It blocks."""
    pipeline: Callable[[Callable[[], None]], tuple[Pipeline, Inlet]]
    """Return the pipeline over the opened store. The argument is called when its streams are restored."""


class Partition:
    """Own a partition.

    Args:
        task: the partition.
        parts: returns what a life of it needs, with the model that runs now.
        begin: called with the position from which messages are to be delivered to `inlet`, and with a function that
            is to be called, from any thread, before the first of them comes.
        fatal: called with an error that is not this partition's alone.
    """

    def __init__(
        self,
        task: Task,
        parts: Callable[[Task], Parts],
        *,
        begin: Callable[[Task, int, Callable[[], None]], None],
        fatal: Callable[[BaseException], None],
    ) -> None:
        self.task = task
        self.phase: Phase = "assigned"
        self.failure = ""
        """Why it failed; "" if it did not."""
        self.inlet: Inlet | None = None
        """Where its messages go. None: it takes none."""
        self.pipeline: Pipeline | None = None
        self.store: KafkaStore | None = None
        self.fenced = 0
        """Number of times that another owner shut this one out."""
        self.aborted = 0
        """Transactions of earlier lives that were aborted."""
        self.past = Metrics()
        """Counts of earlier lives."""
        self._parts = parts
        self._begin = begin
        self._begun: Inlet | None = None
        self._fatal = fatal
        self._leaving = False
        self._pause = _PAUSE
        self._again = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    @property
    def taking(self) -> Inlet | None:
        """The inlet, if what is fetched now belongs into it.

        A partition that was fenced restores while the consumer goes on fetching at its old place: until the consumer
        has gone to the new one, what it delivers would leave a gap.
        """
        return self.inlet if self.phase == "running" and self.inlet is self._begun else None

    def start(self) -> None:
        """Begin to restore it."""
        self._running = asyncio.create_task(self._run(), name=f"partition {self.task}")

    def retry(self) -> None:
        """Restore it now, if it waits for that."""
        self._again.set()

    async def drain(self, seconds: float) -> bool:
        """Commit what is done and end. Return False if that took too long, and nothing more was committed."""
        self._leaving = True
        self._again.set()
        if self._running is None:
            return True
        if self.phase != "running" or self.inlet is None:
            # Nothing is in memory that the topics do not have.
            self.lose()
            await asyncio.wait((self._running,))
            self.phase = "gone"
            return True
        self.phase = "draining"
        self.inlet.stop()
        done, _ = await asyncio.wait((self._running,), timeout=seconds)
        if done:
            return True
        logger.error(
            "partition %s: its last checkpoint was not committed in %g s; the next owner repeats it", self.task, seconds
        )
        self.lose()
        await asyncio.wait((self._running,))
        return False

    def abandon(self) -> None:
        """Let nothing more be committed. Any thread may call it."""
        if (store := self.store) is not None:
            store.transactions.abandon()

    def lose(self) -> None:
        """End without a commit."""
        self._leaving = True
        self.abandon()
        self.phase = "lost"
        if self._running is not None:
            self._running.cancel()

    async def _run(self) -> None:
        try:
            while not self._leaving:
                try:
                    await self._live()
                    if self._leaving and self.phase == "draining":
                        self.phase = "gone"
                    return
                except AbandonedError:
                    return
                except LayoutError:
                    raise
                except (StateError, SnapshotError, BrokerError) as error:
                    if isinstance(error, BrokerError) and error.final:
                        raise
                    self.fenced += isinstance(error, FencedError)
                    self.phase, self.failure = "failed", f"{error}"
                    logger.error("partition %s: %s; trying again in %g s", self.task, error, self._pause)
                self._again.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause):
                        await self._again.wait()
                self._pause = min(2 * self._pause, _PAUSE_MOST)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.phase, self.failure = "failed", f"{error}"
            self._fatal(error)

    async def _live(self) -> None:
        """Restore the partition and work on it until it is drained."""
        self.phase = "restoring"
        parts = self._parts(self.task)
        self.store = parts.store
        try:
            await asyncio.to_thread(parts.check)
        except StateError as error:
            raise LayoutError(f"{error}") from None
        opening = asyncio.get_running_loop().run_in_executor(None, parts.open)
        # If the partition is lost meanwhile, nobody waits for its end any more.
        opening.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.shield(opening)
            if self._leaving:
                raise AbandonedError
            self.pipeline, self.inlet = parts.pipeline(self._started)
            await self.pipeline.run()
        finally:
            self.abandon()
            self.inlet = None
            if self.pipeline is not None:
                self.pipeline.count()
                self.past.add(self.pipeline.metrics, live=False)
                self.pipeline = None
            self.aborted += parts.store.transactions.aborted
            parts.store.transactions.aborted = 0
            await asyncio.shield(asyncio.to_thread(parts.store.close))

    def _started(self) -> None:
        if not self._leaving and self.store is not None:
            self.phase, self.failure, self._pause = "running", "", _PAUSE
            logger.info(
                "partition %s: %d streams restored in %.2f s; goes on at %d",
                self.task, len(self.store), self.store.restored.seconds, self.store.position,
            )  # fmt: skip
            loop, inlet = asyncio.get_running_loop(), self.inlet

            def begun() -> None:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(self._open, inlet)

            self._begin(self.task, self.store.position, begun)

    def _open(self, inlet: Inlet | None) -> None:
        self._begun = inlet
