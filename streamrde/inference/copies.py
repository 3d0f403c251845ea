"""Copies of a fleet, for copy and pickle: made again from its bundle and settings, with its streams' snapshots."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from streamrde.inference.bundle import Bundle
from streamrde.inference.predictor import check_stepper_pickles

if TYPE_CHECKING:
    from streamrde.inference.fleet import Fleet

_OWN = ("_time", "_strangers", "_taught", "_unused", "_ended", "_ended_states", "_gone", "_archived")
"""Attributes of a Fleet that neither its settings nor its streams' snapshots hold."""


def reduced(fleet: Fleet) -> tuple[Any, ...]:
    """Return what pickle makes the fleet from."""
    check_stepper_pickles(fleet._settings["stepper"], type(fleet).__name__)
    return _restored, (type(fleet), fleet._table.bundle, fleet._settings, _state_of(fleet))


def copied(fleet: Fleet) -> Fleet:
    """Return a copy that shares the archive."""
    return _restored(type(fleet), fleet._table.bundle, fleet._settings, _state_of(fleet))


def copied_deeply(fleet: Fleet, memo: dict[int, Any]) -> Fleet:
    """Return a copy with an archive of its own.

    The bundle and a stepper hold no state of the streams: they are shared.
    """
    settings = fleet._settings | {"archive": copy.deepcopy(fleet.archive, memo)}
    made = _restored(type(fleet), fleet._table.bundle, settings, copy.deepcopy(_state_of(fleet), memo))
    memo[id(fleet)] = made
    return made


def _state_of(fleet: Fleet) -> dict[str, Any]:
    """Return all that `restored` needs besides bundle and settings."""
    live = fleet._find(None)
    return {
        "snapshots": fleet.snapshot(),
        "changed": fleet._table.changed[live],
        "predecessors": set(fleet._table.predecessors),
        "own": {name: copy.copy(getattr(fleet, name)) for name in _OWN},
    }


def _restored(cls: type[Fleet], bundle: Bundle, settings: Mapping[str, Any], state: Mapping[str, Any]) -> Fleet:
    """Make a copy of a fleet from its parts."""
    fleet = cls(bundle, **settings)
    fleet._table.predecessors = state["predecessors"]
    fleet.restore(state["snapshots"])
    fleet._table.changed[fleet._find(None)] = state["changed"]
    for name, value in state["own"].items():
        setattr(fleet, name, value)
    return fleet
