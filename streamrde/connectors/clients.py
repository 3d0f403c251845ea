"""Clients of queues that outlive their connections: connected again when lost, with what was under way sent again.

MQTT has a connection of its own, since its client library is driven at a lower level.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

from streamrde.connectors.ends import ConnectionCounts, Message
from streamrde.errors import BrokerError

logger = logging.getLogger(__name__)
# A connection that ends sooner than this does not reset the pause before the next, in seconds.
_SHORT_LIVED = 5.0
# The first pause before something is tried again, in seconds; each next one is twice as long.
_FIRST_PAUSE = 0.25


@contextlib.contextmanager
def mapped(convert: Callable[[Exception], BrokerError | None]) -> Iterator[None]:
    """Raise what a client library and the network raise as BrokerError, where `convert` has one for it."""
    try:
        yield
    except BrokerError:
        raise
    except Exception as error:
        if (found := convert(error)) is None:
            raise
        raise found from None


def certificate_refused(reason: object) -> BrokerError:
    """Return the error of a server whose certificate is not trusted."""
    return BrokerError(f"its certificate is not accepted ({reason}); set tls.ca", final=True)


@dataclass(frozen=True)
class Patience:
    """Rules for waiting and trying again.

    Args:
        timeout: seconds for the queue to accept a connection, to answer, or to confirm messages.
        wait: try the first connection for ever too, as long as the queue is not there. False: it is tried once.
        reconnect: connect again when a connection is lost, after pauses that double with jitter; False: it is an error.
        longest_pause: seconds between two attempts, at most.
    """

    timeout: float = 10.0
    wait: bool = False
    reconnect: bool = True
    longest_pause: float = 30.0


class Outgoing(NamedTuple):
    """A message to publish."""

    topic: str
    payload: bytes
    identity: str = ""
    """Name by which a queue may recognise the message when it comes twice. "": it has none."""
    headers: Sequence[tuple[str, bytes]] = ()
    """Headers that travel beside the payload, in Kafka."""


class Receipt:
    """A message that waits for its acknowledgement."""

    __slots__ = ("connection", "done", "handle", "identity")

    def __init__(self, identity: Hashable, handle: Any, connection: int) -> None:
        self.identity = identity
        self.handle = handle
        """Handle by which the queue acknowledges it."""
        self.connection = connection
        """Number of the connection on which it came. A handle may mean nothing on another."""
        self.done = False


class Intake:
    """Messages that have arrived and were not delivered yet, and those that are not acknowledged yet.

    A message that the queue sends again while the first copy is still held here is passed on once: its receipt moves to
    the new copy.

    Args:
        limit: messages that wait to be delivered, at most.
        unique: identities tell messages apart; False: they only say that two may be the same, so that a message is
            recognised only after the connection on which it came first was lost.
    """

    def __init__(self, *, limit: int, unique: bool = True) -> None:
        self.messages: deque[Message] = deque()
        self.limit = limit
        self.counts = ConnectionCounts()
        self.on_drop: Callable[[Message], None] = lambda message: None
        """Called with a message that a full intake pushed out."""
        self._unique = unique
        self._held: dict[Hashable, list[Receipt]] = {}
        self._connection = 0
        self._size = 0

    @property
    def held(self) -> int:
        """Count the messages that are not acknowledged, delivered or not."""
        return self._size

    def lost(self) -> None:
        """Note that the connection is lost: what is held may come again."""
        self._connection += 1

    def put(
        self,
        key: bytes,
        payload: bytes,
        identity: Hashable,
        handle: Any,
        *,
        again: bool = False,
        properties: Mapping[str, str] | None = None,
        stamped: float = float("nan"),
    ) -> Any:
        """Take a message. Return its handle if it came again and is done, so that it is to be acknowledged at once.

        Args:
            identity: what tells it from others; None: it needs no acknowledgement, and a full intake drops its oldest.
            again: the queue marked it as sent before.
        """
        if identity is None:
            if len(self.messages) >= self.limit:
                self.on_drop(self.messages.popleft())
            self.messages.append(Message(key, payload, time.perf_counter(), None, properties, stamped=stamped))
            return None
        if (again or self._unique) and (receipt := self._known(identity)) is not None:
            receipt.handle, receipt.connection = handle, self._connection
            self.counts.redelivered += 1
            if receipt.done:
                self._forget(receipt)
                return handle
            return None
        receipt = Receipt(identity, handle, self._connection)
        self._held.setdefault(identity, []).append(receipt)
        self._size += 1
        self.messages.append(Message(key, payload, time.perf_counter(), receipt, properties, stamped, again))
        return None

    def done(self, receipts: Iterable[Receipt]) -> list[Any]:
        """Mark messages as done, and return the handles of those that can be acknowledged now."""
        handles = []
        for receipt in receipts:
            receipt.done = True
            if receipt.connection == self._connection:
                handles.append(receipt.handle)
                self._forget(receipt)
        return handles

    def _known(self, identity: Hashable) -> Receipt | None:
        for receipt in self._held.get(identity, ()):
            if self._unique or receipt.connection != self._connection:
                return receipt
        return None

    def _forget(self, receipt: Receipt) -> None:
        if (same := self._held.get(receipt.identity)) is not None and receipt in same:
            same.remove(receipt)
            self._size -= 1
            if not same:
                del self._held[receipt.identity]


class QueueClient(ABC):
    """Be a client of a queue. A subclass says how it connects, publishes and acknowledges.

    A subclass raises BrokerError: final where trying again does not help, else the connection is lost, and made again.

    Args:
        name: the queue in messages, such as "NATS server 127.0.0.1:4222".
        patience: rules for waiting and trying again.
        intake: where received messages go; None: nothing is received.
        inflight: messages that are published before the first is confirmed.
    """

    def __init__(
        self, name: str, *, patience: Patience | None = None, intake: Intake | None = None, inflight: int = 100
    ) -> None:
        self.name = name
        self.patience = patience or Patience()
        self.intake = intake
        self.counts = ConnectionCounts() if intake is None else intake.counts
        self.changed = asyncio.Event()
        """Set whenever something has changed that a waiting task may want to look at: wait, then look again."""
        self._inflight = inflight
        self._supervisor: asyncio.Task[None] | None = None
        self._failure: BrokerError | None = None
        self._gone = asyncio.Event()
        self._lost_early = False
        self._reason = ""
        self._connected_at = 0.0

    @abstractmethod
    async def _connect(self) -> None:
        """Connect once, and begin to receive."""

    @abstractmethod
    async def _disconnect(self) -> None:
        """Let go of the connection, which may be broken or half made. Raise nothing."""

    @abstractmethod
    async def _publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish messages in their order. Return when the queue has confirmed all."""

    async def _acknowledge(self, handles: Sequence[Any]) -> None:  # noqa: B027 (a client of a sink needs none)
        """Acknowledge messages."""

    async def _settle(self) -> None:  # noqa: B027
        """Return when the queue has taken note of all acknowledgements."""

    async def __aenter__(self) -> Self:
        self.counts.waiting = self.patience.wait
        try:
            await self._await_queue(once=not self.patience.wait)
        finally:
            self.counts.waiting = False
        self._supervisor = asyncio.create_task(self._supervise())
        self._supervisor.add_done_callback(self._on_supervised)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        self.counts.connected = False
        await self._disconnect()

    def check(self) -> None:
        """Raise BrokerError if the connection is lost for good."""
        if self._failure is not None:
            raise self._failure

    async def wait(self, *, timeout: float | None = None) -> None:
        """Sleep until something has changed, at most `timeout` seconds."""
        self.check()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self.changed.wait()
        self.changed.clear()
        self.check()

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish messages in their order, and return when all are confirmed.

        What was under way when the connection was lost is published again.
        """
        begin = 0
        while begin < len(messages):
            self.check()
            if not self.counts.connected:
                await self.wait()
                continue
            part = messages[begin : begin + self._inflight]
            if await self._publish_once(part):
                begin += len(part)
            else:
                self.counts.resent += len(part)

    async def _publish_once(self, messages: Sequence[Outgoing]) -> bool:
        """Return True if all messages are confirmed, False if the connection was lost before."""
        sending = asyncio.ensure_future(self._publish(messages))
        breaking = asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait((sending, breaking), timeout=self.patience.timeout, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
                return True
            self.lost("it confirmed nothing in time; look at its log and its disk")
        except BrokerError as error:
            if error.final or not self.patience.reconnect:
                raise BrokerError(f"{self.name}: {error}", final=error.final) from None
            self.lost(f"{error}")
        finally:
            for task in (sending, breaking):
                task.cancel()
            await asyncio.gather(sending, breaking, return_exceptions=True)
        if not self.patience.reconnect:
            raise BrokerError(f"{self.name} went away ({self._reason}); start it again, then this")
        return False

    async def acknowledge(self, receipts: Iterable[Any]) -> None:
        """Acknowledge messages. If their connection is gone, acknowledge them when they come again."""
        assert self.intake is not None  # noqa: S101 (sources have one)
        handles = self.intake.done(receipts)
        self.changed.set()
        await self.acknowledge_now(handles)

    async def acknowledge_now(self, handles: Sequence[Any]) -> None:
        """Acknowledge what came on this connection."""
        # A queue may send messages before it has answered all that belongs to a new connection.
        try:
            if handles:
                await self._acknowledge(handles)
        except BrokerError as error:
            self.lost(f"{error}")

    async def settle(self) -> None:
        """Return when the queue has taken note of all acknowledgements, or does not answer in time."""
        if self.counts.connected:
            with contextlib.suppress(BrokerError, TimeoutError):
                async with asyncio.timeout(self.patience.timeout):
                    await self._settle()

    def lost(self, reason: str) -> None:
        """Note that the connection is lost."""
        self._lost_early = True
        if self.counts.connected:
            self.counts.connected = False
            self._reason = reason
            if self.intake is not None:
                self.intake.lost()
            self._gone.set()
            self.changed.set()

    def fail(self, text: str, *, final: bool = True) -> None:
        """End for good. The first failure is the one that is raised."""
        self._failure = self._failure or BrokerError(f"{self.name} {text}", final=final)
        self.changed.set()

    async def let_go(self, closing: Coroutine[Any, Any, Any]) -> None:
        """Close a connection, which may be broken. The work is done or has failed already."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(self.patience.timeout):
                await closing

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a task of the connection. A BrokerError in it ends the connection, any other error the client."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._on_ended)
        return task

    async def end(self, task: asyncio.Task[None] | None) -> None:
        """Cancel a task that `spawn` began, and wait until it has ended."""
        # A client library may swallow a cancellation that comes together with an answer.
        while task is not None and not task.done():
            task.cancel()
            await asyncio.wait((task,), timeout=0.05)

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, BrokerError) or error.final:
            self.fail(f"cannot be read from: {error!r}" if not isinstance(error, BrokerError) else f"{error}")
        self.lost(f"{error}")

    async def _connect_once(self) -> None:
        self._gone.clear()
        self._lost_early = False
        if self.intake is not None:
            self.intake.lost()
        try:
            async with asyncio.timeout(self.patience.timeout):
                await self._connect()
            if self._lost_early:
                # Nothing would say so again, and what only receives would wait for ever.
                raise BrokerError("the connection broke while it was set up; look at its log")
        except TimeoutError:
            await self._disconnect()
            raise BrokerError(f"cannot connect to {self.name}: it does not answer; check host and port") from None
        except BrokerError as error:
            await self._disconnect()
            raise BrokerError(f"cannot connect to {self.name}: {error}", final=error.final) from None
        except BaseException:
            await self._disconnect()
            raise
        self.counts.connected = True
        self.counts.connects += 1
        self._connected_at = time.monotonic()
        self.changed.set()

    async def _await_queue(self, *, once: bool = False) -> None:
        """Connect, and try again after pauses while the queue is not there. Raise a refusal for good."""
        pause, said = _FIRST_PAUSE, ""
        while True:
            try:
                return await self._connect_once()
            except BrokerError as error:
                if error.final or once:
                    raise
                if said != (said := f"{error}"):
                    logger.warning("waiting for %s: %s", self.name, error)
            # Jitter, so that the clients of a queue that returns do not all come at once.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(2 * pause, self.patience.longest_pause)

    async def _supervise(self) -> None:
        """Connect again whenever the connection is lost."""
        pause = 0.0
        while True:
            await self._gone.wait()
            await self._disconnect()
            if self._failure is not None:
                return
            if not self.patience.reconnect:
                self.fail(f"went away ({self._reason}); start it again, then this", final=False)
                return
            logger.warning("%s went away (%s); connecting again", self.name, self._reason)
            if time.monotonic() - self._connected_at < _SHORT_LIVED:
                pause = min(max(2 * pause, _FIRST_PAUSE), self.patience.longest_pause)
                await asyncio.sleep(pause)
            else:
                pause = 0.0
            await self._await_queue()
            logger.warning("connected to %s again", self.name)

    def _on_supervised(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        text = f"{self.name} cannot be connected to again ({error!r})"
        self._failure = error if isinstance(error, BrokerError) else BrokerError(text)
        self.changed.set()
