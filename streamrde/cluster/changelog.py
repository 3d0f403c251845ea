"""Records of a changelog: a compacted topic that keeps the state of streams, with as many partitions as the input.

    key        kind and name       "s" + stream: a stream's state; "m" + name: the store's own, in every partition
    value      bytes               a snapshot; empty: the stream ended; null: deleted
    headers    format              version of the record, "1"
               offset              position in the input's partition after the checkpoint
               model               fingerprint of the model
               window              last confirmed window
               saved               seconds since 1970

Numbers in headers are written as decimal text. A header without a value to tell is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec

from streamrde.errors import StateError

FORMAT = 1
IDENTITY = "identity"
"""Name of the store's record with its identity."""
POSITION = "position:"
"""Beginning of the names of records with positions."""

Kind: TypeAlias = Literal["s", "m"]
Headers: TypeAlias = list[tuple[str, bytes]]


@dataclass(frozen=True)
class Entry:
    """A record of a changelog.

    Args:
        name: the stream, or the name of the store's own record.
        data: a snapshot. b"": the stream ended. None: deleted.
        kind: "s" of a stream, "m" of the store.
        offset: position in the input's partition after the checkpoint.
        model: fingerprint of the model.
        window: last confirmed window of the stream.
        saved: seconds since 1970.
    """

    name: str
    data: bytes | None
    kind: Kind = "s"
    offset: int | None = None
    model: str = ""
    window: int | None = None
    saved: float = 0.0

    @property
    def key(self) -> bytes:
        """The record's key."""
        return key_of(self.kind, self.name)

    @property
    def ended(self) -> bool:
        """True for a stream that ended, of which the last window is kept."""
        return self.kind == "s" and self.data == b""

    @property
    def headers(self) -> Headers:
        """The record's headers."""
        texts = {
            "format": f"{FORMAT}",
            "offset": "" if self.offset is None else f"{self.offset}",
            "model": self.model,
            "window": "" if self.window is None else f"{self.window}",
            "saved": f"{self.saved!r}" if self.saved else "",
        }
        return [(name, text.encode()) for name, text in texts.items() if text]


def key_of(kind: Kind, name: str) -> bytes:
    """Return the key of a record."""
    return kind.encode() + name.encode("utf-8", "surrogateescape")


def decode(key: bytes, value: bytes | None, headers: Any, *, place: str) -> Entry:
    """Return the entry of a record.

    Args:
        headers: name and value pairs, or None.
        place: topic, partition and offset, for the error.
    Raises:
        StateError: it is no record of a changelog, or of another version.
    """
    kind: Kind = "s" if key[:1] == b"s" else "m"
    if key[:1] not in (b"s", b"m"):
        raise StateError(
            f"{place}: the key {key[:40]!r} is none of a changelog; give the state a topic that nothing else writes to"
        )
    name = key[1:].decode("utf-8", "surrogateescape")
    if value is None:
        return Entry(name, None, kind)
    found: dict[str, bytes] = dict(headers or ())
    version = found.get("format", b"none").decode("ascii", "replace")
    if version != f"{FORMAT}":
        raise StateError(
            f"{place}: the record has format {version}, and this streamrde reads {FORMAT}: run the streamrde that "
            "wrote it, or begin with a new topic"
        )
    try:
        return Entry(
            name,
            bytes(value),
            kind,
            offset=int(found["offset"]) if "offset" in found else None,
            model=found.get("model", b"").decode(),
            window=int(found["window"]) if "window" in found else None,
            saved=float(found.get("saved", b"0")),
        )
    except ValueError as error:
        raise StateError(f"{place}: a header cannot be read ({error}): the record is damaged, or not ours") from None


def identity_entry(identity: Mapping[str, str], **headers: Any) -> Entry:
    """Return the record with a store's identity."""
    return Entry(IDENTITY, msgspec.json.encode(dict(identity), order="sorted"), "m", **headers)


def identity_of(entries: Iterable[Entry]) -> dict[str, str] | None:
    """Return the identity in a store's own records, or None if there is none.

    Raises:
        StateError: it cannot be read.
    """
    for entry in entries:
        if entry.kind == "m" and entry.name == IDENTITY and entry.data:
            try:
                return msgspec.json.decode(entry.data, type=dict[str, str])
            except msgspec.DecodeError as error:
                raise StateError(f"the identity in the changelog cannot be read ({error}): it is damaged") from None
    return None


def positions_of(entries: Iterable[Entry]) -> dict[str, bytes]:
    """Return the positions in a store's own records."""
    return {
        entry.name.removeprefix(POSITION): entry.data
        for entry in entries
        if entry.kind == "m" and entry.name.startswith(POSITION) and entry.data is not None
    }


def transactional_id(group: str, topic: str, partition: int) -> str:
    """Return the id under which the owner of an input's partition writes. Whoever uses it shuts out the one before."""
    return f"{group}-{topic}-{partition}"
