"""Keep the snapshots of a shard's streams in Spark's state.

A value per stream would cost a call per stream, and one value for all streams the bytes of all. So the streams are in
buckets of some 32: a micro-batch reads and writes the buckets of its own streams.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from streamrde.errors import StateError
from streamrde.inference.clocks import Watch

FORMAT = 1
"""Version of what is kept."""
_FULL = 32
"""Streams of a bucket on average, beyond which there are twice as many buckets.

Read and written so, 1,000 snapshots of 4 kB took a quarter of the time that a value each took, and half of that of one
value for all (`tests/benchmarks/spark.py state`). Snapshots of a micro-batch's silent streams are hardly read.
"""


class Kept(msgspec.Struct):
    """Describe a shard."""

    format: int
    shards: int
    models: list[str]
    """Fingerprint of the model, then those of models before it."""
    buckets: int = 1
    streams: int = 0
    latest: float | None = None
    """The latest time of any stream's samples, seconds."""
    swept: float | None = None
    """The time when idle streams were last looked for, seconds."""
    timer: int | None = None
    """When the shard is woken, ms since 1970. None: never."""


class KeptStream(msgspec.Struct, frozen=True, array_like=True):
    """Hold what a stream goes on from."""

    snapshot: bytes
    truth: tuple[Any, ...] | None = None
    """The last values of the columns of truth, and their time."""
    watch: Watch | None = None
    """Judgement of its times, if it has just begun."""


class ShardState:
    """Read and write what Spark keeps of shards. One shard is open at a time.

    Args:
        handle: Spark's.
        shards: the number of shards.
        model: fingerprint of the model.
        replaces: fingerprints of models whose streams it continues.
    """

    def __init__(self, handle: Any, *, shards: int, model: str, replaces: Collection[str] = ()) -> None:
        self._shard = handle.getValueState("shard", "kept binary")
        self._streams = handle.getMapState("streams", "bucket int", "streams binary")
        self._shards = shards
        self._model = model
        self._replaces = tuple(replaces)
        self._read: dict[int, dict[str, KeptStream]] = {}
        self.kept = Kept(FORMAT, shards, [model])

    def open(self) -> None:
        """Read the description of the current shard.

        Raises:
            StateError: it is of another number of shards, another model, or another version.
        """
        self._read = {}
        self.kept = Kept(FORMAT, self._shards, [self._model])
        found = self._shard.get()
        if found is None:
            self._read = {0: {}}
            return
        kept = msgspec.msgpack.decode(bytes(found[0]), type=Kept)
        if kept.format != FORMAT:
            raise StateError(
                f"the checkpoint has the state's format {kept.format}, and this streamrde reads {FORMAT}: install the "
                "version that wrote it, or start with an empty checkpointLocation"
            )
        if kept.shards != self._shards:
            raise StateError(
                f"the checkpoint has shards = {kept.shards}, and this query shards = {self._shards}: a stream's shard "
                f"is fixed for the life of the checkpoint. Set shards = {kept.shards}, or start with an empty "
                "checkpointLocation"
            )
        own = kept.models[0]
        if own != self._model and own not in self._replaces:
            raise StateError(
                f"the checkpoint has the state of model {own[:12]}, and this is model {self._model[:12]}: give the "
                "former's file as replaces = [...] to continue its streams, or start with an empty checkpointLocation"
            )
        kept.models = [self._model, *(one for one in kept.models if one != self._model)]
        self.kept = kept

    @property
    def predecessors(self) -> list[str]:
        """Fingerprints of the models whose snapshots may be among the streams'."""
        return [*self._replaces, *self.kept.models[1:]]

    def load(self, names: Iterable[str]) -> dict[str, KeptStream]:
        """Return those of the streams that are kept."""
        found = {}
        for name in names:
            own = self._bucket(self._place(name)).get(name)
            if own is not None:
                found[name] = own
        return found

    def load_all(self) -> Iterator[dict[str, KeptStream]]:
        """Yield all streams, bucket by bucket."""
        for place in range(self.kept.buckets):
            yield dict(self._bucket(place))

    def save(self, changed: Mapping[str, KeptStream], ended: Iterable[str]) -> None:
        """Write the streams that changed, remove those that ended, and write the description."""
        touched = set()
        for name in ended:
            place = self._place(name)
            if self._bucket(place).pop(name, None) is not None:
                self.kept.streams -= 1
                touched.add(place)
        for name, stream in changed.items():
            place = self._place(name)
            own = self._bucket(place)
            self.kept.streams += name not in own
            own[name] = stream
            touched.add(place)
        if self.kept.streams > _FULL * self.kept.buckets:
            touched = self._grow()
        for place in sorted(touched):
            if own := self._read[place]:
                self._streams.updateValue((place,), (msgspec.msgpack.encode(own),))
            else:
                self._streams.removeKey((place,))
        self._shard.update((msgspec.msgpack.encode(self.kept),))

    def _place(self, name: str) -> int:
        # The quotient: the remainder is the same for all streams of a shard.
        return zlib.crc32(name.encode()) // self._shards % self.kept.buckets

    def _bucket(self, place: int) -> dict[str, KeptStream]:
        if place not in self._read:
            found = self._streams.getValue((place,))
            data = b"\x80" if found is None else bytes(found[0])
            self._read[place] = msgspec.msgpack.decode(data, type=dict[str, KeptStream])
        return self._read[place]

    def _grow(self) -> set[int]:
        """Divide the streams among more buckets, and return all of these."""
        everything = {name: own for bucket in self.load_all() for name, own in bucket.items()}
        while self.kept.streams > _FULL * self.kept.buckets:
            self.kept.buckets *= 2
        self._read = {place: {} for place in range(self.kept.buckets)}
        for name, own in everything.items():
            self._read[self._place(name)][name] = own
        return set(self._read)
