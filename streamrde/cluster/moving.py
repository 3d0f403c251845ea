"""Take a store's contents elsewhere: into a changelog, or into a file of SQLite."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from streamrde.cluster import placing
from streamrde.cluster.changelog import POSITION, Entry, identity_entry
from streamrde.cluster.contents import SOURCE, ChangelogContents, ChangelogPlace, begun
from streamrde.cluster.filling import Filling
from streamrde.cluster.lag import Lag, members_of, refuse_members
from streamrde.cluster.partitioners import Partitioner
from streamrde.cluster.topics import check_topics, marker_of
from streamrde.errors import StateError
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
    source, group = place.input
    placing.check_keyed(place)
    head, counts = contents.head(), place.counts()
    _refuse_held(contents.name, head)
    if source not in counts:
        raise StateError(f"the input {source!r} is not at {place.broker}: create the topic, with its partitions, first")
    partitions, marker = counts[source], begun(place, counts)
    without_marker = {name: number for name, number in counts.items() if name != marker_of(place.topic)}
    check_topics(without_marker, changelog=place.topic, source=source, config=place.config)
    before = ChangelogContents(place, show=show) if place.topic in counts else None
    if marker is None and before is not None and (len(before) or any(before.own)):
        raise StateError(
            f"{place.name} has {len(before):,} streams already: delete the topic, or name another in [state]"
        )
    if marker is not None and marker.get("command") == "rehash":
        raise StateError(
            f"{place.name} is being rehashed: run  streamrde state rehash {place.config}  to its end first"
        )
    lags = placing.lags(place)
    own = partitioner or placing.chosen(placing.placement(place, lags, count=partitions), None, f"topic {source!r}")
    report = Report(contents.name, place.name, done=not check)
    report.notes += [f"{partitions} partitions, placed by {own}", *_on_positions(head, lags, group, seek=seek)]
    if check:
        refuse_members(members_of(place.admin(), group), group)
        for record in contents.records():
            report.count(record)
        return report
    filling = Filling(place, show=show)
    filling.start(partitions, why={"command": "move", "from": contents.name})
    filling.create(partitions)
    at = {lag.partition: lag.committed for lag in lags} | (dict(head.offsets) if seek else {})
    if seek:
        filling.seek({number: offset for number, offset in head.offsets.items() if number < partitions})
    model = head.identity.get("model", "")
    for partition in range(partitions):
        filling.put(partition, identity_entry(head.identity, offset=at.get(partition), model=model))
        for name, data in head.positions.items():
            if name != _SINK:
                filling.put(partition, Entry(POSITION + name, data, "m", model=model))
        if (offset := at.get(partition)) is not None:
            filling.put(partition, source_entry(offset, model))
    filling.commit()
    locate = placing.placer(own, partitions)
    left = [{*keys} for keys in before.latest] if before is not None else [set[bytes]() for _ in range(partitions)]
    for record in contents.records():
        report.count(record)
        partition = locate(record.name)
        entry = Entry(
            record.name,
            record.data or b"",
            offset=at.get(partition),
            model=record.model or model,
            window=record.window,
            saved=record.saved,
        )
        left[partition].discard(entry.key)
        filling.put(partition, entry)
        filling.step()
    for partition, keys in enumerate(left):  # of an attempt that was broken off
        for key in keys:
            filling.put(partition, Entry(key[1:].decode("utf-8", "surrogateescape"), None))
    filling.finish()
    return report


def source_entry(offset: int, model: str) -> Entry:
    """Return the record with the position of the input."""
    data = msgspec.json.encode({"offset": offset, "token": ""})
    return Entry(POSITION + SOURCE, data, "m", offset=offset, model=model)


def to_sqlite(contents: Contents, path: Path, *, check: bool = False) -> Report:
    """Write a store's contents into a new file, whole or not at all.

    Raises:
        StateError: the file is there already, or a stream is in two partitions.
    """
    if path.exists():
        raise StateError(f"state store {path} is there already: move it away, or give another path")
    head, report = contents.head(), Report(contents.name, str(path), done=not check)
    _refuse_held(contents.name, head)
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
    _, group = place.input
    filling = Filling(place, show=show)
    marker = begun(place, place.counts())
    if marker is not None and marker.get("command") not in (None, "move away"):
        raise StateError(f"{place.name}: `streamrde state {marker['command']}` was broken off: run it to its end first")
    if path.exists():
        raise StateError(f"state store {path} is there already: move it away, or give another path")
    lags = placing.lags(place)
    if not check:
        filling.start(len(lags), why={"command": "move away", "to": str(path)})
    contents = ChangelogContents(place, show=show)
    report = to_sqlite(contents, path, check=check)
    report.notes += _on_positions(contents.head(), lags, group, seek=False)
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


def _refuse_held(name: str, head: Head) -> None:
    if head.held:
        raise StateError(
            f"{name} holds {head.held} batches of predictions that its sink has not yet written to a file: run it once "
            "more to its end, with the sink that it had"
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
