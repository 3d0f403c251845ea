"""Map foreign errors about files to this package's, in one place."""

from __future__ import annotations

import errno
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from streamrde.errors import DataError, StreamRDEError

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

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def mapped_errors(path: Path | str, column: str | None = None) -> Iterator[None]:
    """Raise DataError, which names the file and the column, in place of a foreign error.

    Args:
        path: the file or folder that is worked on.
        column: the column that is worked on, where it is known.
    """
    try:
        yield
    except (StreamRDEError, pa.lib.ArrowCancelled):
        raise
    except FOREIGN as error:
        where = f"{path}: " if column is None else f"{path}: column {column!r}: "
        raise DataError(f"{where}{explain(error)}", path=str(path), column=column) from None


def explain(error: Exception) -> str:
    """Return what is wrong, in this package's words, with the remedy."""
    reason = _reason(error)
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
    return text or type(error).__name__
