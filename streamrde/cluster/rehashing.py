"""Give a changelog as many partitions as its input has now, and each stream's state the partition of its samples.

Kafka adds partitions to a topic and moves no message. A key's messages lie in its old partition up to the change, and
in the new one after it. So a stream may change its partition only when the messages in the old one are worked off:
`rehash` looks at every message of the old partitions that the group has not read, and refuses if one belongs to a
stream that moves. They are read in order first, by workers that have the old partitions only. With a multiple of the
old count no message that belongs elsewhere can come into an old partition after the change, and producers need not be
stopped. With another count they have to be, before partitions are added, until nothing is unread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from streamrde.cluster import placing
from streamrde.cluster.changelog import POSITION, Entry, identity_entry, key_of
from streamrde.cluster.contents import ChangelogContents, ChangelogPlace, read
from streamrde.cluster.filling import Filling
from streamrde.cluster.lag import Lag
from streamrde.cluster.moving import Report, Show, refuse_twice, source_entry
from streamrde.cluster.partitioners import Partitioner, Placement
from streamrde.errors import StateError

Locate: TypeAlias = Callable[[str], int]


@dataclass
class Rehash(Report):
    """Tell what a rehash did, or would do."""

    before: int = 0
    """Partitions of the changelog before."""
    after: int = 0
    partitioner: str = ""
    moved: int = 0
    """Streams that changed their partition."""


def rehash(
    place: ChangelogPlace,
    *,
    partitioner: Partitioner | None = None,
    keep_placed: bool = False,
    check: bool = False,
    show: Show = lambda _: None,
) -> Rehash:
    """Move the streams of a changelog to the partitions where the input has their samples now.

    Broken off, it is run again and goes on. Until it is done, workers refuse the changelog.

    Args:
        partitioner: of the input's producers. None: found out from where the streams are.
        keep_placed: of a stream in two partitions keep the state where the old count of partitions puts it.
        check: only find out whether it would work.
    Raises:
        StateError: the group has members, messages of streams that move are unread, or a stream has two states.
    """
    placing.check_keyed(place)
    with Filling(place, "rehash", dry=check, show=show) as filling:
        filling.begin()
        contents, after, marker = (
            ChangelogContents(place, show=show),
            filling.counts[filling.source],
            filling.marker or {},
        )
        before = int(marker.get("before", contents.partitions))
        report = Rehash(place.name, place.name, done=not check, before=before, after=after)
        if after < contents.partitions:
            raise StateError(
                f"{place.name} has {contents.partitions} partitions, and its input {place.source!r} only {after}: a "
                "topic never has fewer than before, so that it is another one; give [state] a topic of its own"
            )
        if before == after:
            report.done = False
            report.notes.append(f"nothing to do: input and changelog have {after} partitions")
        else:
            _rehash(filling, contents, report, partitioner or marker.get("partitioner"), keep_placed=keep_placed)
        filling.finish()
    return report


def _rehash(
    filling: Filling, contents: ChangelogContents, report: Rehash, given: Partitioner | None, *, keep_placed: bool
) -> None:
    place, lags = filling.place, placing.lags(filling.place)
    if not keep_placed:
        refuse_twice(contents)
    report.partitioner = own = given or _partitioner_of(contents, place, lags)
    old, new = placing.placer(own, report.before), placing.placer(own, report.after)
    wrong = _superseded(contents, old)
    _refuse_unread(place, lags[: report.before], new)
    filling.tell(before=report.before, partitioner=own)
    if contents.partitions < report.after:
        filling.grow(report.after)
    _prepare(filling, contents, lags, wrong)
    at = {lag.partition: lag.begin for lag in lags}
    for partition, entry in contents.entries():
        if (partition, entry.name) in wrong:
            continue
        report.streams += not entry.ended
        report.ended += entry.ended
        report.size += len(entry.data or b"")
        if (target := new(entry.name)) != partition:
            report.moved += 1
            filling.put(target, replace(entry, offset=at[target]))
            filling.put(partition, Entry(entry.name, None))
            filling.step()


def _partitioner_of(contents: ChangelogContents, place: ChangelogPlace, lags: list[Lag]) -> Partitioner:
    """Return the partitioner by which the streams lie where they are, and that of the input's messages now.

    In new partitions are only messages that came after the change. In old ones are those from before, too.
    """
    before, twice = Placement(contents.partitions), {key_of("s", name) for name in contents.twice()}
    for partition, latest in enumerate(contents.latest):
        before.see_all((key[1:], partition) for key in latest.keys() - twice)
    now = placing.placement(place, lags[contents.partitions :], count=len(lags))
    if before.partitioner is None and not before.strays:
        return placing.chosen(now, None, f"topic {place.source!r}")
    own = placing.chosen(before, None, place.name)
    if now.partitioner not in (None, own):
        raise StateError(
            f"the streams of {place.name} lie where {own} puts them, and the messages of {place.source!r} where "
            f"{now.partitioner} does; give all producers one partitioner, and name it with --partitioner"
        )
    return own


def _superseded(contents: ChangelogContents, old: Locate) -> set[tuple[int, str]]:
    """Return the states of streams in two partitions that are not where the old count of partitions puts them."""
    found = set[tuple[int, str]]()
    for name in contents.twice():
        key = key_of("s", name)
        places = {number for number, latest in enumerate(contents.latest) if key in latest}
        if old(name) not in places:
            raise StateError(
                f"{contents.name}: stream {name!r} is in partitions {sorted(places)}, and belonged to {old(name)}: say "
                "with --partitioner what put it there"
            )
        found |= {(number, name) for number in places - {old(name)}}
    return found


def _refuse_unread(place: ChangelogPlace, lags: list[Lag], new: Locate) -> None:
    """Raise StateError where messages of a stream that moves are not read yet."""
    source, group = place.input
    begins = {lag.partition: lag.begin for lag in lags if lag.unread}
    moving: dict[int, list[bytes]] = {}
    for message in read(place, source, begins) if begins else ():
        key, partition = message.key() or b"", message.partition()
        if key and new(key.decode("utf-8", "surrogateescape")) != partition:
            moving.setdefault(partition, []).append(key)
    for partition, keys in sorted(moving.items()):
        raise StateError(
            f"group {group!r} has not read {len(keys):,} messages of {len({*keys}):,} streams in partition {partition} "
            f"of {source!r} that belong elsewhere now: work them off first with  streamrde run {place.config} "
            "--drain  (stop the producers meanwhile, unless the new number of partitions is a multiple of the old)"
        )


def _prepare(filling: Filling, contents: ChangelogContents, lags: list[Lag], wrong: set[tuple[int, str]]) -> None:
    """Write what every partition has, and delete states that are superseded, before the first stream moves."""
    head = contents.head()
    model = head.identity.get("model", "")
    new = {
        lag.partition: lag.begin
        for lag in lags
        if lag.partition >= len(contents.own) or not contents.own[lag.partition]
    }
    # A group that begins with new messages only would skip those of new partitions.
    if begins := {number: offset for number, offset in new.items() if lags[number].committed is None}:
        filling.seek(begins)
    for partition in range(len(lags)):
        for name, data in head.positions.items():
            filling.put(partition, Entry(POSITION + name, data, "m", model=model))
        if partition in new:
            filling.put(partition, identity_entry(head.identity, offset=new[partition], model=model))
            filling.put(partition, source_entry(new[partition], model))
    for partition, name in sorted(wrong):
        filling.put(partition, Entry(name, None))
    filling.commit()
