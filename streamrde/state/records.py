"""Whole contents of a state store, as a list, an export or another store takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol


class Record(NamedTuple):
    """Contents of a store about one stream."""

    name: str
    data: bytes | None
    """Its snapshot. None: the stream ended."""
    window: int | None = None
    """Last window whose prediction was confirmed."""
    saved: float = 0.0
    """Seconds since 1970."""
    model: str = ""
    """Fingerprint of the model."""
    partition: int | None = None
    """Partition that has it, in a store that has some."""
    offset: int | None = None
    """Position in the input's partition when it was saved, in a store that has partitions."""


@dataclass(frozen=True)
class Head:
    """Contents of a store that are about no single stream.

    Args:
        identity: the model's fingerprint and the settings that the snapshots depend on.
        positions: of sources and sinks, and what else the run keeps, by name.
        offsets: position of the input by partition, in a store that has partitions.
        held: entries of the outbox: predictions that a sink of files has not yet written.
    """

    identity: Mapping[str, str]
    positions: Mapping[str, bytes] = field(default_factory=dict)
    offsets: Mapping[int, int] = field(default_factory=dict)
    held: int = 0


class Contents(Protocol):
    """A store that is read as a whole, and does not change meanwhile."""

    @property
    def name(self) -> str:
        """Path or topic, for people."""

    def head(self) -> Head:
        """Return what is about no single stream."""

    def records(self) -> Iterator[Record]:
        """Yield what is there of every stream, running or ended. It may be called again."""
