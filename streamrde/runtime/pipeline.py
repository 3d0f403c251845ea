"""The loop: take a micro-batch, push it through the fleet, write predictions, save state, acknowledge the input."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import numpy as np
import pyarrow as pa

from streamrde.connectors.ends import Batch, ConnectionCounts, DeadLetter, DeadLetters, Sink, Source
from streamrde.connectors.samples import Samples
from streamrde.connectors.several import LABELS
from streamrde.errors import BundleError
from streamrde.inference.bundle import Bundle
from streamrde.inference.fleet import Fleet
from streamrde.inference.unused import NOTHING_UNUSED
from streamrde.runtime.checkpoints import Checkpointer, CheckpointPolicy, not_finite, streams_of
from streamrde.runtime.clock import Clock, SystemClock
from streamrde.runtime.labels import LateLabels
from streamrde.runtime.metrics import Metrics
from streamrde.runtime.pace import SLICE_WINDOWS, Pace, until_ends
from streamrde.runtime.provisional import Provisional
from streamrde.runtime.recent import Recent
from streamrde.runtime.silence import Backlog, Silence, Timekeeper
from streamrde.runtime.suspects import SuspectLog
from streamrde.runtime.troubles import StreamRules, TroubleLog
from streamrde.runtime.unused import letters_of
from streamrde.state import StateStore

logger = logging.getLogger(__name__)
# Seconds between sums of the fleet's counts over its streams, which are too slow for every micro-batch.
_COUNT_EVERY = 0.5
# Longest turn, in seconds, of waiting batches after a slice of owed windows. It is as long as the slice took.
_LONGEST_PAUSE = 0.1
# Most samples that may wait for owed windows of their streams.
_MOST_HELD = 10_000


class Pipeline:
    """Carry samples from a source through a fleet to a sink.

    The order is always: the sink confirms the predictions, state and positions are saved in one transaction, the input
    is acknowledged. After a crash in between, the input comes again. The fleet drops samples that the saved state
    already has as late or duplicate, and (stream, window) identifies repeated predictions.

    Work is done in slices, between which the event loop, signals and health have their turn. Windows that a sample
    closes beyond a slice are owed: the sample is in the state and acknowledged, other batches are taken meanwhile, and
    a checkpoint may come in between.

    Args:
        source, sink: not yet entered.
        store: an open store with this run's identity. None: state dies with the process, and a batch is acknowledged as
            soon as its predictions are confirmed.
        policy: rules for checkpoints.
        lazily: restore each stream at its next sample instead of all at the start. Until then it is not advanced,
            flushed or evicted.
        flush: at the end, close the streams' open windows and write their predictions too. None: only without a store,
            when no later run could continue them.
        dead_letters: destination of unusable messages. None: only count them.
        letters_of_rows: send rows that the fleet does not use there too: late, repeated or rejected ones.
        rules: treatment of streams that go wrong. The fleet's own settings must agree with it.
        silence: rules for silent streams. While the broker is away, just after that, or while samples are old, the
            clock does not advance the streams, since samples that still wait there would be late.
        provisional: seconds between provisional predictions of the open windows, which are marked as such. The sink
            must take that column.
        labels: takes the labels of a fleet that adapts, beside the samples or from a source of their own.
        slice_windows: most windows that a slice closes because time passes. Fewer if the model is slow.
        clock: the clock, in seconds since 1970.
        metrics: counters to continue.
        recent: keeps the latest samples and predictions, for the page. None: nothing is kept.
        on_start: called when both ends are connected and the streams are restored.
        on_batch: called after every batch.
        on_predictions: called with predictions that the sink has confirmed, for views. It must be quick.
    """

    def __init__(
        self,
        source: Source[Any],
        fleet: Fleet,
        sink: Sink,
        *,
        store: StateStore | None = None,
        policy: CheckpointPolicy | None = None,
        lazily: bool = False,
        flush: bool | None = None,
        dead_letters: DeadLetters | None = None,
        letters_of_rows: bool = False,
        rules: StreamRules | None = None,
        silence: Silence | None = None,
        provisional: float | None = None,
        labels: LateLabels | None = None,
        slice_windows: int = SLICE_WINDOWS,
        clock: Clock | None = None,
        metrics: Metrics | None = None,
        recent: Recent | None = None,
        on_start: Callable[[], None] | None = None,
        on_batch: Callable[[Metrics], None] | None = None,
        on_predictions: Callable[[pa.RecordBatch], None] | None = None,
    ) -> None:
        self.metrics = metrics or Metrics()
        self._recent = recent
        self.fleet = fleet
        self.source, self.sink = source, sink
        self._store = store
        self._checkpoints = Checkpointer(source, fleet, sink, store, policy or CheckpointPolicy(), self.metrics)
        self._lazily = lazily
        self._flush = store is None if flush is None else flush
        self._dead_letters = dead_letters
        self._letters_of_rows = letters_of_rows
        self._provisional = None if provisional is None else Provisional(fleet, provisional)
        self.troubles = TroubleLog(fleet, rules, source=source)
        self._labels = labels
        if labels is not None:
            self.metrics.labels, labels.recent = labels.tally, recent
        self._silence = silence or Silence()
        self._clock = clock or SystemClock()
        self._keeper = Timekeeper(fleet, self._silence, self._clock)
        self._suspects = SuspectLog(fleet)
        self._on_start = on_start
        self._on_batch = on_batch
        self.on_predictions = on_predictions
        self._next_count = 0.0
        self._ending = asyncio.Event()
        self._pace = Pace(slice_windows)
        self._owes = asyncio.Event()
        self._backlog = Backlog()
        # Until a source has said how far it is, the watermark waits for it.
        for name in source.source_names:
            self._keeper.observe(np.empty(0), name)
        self.started = False

    async def run(self) -> Metrics:
        """Run until the source ends or `stop` is called, then save what there is.

        Raises:
            StreamRDEError: whatever source, sink or store raise; the input that was not saved stays unacknowledged.
        """
        async with AsyncExitStack() as stack:
            for end in (self.sink, self._dead_letters, self.source):
                if end is not None:
                    await stack.enter_async_context(end)
            await self._checkpoints.restore(lazily=self._lazily)
            self.started = True
            if self._on_start is not None:
                self._on_start()
            tasks = [asyncio.create_task(self._checkpoints.run()), asyncio.create_task(self._catch_up())]
            self._owes.set()
            if self._silence.active:
                tasks.append(asyncio.create_task(self._pass_time()))
            if self._provisional is not None:
                tasks.append(asyncio.create_task(self._peek(self._provisional)))
            if self._labels is not None:
                tasks.append(asyncio.create_task(self._labels.look_after(self._ending, self._checkpoints)))
            for task in tasks:
                task.add_done_callback(self._give_up)
            try:
                async for batch in self.source:
                    async with self._checkpoints.barrier:
                        await self._process(batch)
                    await self._checkpoints.room()
                    if any(task.done() for task in tasks):
                        break
                    if self._on_batch is not None:
                        self._on_batch(self.metrics)
                self._checkpoints.stop()
                self._ending.set()
                self._owes.set()
                await asyncio.gather(*tasks)
            except BaseException:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                raise
            await self._end()
        self.metrics.ended = time.perf_counter()
        return self.metrics

    def _give_up(self, _: asyncio.Task[None]) -> None:
        """Free the loop if a task beside it failed, since it may wait for something that never comes."""
        self._checkpoints.stop()
        self.source.stop()

    @property
    def pipelines(self) -> list[Pipeline]:
        """See `service.Served.pipelines`."""
        return [self]

    @property
    def group(self) -> None:
        """See `service.Served.group`. A pipeline shares nothing."""
        return

    @property
    def connections(self) -> dict[str, ConnectionCounts]:
        """The connections of the ends that have one."""
        sink = self.sink.connection
        return self.source.connections | ({} if sink is None else {"sink": sink})

    def stop(self, *, patience: float | None = None) -> None:
        """End after the samples that have arrived by now. On a full disk, give up after `patience` seconds."""
        self._checkpoints.patience = patience
        self.source.stop()

    @property
    def waiting(self) -> int | None:
        """The messages that have arrived and were not taken yet, or None if the source has no queue."""
        return self.source.waiting

    @property
    def fingerprints(self) -> tuple[str, str]:
        """Fingerprints of the model, and of its windows' p-values ("" if these are not computed)."""
        return self.fleet.fingerprint, self.fleet.novelty_fingerprint

    def obstacles(self) -> list[str]:
        """List the obstacles that now keep samples from becoming predictions."""
        found = [] if self.started else ["starting"]
        for end, connection in self.connections.items():
            if connection.waiting:
                found.append(f"waiting for the {end}'s broker")
            # Samples become predictions without labels, too.
            if self.started and not connection.connected and end != LABELS:
                found.append(f"the {end}'s broker is away")
        if 0 < self.metrics.streams <= self.metrics.suspects:
            found.append("no stream has times that can be right")
        if self.metrics.store_full:
            found.append("the state store's disk is full")
        return found

    def status(self) -> dict[str, Any]:
        """Return the obstacles, and which streams went wrong, the latest first."""
        self.count()
        return self.metrics.status(self.obstacles(), self.troubles.status())

    def close(self) -> None:
        """Let go of the store, after `run`."""
        if self._store is not None:
            self._store.close()

    async def swap(self, bundle: Bundle, identity: dict[str, str] | None = None) -> None:
        """Continue with another model between two batches. Streams keep their state.

        Raises:
            BundleError: its shapes or windows are others; the model stays.
        """
        async with self._checkpoints.barrier:
            try:
                self.fleet.swap(bundle)
            except BundleError:
                self.metrics.swaps_refused += 1
                raise
            self.metrics.swaps += 1
            if identity is not None:
                self._checkpoints.renew(identity)

    async def _process(self, batch: Batch) -> None:
        metrics, samples = self.metrics, batch.samples
        letters = [*batch.letters]
        if self._lazily and len(samples.t):
            self._checkpoints.fetch(streams_of(samples.streams))
        if self._labels is not None and batch.labels:
            await self._set_aside(batch, letters)
            self._labels.take(batch)
            await self._labels.settle(self._checkpoints)
            return
        spent, predicted = 0.0, 0
        predictions: pa.RecordBatch = None
        for ended, rows in until_ends(samples, batch.ends):
            if ended:
                if predictions is not None:
                    await self._confirm(predictions)
                await self._end_streams(ended)
                predictions = None
            async for part in self._parts(rows):
                if predictions is not None:
                    await self._confirm(predictions)
                    await asyncio.sleep(0)
                began = time.perf_counter()
                predictions = self.fleet.push(part.streams, part.t, part.x, windows=self._pace.windows)
                spent += self._time_slice(began)
                predicted += predictions.num_rows
                unused = self.fleet.unused if self._letters_of_rows or self._recent is not None else NOTHING_UNUSED
                if self._letters_of_rows and len(unused):
                    letters += letters_of(unused, self.fleet.channels, time.time())
                if self._recent is not None:
                    self._recent.pushed(part, unused)
                metrics.suspects, times = self._suspects.look(), part.t
                if metrics.suspects:
                    times = np.delete(times, self.fleet.unused["row"].to_numpy())
                if len(times):
                    self._backlog.observe(float(times.max()), batch.source)
                    self._keeper.observe(times, batch.source)
        if self._provisional is not None:
            self._provisional.mark(streams_of(samples.streams))
        await self._write(predictions)
        await self._set_aside(batch, letters)
        await self._checkpoints.finish_batch(batch, predictions)
        if self.fleet.owing:
            await self._keep_up()
        if self._labels is not None and self._labels.waiting and predicted:
            await self._labels.settle(self._checkpoints, streams_of(samples.streams))
        now = time.perf_counter()
        if batch.arrivals is not None and len(batch.arrivals):
            metrics.lag = now - float(batch.arrivals[0])
            if predicted:
                metrics.latency.add(now - batch.arrivals)
        metrics.push_time.add(spent)
        metrics.batch_rows.add(max(len(samples.t), 1))
        metrics.batches += 1
        metrics.rows += len(samples.t)
        metrics.predictions += predictions.num_rows
        metrics.streams = len(self.fleet)
        metrics.last_batch = time.time()
        if now >= self._next_count:
            self._next_count = now + _COUNT_EVERY
            self.count()

    async def _parts(self, rows: Samples) -> AsyncIterator[Samples]:
        """Yield the rows in slices, and give the fleet the labels that come before each."""
        if self._labels is None:
            for part in self._pace.slices(rows):
                yield part
            return
        for turn in self._labels.turns(rows):
            if turn.labels is not None:
                # A label may be for a window that is owed. What closed before is confirmed first.
                if self.fleet.owing:
                    yield rows._replace(streams=rows.streams[:0], t=rows.t[:0], x=turn.samples.x[:0])
                while self.fleet.owing and await self._close_owed():
                    pass
                self._labels.learn(turn.labels)
            for part in self._pace.slices(turn.samples):
                yield part

    async def _set_aside(self, batch: Batch, letters: list[DeadLetter]) -> None:
        """Note and write what could not be used."""
        if self._recent is not None:
            self._recent.refuse(batch.letters)
        if letters and self._dead_letters is not None:
            await self._dead_letters.write(letters)

    async def _end_streams(self, streams: Collection[str]) -> None:
        """Close the windows of streams whose messages say that they end, and forget them."""
        if self._lazily:
            self._checkpoints.fetch([stream for stream in streams if not stream.endswith("/")])
        above = tuple(stream for stream in streams if stream.endswith("/"))
        ended = [stream for stream in streams if stream in self.fleet]
        if above:
            ended += [stream for stream in self.fleet.streams if stream.startswith(above) and stream not in streams]
        work = self.fleet.slices(windows=self._pace.windows).flush(ended)
        while await self._slice(work):
            pass

    def _time_slice(self, began: float) -> float:
        """Record the seconds that the fleet has worked on a slice since `began`."""
        seconds = time.perf_counter() - began
        self._pace.adapt(seconds)
        return seconds

    async def _write(self, predictions: pa.RecordBatch) -> None:
        if predictions.num_rows:
            began = time.perf_counter()
            self._look(predictions)
            await self.sink.write(predictions)
            if self._recent is not None:
                self._recent.predictions.append(predictions)
            self.metrics.sink_time.add(time.perf_counter() - began)
            if self.on_predictions is not None:
                self.on_predictions(predictions)

    async def _confirm(self, predictions: pa.RecordBatch) -> None:
        """Write predictions that do not end a batch."""
        await self._write(predictions)
        self._checkpoints.confirmed(predictions)
        self.metrics.predictions += predictions.num_rows

    async def _slice(self, work: Iterator[pa.RecordBatch]) -> bool:
        """Do a slice of work and write its predictions. Return False if there is no more."""
        began = time.perf_counter()
        predictions = next(work, None)
        self._time_slice(began)
        if predictions is not None:
            await self._confirm(predictions)
        await asyncio.sleep(0)
        return predictions is not None

    async def _close_owed(self) -> bool:
        return await self._slice(self.fleet.slices(windows=self._pace.windows).owed())

    async def _keep_up(self) -> None:
        """Close windows until few samples wait for them: a stream must not take samples faster than it goes on."""
        self._owes.set()
        while self.fleet.slices(windows=1).held > _MOST_HELD:
            await self._close_owed()

    async def _catch_up(self) -> None:
        """Close the windows that streams owe, in slices. Batches come first, and have half of the time at least."""
        while not self._ending.is_set():
            await self._owes.wait()
            async with self._checkpoints.barrier:
                began = time.perf_counter()
                if self._ending.is_set() or not await self._close_owed():
                    self._owes.clear()
            await asyncio.sleep(min(time.perf_counter() - began, _LONGEST_PAUSE))

    async def _peek(self, provisional: Provisional) -> None:
        """Publish provisional predictions of the open windows. Nothing waits for them, and nothing is saved."""
        while not self._ending.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), provisional.seconds)
            async with self._checkpoints.barrier:
                if (predictions := provisional.peek()) is not None and not self._ending.is_set():
                    await self.sink.write(predictions)
                    if self.on_predictions is not None:
                        self.on_predictions(predictions)
                    if self._recent is not None:
                        self._recent.provisional.append(predictions)
                    self.metrics.provisional += predictions.num_rows

    async def _pass_time(self) -> None:
        """Tell the streams the time, and end idle ones, every so often."""
        while not self._ending.is_set():
            ending = asyncio.create_task(self._ending.wait())
            passing = asyncio.create_task(self._clock.sleep(self._silence.every))
            await asyncio.wait((ending, passing), return_when=asyncio.FIRST_COMPLETED)
            for task in (ending, passing):
                task.cancel()
            connections = [one for name, one in self.source.connections.items() if name != LABELS]
            caught_up = self._backlog.is_over(connections, self._clock.now())
            work = self._keeper.slices(windows=self._pace.windows, trust_clock=caught_up)
            more = True
            while more and not self._ending.is_set():
                async with self._checkpoints.barrier:
                    more = await self._slice(work)
            self.metrics.streams = len(self.fleet)

    def _look(self, predictions: pa.RecordBatch) -> None:
        """Count predictions that are no numbers.

        If their states are kept, no sample of the streams can help.
        """
        streams = not_finite(predictions)
        self.metrics.not_finite += len(streams)
        if self.fleet.on_range == "keep":
            for stream in streams:
                logger.error("stream %r: its predictions are NaN or infinite; stream set aside", stream)
                if self.source.quarantine is not None:
                    self.source.quarantine.set_aside(stream, time.monotonic())

    async def _end(self) -> None:
        self.count()
        # With a store what is owed is saved, and the next run goes on with it.
        while (self._flush or self._store is None) and await self._close_owed():
            pass
        if self._flush:
            work = self.fleet.slices(windows=self._pace.windows).flush()
            while await self._slice(work):
                pass
        self.sink.finish()
        await self._checkpoints.save()
        self.count()
        self.troubles.catch_up()
        self.metrics.latest_troubles = self.troubles.status()

    def count(self) -> None:
        """Update the metrics that are sums over streams, or the source's."""
        self.metrics.look(self.fleet, self.source.counts)
        self.troubles.catch_up(at_once=False)


async def run(
    source: Source[Any],
    fleet: Fleet,
    sink: Sink,
    *,
    flush: bool | None = None,
    metrics: Metrics | None = None,
    on_start: Callable[[], None] | None = None,
    on_batch: Callable[[Metrics], None] | None = None,
) -> Metrics:
    """Carry samples from a source through a fleet to a sink, without a state store. See `Pipeline`.

    Args:
        source, sink: not yet entered.
        flush: at the end close the streams' open windows and write their predictions too; True by default.
        metrics: counters to go on with.
        on_start: called when both ends are connected.
        on_batch: called after every batch.
    """
    pipeline = Pipeline(source, fleet, sink, flush=flush, metrics=metrics, on_start=on_start, on_batch=on_batch)
    return await pipeline.run()
