"""Copies of a fleet, for copy and pickle: made again from its bundle and settings, with its streams' snapshots."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from streamrde.inference.bundle import Bundle

if TYPE_CHECKING:
    from streamrde.inference.fleet import Fleet

_OWN = ("_time", "_unused", "_ended", "_ended_states", "_gone", "_archived")
"""Attributes of a Fleet that neither its settings nor its streams' snapshots hold."""


def state_of(fleet: Fleet) -> dict[str, Any]:
    """Return all that `restored` needs besides bundle and settings."""
    live = fleet._find(None)
    return {
        "snapshots": fleet._snapshots(live),
        "changed": fleet._table.changed[live],
        "predecessors": set(fleet._table.predecessors),
        "own": {name: copy.copy(getattr(fleet, name)) for name in _OWN},
    }


def restored(cls: type[Fleet], bundle: Bundle, settings: Mapping[str, Any], state: Mapping[str, Any]) -> Fleet:
    """Make a copy of a fleet from its parts."""
    fleet = cls(bundle, **settings)
    fleet._table.predecessors = state["predecessors"]
    fleet.restore(state["snapshots"])
    fleet._table.changed[fleet._find(None)] = state["changed"]
    for name, value in state["own"].items():
        setattr(fleet, name, value)
    return fleet
