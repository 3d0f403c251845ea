"""Write dead letters to a file of JSON lines: kind "file"."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from streamrde.connectors.dead_letters import encode_letter
from streamrde.connectors.ends import DeadLetter, DeadLetters
from streamrde.connectors.sections import DeadLettersConfig, Section
from streamrde.errors import DataError, ParameterError
from streamrde.settings import Positive


class FileDeadLettersConfig(Section, DeadLettersConfig, frozen=True, kw_only=True, tag="file"):
    """Messages that cannot be used, to a file of JSON lines."""

    path: str
    """File of JSON lines."""
    max_bytes: Positive = 64 << 20
    """Size at which the file is rotated, bytes."""

    async def probe(self) -> str:
        """Return the path."""
        return self.path

    def build(self) -> FileDeadLetters:
        """See `DeadLettersConfig.build`."""
        return FileDeadLetters(self.path, max_bytes=self.max_bytes)


class FileDeadLetters(DeadLetters):
    """Write dead letters to a file, a line of JSON each. When it is full it replaces the file `path`.1.

    Args:
        path: the file; its folder is made.
        max_bytes: size at which a new file begins. Twice as much may be on the disk.
    Raises:
        DataError: the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_bytes: int = 64 << 20) -> None:
        if max_bytes < 1:
            raise ParameterError(f"max_bytes={max_bytes}: a dead-letter file needs room")
        self.path = Path(path)
        self._max_bytes = max_bytes
        self._file: IO[bytes] | None = None

    async def __aenter__(self) -> FileDeadLetters:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab")
        except OSError as error:
            raise self._error(error) from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    async def write(self, letters: Sequence[DeadLetter]) -> None:
        """Append the letters, and return when they are on the disk."""
        await asyncio.to_thread(self._append, b"".join(encode_letter(letter) + b"\n" for letter in letters))

    def _append(self, lines: bytes) -> None:
        try:
            file = self._file
            if file is None or file.closed:
                raise OSError("not open")
            if file.tell() and file.tell() + len(lines) > self._max_bytes:
                file.close()
                self.path.replace(self.path.with_name(self.path.name + ".1"))
                self._file = file = self.path.open("ab")
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            raise self._error(error) from None

    def _error(self, error: OSError) -> DataError:
        return DataError(
            f"dead letters cannot be written to {self.path} ({error.strerror or error}); check folder and disk",
            path=str(self.path),
        )
