"""A client of a Kafka cluster, over librdkafka."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from streamrde.connectors.clients import Intake, Patience, QueueClient
from streamrde.connectors.kafka.cluster import KafkaCluster
from streamrde.connectors.kafka.topics import KafkaTopic
from streamrde.errors import BrokerError, MissingExtraError

logger = logging.getLogger(__name__)
# Seconds for which one call of the client library may hold its thread.
HOLD = 0.1
# Part of the timeout for one answer while a connection is made, which needs several.
SHARE = 0.4
# Seconds to leave the group and to let go of the network, at the end.
_LEAVING = 5.0


class KafkaClient(QueueClient):
    """A client of a Kafka cluster. The client library is called in one thread, which may wait.

    Args:
        cluster: the cluster, and how it is reached.
        templates: topics to read, or the one to publish to.
        create: create topics that are not there.
        partitions: of a topic that is created.
    """

    def __init__(
        self,
        cluster: KafkaCluster,
        *,
        patience: Patience | None = None,
        intake: Intake | None = None,
        inflight: int = 1000,
        templates: Sequence[KafkaTopic] = (),
        create: bool = False,
        partitions: int = 1,
    ) -> None:
        super().__init__(f"Kafka broker {cluster.address}", patience=patience, intake=intake, inflight=inflight)
        self._cluster = cluster
        self._templates = tuple(templates)
        self._create = create
        self._partitions = partitions
        self._kafka: Any = None
        self._numbers: dict[str, list[int]] = {}
        """Partitions of each topic, as they were when the connection was made."""
        self._thread: ThreadPoolExecutor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._polling: asyncio.Task[None] | None = None
        self._problems: list[Any] = []

    async def _connect(self) -> None:
        try:
            import confluent_kafka
        except ImportError:
            raise MissingExtraError("Kafka", "kafka") from None
        await self._reach()
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kafka")
        self._problems = []
        try:
            self._kafka = self._make()
        except confluent_kafka.KafkaException as error:
            raise BrokerError(f"a setting is refused: {error.args[0].str()}; correct options", final=True) from None
        except ValueError as error:
            raise BrokerError(f"a setting is refused: {error}; correct options", final=True) from None
        await self._call(self._prepare)
        self._problems.clear()
        self._polling = self.spawn(self._poll())
        await self._begin()

    @abstractmethod
    def _make(self) -> Any:
        """Return a consumer or a producer."""

    @abstractmethod
    async def _poll(self) -> None:
        """Let the library report what has happened, until the connection is lost."""

    @abstractmethod
    def _close(self, kafka: Any) -> None:
        """Close it, in the library's thread."""

    async def _begin(self) -> None:
        """Return when it does what it is for."""

    async def _reach(self) -> None:
        """Raise BrokerError at once where nobody listens: the client library would wait."""
        problem: OSError | None = None
        for broker in self._cluster.servers:
            host, _, port = broker.rpartition(":")
            try:
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            except OSError as error:
                problem = error
                continue
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            return
        raise BrokerError(f"{problem}; start the broker or check host, port and kafka:// or kafka+ssl://")

    def _settings(self) -> dict[str, Any]:
        return {"error_cb": self._on_error} | self._cluster.settings()

    async def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the client library in its thread, and raise what it raises as BrokerError."""
        from confluent_kafka import KafkaException

        if (thread := self._thread) is None:
            raise BrokerError("the connection was closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, function, *arguments)
        except KafkaException as error:
            raise self._error(error.args[0]) from None
        except RuntimeError as error:  # closed meanwhile
            raise BrokerError(f"{error}") from None

    def _error(self, error: Any, what: str = "") -> BrokerError:
        """Return an error of the client library with its remedy."""
        return self._cluster.refusal(error, self._problems, what)

    def _prepare(self) -> None:
        """Find the topics, or create them."""
        try:
            there = self._kafka.list_topics(timeout=self.patience.timeout * SHARE).topics
        except BaseException:
            self._kafka.poll(0)  # reports errors that say more
            raise
        self._numbers = {name: [*topic.partitions] for name, topic in there.items()}
        for template in self._templates:
            name = template.topic
            if template.pattern != name or name in there:
                continue
            if not self._create:
                raise BrokerError(
                    f"it has no topic {name!r}; create it with  kafka-topics.sh --bootstrap-server "
                    f"{self._cluster.address} --create --topic {name}  or set create_topic = true",
                    final=True,
                )
            self._create_topic(name)

    def _create_topic(self, name: str) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient
        from confluent_kafka.cimpl import NewTopic

        timeout = self.patience.timeout * SHARE
        client = AdminClient(self._settings())  # which must live until the answer is there
        try:
            client.create_topics([NewTopic(name, self._partitions)], request_timeout=timeout)[name].result(timeout)
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                raise

    def _tell(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call a function in the loop, from the thread of the client library."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(function, *arguments)

    def _on_error(self, error: Any) -> None:
        self._problems.append(error)
        del self._problems[:-20]
        if error.fatal() or error.name() in ("_ALL_BROKERS_DOWN", "_AUTHENTICATION"):
            self._tell(self.lost, error.str())

    async def _disconnect(self) -> None:
        polling, self._polling = self._polling, None
        await self.end(polling)
        kafka, self._kafka = self._kafka, None
        thread, self._thread = self._thread, None
        if thread is None or self._loop is None:
            return
        if kafka is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_LEAVING):
                    await self._loop.run_in_executor(thread, self._close, kafka)
        thread.shutdown(wait=False)
