"""Divide a job into parts that share no stream, so that each can be scored by itself, anywhere.

The division depends on the files and the settings alone, never on how many workers there are; so does the order of
the output, which is that of the parts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from streamrde.connectors.files.errors import mapped_errors
from streamrde.connectors.files.places import Place, as_path
from streamrde.connectors.files.recordings import Recording, hive_partitions
from streamrde.errors import DataError
from streamrde.scoring.job import Job
from streamrde.scoring.scan import Rows, Scan

FORMAT = 2
# Enough rows to be worth a task, and few enough that a job has several times as many parts as a machine has cores.
_LEAST_ROWS, _MOST_ROWS, _PARTS = 200_000, 4_000_000, 16


class Piece(msgspec.Struct, frozen=True):
    """Rows of one file."""

    file: int
    """Place in the plan's list of files."""
    start: int
    stop: int
    """Rows [start, stop); -1 = to the end."""
    shared: bool
    """Rows between them belong to other parts."""
    ends: tuple[str, ...]
    """Streams that have no row in a later piece."""


class Part(msgspec.Struct, frozen=True):
    """Streams that are scored together, and all the pieces that hold rows of them, in order."""

    pieces: tuple[Piece, ...]
    rows: int

    @property
    def streams(self) -> list[str]:
        """Return the streams' names."""
        return [name for piece in self.pieces for name in piece.ends]


class File(msgspec.Struct, frozen=True, omit_defaults=True):
    """Recorded file of a plan, with its size and time when the plan was made."""

    path: str
    stream: str
    size: int
    modified: int
    """Nanoseconds since 1970."""
    members: tuple[str, ...] = ()
    """Files that hold the channels together with this one. See `Recording`."""
    url: str = ""
    """URL of a file that is not on a disk, with a query that `path`, which is for people, has not."""

    @classmethod
    def of(cls, recording: Recording) -> File:
        """Return the file of a recording as it is now."""
        path = recording.path
        with mapped_errors(path):
            size, modified = recording.size()
        url = path.url if isinstance(path, Place) else ""
        return cls(str(path.absolute()), recording.stream, size, modified, recording.members, url)

    def recording(self) -> Recording:
        """Return the file for a reader."""
        path = as_path(self.url or self.path)
        return Recording(path, self.stream, hive_partitions(path), members=self.members)

    def check(self) -> None:
        """Raise DataError where the file is gone or is another one by now."""
        recording = self.recording()
        with mapped_errors(recording.path):
            now = recording.size()
        if now != (self.size, self.modified):
            raise DataError(
                f"{self.path}: has changed since the job began; start the job over, without resuming", path=self.path
            )


class Plan(msgspec.Struct, frozen=True):
    """A job divided into parts."""

    format: int
    fingerprint: str
    """Fingerprint of the settings that decide the output, the model, and the files as they were named and found."""
    model: str
    """Fingerprint of the model."""
    job: Job
    files: tuple[File, ...]
    parts: tuple[Part, ...]
    skipped: dict[str, str] = {}
    """Files that cannot be used and are left out, and why; their pieces still stand in `parts`."""
    dropped: dict[str, dict[str, int]] = {}
    """Rows of each file of which no stream is known and that are left out, by the reason."""

    def part(self, number: int) -> Part:
        """Return a part without the skipped files. Their streams end with the piece before, or else the next."""
        whole = self.parts[number]
        if not self.skipped:
            return whole
        pieces: list[Piece] = []
        ends: tuple[str, ...] = ()
        for piece in whole.pieces:
            if self.files[piece.file].path not in self.skipped:
                pieces.append(msgspec.structs.replace(piece, ends=ends + piece.ends))
                ends = ()
            elif pieces:
                pieces[-1] = msgspec.structs.replace(pieces[-1], ends=pieces[-1].ends + piece.ends)
            else:
                ends += piece.ends
        return msgspec.structs.replace(whole, pieces=tuple(pieces))

    def live_parts(self) -> set[int]:
        """Return the numbers of the parts that still have a file."""
        return {number for number in range(len(self.parts)) if self.part(number).pieces}

    def touched(self, paths: Collection[str]) -> list[int]:
        """Return the numbers of the parts that have pieces of these files."""
        return [
            number
            for number, part in enumerate(self.parts)
            if any(self.files[piece.file].path in paths for piece in part.pieces)
        ]

    def without(self, bad: Mapping[str, str]) -> Plan:
        """Return the plan with more files skipped."""
        return msgspec.structs.replace(self, skipped=self.skipped | dict(bad))


def make_plan(scans: Sequence[Scan], *, groups: int = 1) -> list[Part]:
    """Divide the streams of files into parts.

    Streams are taken in the order in which they begin, and a part ends where it has enough rows and where little would
    be decoded twice: between files, or between streams that stand one after the other in a file. Streams that are
    interleaved throughout stay together, unless `groups` asks to divide them nevertheless, at the cost of reading
    their files so many times.

    Args:
        scans: where the streams are in each file, in the order of the files.
        groups: into how many parts, at most, streams that cannot be parted otherwise are divided.
    """
    if not scans:
        return []
    offsets = np.cumsum([0, *(scan.rows for scan in scans)])
    place: dict[str, int] = {}
    columns: tuple[list[Rows], ...] = ([], [], [], [], [])
    file, stream, first, last, count = columns
    for i, scan in enumerate(scans):
        codes = np.fromiter((place.setdefault(name, len(place)) for name in scan.names), np.int64, len(scan.names))
        order = np.argsort(codes, kind="stable")
        file.append(np.full(len(codes), i))
        for column, values in ((stream, codes), (first, scan.first), (last, scan.last), (count, scan.rows_of)):
            column.append(values[order])
    where = _Rows(*map(np.concatenate, columns))
    starts = np.concatenate([scan.starts + offset for scan, offset in zip(scans, offsets[:-1], strict=True)])
    part_of = _cut(where, offsets, starts, len(place), groups)
    return _assemble(where, part_of, list(place), [scan.exact for scan in scans])


class _Rows(NamedTuple):
    """One row per file and stream in it, ordered by file."""

    file: Rows
    stream: Rows
    first: Rows
    last: Rows
    rows: Rows


def _cut(where: _Rows, offsets: Rows, starts: Rows, streams: int, groups: int) -> Rows:
    """Return the part of each stream. Streams are numbered by where they begin."""
    begins, ends = np.full(streams, offsets[-1]), np.zeros(streams, np.int64)
    np.minimum.at(begins, where.stream, where.first + offsets[where.file])
    np.maximum.at(ends, where.stream, where.last + 1 + offsets[where.file])
    rows = np.bincount(where.stream, weights=where.rows, minlength=streams).astype(np.int64)
    # Within a file streams are numbered by first appearance in its dictionary: sort by where they begin.
    order = np.argsort(begins, kind="stable")
    begins, ends, counts = begins[order], ends[order], rows[order]
    decoded_from = starts[np.searchsorted(starts, begins, side="right") - 1]
    ends_before = np.maximum.accumulate(ends)
    left = counts[::-1].cumsum()[::-1]
    target = int(np.clip(rows.sum() // _PARTS, _LEAST_ROWS, _MOST_ROWS))
    part = np.zeros(streams, np.int64)
    held, current, begin = 0, 0, 0
    for i in range(streams):
        twice = ends_before[i - 1] - decoded_from[i] if i else 0
        if held >= target and twice <= min(held, left[i]):
            current, begin, held = _divide(part, begin, i, current, held, target, counts, groups), i, 0
        part[i] = current
        held += counts[i]
    _divide(part, begin, streams, current, held, target, counts, groups)
    part_of = np.empty(streams, np.int64)
    part_of[order] = part
    return part_of


def _divide(part: Rows, begin: int, end: int, current: int, held: int, target: int, counts: Rows, groups: int) -> int:
    """Divide the part of streams [begin, end) into `groups` if it is too large, and return the next part's number."""
    wanted = min(groups, end - begin, max(1, held // target))
    if wanted > 1:
        share = np.cumsum(counts[begin:end]) - counts[begin:end]
        part[begin:end] = current + np.minimum(share * wanted // max(held, 1), wanted - 1)
    return int(current + wanted)


def _assemble(where: _Rows, part_of: Rows, names: list[str], exact: Sequence[bool]) -> list[Part]:
    part = part_of[where.stream]
    last_file = np.zeros(len(names), np.int64)
    np.maximum.at(last_file, where.stream, where.file)
    order = np.lexsort((where.first, where.file, part))
    rows = _Rows(*(column[order] for column in where))
    part = part[order]
    # A piece: one part's rows in one file.
    edges = np.flatnonzero(np.diff(part, prepend=-1) | np.diff(rows.file, prepend=-1))
    pieces: dict[int, list[Piece]] = {}
    for a, b in zip(edges, [*edges[1:], len(part)], strict=True):
        file, start, stop = int(rows.file[a]), int(rows.first[a:b].min()), int(rows.last[a:b].max()) + 1
        ended = tuple(names[s] for s in rows.stream[a:b] if last_file[s] == file)
        shared = int(rows.rows[a:b].sum()) < stop - start
        stop = stop if exact[file] else -1
        pieces.setdefault(int(part[a]), []).append(Piece(file, start, stop, shared, ended))
    sizes = np.bincount(part, weights=rows.rows).astype(int)
    return [Part(tuple(pieces[i]), int(sizes[i])) for i in sorted(pieces)]
