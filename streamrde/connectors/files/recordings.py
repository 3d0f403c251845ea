"""Find the recorded files that a pattern names, and the streams and columns that their paths name."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote

from streamrde.connectors.dialect import PLAIN, Dialect
from streamrde.connectors.files.errors import mapped_errors
from streamrde.connectors.files.formats import readable, readable_if_alone, reading_format, suffix_of
from streamrde.connectors.files.places import AnyPath, Place, as_path, expand, has_magic, is_url
from streamrde.errors import DataError

PathLike: TypeAlias = str | os.PathLike[str]

_TEMPORARY = ("~", ".tmp", ".temp", ".part", ".partial", ".crdownload")
# How Hive writes a partition whose value is null.
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


class Recording(NamedTuple):
    """One recorded file."""

    path: AnyPath
    stream: str
    """The stream's name where the file has no column for it: the file's stem; its relative path where two share it."""
    partitions: Mapping[str, str | None] = {}
    """Hive partitions, ``column=value`` in the names of the folders above the file: they are columns of its rows."""
    csv: Dialect = PLAIN
    """Dialect of the file if it is text."""
    members: tuple[str, ...] = ()
    """Names of the files of a folder that hold the channels together, `path` the first of them. (): `path` alone."""

    @property
    def files(self) -> list[Recording]:
        """Return the files, each as a recording of its own.

        Raises:
            DataError: a folder lacks one of the files.
        """
        if not self.members:
            return [self]
        folder = self.path.parent
        for name in self.members:
            if not (folder / name).exists():
                raise DataError(
                    f"{folder}: has no file {name}, which holds channels of the recording; add it, or leave the folder "
                    "out",
                    path=str(self.path),
                )
        return [self._replace(path=self.path.parent / name, members=()) for name in self.members]

    def size(self) -> tuple[int, int]:
        """Return the bytes of all files, and the latest time at which one was changed, nanoseconds since 1970."""
        stats = [one.path.stat() for one in self.files]
        return sum(stat.st_size for stat in stats), max(stat.st_mtime_ns for stat in stats)


def find_recordings(
    files: PathLike | Iterable[PathLike], *, csv: Dialect = PLAIN, members: Sequence[str] = ()
) -> list[Recording]:
    """Return the files that `files` names: each entry a file, a folder (with everything below it), or a glob.

    An entry may be a URL: of an object store (``s3://``, ``gs://``, ``abfs://``), or of a file on the web. Entries keep
    their order; the files of a folder or glob are sorted; a file named twice counts once. Hidden and temporary files
    and those that start with ``_`` are passed over unless named; in folders also other formats, and .txt and
    .dat files beside recordings with other extensions.

    Args:
        csv: how files of text are written.
        members: names of files that hold the channels of one recording: each folder that has one of them is one.
    Raises:
        DataError: an entry names no file, or a file of unknown format.
    """
    entries = [files] if isinstance(files, str | os.PathLike) else list(files)
    if not entries:
        raise DataError("no files were given: give a file, a folder or a glob", path="")
    paths: list[AnyPath] = []
    for entry in [os.fspath(entry) for entry in entries]:
        path = as_path(entry)
        with mapped_errors(path):
            if isinstance(path, Place):
                paths += _expand_place(path, members)
            else:
                paths += _expand(str(path) if is_url(entry) else entry, members)
    paths = list(dict.fromkeys(paths))
    _check_names(paths)
    if members:
        return _folders(paths, csv, tuple(members))
    stems = Counter(_stem(path) for path in paths)
    common = _common_parts(paths)
    return [
        Recording(
            path,
            _stem(path) if stems[_stem(path)] == 1 else "/".join(path.absolute().parts[common:]),
            hive_partitions(path),
            csv,
        )
        for path in paths
    ]


def _folders(paths: Sequence[AnyPath], csv: Dialect, members: tuple[str, ...]) -> list[Recording]:
    """Return a recording for each folder that has one of the files."""
    found = list(dict.fromkeys(path.parent for path in paths if path.name in members))
    if not found:
        shown = ", ".join(dict.fromkeys(path.name for path in paths[:10]))
        raise DataError(
            f"{paths[0].parent}: no folder has the channels' files {', '.join(members)}; there are {shown}",
            path=str(paths[0].parent),
        )
    names = Counter(folder.absolute().name for folder in found)
    common = _common_parts(found)
    recordings = []
    for folder in found:
        name = folder.absolute().name
        stream = name if names[name] == 1 else "/".join(folder.absolute().parts[common:])
        first = folder / members[0]
        recordings.append(Recording(first, stream, hive_partitions(first), csv, members))
    return recordings


def _common_parts(paths: Sequence[AnyPath]) -> int:
    """Return how many of their folders all files share."""
    folders = {path.absolute().parts[:-1] for path in paths}
    levels = [len(set(parts)) == 1 for parts in zip(*folders, strict=False)]
    return levels.index(False) if False in levels else len(levels)


def _check_names(paths: Sequence[AnyPath]) -> None:
    """Refuse addresses that differ in what no message and no result may name."""
    name, count = Counter(map(str, paths)).most_common(1)[0]
    if count > 1:
        raise DataError(f"{name}: {count} URLs differ in their queries alone; download these files", path=name)


def hive_partitions(path: AnyPath) -> dict[str, str | None]:
    """Return the Hive partitions in a path, outermost first: ``site=A/day=3/x.parquet`` has site "A" and day "3"."""
    pairs = (folder.split("=", 1) for folder in path.parts[:-1] if "=" in folder)
    return {unquote(key): None if value == _NULL_PARTITION else unquote(value) for key, value in pairs if key}


def _stem(path: AnyPath) -> str:
    return path.name[: -len(suffix_of(path) or "")]


def _expand(entry: str, members: Sequence[str]) -> list[AnyPath]:
    path = Path(entry)
    if path.is_dir():
        return _walk(path, path.rglob("*"), members)
    if path.exists():
        return [_with_format(path)]
    if not glob.has_magic(entry):
        raise DataError(f"{entry}: there is no such file or folder; check the path", path=entry)
    matches = sorted(glob.glob(entry, recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
    if not matches:
        raise DataError(f"{entry}: the pattern matches no file; check it, and quote it in a shell", path=entry)
    return [path for match in matches if not _is_passed_over(Path(match).name) for path in _expand(match, members)]


def _expand_place(place: Place, members: Sequence[str]) -> list[AnyPath]:
    if place.is_web:
        if not place.is_file():
            raise DataError(f"{place}: the web server has no such file; check the address", path=str(place))
        return [_with_format(place)]
    if has_magic(place):
        matches = [one for one in expand(place) if suffix_of(one) and not _is_passed_over(one.name)]
        if not matches:
            raise DataError(f"{place}: the pattern matches no file; check it, and quote it in a shell", path=str(place))
        return [*matches]
    if place.is_file():
        return [_with_format(place)]
    if not place.is_dir():
        raise DataError(f"{place}: {place.why_missing()}", path=str(place))
    return _walk(place, place.walk(), members)


def _with_format(path: AnyPath) -> AnyPath:
    if suffix_of(path) is None:
        raise DataError(
            f"{path}: unknown format; the name must end with one of {', '.join(readable())}", path=str(path)
        )
    return path


def _walk(folder: AnyPath, files: Iterable[AnyPath], members: Sequence[str]) -> list[AnyPath]:
    depth = len(folder.parts)
    found = sorted(
        (
            path
            for path in files
            if suffix_of(path) and path.is_file() and not any(map(_is_passed_over, path.parts[depth:]))
        ),
        key=lambda path: path.parts,
    )
    alone = readable_if_alone()
    found = [path for path in found if suffix_of(path) not in alone or path.name in members] or found
    parts = {path.parent / name for path in found for name in _parts(path)}
    found = [path for path in found if path not in parts]
    if not found:
        raise DataError(
            f"{folder}: the folder has no file that ends with one of {', '.join(readable())}", path=str(folder)
        )
    return found


def _parts(path: AnyPath) -> tuple[str, ...]:
    format = reading_format(path)
    return () if format is None else format.parts(path)


def _is_passed_over(name: str) -> bool:
    return name.startswith((".", "_", "~")) or name.lower().endswith(_TEMPORARY)
