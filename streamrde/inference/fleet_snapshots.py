"""Snapshots of a fleet, with what its streams learned together."""

from __future__ import annotations

from typing import NamedTuple

from streamrde import snapshots
from streamrde.errors import SnapshotError
from streamrde.inference.snapshot_header import SnapshotHeader
from streamrde.inference.table import StreamTable

SHARED = "\0shared readout"
"""Name of its snapshot, beside those of the streams."""


class Changes(NamedTuple):
    """Everything that a checkpoint has to save."""

    snapshots: dict[str, bytes]
    """Snapshots of the streams that changed or were archived, by name."""
    ended: tuple[str, ...]
    """Names of the streams that ended."""


def shared_snapshot(table: StreamTable) -> dict[str, bytes]:
    """Return the snapshot of what streams learned together, by its name. Nothing if they share nothing."""
    section, bundle = table.adapting, table.bundle
    if section is None or section.shared is None:
        return {}
    header = SnapshotHeader(
        SHARED, bundle.fingerprint, state=bundle.state_fingerprint, labels=section.layout, learned=section.shared.size
    )
    return {SHARED: snapshots.pack(header, section.shared[0])}


def restore_shared(table: StreamTable, data: bytes | None) -> None:
    """Put what streams learned together back to a snapshot, if there is one and the table keeps it.

    Raises:
        SnapshotError: it is damaged, or was taken with another model or other settings.
    """
    section, bundle = table.adapting, table.bundle
    if data is None or section is None or section.shared is None:
        return
    header, values = snapshots.unpack(data, SnapshotHeader)
    if header.model not in {bundle.fingerprint, *table.predecessors}:
        raise SnapshotError(
            f"the snapshot of the shared readout belongs to the model {header.model[:12]}, and this is "
            f"{bundle.fingerprint[:12]}: restore it with the model it was taken from"
        )
    if header.labels != section.layout or len(values) != section.shared.size:
        raise SnapshotError(
            f"the snapshot of the shared readout was taken with other settings of labels (layout {header.labels}, and "
            f"this is {section.layout}): keep adapt as it was"
        )
    section.shared[0] = values
