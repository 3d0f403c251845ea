"""The plan of a worker: clients of the cluster, topics and pipelines, by the sections of a run."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from streamrde.cluster.changelog import transactional_id
from streamrde.cluster.copies import LocalCopy
from streamrde.cluster.inlet import Inlet
from streamrde.cluster.lookout import Lookout
from streamrde.cluster.member import Member, Task
from streamrde.cluster.outbox import StagedLetters, StagedPredictions
from streamrde.cluster.partition import Parts
from streamrde.cluster.restoring import Reading
from streamrde.cluster.store import KafkaStore
from streamrde.cluster.topics import (
    changelog_of,
    check_topics,
    counts_of,
    create_changelog,
    input_warnings,
    settings_of,
    warnings_of,
)
from streamrde.cluster.transactions import Transactions
from streamrde.connectors.ends import ConnectionCounts
from streamrde.connectors.kafka import KafkaDeadLettersConfig, KafkaSinkConfig, KafkaSourceConfig
from streamrde.connectors.kafka.fetched import Run, Unpacker
from streamrde.connectors.kafka.topics import KafkaTopic
from streamrde.connectors.sections import ModelOutline
from streamrde.errors import BrokerError, BundleError, StateError
from streamrde.inference.bundle import Bundle, state_differences
from streamrde.runtime.metrics import Metrics
from streamrde.runtime.pipeline import Pipeline
from streamrde.state import StateStore

logger = logging.getLogger(__name__)
_TRANSACTION_MS = 60_000


class Building(Protocol):
    """Return a run's pipeline over its ends."""

    def __call__(
        self, bundle: Bundle, source: Any, sink: Any, *, dead_letters: Any, store: StateStore, **hooks: Any
    ) -> Pipeline:
        """Return the pipeline, over an opened store."""


class Plan:
    """Say what a worker needs for each partition.

    Args:
        source, sink, letters: sections of the run, all of one cluster.
        bundle: the model.
        outline: returns what ends need to know of a model.
        identity: returns what the state depends on, by the model's fingerprint.
        building: makes pipelines.
        changelog: template of the changelog's name; None: `topics.DEFAULT_CHANGELOG`.
        replication: copies of each partition of a changelog that is created. None: as the cluster does.
        replaced: fingerprints of models whose state the model may go on with.
        copies: folder of local copies of the state. None: there are none.
    """

    def __init__(
        self,
        source: KafkaSourceConfig,
        sink: KafkaSinkConfig,
        letters: KafkaDeadLettersConfig | None,
        *,
        bundle: Bundle,
        outline: Callable[[Bundle], ModelOutline],
        identity: Callable[[str], dict[str, str]],
        building: Building,
        changelog: str | None = None,
        replication: int | None = None,
        replaced: Sequence[str] = (),
        copies: Path | None = None,
    ) -> None:
        self.bundle = bundle
        self._source, self._sink, self._letters = source, sink, letters
        self._outline = outline
        self._identity = identity
        self._building = building
        self._changelog = changelog
        self._replication = replication
        self._replaced = {*replaced}
        self._copies = copies
        self._cluster = source.cluster()
        self._creating = threading.Lock()
        self._templates = [template for template in source.templates() if isinstance(template, KafkaTopic)]
        self._unpacker = Unpacker(self._templates)
        self.lookout = Lookout()
        """It sees where keys lie."""
        self.draining = False
        """Only partitions that the changelog has are worked on, although the input may have more."""
        self._counts: dict[str, int] = {}

    @property
    def fingerprints(self) -> tuple[str, str]:
        """Fingerprints of the model, and of its windows' p-values."""
        return self.bundle.fingerprint, self.bundle.novelty_fingerprint

    @property
    def patterns(self) -> list[str]:
        """Topics to subscribe to, or regular expressions for them."""
        return [template.pattern for template in self._templates]

    @property
    def consumer(self) -> dict[str, Any]:
        """Settings of the client library for a consumer of the group."""
        membership = self._source.membership()
        own = {"isolation.level": "read_committed", "enable.partition.eof": self.draining}
        return self._cluster.settings() | membership.settings() | own

    @property
    def producer(self) -> dict[str, Any]:
        """Settings of the client library for a producer with transactions."""
        own = {"transaction.timeout.ms": _TRANSACTION_MS} | self._sink.cluster().settings()
        return own | {"enable.idempotence": True, "acks": "all"}

    def refusal(self, problem: Any) -> BrokerError:
        """Return an error of the client library with its remedy."""
        return self._cluster.refusal(problem)

    async def reach(self) -> None:
        """Wait for the cluster, find or create the topics, and check that they fit each other.

        Raises:
            BrokerError: the cluster refuses, or a topic is missing.
            StateError: a changelog does not fit its input.
        """
        for section in (self._source, self._sink, self._letters):
            if section is not None:
                async with section.look():
                    pass
        for pattern in self.patterns:
            if not pattern.startswith("^"):
                await asyncio.to_thread(self.check, pattern)

    def check(self, topic: str) -> int:
        """Find the changelog of a topic, or create it. Return the number of partitions. It blocks.

        Raises:
            StateError: its partitions are not those of the topic, or `streamrde state` is at work.
            BrokerError: the cluster does not answer or refuses.
        """
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        changelog = self.changelog(topic)
        admin = AdminClient(self._cluster.settings())
        with self._creating:
            try:
                counts = counts_of(admin, timeout=self._source.timeout)
                if self.draining and changelog in counts:
                    counts[topic] = min(counts[topic], counts[changelog])
                check_topics(counts, changelog=changelog, source=topic)
                if changelog not in counts:
                    create_changelog(
                        admin, changelog, counts[topic], replication=self._replication, timeout=self._source.timeout
                    )
                    logger.info("created changelog %s with %d partitions", changelog, counts[topic])
                if topic not in self._counts:
                    self._warn(admin, topic, changelog)
            except KafkaException as error:
                raise self.refusal(error.args[0]) from None
        self._counts[topic] = counts[topic]
        return counts[topic]

    def _warn(self, admin: Any, topic: str, changelog: str) -> None:
        """Warn of settings of the topics with which state or samples would be lost."""
        broker = self._cluster.servers[0]
        found = input_warnings(settings_of(admin, topic), topic, broker=broker)
        for text in found + warnings_of(settings_of(admin, changelog), changelog, broker=broker):
            logger.warning("%s", text)

    def has(self, task: Task) -> bool:
        """Return True if a partition is to be worked on. See `draining`."""
        return not self.draining or task.number < self._counts.get(task.topic, 0)

    def changelog(self, topic: str) -> str:
        """Return the changelog of a topic."""
        return changelog_of(self._changelog, group=self._source.group, topic=topic)

    def replace(self, bundle: Bundle) -> None:
        """Take another model for all pipelines from now on.

        Raises:
            BundleError: it cannot continue the state of the one before.
        """
        if differences := state_differences(self.bundle, bundle):
            raise BundleError(f"the model cannot continue the state of the one before: {'; '.join(differences)}")
        self._replaced |= {self.bundle.fingerprint}
        self.bundle = bundle

    def unpack(self, messages: Sequence[Any]) -> list[Run]:
        """Return what was fetched as runs of neighbours in a partition, which readers of messages take."""
        runs, _ = self._unpacker.unpack(messages)
        for run in runs:
            if self._unpacker.is_keyed(run.topic):
                keys = {one.key for one in run.messages}
                self.lookout.see(Task(run.topic, run.partition), keys, self._counts.get(run.topic, 0))
        return runs

    def _copy_of(self, task: Task) -> LocalCopy | None:
        if self._copies is None:
            return None
        return LocalCopy(self._copies, self.changelog(task.topic), task, cluster=",".join(self._cluster.servers))

    def parts(
        self,
        task: Task,
        member: Member,
        counts: ConnectionCounts,
        *,
        on_batch: Callable[[Metrics], None],
        on_predictions: Callable[[pa.RecordBatch], None],
    ) -> Parts:
        """Return what one life of a partition needs, with the model that runs now."""
        bundle = self.bundle
        letters = None if self._letters is None else StagedLetters(self._letters.topic)
        sink = StagedPredictions(self._sink.template(), self._sink.encoding().encode_prediction, letters)
        transactions = Transactions(
            self.producer,
            transactional_id(self._source.group, *task),
            membership=member.membership,
            refusal=self.refusal,
        )
        store = KafkaStore(
            task,
            self.changelog(task.topic),
            transactions=transactions,
            reading=lambda: Reading(self.consumer, refusal=self.refusal, check=transactions.check),
            outgoing=sink.records,
            partitions=lambda: self._counts[task.topic],
            deliver=self._source.deliver,
            replaced=self._replaced,
            copy=self._copy_of(task),
        )

        def pipeline(on_start: Callable[[], None]) -> tuple[Pipeline, Inlet]:
            if bundle is not self.bundle:
                raise StateError("the model was changed while the state was read; it is read again")
            inlet = Inlet(
                self._source.reader(self._outline(bundle)),
                counts,
                begin=store.position,
                limit=self._source.queue_messages,
                hold=lambda held: member.hold(task, held),
            )
            counts.lost += store.lost
            built = self._building(
                bundle,
                inlet,
                sink,
                dead_letters=letters,
                store=store,
                on_start=on_start,
                on_batch=on_batch,
                on_predictions=on_predictions,
            )
            return built, inlet

        return Parts(
            store,
            lambda: self.check(task.topic),
            lambda: store.open(self._identity(bundle.fingerprint)),
            pipeline,
        )
