"""Take a store's contents elsewhere: into a changelog, or into a file of SQLite."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from streamrde.cluster import placing
from streamrde.cluster.changelog import POSITION, Entry, identity_entry
from streamrde.cluster.contents import ChangelogContents, ChangelogPlace
from streamrde.cluster.filling import Filling
from streamrde.cluster.inlet import Position
from streamrde.cluster.lag import Lag
from streamrde.cluster.partitioners import Partitioner
from streamrde.cluster.topics import check_topics, marker_of
from streamrde.errors import StateError
from streamrde.runtime.checkpoints import SOURCE
from streamrde.state import SqliteStore
from streamrde.state.records import Contents, Head, Record

Show = Callable[[str], None]
# Positions that say where a sink of files is, which nothing else can go on with.
_SINK = "sink"


@dataclass
class Report:
    """Tell what a command did, or would do.

    Args:
        source, target: stores, for people.
        done: False for a dry run.
        streams, ended: streams that run, and that ended.
        size: bytes of their state.
        notes: what else is to be known, in sentences.
    """

    source: str
    target: str
    done: bool = True
    streams: int = 0
    ended: int = 0
    size: int = 0
    notes: list[str] = field(default_factory=list)

    def count(self, record: Record) -> Record:
        """Count a stream, and return it."""
        self.streams += record.data is not None
        self.ended += record.data is None
        self.size += len(record.data or b"")
        return record


def to_changelog(
    contents: Contents,
    place: ChangelogPlace,
    *,
    partitioner: Partitioner | None = None,
    seek: bool = False,
    check: bool = False,
    show: Show = lambda _: None,
) -> Report:
    """Write a store's contents into a changelog that has none, each stream into the partition of its samples.

    Args:
        partitioner: of the input's producers. None: found out from the keys in the input.
        seek: set the group's positions to those of the contents, so that what came since then is read again.
        check: only find out whether it would work.
    Raises:
        StateError: the group has members, the changelog has streams, or the partitions cannot be told.
    """
    placing.check_keyed(place)
    head, report = contents.head(), Report(contents.name, place.name, done=not check)
    if head.held:
        raise StateError(
            f"{contents.name} holds {head.held} batches of predictions that its sink has not yet written to a file: "
            "run it once more to its end, with the sink that it had"
        )
    with Filling(place, "move", resumes=["move away"], dry=check, show=show) as filling:
        source, group = place.input
        there = {name: number for name, number in filling.counts.items() if name != marker_of(place.topic)}
        check_topics(there, changelog=place.topic, source=source, config=place.config)
        filling.begin()
        before = ChangelogContents(place, show=show) if place.topic in there else None
        if filling.marker is None and before is not None and (len(before) or any(before.own)):
            raise StateError(
                f"{place.name} has {len(before):,} streams already: delete the topic, or name another in [state]"
            )
        lags = placing.lags(place)
        placed = placing.placement(place, lags, count=len(lags))
        own = partitioner or placing.chosen(placed, None, f"topic {source!r}")
        report.notes += [f"{len(lags)} partitions, placed by {own}", *_on_positions(head, lags, group, seek=seek)]
        filling.create()
        at = {lag.partition: lag.committed for lag in lags}
        if seek:
            given = {number: offset for number, offset in head.offsets.items() if number < len(lags)}
            filling.seek(given)
            at |= given
        for partition, offset in at.items():
            for entry in _own(head, offset):
                filling.put(partition, entry)
        left = [{*keys} for keys in before.latest] if before is not None else [set[bytes]() for _ in lags]
        _fill(filling, map(report.count, contents.records()), placing.placer(own, len(lags)), at, left)
        filling.finish()
    return report


def _own(head: Head, offset: int | None) -> Iterator[Entry]:
    """Yield what each partition has that is about no single stream."""
    model = head.identity.get("model", "")
    yield identity_entry(head.identity, offset=offset, model=model)
    for name, data in head.positions.items():
        if name not in (_SINK, SOURCE):
            yield Entry(POSITION + name, data, "m", model=model)
    if offset is not None:
        yield source_entry(offset, model)


def _fill(
    filling: Filling,
    records: Iterable[Record],
    locate: Callable[[str], int],
    at: Mapping[int, int | None],
    left: list[set[bytes]],
) -> None:
    """Write streams, and delete those that are left of an attempt that was broken off."""
    for record in records:
        partition = locate(record.name)
        entry = Entry(
            record.name,
            record.data or b"",
            offset=at[partition],
            model=record.model,
            window=record.window,
            saved=record.saved,
        )
        left[partition].discard(entry.key)
        filling.put(partition, entry)
        filling.step()
    for partition, keys in enumerate(left):
        for key in keys:
            filling.put(partition, Entry(key[1:].decode("utf-8", "surrogateescape"), None))


def source_entry(offset: int, model: str) -> Entry:
    """Return the record with the position of the input."""
    return Entry(POSITION + SOURCE, Position(offset).encode(), "m", offset=offset, model=model)


def to_sqlite(contents: Contents, path: Path, *, check: bool = False) -> Report:
    """Write a store's contents into a new file, whole or not at all.

    Raises:
        StateError: the file is there already, or a stream is in two partitions.
    """
    if path.exists():
        raise StateError(f"state store {path} is there already: move it away, or give another path")
    head, report = contents.head(), Report(contents.name, str(path), done=not check)
    if isinstance(contents, ChangelogContents):
        refuse_twice(contents)
    if head.offsets:
        report.notes.append("positions of the input stay with the consumer group; keep its name in [source]")
    if check:
        for record in contents.records():
            report.count(record)
        return report
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder, path.name)
        store = SqliteStore(temporary)
        store.open(head.identity)
        try:
            store.fill(map(report.count, contents.records()), head.positions)
        finally:
            store.close()
        temporary.replace(path)
    return report


def move(
    source: SqliteStore | ChangelogPlace,
    target: Path | ChangelogPlace,
    *,
    partitioner: Partitioner | None = None,
    check: bool = False,
    show: Show = lambda _: None,
) -> Report:
    """Move a store from SQLite to a changelog, or back. What is left of the source, no run goes on with by mistake.

    Args:
        source: an open store, or a changelog.
        partitioner, check: see `to_changelog`.
    Raises:
        StateError: a run has the source, the target is not empty, or both are of one kind.
    """
    if isinstance(source, SqliteStore) and isinstance(target, ChangelogPlace):
        report = to_changelog(source, target, partitioner=partitioner, check=check, show=show)
        if not check:
            source.close()
            kept = source.path.with_name(f"{source.path.name}.moved")
            source.path.replace(kept)
            report.notes.append(f"the file is now {kept}; delete it once the run on Kafka works")
        return report
    if isinstance(source, ChangelogPlace) and isinstance(target, Path):
        return _from_changelog(source, target, check=check, show=show)
    raise StateError("move goes from a file of SQLite to Kafka or back; use export and import for two of one kind")


def _from_changelog(place: ChangelogPlace, path: Path, *, check: bool, show: Show) -> Report:
    if path.exists():
        raise StateError(f"state store {path} is there already: move it away, or give another path")
    with Filling(place, "move away", dry=check, show=show) as filling:
        filling.begin()
        contents = ChangelogContents(place, show=show)
        report = to_sqlite(contents, path, check=check)
        report.notes += _on_positions(contents.head(), placing.lags(place), filling.group, seek=False)
        filling.finish(keep_marker=True)
    if not check:
        report.notes.append(
            f"workers refuse the changelog while topic {marker_of(place.topic)!r} is there; delete both topics once "
            "the run on SQLite works, or move back"
        )
    return report


def refuse_twice(contents: ChangelogContents) -> None:
    """Raise StateError where a stream has a state in two partitions, since one of them is wrong."""
    if twice := contents.twice():
        raise StateError(
            f"{contents.name}: {len(twice)} streams have a state in two partitions ({', '.join(twice[:5])}): producers "
            "place keys differently, or the input's partitions changed while workers ran; see which one is right with "
            "`streamrde state list`, or `streamrde state rehash --keep-placed`"
        )


def _on_positions(head: Head, lags: list[Lag], group: str, *, seek: bool) -> list[str]:
    """Return what happens to positions, in sentences."""
    found = []
    if head.positions.get(_SINK):
        found.append(
            "the position of the sink's files is not taken along: a file goes on where it is, not where it was"
        )
    if seek and head.offsets:
        return [*found, f"group {group!r} is set back to the positions of the store; predictions since then come again"]
    if not any(lag.committed is not None for lag in lags):
        return [*found, f"group {group!r} has no position at the input: it begins as a new group does"]
    found.append(f"positions of the input are those of group {group!r}, which are kept")
    places = {lag.partition: lag.committed for lag in lags}
    if apart := [number for number, offset in head.offsets.items() if places.get(number, offset) != offset]:
        number = apart[0]
        found.append(
            f"partition {number}: the store is at offset {head.offsets[number]}, and group {group!r} at "
            f"{places[number]}; samples between them are missing or come twice (import takes --seek)"
        )
    return found
