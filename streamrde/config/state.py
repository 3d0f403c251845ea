"""Sections of where the state of streams is kept: a file of this run alone, or a topic that many runs share."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec

from streamrde.connectors.kafka import KafkaDeadLettersConfig, KafkaSinkConfig, KafkaSourceConfig
from streamrde.connectors.sections import RunSections
from streamrde.errors import ConfigError
from streamrde.runtime.checkpoints import MODELS, CheckpointPolicy
from streamrde.settings import Positive, Seconds

if TYPE_CHECKING:
    from streamrde.state import SqliteStore


class StateConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="sqlite"
):
    """Storage of the streams' state in a file of this run."""

    usual: ClassVar[bool] = True

    path: str
    """SQLite file."""
    sync: Literal["full", "normal"] = "full"
    """full survives a power cut, normal a killed process."""
    checkpoint_seconds: Seconds = 1.0
    """Seconds between two checkpoints."""
    checkpoint_messages: Positive | None = None
    """Messages between two checkpoints, at most. None: half of the source's inflight."""
    restore: Literal["all", "lazy"] = "all"
    """Load all streams at the start, or each one when it returns."""
    ttl: Seconds | None = None
    """Forget streams that were not saved for this many seconds. None: never."""
    max_bytes: Positive | None = None
    """Largest size of the store, in bytes. None: as the disk allows."""
    replaces: tuple[str, ...] = ()
    """Model files that this run's model replaces: their streams go on with it. Without, another model is refused."""

    def build(self) -> SqliteStore:
        """Return the store, not yet opened."""
        from streamrde.state import SqliteStore

        return SqliteStore(self.path, sync=self.sync, max_bytes=self.max_bytes)

    def open(self, identity: Mapping[str, str], replaced: Collection[str], *, keep: bool = False) -> SqliteStore:
        """Return the store, opened. One of a model that is replaced belongs to this identity from now on.

        Args:
            replaced: fingerprints of the models that are replaced.
            keep: leave the store as it is.
        Raises:
            StateError: the store is another run's, in use or damaged.
        """
        from streamrde.state import Checkpoint, SqliteStore

        store, model = self.build(), identity["model"]
        before = (SqliteStore.identity_of(self.path) or {}).get("model", model)
        if before == model or before not in replaced:
            store.open(identity)
            return store
        store.open({**identity, "model": before})
        if not keep:
            known = msgspec.json.decode(store.positions().get(MODELS, b"[]"), type=list[str])
            models = msgspec.json.encode(sorted({*known, before} - {model}))
            store.commit(Checkpoint(positions={MODELS: models}, identity=identity))
        return store

    def policy(self, inflight: int) -> CheckpointPolicy:
        """Return the rules for checkpoints, for a broker that sends `inflight` messages ahead."""
        messages = self.checkpoint_messages or max(1, inflight // 2)
        return CheckpointPolicy(seconds=self.checkpoint_seconds, messages=messages, ttl=self.ttl)


class KafkaStateConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="kafka"
):
    """Storage of the streams' state in Kafka, for any number of workers: runs with the same file share its partitions.

    Source, sink and dead letters must be topics of the same cluster. Predictions, dead letters, state and positions are
    committed in one transaction.
    """

    topic: str | None = None
    """Topic with the state, in which {group} and {topic} stand for the source's. None: "{group}.{topic}.state". It is
    created with as many partitions as the input."""
    replication: Positive | None = None
    """Copies of each partition of a topic that is created. None: as the cluster does."""
    cache: str | None = None
    """Folder of local copies, one file for each partition: a worker that gets a partition again reads only what came
    meanwhile. Workers of one machine may share it. None: all is read from the topic."""
    checkpoint_seconds: Seconds = 0.2
    """Seconds between two transactions. Predictions appear with them."""
    checkpoint_messages: Positive = 10_000
    """Messages of a partition between two transactions, at most."""
    ttl: Seconds | None = None
    """Forget streams that were not saved for this many seconds. None: never."""
    replaces: tuple[str, ...] = ()
    """Model files that this run's model replaces: their streams go on with it. Without, another model is refused."""

    def policy(self, inflight: int) -> CheckpointPolicy:
        """Return the rules for checkpoints."""
        return CheckpointPolicy(seconds=self.checkpoint_seconds, messages=self.checkpoint_messages, ttl=self.ttl)

    def check(self, run: RunSections) -> None:
        """Raise ConfigError where the other sections do not fit."""
        source, sink, letters = run.source, run.sink, run.dead_letters
        if not isinstance(source, KafkaSourceConfig):
            raise ConfigError('state.kind = "kafka" needs a source of kind = "kafka", whose partitions own the streams')
        if not isinstance(sink, KafkaSinkConfig):
            raise ConfigError(
                'state.kind = "kafka" needs a sink of kind = "kafka" at the same cluster: predictions and state are '
                "committed in one transaction"
            )
        if letters is not None and not isinstance(letters, KafkaDeadLettersConfig):
            raise ConfigError('state.kind = "kafka" needs dead_letters of kind = "kafka" at the same cluster, or none')
        for name, section in (("sink", sink), ("dead_letters", letters)):
            if section is not None and section.queue != source.queue:
                raise ConfigError(
                    f"{name}.url is {section.queue}, and source.url {source.queue}: a transaction is of one cluster; "
                    "write the same url"
                )
        if len(source.payloads()) > 1:
            raise ConfigError(
                'state.kind = "kafka" with several source.topics: a stream of one name could be in two of them; start '
                "a run for each, or use one topic with names in braces"
            )
        if "*" in source.payloads()[0].topic:
            raise ConfigError(
                f'state.kind = "kafka" with source.topic = {source.payloads()[0].topic!r}: a stream of one name could '
                "be in two topics; write {name} for *, which makes it a part of the stream's name"
            )
