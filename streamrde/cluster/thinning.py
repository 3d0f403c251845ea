"""Delete streams of a changelog: a tombstone for each, which the broker's compaction then takes away with its state."""

from __future__ import annotations

from streamrde.cluster.changelog import Entry
from streamrde.cluster.contents import ChangelogContents, ChangelogPlace, begun
from streamrde.cluster.filling import Filling
from streamrde.cluster.lag import members_of, refuse_members
from streamrde.cluster.moving import Report, Show
from streamrde.errors import StateError
from streamrde.state.records import Record


def thin(
    place: ChangelogPlace,
    *,
    before: float,
    only_ended: bool = False,
    check: bool = False,
    show: Show = lambda _: None,
) -> Report:
    """Delete streams that were last saved before a time, and return what was deleted.

    Args:
        before: seconds since 1970.
        only_ended: leave streams that run.
        check: only count them.
    Raises:
        StateError: the group has members, or another command was broken off.
    """
    _, group = place.input
    counts = place.counts()
    refuse_members(members_of(place.admin(), group), group)
    marker = begun(place, counts) or {}
    if marker.get("command", "compact") != "compact":
        raise StateError(
            f"{place.name}: `streamrde state {marker['command']}` was broken off, or has moved the streams away"
        )
    contents, report = ChangelogContents(place, show=show), Report(place.name, place.name, done=not check)
    filling = None if check else Filling(place, show=show)
    if filling is not None:
        filling.start(contents.partitions, why={"command": "compact"})
    for partition, entry in contents.entries():
        if entry.saved >= before or (only_ended and not entry.ended):
            continue
        report.count(Record(entry.name, entry.data or None))
        if filling is not None:
            filling.put(partition, Entry(entry.name, None))
            filling.step()
    if filling is not None:
        filling.finish()
    return report
