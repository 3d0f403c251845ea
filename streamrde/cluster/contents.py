"""A changelog that is read as a whole."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from streamrde.cluster.changelog import Entry, decode, identity_of, positions_of
from streamrde.cluster.topics import counts_of, marker_of
from streamrde.cluster.transactions import SILENT
from streamrde.errors import BrokerError, MissingExtraError, StateError
from streamrde.runtime.checkpoints import SOURCE
from streamrde.state.records import Head, Record

# Seconds for the first answer of a broker, and without one, after which it counts as away.
_ANSWER, _SILENCE = 10.0, 30.0
# Errors of a producer whose id another one has taken over.
_FENCED = ("_FENCED", "FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH")
# Messages that are taken at a time, and seconds of waiting for them: Ctrl-C waits as long.
_PART, _HOLD = 1000, 0.5


@dataclass(frozen=True)
class ChangelogPlace:
    """A changelog and how it is reached.

    Args:
        topic: the changelog.
        settings: of librdkafka, for any client.
        source: topic of the input, where it is known.
        group: consumer group of the input, where it is known.
        keyed: the key of a message of the input is its stream's name.
        replication: copies of each partition of a new changelog. None: as the cluster does.
        config: the run's file, for remedies.
    """

    topic: str
    settings: Mapping[str, Any] = field(repr=False)
    source: str | None = None
    group: str | None = None
    keyed: bool = True
    replication: int | None = None
    config: str = "RUN.toml"

    @property
    def name(self) -> str:
        """The place, for people."""
        return f"kafka://{self.broker}/{self.topic}"

    @property
    def broker(self) -> str:
        """The broker to begin with, as host:port."""
        return str(self.settings["bootstrap.servers"]).split(",")[0]

    @property
    def input(self) -> tuple[str, str]:
        """Return the input's topic and group.

        Raises:
            StateError: they are not known.
        """
        if self.source is None or self.group is None:
            raise StateError(
                f"{self.name}: which topic and group it belongs to is not known; give the run's TOML file, or "
                "--input and --group"
            )
        return self.source, self.group

    def consumer(self) -> Any:
        """Return a consumer that joins no group, reads what is committed, and reports ends of partitions."""
        kafka = _kafka()
        own = {
            "group.id": self.group or "streamrde-state",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            # The broker waits as long at the end of a partition before it says so.
            "fetch.wait.max.ms": 10,
        }
        return kafka.Consumer(self._plain() | own)

    def admin(self) -> Any:
        """Return an admin client."""
        _kafka()
        from confluent_kafka.admin import AdminClient

        return AdminClient(self._plain())

    def producer(self, transactional_id: str) -> Any:
        """Return a transactional producer, which shuts out those before it with its id."""
        producer = _kafka().Producer(
            self._plain()
            | {"transactional.id": transactional_id, "enable.idempotence": True, "acks": "all", "linger.ms": 5},
            logger=SILENT,
        )
        with mapped(self):
            producer.init_transactions(_SILENCE)
        return producer

    def counts(self) -> dict[str, int]:
        """Return the number of partitions of each topic of the cluster."""
        with mapped(self), contextlib.closing(self.consumer()) as consumer:
            return counts_of(consumer, timeout=_ANSWER)

    def _plain(self) -> dict[str, Any]:
        return {**self.settings, "log_level": 0}


def _kafka() -> Any:
    try:
        import confluent_kafka
    except ImportError:
        raise MissingExtraError("a changelog", "kafka") from None
    return confluent_kafka


@contextlib.contextmanager
def mapped(place: ChangelogPlace) -> Iterator[None]:
    """Raise errors of the client library as BrokerError."""
    from confluent_kafka import KafkaException

    try:
        yield
    except KafkaException as error:
        reason = error.args[0]
        if reason.name() in _FENCED:
            raise BrokerError(
                f"{place.name}: another command works on the changelog since now: let it end", final=True
            ) from None
        raise BrokerError(
            f"Kafka broker {place.broker}: {reason.str() or reason.name()}; look at its log, or check host and port"
        ) from None


def read(place: ChangelogPlace, topic: str, begins: Mapping[int, int]) -> Iterator[Any]:
    """Yield the committed messages of partitions, those of each in their order, up to the ends.

    Args:
        begins: first offset of each partition.
    Raises:
        BrokerError: the broker does not answer.
    """
    from confluent_kafka import KafkaError, TopicPartition

    with mapped(place), contextlib.closing(place.consumer()) as consumer:
        consumer.assign([TopicPartition(topic, partition, begin) for partition, begin in begins.items()])
        heard, left = time.monotonic(), {*begins}
        while left:
            # A wait for many messages would last to its end whenever there are fewer.
            if (first := consumer.poll(_HOLD)) is not None:
                heard = time.monotonic()
            elif time.monotonic() - heard > _SILENCE:
                raise BrokerError(f"Kafka broker {place.broker} has not answered for {_SILENCE:g} s; look at its log")
            for message in () if first is None else (first, *consumer.consume(_PART, 0)):
                if (error := message.error()) is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition())
                elif not error.retriable():
                    raise BrokerError(f"Kafka broker {place.broker}, topic {topic!r}: {error.str()}")


class ChangelogContents:
    """The streams of a changelog, as they are when it is opened.

    The topic is read twice: once for the places of the latest records, and then for the records there, so that memory
    holds names and not snapshots.

    Args:
        show: takes a line about the progress.
    Raises:
        StateError: there is no such topic, or records are not ours.
    """

    def __init__(self, place: ChangelogPlace, *, show: Callable[[str], None] = lambda _: None) -> None:
        self.name = place.name
        self.place = place
        self._show = show
        counts = place.counts()
        if place.topic not in counts:
            raise StateError(f"{place.name}: there is no such topic; check the name, or [state] of the run")
        self.partitions = counts[place.topic]
        self.written = 0
        """Records in the topic, latest or not."""
        self.latest: list[dict[bytes, int]] = []
        """Offset of the latest record of each key, by partition."""
        self.own: list[list[Entry]] = []
        """Records of the store itself, by partition."""
        self._find()

    def _find(self) -> None:
        own: list[dict[bytes, Entry]] = [{} for _ in range(self.partitions)]
        self.latest = [{} for _ in own]
        for message in read(self.place, self.place.topic, self._begins()):
            key, partition = message.key() or b"", message.partition()
            self.written += 1
            if message.value() is None:
                self.latest[partition].pop(key, None)
                own[partition].pop(key, None)
            elif key[:1] == b"s":
                self.latest[partition][key] = message.offset()
            else:
                own[partition][key] = self._entry(message)
            if self.written % 10_000 == 0:
                self._show(f"reading {self.name}: {self.written:,} records")
        self.own = [[*entries.values()] for entries in own]

    def _begins(self) -> dict[int, int]:
        return dict.fromkeys(range(self.partitions), 0)

    def _entry(self, message: Any) -> Entry:
        place = f"{self.place.topic!r} [{message.partition()}] @{message.offset()}"
        return decode(message.key() or b"", message.value(), message.headers(), place=place)

    def __len__(self) -> int:
        return sum(map(len, self.latest))

    def head(self) -> Head:
        """See `Contents.head`.

        Raises:
            StateError: partitions have different identities: workers had different models.
        """
        found = [identity for identity in map(identity_of, self.own) if identity is not None]
        if any(identity != found[0] for identity in found):
            raise StateError(
                f"{self.name}: partitions belong to different models or settings; run all workers with one model until "
                "every partition has taken it on"
            )
        positions, offsets = dict[str, bytes](), dict[int, int]()
        for partition, own in enumerate(self.own):
            for name, data in positions_of(own).items():
                if name == SOURCE:
                    offsets[partition] = offset_of(data)
                else:
                    positions[name] = joined(positions.get(name), data)
        return Head(found[0] if found else {}, positions, offsets)

    def entries(self) -> Iterator[tuple[int, Entry]]:
        """Yield the latest record of every stream, with its partition.

        Raises:
            StateError: the topic changed meanwhile.
        """
        left = len(self)
        for message in read(self.place, self.place.topic, self._begins()) if left else ():
            if self.latest[message.partition()].get(message.key() or b"") == message.offset():
                left -= 1
                yield message.partition(), self._entry(message)
                if not left:
                    return
        if left:
            raise StateError(f"{self.name} changed while it was read; stop the workers, or try again")

    def records(self) -> Iterator[Record]:
        """See `Contents.records`."""
        for partition, entry in self.entries():
            yield Record(
                entry.name, entry.data or None, entry.window, entry.saved, entry.model, partition, entry.offset
            )

    def twice(self) -> list[str]:
        """Return the streams that are in more than one partition."""
        seen, found = set[bytes](), list[str]()
        for latest in self.latest:
            found += [key[1:].decode("utf-8", "surrogateescape") for key in latest.keys() & seen]
            seen |= latest.keys()
        return sorted(found)


def begun(place: ChangelogPlace, counts: Mapping[str, int]) -> dict[str, Any] | None:
    """Return the command that the marker of a changelog tells of, or None if there is no marker.

    Args:
        counts: partitions of the cluster's topics.
    """
    if (marker := marker_of(place.topic)) not in counts:
        return None
    found: dict[str, Any] = {}  # broken off before anything was done
    for message in read(place, marker, {0: 0}):
        found = msgspec.json.decode(message.value() or b"{}", type=dict[str, Any])
    return found


def offset_of(data: bytes) -> int:
    """Return the offset in a position of the input."""
    try:
        return int(msgspec.json.decode(data)["offset"])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        raise StateError(f"the position {data[:40]!r} of a changelog cannot be read ({error}): it is damaged") from None


def joined(one: bytes | None, other: bytes) -> bytes:
    """Return what two partitions together keep under a name: of two lists all, else the latter."""
    if one is None or one == other:
        return other
    with contextlib.suppress(msgspec.DecodeError):
        lists = msgspec.json.decode(one, type=list[str]), msgspec.json.decode(other, type=list[str])
        return msgspec.json.encode(sorted({*lists[0], *lists[1]}))
    return other
