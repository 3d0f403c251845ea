"""Delete streams of a changelog: a tombstone for each, which the broker's compaction then takes away with its state."""

from __future__ import annotations

from streamrde.cluster.changelog import Entry
from streamrde.cluster.contents import ChangelogContents, ChangelogPlace
from streamrde.cluster.filling import Filling
from streamrde.cluster.moving import Report, Show
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
    report = Report(place.name, place.name, done=not check)
    with Filling(place, "compact", dry=check, show=show) as filling:
        filling.begin()
        for partition, entry in ChangelogContents(place, show=show).entries():
            if entry.saved < before and (entry.ended or not only_ended):
                report.count(Record(entry.name, entry.data or None))
                filling.put(partition, Entry(entry.name, None))
                filling.step()
        filling.finish()
    return report
