"""Score parts on this machine: in this process, in threads, or in worker processes."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Protocol

import msgspec

from streamrde.errors import WorkerError
from streamrde.scoring.worker import Done, Failure, Rows, Task, Work, decode_result

# A part whose worker died is tried again so often: what killed it once (no memory, a signal) may not come again.
RETRIES = 2
_REPORT_SECONDS = 0.1


class Engine(Protocol):
    """Score parts in some way: in threads, processes, or on a cluster."""

    def run(
        self, work: Work, parts: Sequence[int], on_rows: Callable[[int], None]
    ) -> Generator[tuple[int, Done | Failure], None, None]:
        """Score parts in about this order, and yield each when it is done. Closing the iterator stops the rest.

        Raises:
            WorkerError: workers die again and again.
        """


class InProcessEngine:
    """Score one part after the other in this process.

    Args:
        threads: of the fleet.
    """

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads

    def run(
        self, work: Work, parts: Sequence[int], on_rows: Callable[[int], None]
    ) -> Generator[tuple[int, Done | Failure], None, None]:
        """See Engine."""
        for part in parts:
            yield part, work.score(part, on_rows, threads=self._threads)


class ThreadEngine:
    """Score parts in threads: reading, windows and steps run outside Python's lock, and nothing has to start.

    Args:
        jobs: threads.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs

    def run(
        self, work: Work, parts: Sequence[int], on_rows: Callable[[int], None]
    ) -> Generator[tuple[int, Done | Failure], None, None]:
        """See Engine."""
        stopped, rows = threading.Event(), 0
        counting = threading.Lock()

        def score(part: int) -> Done | Failure:
            return work.score(part, count)

        def count(more: int) -> None:
            nonlocal rows
            if stopped.is_set():
                raise CancelledError
            with counting:
                rows += more

        reported = 0
        with ThreadPoolExecutor(self._jobs, thread_name_prefix="score") as pool:
            waiting = {pool.submit(score, part): part for part in parts}
            try:
                while waiting:
                    done, _ = wait(waiting, timeout=_REPORT_SECONDS, return_when=FIRST_COMPLETED)
                    if rows > reported:
                        reported, new = rows, rows - reported
                        on_rows(new)
                    for future in done:
                        yield waiting.pop(future), future.result()
            finally:
                stopped.set()
                pool.shutdown(wait=True, cancel_futures=True)


class ProcessEngine:
    """Score parts in worker processes.

    Args:
        jobs: processes.
        lock: descriptor of the folder's lock; workers inherit it.
    """

    def __init__(self, jobs: int, *, lock: int | None = None) -> None:
        self._jobs = jobs
        self._lock = lock

    def run(
        self, work: Work, parts: Sequence[int], on_rows: Callable[[int], None]
    ) -> Generator[tuple[int, Done | Failure], None, None]:
        """See Engine."""
        waiting: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        for part in parts:
            waiting.put((part, 0))
        messages: queue.SimpleQueue[tuple[_Worker, bytes]] = queue.SimpleQueue()
        workers: list[_Worker] = []
        try:
            workers = [_Worker(messages, self._lock) for _ in range(min(self._jobs, len(parts)))]
            for worker in workers:
                worker.give(str(work.folder.path), *waiting.get())
            open_parts = len(parts)
            while open_parts:
                worker, line = messages.get()
                if not line:
                    workers.remove(worker)
                    status = worker.stop()
                    if worker.part is None:
                        continue  # it had nothing left to do, and is not missed
                    if worker.tries >= RETRIES:
                        raise WorkerError(
                            f"the worker of part {worker.part} died {worker.tries + 1} times, last with status "
                            f"{status}: is there enough memory? use --resume to continue"
                        )
                    on_rows(-worker.rows)
                    workers.append(another := _Worker(messages, self._lock))
                    another.give(str(work.folder.path), worker.part, worker.tries + 1)
                    continue
                if line.startswith(b'{"rows"'):
                    rows = msgspec.json.decode(line, type=Rows).rows
                    worker.rows += rows
                    on_rows(rows)
                    continue
                open_parts -= 1
                done, worker.part = worker.part, None
                if not waiting.empty():
                    worker.give(str(work.folder.path), *waiting.get())
                assert done is not None  # noqa: S101 (the decode_result is about a part)
                yield done, decode_result(line)
        finally:
            for worker in workers:
                worker.stop()


class _Worker:
    """Run one worker process, and a thread that reads its messages."""

    def __init__(self, messages: queue.SimpleQueue[tuple[_Worker, bytes]], lock: int | None) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        # Each has one core for itself: libraries that start a thread per core would only get in each other's way.
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            environment.setdefault(name, "1")
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from streamrde.scoring.worker import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            pass_fds=() if lock is None else (lock,),
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
        self.part: int | None = None
        """Number of the part that it scores, or None."""
        self.tries, self.rows = 0, 0
        self._messages = messages
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def give(self, folder: str, part: int, tries: int) -> None:
        """Give the worker a part."""
        self.part, self.tries, self.rows = part, tries, 0
        try:
            self._process.stdin.write(msgspec.json.encode(Task(folder, part)) + b"\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]
        except BrokenPipeError:
            pass  # it died: its end of output says so

    def stop(self) -> int:
        """End the process if it has not ended by itself. Return its exit status."""
        self._process.kill()
        status = self._process.wait()
        self._thread.join()
        for pipe in (self._process.stdin, self._process.stdout):
            # What it died too early to be given is still to be written, and goes with it.
            with suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]
        return status

    def _listen(self) -> None:
        for line in self._process.stdout:  # type: ignore[union-attr]
            self._messages.put((self, line))
        self._messages.put((self, b""))
