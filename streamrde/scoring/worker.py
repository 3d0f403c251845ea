"""Score parts in a process of its own: one JSON object per line in, one per line out.

    in    {"folder": ..., "part": ...}
    out   {"rows": n}            samples taken since the last line
          {"done": ...}          the part's Progress
          {"error": ..., ...}    what went wrong, see Failure

`local.ProcessEngine` starts it, and it ends when its input does. No pickle, and the parent's ``__main__`` is not
imported.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Set
from typing import NamedTuple

import msgspec

from streamrde.connectors.files.errors import mapped_errors
from streamrde.errors import ConfigError, DataError, StreamRDEError
from streamrde.inference.bundle import Bundle, load
from streamrde.scoring.folder import JobFolder, Progress
from streamrde.scoring.part import score_part
from streamrde.scoring.plan import Plan


class Task(msgspec.Struct, frozen=True):
    """A part to score."""

    folder: str
    part: int


class Failure(msgspec.Struct, frozen=True):
    """Reason for which a part was not scored."""

    error: str
    path: str = ""
    """The recorded file at fault; "" where none is."""
    kind: str = "StreamRDEError"
    column: str | None = None
    row: int | None = None
    setting: str = ""

    def as_error(self) -> StreamRDEError:
        """Return the error again."""
        if self.kind == "DataError":
            return DataError(self.error, path=self.path, column=self.column, row=self.row, setting=self.setting)
        return ConfigError(self.error) if self.kind == "ConfigError" else StreamRDEError(self.error)


class Done(msgspec.Struct, frozen=True):
    """A part is scored."""

    done: Progress


class Rows(msgspec.Struct, frozen=True):
    """Samples taken since the last message."""

    rows: int


class Work(NamedTuple):
    """A job that is being scored."""

    folder: JobFolder
    plan: Plan
    bundle: Bundle

    def score(self, part: int, on_rows: Callable[[int], None], *, threads: int = 1) -> Done | Failure:
        """Score a part, in this process.

        Args:
            threads: of the fleet: a job that cannot be divided among processes is among threads.
        """
        try:
            return Done(score_part(self.folder, self.plan, part, self.bundle, threads=threads, on_rows=on_rows))
        except StreamRDEError as error:
            return _failure(error, {file.path for file in self.plan.files})


def perform(task: Task, on_rows: Callable[[int], None]) -> Done | Failure:
    """Score a part of the job in a folder, in this process, which loads the job's model once."""
    try:
        plan_file = JobFolder(task.folder).path / "plan.json"
        with mapped_errors(plan_file):
            modified = plan_file.stat().st_mtime_ns
        work = _open(task.folder, modified)
    except StreamRDEError as error:
        return _failure(error, set())
    return work.score(task.part, on_rows)


def _failure(error: StreamRDEError, files: Set[str]) -> Failure:
    if not isinstance(error, DataError):
        return Failure(str(error), kind=type(error).__name__)
    path = error.path if error.path in files else ""
    return Failure(str(error), path, DataError.__name__, error.column, error.row, error.setting)


@functools.lru_cache(maxsize=1)
def _open(folder: str, modified: int) -> Work:
    """Load the job in a folder. `modified` is the time of the folder's plan, so that another plan is loaded."""
    job_folder = JobFolder(folder)
    plan = job_folder.plan()
    if plan is None:
        raise DataError(f"{folder}: has no plan; start the job again", path=folder)
    bundle = load(plan.job.model)
    if bundle.fingerprint != plan.model:
        raise DataError(f"{plan.job.model}: is another model than when the job began; start it again", path=folder)
    return Work(job_folder, plan, bundle)


def decode_result(message: bytes) -> Done | Failure:
    """Read the result of `perform` from JSON."""
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
