"""Files and folders at a URL: object stores through pyarrow's filesystems, the web and others through fsspec.

A `Place` answers to as much of `pathlib.Path` as those who read and write recorded files need: they take either.
Its text is for people: it has neither the query nor the password of the URL.
"""

from __future__ import annotations

import functools
import io
import itertools
import re
import zlib
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pyarrow as pa

from streamrde.errors import DataError, MissingExtraError

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
# A question mark is a glob's in an object store's key, unless name=value follows; in an address of the web it never is.
_QUERY = re.compile(r"\?(?=\w+=)")
_MAGIC = re.compile(r"[*?\[]")
_WEB = ("http", "https")
_ARROW = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")
_STORES = ("s3", "gs", "gcs")
_AZURE = ("abfs", "abfss")
# One request for so many bytes of a file that is read from its beginning to its end.
_STREAM_BYTES = 8 << 20
# What is asked for with each piece of a file that is read in pieces: the next piece may be near.
_BLOCK_BYTES = 1 << 18


class Status(NamedTuple):
    """Size and time of a file, called as in `os.stat_result`."""

    st_size: int
    st_mtime_ns: int
    """Nanoseconds since 1970. Where a web server tells no time, a number that changes with its tag of the file."""


class Place:
    """File or folder at a URL.

    Args:
        url: the URL, with a query that says how to connect or that is signed.
    Raises:
        DataError: there is no such scheme, or the query has a key that the scheme does not know.
        MissingExtraError: the scheme needs fsspec, or what fsspec needs for it.
    """

    def __init__(self, url: str) -> None:
        scheme = urlsplit(url).scheme.lower()
        head, mark, query = _without_fragment(url, scheme)
        authority, _, path = head.partition("://")[2].partition("/")
        self._make(scheme, authority, f"{mark}{query}", path)

    def _make(self, scheme: str, authority: str, query: str, path: str, status: Status | None = None) -> None:
        self._root = (scheme, authority, query)
        self._path = path.strip("/") if scheme not in _WEB else path
        self._status = status

    def _with(self, path: str, status: Status | None = None) -> Place:
        place = object.__new__(Place)
        place._make(*self._root, path, status)
        return place

    def __str__(self) -> str:
        scheme, authority, _ = self._root
        user, at, host = authority.rpartition("@")
        user = user.partition(":")[0] + at if at and scheme in _AZURE else ""  # there it is the container
        return f"{scheme}://{user}{host}/{self._path}"

    def __repr__(self) -> str:
        return f"Place({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    @property
    def url(self) -> str:
        """The whole URL, with its secrets."""
        scheme, authority, query = self._root
        return f"{scheme}://{authority}/{self._path}{query}"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self._path.rstrip("/").rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The extension of the name."""
        return Path(self.name).suffix

    @property
    def parts(self) -> tuple[str, ...]:
        """The store and the parts of the path."""
        return (str(self.root), *filter(None, self._path.split("/")))

    @property
    def root(self) -> Place:
        """The store that has the place."""
        return self._with("")

    @property
    def parent(self) -> Place:
        """The folder above."""
        return self._with(self._path.rstrip("/").rpartition("/")[0])

    def __truediv__(self, name: str) -> Place:
        return self._with(f"{self._path.rstrip('/')}/{name}".lstrip("/"))

    def with_name(self, name: str) -> Place:
        """Return a place of another name in the same folder."""
        return self.parent / name

    def absolute(self) -> Place:
        """Return the place: it is always absolute."""
        return self

    resolve = absolute

    @property
    def is_web(self) -> bool:
        """True if the place is an address of a web server."""
        return self._root[0] in _WEB

    @property
    def filesystem(self) -> Any:
        """The pyarrow filesystem that has the place."""
        return _filesystem(*self._root, str(self.root))[0]

    @property
    def key(self) -> str:
        """The place's path in its filesystem."""
        if self.is_web:
            return self.url
        return f"{self._base.rstrip('/')}/{self._path}".rstrip("/") if self._base else self._path

    @property
    def _base(self) -> str:
        """The path in the filesystem of what the place's path begins with: the bucket, or the container."""
        return _filesystem(*self._root, str(self.root))[1]

    def stat(self) -> Status:
        """Return size and time of the file, as they were when it was first looked at.

        Raises:
            FileNotFoundError: there is no such file.
        """
        if self._status is None:
            self._status = self._web_status() if self.is_web else self._stored_status()
        return self._status

    def _stored_status(self) -> Status:
        info = self.filesystem.get_file_info(self.key)
        if info.is_file:
            return Status(info.size, info.mtime_ns or 0)
        raise FileNotFoundError(f"there is no {self}" + ("; it is a folder" if info.type else ""))

    def _web_status(self) -> Status:
        info = _web_info(self)
        if info.get("size") is None:
            raise OSError("the server does not tell the file's size; download it")
        try:
            modified = int(parsedate_to_datetime(info["Last-Modified"]).timestamp()) * 10**9
        except (KeyError, ValueError):
            modified = zlib.crc32(str(info.get("ETag", "")).encode())
        return Status(int(info["size"]), modified)

    def exists(self) -> bool:
        """Return True if there is such a file or folder."""
        return self.is_file() or self.is_dir()

    def why_missing(self) -> str:
        """Say what is not there, the bucket or the key, and what to do."""
        bucket = self.key.partition("/")[0]
        if bucket and self._root[0] in _STORES and not self.filesystem.get_file_info(bucket).type:
            return f"there is no bucket {bucket!r}, or it is another account's; check the name and the credentials"
        return "there is no such file or folder; check the path"

    def is_file(self) -> bool:
        """Return True if there is such a file."""
        if self._status is not None:
            return True
        if not self.is_web:
            return bool(self.filesystem.get_file_info(self.key).is_file)
        try:
            return bool(_web_info(self))
        except FileNotFoundError:
            return False

    def is_dir(self) -> bool:
        """Return True if there is such a folder, which an object store has where a key goes on with a slash."""
        if self.is_web:
            return False
        return str(self.filesystem.get_file_info(self.key).type.name) == "Directory"

    def open(self, mode: str = "rb") -> IO[bytes]:
        """Open the file for reading bytes, anywhere in it."""
        if mode != "rb":
            raise ValueError(f"mode={mode!r}: a place is opened for reading; `upload` writes it")
        return cast("IO[bytes]", io.BufferedReader(self.input_file(), 1 << 20))

    def input_file(self) -> pa.NativeFile:
        """Open the file for reading by pyarrow, anywhere in it."""
        return self._web_file(_BLOCK_BYTES) if self.is_web else self.filesystem.open_input_file(self.key)

    def input_stream(self) -> pa.NativeFile:
        """Open the file for reading by pyarrow from its beginning to its end."""
        if self.is_web:
            return self._web_file(_STREAM_BYTES)
        return self.filesystem.open_input_stream(self.key, compression=None, buffer_size=_STREAM_BYTES)

    def _web_file(self, block: int) -> pa.NativeFile:
        """Open a file on the web, of which so many bytes are asked for ahead."""
        fs = self.filesystem.handler.fs
        return pa.PythonFile(fs.open(self.url, "rb", block_size=block, cache_type="readahead"), "r")

    def walk(self) -> Iterator[Place]:
        """Yield the files of the folder and of all below it.

        Raises:
            DataError: the place is on the web, where there are no folders.
        """
        from pyarrow.fs import FileSelector

        if self.is_web:
            raise DataError(
                f"{self}: a web server has neither folders nor patterns; name each file by its address", path=str(self)
            )
        base = self._base.rstrip("/")
        for info in self.filesystem.get_file_info(FileSelector(self.key, recursive=True, allow_not_found=True)):
            if info.is_file:
                yield self._with(info.path.removeprefix(base), Status(info.size, info.mtime_ns or 0))

    def iterdir(self) -> Iterator[Place]:
        """Yield the files of the folder itself."""
        return (place for place in self.walk() if place.parent == self)

    def glob(self, pattern: str) -> Iterator[Place]:
        """Yield the files of the folder itself whose names match."""
        return (place for place in self.iterdir() if fnmatchcase(place.name, pattern))

    def mkdir(self, *, parents: bool = True, exist_ok: bool = True) -> None:
        """Check that the folder can be: an object store has it with its first file.

        Raises:
            DataError: there is no such bucket.
        """
        self.check_writable()
        if self._root[0] not in _STORES:
            self.filesystem.create_dir(self.key, recursive=parents)
        elif (why := self.why_missing()).startswith("there is no bucket"):
            raise DataError(f"{self}: {why}", path=str(self))

    def check_writable(self) -> None:
        """Raise DataError if nothing can be written at such a URL."""
        if self.is_web:
            raise DataError(
                f"{self}: nothing can be written on the web; give a path or an object store (s3://, gs://, abfs://)",
                path=str(self),
            )

    def upload(self, file: Path) -> None:
        """Write the file in one piece: it is there whole, in place of an earlier one, or not at all.

        Raises:
            OSError: it could not be sent.
        """
        from pyarrow import fs

        self.check_writable()
        # One call of pyarrow, which no signal breaks off: a stream left by an error would be completed as it is.
        fs.copy_files(
            str(file),
            self.key,
            source_filesystem=fs.LocalFileSystem(),
            destination_filesystem=self.filesystem,
            use_threads=False,
        )
        info = self.filesystem.get_file_info(self.key)
        if info.size != file.stat().st_size:
            raise OSError(f"{info.size} bytes are there of {file.stat().st_size}")

    def replace(self, target: Place) -> None:
        """Give the file another name in the same store: it is copied there, and then removed here."""
        self.filesystem.copy_file(self.key, target.key)
        self.unlink()

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Remove the file."""
        if not missing_ok or self.is_file():
            self.filesystem.delete_file(self.key)


AnyPath: TypeAlias = Path | Place


def is_url(text: str) -> bool:
    """Return True if a text is a URL. A drive of Windows is none."""
    return _URL.match(text) is not None


def as_path(text: str) -> AnyPath:
    """Return the path, or the place, that a text names. A file:// URL is a path."""
    if not is_url(text):
        return Path(text)
    if text.lower().startswith("file://"):
        return Path(url2pathname(urlsplit(text).path))
    return Place(text)


def shown(text: str) -> str:
    """Return a path or URL without its secrets, for messages and metadata."""
    return str(as_path(text)) if is_url(text) else text


def has_magic(place: Place) -> bool:
    """Return True if a place is a pattern."""
    return not place.is_web and bool(_MAGIC.search(str(place)))


def expand(place: Place) -> list[Place]:
    """Return the files that match a pattern, sorted: ``*`` within a folder, ``**`` across folders."""
    fixed = list(itertools.takewhile(lambda part: not _MAGIC.search(part), place.parts[1:]))
    folder = place.root
    for part in fixed:
        folder /= part
    pattern = "/".join(place.parts[1 + len(fixed) :])
    matches = re.compile(_as_regex(pattern)).fullmatch
    return sorted((one for one in folder.walk() if matches("/".join(one.parts[1 + len(fixed) :]))), key=str)


def _as_regex(pattern: str) -> str:
    def translated(match: re.Match[str]) -> str:
        piece = match[0]
        if piece.startswith("[") and len(piece) > 1:
            return f"[^{piece[2:]}" if piece[1] == "!" else piece
        return {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(piece) or re.escape(piece)

    return re.sub(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|.", translated, pattern)


def input_file(path: AnyPath) -> pa.NativeFile:
    """Open a file for reading by pyarrow, anywhere in it."""
    return path.input_file() if isinstance(path, Place) else pa.OSFile(str(path))


def input_stream(path: AnyPath) -> pa.NativeFile:
    """Open a file for reading by pyarrow from its beginning to its end."""
    return path.input_stream() if isinstance(path, Place) else pa.OSFile(str(path))


def _without_fragment(url: str, scheme: str) -> tuple[str, str, str]:
    """Return a URL's parts before and after its query, with the mark between them."""
    if scheme in _WEB:
        return url.split("#")[0].partition("?")
    at = _QUERY.search(url)
    return (url, "", "") if at is None else (url[: at.start()], "?", url[at.end() :])


@functools.lru_cache(maxsize=64)
def _filesystem(scheme: str, authority: str, query: str, name: str) -> tuple[Any, str]:
    """Return a pyarrow filesystem, and the path in it of what a URL's path begins with."""
    from pyarrow import fs

    if scheme in _ARROW:
        try:
            found, base = fs.FileSystem.from_uri(f"{scheme}://{authority}{query}")
        except pa.ArrowInvalid as error:
            reason = str(error).split("\n")[0]
            raise DataError(f"{name}: cannot be reached ({reason}); correct the URL", path=name) from None
        return found, base
    try:
        import fsspec
    except ImportError:
        raise MissingExtraError(f"{scheme}://", "remote") from None
    try:
        found, base = fsspec.core.url_to_fs(f"{scheme}://{authority}")
    except ImportError as error:  # e.g. "Install s3fs to access S3"
        remedy = 'pip install "streamrde[remote]"' if scheme in _WEB else str(error)
        raise DataError(f"{name}: {scheme}:// needs another package: {remedy}", path=name) from None
    except ValueError:
        known = ", ".join(f"{one}://" for one in ("s3", "gs", "abfs", "https", "file"))
        raise DataError(f"{name}: {scheme}:// is not a known kind of place; use one of {known}", path=name) from None
    return fs.PyFileSystem(fs.FSSpecHandler(found)), base


def _web_info(place: Place) -> dict[str, Any]:
    """Return what a web server tells of a file.

    Raises:
        FileNotFoundError: there is none.
        OSError: the server cannot be reached or refuses.
    """
    try:
        info: dict[str, Any] = place.filesystem.handler.fs.info(place.url)
    except FileNotFoundError as error:
        # fsspec calls every failure so; the cause tells them apart.
        cause = error.__cause__
        if cause is None or getattr(cause, "status", None) in (404, 410):
            raise
        status = getattr(cause, "status", None)
        reason = f"status {status}: {getattr(cause, 'message', '')}" if status else "cannot be reached"
        raise (PermissionError if status in (401, 403) else ConnectionError)(f"the web server {reason}") from None
    return info
