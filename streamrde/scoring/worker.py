"""A process that scores parts: one JSON object per line in, one per line out.

    in    {"folder": ..., "part": ...}
    out   {"rows": n}            samples taken since the last line
          {"done": ...}          the part's Progress
          {"error": ..., ...}    what went wrong, see Failure

Started by `LocalEngine`; ends when its input does. No pickle, and the parent's ``__main__`` is not imported.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable

import msgspec

from streamrde.connectors.files.errors import mapped_errors
from streamrde.errors import DataError, StreamRDEError
from streamrde.inference.bundle import Bundle, load
from streamrde.scoring.folder import JobFolder, Plan, Progress
from streamrde.scoring.part import score_part


class Task(msgspec.Struct, frozen=True):
    """A part to score."""

    folder: str
    part: int
    threads: int = 1
    """Of the fleet: a job that cannot be divided among processes is among threads."""


class Failure(msgspec.Struct, frozen=True):
    """Why a part was not scored."""

    error: str
    path: str = ""
    """The recorded file at fault; "" where none is."""
    kind: str = "StreamRDEError"
    column: str | None = None
    row: int | None = None


class Done(msgspec.Struct, frozen=True):
    """A part is scored."""

    done: Progress


class Rows(msgspec.Struct, frozen=True):
    """Samples taken since the last message."""

    rows: int


def perform(task: Task, on_rows: Callable[[int], None]) -> Done | Failure:
    """Score a part, in this process."""
    plan: Plan | None = None
    try:
        folder = JobFolder(task.folder)
        with mapped_errors(folder.path / "plan.json"):
            modified = (folder.path / "plan.json").stat().st_mtime_ns
        plan, bundle = _open(task.folder, modified)
        return Done(score_part(folder, plan, task.part, bundle, threads=task.threads, on_rows=on_rows))
    except StreamRDEError as error:
        if not isinstance(error, DataError):
            return Failure(str(error), kind=type(error).__name__)
        files = {file.path for file in plan.files} if plan is not None else set()
        path = error.path if error.path in files else ""
        return Failure(str(error), path, DataError.__name__, error.column, error.row)


@functools.lru_cache(maxsize=1)
def _open(folder: str, modified: int) -> tuple[Plan, Bundle]:
    """The plan and its model; `modified` tells one plan of a folder from the next."""
    plan = JobFolder(folder).plan()
    if plan is None:
        raise DataError(f"{folder}: has no plan; start the job anew", path=folder)
    bundle = load(plan.job.model)
    if bundle.fingerprint != plan.model:
        raise DataError(f"{plan.job.model}: is another model than when the job began; start it anew", path=folder)
    return plan, bundle


def answer(message: bytes) -> Done | Failure:
    """What `perform` gave, from JSON."""
    if message.startswith(b'{"done"'):
        return msgspec.json.decode(message, type=Done)
    return msgspec.json.decode(message, type=Failure)


def main() -> None:
    """Serve tasks until the input ends."""
    # Whatever else prints must not get between the lines.
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def tell(message: msgspec.Struct) -> None:
        out.write(msgspec.json.encode(message) + b"\n")

    for line in sys.stdin.buffer:
        # A parent that is gone breaks the pipe: the next message ends this process.
        tell(perform(msgspec.json.decode(line, type=Task), lambda rows: tell(Rows(rows))))
