"""Where messages go that cannot be used: with the reason and their original bytes, so that none vanishes."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Protocol

import msgspec

from streamrde.errors import DataError, ParameterError

# A message may be as large as its broker allows (256 MB); this much of it tells what was wrong.
_KEPT_BYTES = 1 << 20


class DeadLetter(NamedTuple):
    """A message that could not be used."""

    reason: str
    topic: str
    payload: bytes
    received: float
    """When it arrived, seconds since 1970."""


class DeadLetterSink(AbstractAsyncContextManager[Any], Protocol):
    """Where dead letters go."""

    async def write(self, letters: Sequence[DeadLetter]) -> None:
        """Return when they are safe."""


class _Line(msgspec.Struct):
    received: float
    reason: str
    topic: str
    bytes: int
    payload: str


def encode_letter(letter: DeadLetter) -> bytes:
    """A dead letter as JSON: received, reason, topic, bytes, and payload in base64, cut after 1 MiB."""
    text = base64.b64encode(letter.payload[:_KEPT_BYTES]).decode()
    return msgspec.json.encode(_Line(letter.received, letter.reason, letter.topic, len(letter.payload), text))


def decode_letter(line: bytes) -> DeadLetter:
    """The dead letter that `encode_letter` wrote."""
    read = msgspec.json.decode(line, type=_Line)
    return DeadLetter(read.reason, read.topic, base64.b64decode(read.payload), read.received)


class FileDeadLetters:
    """Dead letters in a file, a line of JSON each; when it is full it becomes `path`.1, and that one goes.

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
