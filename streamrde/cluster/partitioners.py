"""Partitions that producers choose for a key.

Java's client and those that follow it place a key by murmur2, librdkafka (and with it Python, Go, .NET, PHP) by CRC-32,
Sarama by FNV-1a. A stream's samples are in order within one partition only, so that all producers of a topic have to
agree. Where they do not, keys lie where another partitioner would put them, which `Placement` sees.

Reference: Utils.murmur2 and BuiltInPartitioner of Apache Kafka, rd_kafka_msg_partitioner_* of librdkafka.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypeAlias

Partitioner: TypeAlias = Literal["murmur2", "crc32", "fnv1a"]
_MASK = 0xFFFFFFFF
# Multiplier and seed of Kafka's murmur2.
_M, _SEED = 0x5BD1E995, 0x9747B28C
_FNV_PRIME, _FNV_BASIS = 0x01000193, 0x811C9DC5
# Part of the keys that has to lie where a partitioner puts them, before the topic counts as its work.
_MOST = 0.9


def murmur2(key: bytes) -> int:
    """Return Kafka's 32-bit murmur2 of a key, from 0 to 2^32 - 1."""
    size = len(key)
    h = (_SEED ^ size) & _MASK
    whole = size - size % 4
    for i in range(0, whole, 4):
        k = int.from_bytes(key[i : i + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if size > whole:
        h = (h ^ int.from_bytes(key[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def fnv1a(key: bytes) -> int:
    """Return the size of the signed 32-bit FNV-1a of a key, as Sarama takes it."""
    h = _FNV_BASIS
    for byte in key:
        h = (h ^ byte) * _FNV_PRIME & _MASK
    return h if h < 1 << 31 else (1 << 32) - h


PARTITIONERS: Mapping[Partitioner, Callable[[bytes, int], int]] = {
    "murmur2": lambda key, count: (murmur2(key) & 0x7FFFFFFF) % count,
    "crc32": lambda key, count: zlib.crc32(key) % count,
    "fnv1a": lambda key, count: fnv1a(key) % count,
}
"""Partition of a key among `count`, by the partitioner's name."""

CLIENTS: Mapping[Partitioner, str] = {
    "murmur2": "Java's client, or partitioner = murmur2_random",
    "crc32": "librdkafka (Python, Go, .NET), its default",
    "fnv1a": "Sarama",
}
"""Clients that use a partitioner, in words."""


class Placement:
    """Count where keys lie, and where each partitioner would put them.

    Args:
        count: partitions of the topic.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.keys = 0
        """Keys that were seen."""
        self.fits: dict[Partitioner, int] = dict.fromkeys(PARTITIONERS, 0)
        """Keys that lie where a partitioner puts them."""
        self._together: dict[frozenset[Partitioner], int] = {}

    def see(self, key: bytes, partition: int) -> bool:
        """Note a key, once, and return True if it lies where the topic's partitioner does not put it.

        An empty key has no place. The first keys decide whose work the topic is.
        """
        if not key or self.count == 1:
            return False
        fitting = frozenset(name for name, place in PARTITIONERS.items() if place(key, self.count) == partition)
        self.keys += 1
        for name in fitting:
            self.fits[name] += 1
        self._together[fitting] = self._together.get(fitting, 0) + 1
        own = self.partitioner
        return own is not None and own not in fitting

    def see_all(self, places: Iterable[tuple[bytes, int]]) -> None:
        """Note keys with their partitions."""
        for key, partition in places:
            self.see(key, partition)

    @property
    def partitioner(self) -> Partitioner | None:
        """The partitioner that put most keys where they lie, or None where none did or several fit equally."""
        ranked = sorted(self.fits, key=self.fits.__getitem__, reverse=True)
        first, second = ranked[0], ranked[1]
        if not self.keys or self.fits[first] == self.fits[second] or self.fits[first] < self.keys / 2:
            return None
        return first

    @property
    def strays(self) -> int:
        """Keys that lie elsewhere than the topic's partitioner puts them."""
        own = self.partitioner
        return 0 if own is None else self.keys - self.fits[own]

    @property
    def other(self) -> Partitioner | None:
        """The partitioner that explains most of the strays, or None if none explains most of them."""
        own = self.partitioner
        counts = {
            name: sum(number for names, number in self._together.items() if own not in names and name in names)
            for name in PARTITIONERS
            if name != own
        }
        best = max(counts, key=counts.__getitem__)
        return best if own is not None and counts[best] > 0 and counts[best] >= _MOST * self.strays else None

    def text(self) -> str:
        """Describe the placing in a few words."""
        if self.count == 1:
            return "one partition has all keys"
        if not self.keys:
            return "no keys yet"
        own = self.partitioner
        if own is None:
            best = max(self.fits.values())
            if best == self.keys:
                return f"{self.keys:,} keys lie where several partitioners put them"
            return f"{self.keys:,} keys: no partitioner that is known put them where they lie"
        if not self.strays:
            return f"{own}, {self.keys:,} keys ({CLIENTS[own]})"
        whose = "" if self.other is None else f", as {self.other} does ({CLIENTS[self.other]})"
        return f"{own}, but {self.strays:,} of {self.keys:,} keys lie elsewhere{whose}; {REMEDY}"


REMEDY = "give all producers of the topic the same partitioner: a stream in two partitions has two states"
"""Remedy for producers that place keys differently."""
