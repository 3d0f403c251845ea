"""Reading, computing and writing at the same time, with bounded room between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

_END: Any = object()


def read_ahead(items: Iterator[T], *, depth: int = 2) -> Iterator[T]:
    """The items in order, the next `depth` of them being made in a thread meanwhile."""
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as thread:
        pending = deque(thread.submit(next, items, _END) for _ in range(depth))
        while (item := pending.popleft().result()) is not _END:
            pending.append(thread.submit(next, items, _END))
            yield item


class WriteBehind:
    """Calls made in a thread, in order, at most one of them waiting; an error surfaces at the next call or the end."""

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
