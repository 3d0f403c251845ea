"""Several sources in one run, merged in the order in which their batches arrive."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import msgspec
import pyarrow.compute as pc

from streamrde.connectors.ends import Batch, ConnectionCounts, Source
from streamrde.connectors.quarantine import Quarantine
from streamrde.connectors.registry import AnySource
from streamrde.connectors.samples import SourceCounts
from streamrde.connectors.sections import EndConfig, ModelOutline, RunSections, Section, SourceConfig
from streamrde.errors import ConfigError, ParameterError

logger = logging.getLogger(__name__)
LABELS = "labels"
"""Name of a source of labels, and of its connection."""
# Streams whose source is remembered. Who sends is free to invent more.
_REMEMBERED = 100_000


class _Quarantines(Quarantine):
    """Set streams aside in all sources."""

    def __init__(self, members: list[Quarantine]) -> None:
        super().__init__(faults=0)
        self._members = members

    def __len__(self) -> int:
        return sum(map(len, self._members))

    def holds(self, name: str | bytes, now: float) -> bool:
        """Return True if any source sets the name aside."""
        return any(member.holds(name, now) for member in self._members)

    def set_aside(self, name: str | bytes, now: float) -> None:
        """Set a name aside in every source."""
        for member in self._members:
            member.set_aside(name, now)

    def clear(self, name: str | bytes) -> bool:
        """Forget the name's faults in every source."""
        cleared = [member.clear(name) for member in self._members]
        return any(cleared)


class SeveralSource(Source[Batch]):
    """Deliver the batches of several sources, each with the name of its source.

    Each source delivers its next batch when the one before is processed, so that a source with much to deliver does not
    keep the others waiting. A batch is acknowledged to the source from which it came. The iteration ends when all
    sources have ended, and an error of one ends it at once.

    A stream that comes from two sources is one stream. That is logged once.

    Args:
        sources: sources by name, not yet entered. One of the name `LABELS` delivers labels and no samples.
    """

    def __init__(self, sources: Mapping[str, Source[Any]]) -> None:
        if not sources:
            raise ParameterError("sources is empty: give at least one")
        self._sources = dict(sources)
        members = [one.quarantine for one in sources.values() if one.quarantine is not None]
        self.quarantine = _Quarantines(members) if members else None
        self._stack = AsyncExitStack()
        self._origins: dict[str, str] = {}
        self._merged: set[str] = set()

    @property
    def source_names(self) -> tuple[str, ...]:
        """Return the names of the sources of samples."""
        return tuple(name for name in self._sources if name != LABELS)

    def with_labels(self, labels: Source[Any]) -> SeveralSource:
        """Return the same sources and one of labels. None of them is entered yet."""
        return SeveralSource({**self._sources, LABELS: labels})

    @property
    def counts(self) -> SourceCounts:
        """Counts of what all sources have seen."""
        parts = [dataclasses.asdict(one.counts) for one in self._sources.values()]
        summed = SourceCounts(**{name: sum(part[name] for part in parts) for name in parts[0]})
        summed.merged += len(self._merged)
        return summed

    @property
    def connections(self) -> dict[str, ConnectionCounts]:
        """Return the connections of the sources that have one, by name."""
        ends = {name: name if name == LABELS else f"source {name}".rstrip() for name in self._sources}
        pairs = ((ends[name], one.connection) for name, one in self._sources.items())
        return {name: connection for name, connection in pairs if connection is not None}

    @property
    def waiting(self) -> int | None:
        """Count the messages that have arrived and were not delivered yet."""
        known = [count for one in self._sources.values() if (count := one.waiting) is not None]
        return sum(known) if known else None

    async def __aenter__(self) -> Self:
        # Together, since each may wait for a system that is not there yet.
        entering = [asyncio.ensure_future(one.__aenter__()) for one in self._sources.values()]
        try:
            await asyncio.gather(*entering)
        except BaseException:
            for task in entering:
                task.cancel()
            done = await asyncio.gather(*entering, return_exceptions=True)
            for one, result in zip(self._sources.values(), done, strict=True):
                if not isinstance(result, BaseException):
                    await one.__aexit__(None, None, None)
            raise
        for one in self._sources.values():
            self._stack.push_async_exit(one.__aexit__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, traceback)

    async def __aiter__(self) -> AsyncIterator[Batch]:
        arrived: asyncio.Queue[tuple[Batch, asyncio.Event] | None] = asyncio.Queue()

        async def deliver(name: str, source: Source[Any]) -> None:
            try:
                async for batch in source:
                    processed = asyncio.Event()
                    named = dataclasses.replace(batch, source=name, labels=name == LABELS)
                    arrived.put_nowait((named, processed))
                    await processed.wait()
            finally:
                arrived.put_nowait(None)

        tasks = [asyncio.create_task(deliver(name, source)) for name, source in self._sources.items()]
        ended = 0
        try:
            while ended < len(tasks):
                if (item := await arrived.get()) is None:
                    ended += 1
                    for task in tasks:
                        if task.done():
                            task.result()
                    continue
                batch, processed = item
                self._look(batch)
                yield batch
                processed.set()
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def acknowledge(self, batch: Batch) -> None:
        """Acknowledge a batch to its source."""
        await self._sources[batch.source].acknowledge(batch)

    def topic_of(self, stream: str) -> str | None:
        """Return a topic from which the stream's messages come, or None if it is not known."""
        return next((topic for one in self._sources.values() if (topic := one.topic_of(stream)) is not None), None)

    def stop(self) -> None:
        """End the iteration after what has arrived by now in each source."""
        for one in self._sources.values():
            one.stop()

    def _look(self, batch: Batch) -> None:
        """Note from which source a stream comes. Log the first that comes from two."""
        if len(self._origins) >= _REMEMBERED:
            self._origins.clear()
            self._merged.clear()
        for stream in [] if batch.labels else pc.unique(batch.samples.streams).to_pylist():
            before = self._origins.setdefault(stream, batch.source)
            if before == batch.source or stream in self._merged:
                continue
            if not self._merged:
                logger.error(
                    "stream %r gets samples from two sources, %s and %s: two devices become one; let the names differ, "
                    "by a level of the topic such as {site}",
                    stream, before, batch.source,
                )  # fmt: skip
            self._merged.add(stream)


class SeveralConfig(Section, SourceConfig, frozen=True, kw_only=True, tag="several"):
    """Read from several sources at once."""

    of: dict[str, AnySource]
    """Tables [source.of.NAME], each a source with its own kind."""

    def __post_init__(self) -> None:
        if not self.of:
            raise ConfigError("of is empty: give a table [source.of.NAME] for each source")
        if LABELS in self.of:
            raise ConfigError(f"[source.of.{LABELS}]: this name is for the source in [labels]; choose another")

    @property
    def live(self) -> bool:
        """See `SourceConfig.live`."""
        return all(one.live for one in self.of.values())

    @property
    def inflight(self) -> int:
        """Return how many messages may be unacknowledged: a checkpoint comes before any source must wait for it."""
        return min(one.inflight for one in self.of.values())

    @property
    def time_units(self) -> set[str]:
        """See `SourceConfig.time_units`."""
        return {unit for one in self.of.values() for unit in one.time_units}

    def named(self, name: str) -> dict[str, EndConfig]:
        """Return the section, and those in it."""
        found: dict[str, EndConfig] = {name: self}
        for key, one in self.of.items():
            found |= one.named(f"{name}.of.{key}")
        return found

    def check(self, name: str, run: RunSections) -> None:
        """See `EndConfig.check`."""
        if len({one.live for one in self.of.values()}) > 1:
            raise ConfigError(f"{name}: some sources are live and others are recorded; run them apart")
        if any(isinstance(one, SeveralConfig) for one in self.of.values()):
            raise ConfigError(f"{name}: a source in it is of kind 'several' itself; put its sources here")

    def identity(self) -> dict[str, str]:
        """See `SourceConfig.identity`."""
        return {
            f"source.of.{name}.{key.removeprefix('source.')}": value
            for name, one in self.of.items()
            for key, value in one.identity().items()
        }

    def without_waiting(self) -> Self:
        """See `EndConfig.without_waiting`."""
        return msgspec.structs.replace(self, of={name: one.without_waiting() for name, one in self.of.items()})

    async def probe(self) -> str:
        """Reach every source."""
        return "; ".join([f"{name}: {await one.probe()}" for name, one in self.of.items()])

    def build(self, model: ModelOutline) -> SeveralSource:
        """See `SourceConfig.build`."""
        return SeveralSource({name: one.build(model) for name, one in self.of.items()})
