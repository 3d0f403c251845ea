"""The header of a stream's snapshot."""

from __future__ import annotations

import msgspec

# Columns with which rows began before snapshots said how many there were.
_COLUMNS_BEFORE = 21


class SnapshotHeader(
    msgspec.Struct, frozen=True, tag="stream", tag_field="kind", forbid_unknown_fields=True, omit_defaults=True
):
    """Identity of the stream and model that a snapshot belongs to."""

    stream: str
    model: str
    """Fingerprint of the bundle."""
    columns: int = _COLUMNS_BEFORE
    """Number of fixed columns with which the row begins. Later versions append to them."""
    state: str = ""
    """`Bundle.state_fingerprint`."""
    labels: str = ""
    """Layout of the columns at the row's end that labels are learned in, if there are any."""
    learned: int = 0
    """Their number."""
