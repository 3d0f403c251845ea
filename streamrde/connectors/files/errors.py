"""Map foreign errors about files to this package's, in one place."""

from __future__ import annotations

import errno
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from streamrde.connectors.files.places import Place, is_url
from streamrde.errors import DataError, StreamRDEError, without_secrets

FOREIGN: tuple[type[Exception], ...] = (
    pa.ArrowException,
    OSError,  # also of gzip, and of pyarrow where a codec meets bytes that are not its own
    EOFError,
    UnicodeError,
    MemoryError,
    OverflowError,
    zlib.error,
    struct.error,
)
"""Errors that pyarrow, the decompressors and the system raise about a file's bytes."""

_WEB_CLIENTS = ("aiohttp", "fsspec")
"""Packages whose errors are about the network, whatever class they have."""
# What object stores and web servers call what has gone wrong, and the remedy.
_REMOTE = {
    "NO_SUCH_BUCKET|NoSuchBucket|ContainerNotFound": "there is no such bucket; check its name and the endpoint",
    "ACCESS_DENIED|AccessDenied|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|TOKEN|UNRECOGNIZED_CLIENT|PERMISSION_DENIED|"
    "UNAUTHENTICATED|Authorization|Authentication|40[13]": "access is denied; check the credentials (such as "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE) and the rights that they have",
    "NETWORK_CONNECTION|curlCode|[Cc]ould not (connect|resolve)|Couldn't resolve|Cannot connect|UNAVAILABLE|be reached":
    "the place cannot be reached; check the network, the host's name and the endpoint",
    "SLOW_DOWN|THROTTL|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|50[0-4]": "the store is too busy; run again later",
}  # fmt: skip

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def mapped_errors(path: Path | Place | str, column: str | None = None) -> Iterator[None]:
    """Raise DataError, which names the file and the column, in place of a foreign error.

    Args:
        path: the file, folder or place that is worked on.
        column: the column that is worked on, where it is known.
    """
    try:
        yield
    except (StreamRDEError, pa.lib.ArrowCancelled):
        raise
    except Exception as error:
        if not isinstance(error, FOREIGN) and not type(error).__module__.startswith(_WEB_CLIENTS):
            raise
        where = f"{path}: " if column is None else f"{path}: column {column!r}: "
        raise DataError(f"{where}{explain(error, remote=is_url(str(path)))}", path=str(path), column=column) from None


def explain(error: Exception, *, remote: bool = False) -> str:
    """Return what is wrong, in this package's words, with the remedy.

    Args:
        remote: the file is at a URL.
    """
    reason = _reason(error)
    if remote:
        for pattern, remedy in _REMOTE.items():
            if re.search(pattern, reason):
                return f"{remedy} ({reason})"
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, FileNotFoundError):
        return "the file was deleted; run again without it"
    if isinstance(error, PermissionError):
        return f"cannot be read or written ({reason}); give this user the right to, or leave it out"
    if number in _NO_ROOM:
        return f"the disk is full ({reason}); check the disk's space"
    if isinstance(error, MemoryError):
        return f"cannot be read ({reason}): a size in it is damaged, or it needs a machine with more memory"
    if isinstance(error, UnicodeError):
        return f"has text that is not UTF-8 ({reason}); save it as UTF-8, or leave it out"
    return f"cannot be read ({reason}); copy it again or leave it out"


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error).strip().split("\n")[0]
    text = re.sub(r"\s*\(Request ID: [^)]*\)", "", text)
    return without_secrets(text) or type(error).__name__
