"""Reading, computing and writing at the same time, with bounded room between them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import Full, Queue
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

_END: Any = object()
# Seconds that a stopped reader has to end the read it is in.
_PATIENCE = 2.0


def read_ahead(items: Iterator[T], *, depth: int = 2) -> Iterator[T]:
    """Yield the items in order. Meanwhile a thread makes the next `depth` of them."""
    made: Queue[Any] = Queue(depth)
    stopped = threading.Event()

    def put(item: Any) -> None:
        while not stopped.is_set():
            with suppress(Full):
                made.put(item, timeout=0.1)
                return

    def make() -> None:
        try:
            while not stopped.is_set() and (item := next(items, _END)) is not _END:
                put(item)
            put(_END)
        except BaseException as error:
            put(_Failed(error))

    thread = threading.Thread(target=make, name="read-ahead", daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not _END:
            if isinstance(item, _Failed):
                raise item.error
            yield item
    finally:
        stopped.set()
        # A read from a pipe may wait for ever: then it is left behind, or Ctrl-C would wait with it.
        thread.join(timeout=_PATIENCE)


class _Failed(NamedTuple):
    error: BaseException


class WriteBehind:
    """Make calls in a thread, in order, at most one of them waiting. An error is raised at the next call or the end."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write-behind")
        self._pending: Future[None] | None = None

    def __enter__(self) -> WriteBehind:
        return self

    def __call__(self, write: Callable[[T], None], item: T) -> None:
        """Make the call as soon as the one before is done."""
        self.drain()
        self._pending = self._thread.submit(write, item)

    def drain(self) -> None:
        """Return when every call is done."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.drain()
        finally:
            self._thread.shutdown()
