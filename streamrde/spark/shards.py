"""Score the cells of shards: a partition of a batch, or the shards of a micro-batch with their state."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql.streaming import StatefulProcessor

from streamrde.connectors.files.sorting import sort_by_time
from streamrde.connectors.files.together import in_order_together
from streamrde.connectors.samples import Samples
from streamrde.errors import DataError, OrderError, SampleError, TimeUnitError
from streamrde.inference.bundle import Bundle
from streamrde.inference.clocks import go_on_watching, watches_of
from streamrde.scoring.job import Job
from streamrde.scoring.scorer import Scorer
from streamrde.spark.packing import SCORED_SCHEMA, Cell, Notes, noted, packed, sample_schema
from streamrde.spark.shipping import ShippedBundle
from streamrde.spark.state import KeptStream, ShardState

Advance: TypeAlias = Literal["no", "watermark", "clock"]


class Silence(NamedTuple):
    """Rules for streams without samples. See `score`."""

    advance: Advance = "no"
    every: float = 10.0
    idle: float | None = None

    @property
    def by_samples(self) -> bool:
        """Return True if the samples of any stream tell all streams the time."""
        return self.advance == "watermark" or (self.advance == "no" and self.idle is not None)


class PartitionScorer:
    """Score a partition of a batch DataFrame: whole streams, from their first samples to their last windows."""

    def __init__(self, shipped: ShippedBundle, job: Job) -> None:
        self._shipped = shipped
        self._job = job

    def score(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield packed predictions of cells that stand in order of origin and number, then the counts."""
        notes: list[Cell] = []

        def cells() -> Iterator[Cell]:
            for batch in batches:
                for cell in map(Cell, batch["samples"].to_pylist(), batch["notes"].to_pylist()):
                    if cell.notes is not None:
                        notes.append(cell)
                    yield cell

        bundle = self._shipped.load()
        scorer = Scorer(bundle, self._job)
        for row in _score(scorer, cells(), self._job, bundle):
            yield pa.RecordBatch.from_pylist([row], SCORED_SCHEMA)
        last = scorer.end()
        rows = [packed(last)] if last.num_rows else []
        yield pa.RecordBatch.from_pylist([*rows, packed(None, _counts(scorer, noted(notes)))], SCORED_SCHEMA)


class ShardProcessor(StatefulProcessor):  # type: ignore[misc]
    """Score the cells of micro-batches, for `transformWithStateInPandas`.

    Args:
        replaces: fingerprints of models whose streams the model continues.
    """

    def __init__(
        self, shipped: ShippedBundle, job: Job, *, shards: int, replaces: tuple[str, ...], silence: Silence
    ) -> None:
        self._shipped = shipped
        self._job = job
        self._shards = shards
        self._replaces = replaces
        self._silence = silence

    def init(self, handle: Any) -> None:
        """Name the variables of the state."""
        self._handle = handle
        self._state = ShardState(handle, shards=self._shards, model=self._shipped.fingerprint, replaces=self._replaces)

    def handleInputRows(self, key: Any, rows: Iterator[pd.DataFrame], timerValues: Any) -> Iterator[pd.DataFrame]:  # noqa: N802
        """Take the cells of a shard, and yield packed predictions, then the counts."""
        del key
        cells = [
            cell for frame in rows for cell in frame[["origin", "number", "samples", "notes"]].itertuples(index=False)
        ]
        # Blocks of a shuffle come in any order. Where rows have the same time, the first is that of the DataFrame.
        cells.sort(key=lambda cell: (cell.origin, cell.number))
        yield from self._process([Cell(cell.samples, cell.notes) for cell in cells], timerValues)

    def handleExpiredTimer(self, key: Any, timerValues: Any, expiredTimerInfo: Any) -> Iterator[pd.DataFrame]:  # noqa: N802
        """Let time pass in a shard."""
        del key, expiredTimerInfo
        yield from self._process([], timerValues, woken=True)

    def close(self) -> None:
        """Do nothing: what is kept is in Spark's state."""

    def _process(self, cells: list[Cell], timers: Any, *, woken: bool = False) -> Iterator[pd.DataFrame]:
        state = self._state
        state.open()
        bundle = self._shipped.load()
        scorer = Scorer(bundle, self._job)
        scorer.fleet.accept(state.predecessors)
        notes = noted(cells)
        for row in _score(scorer, cells, self._job, bundle, state):
            yield pd.DataFrame([row])
        if notes.latest is not None:
            state.kept.latest = max(notes.latest, state.kept.latest or notes.latest)
        if self._silence.advance != "no" or self._silence.idle is not None:
            for batch in self._pass_time(scorer, timers, woken=woken):
                yield pd.DataFrame([packed(batch)])
        changes = scorer.fleet.checkpoint()
        watches = watches_of(scorer.fleet, changes.snapshots)
        changed = {
            name: KeptStream(data, scorer.latest.get(name), watches.get(name))
            for name, data in changes.snapshots.items()
        }
        state.save(changed, changes.ended)
        yield pd.DataFrame([packed(None, _counts(scorer, notes))])

    def _pass_time(self, scorer: Scorer, timers: Any, *, woken: bool) -> Iterator[pa.RecordBatch]:
        """Close the windows that time ends, and end idle streams."""
        kept, silence = self._state.kept, self._silence
        if silence.advance == "clock":
            milliseconds = timers.getCurrentProcessingTimeInMs()
            now = milliseconds / 1000
            if woken or kept.timer is None:
                kept.timer = milliseconds + round(1000 * silence.every)
                self._handle.registerTimer(kept.timer)
        elif kept.latest is None:
            return
        else:
            now = kept.latest
        sweep = silence.idle is not None and (kept.swept is None or now >= kept.swept + silence.idle / 4)
        if silence.advance == "no" and not sweep:
            return
        for bucket in self._state.load_all():
            _restore(scorer, bucket)
        if silence.advance != "no":
            yield from scorer.advance(now)
        if silence.idle is not None and sweep:
            kept.swept = now
            yield from scorer.evict(idle=silence.idle, now=now)


def _score(
    scorer: Scorer, cells: Iterable[Cell], job: Job, bundle: Bundle, state: ShardState | None = None
) -> Iterator[dict[str, Any]]:
    """Yield rows of packed predictions of the cells' samples, in order of time."""
    schema = sample_schema(bundle.header, job)
    samples = (one for cell in cells for one in cell.read(schema))
    with tempfile.TemporaryDirectory(prefix="streamrde-") as folder:
        ordered = sort_by_time(samples, folder=Path(folder), memory=job.sort_memory, batch_rows=job.batch_rows)
        if state is None and job.reader(bundle.header).is_partial:
            ordered = in_order_together(ordered)
        for batch in ordered:
            if state is not None:
                names = [name for name in pc.unique(batch.streams).to_pylist() if name not in scorer.fleet]
                _restore(scorer, state.load(names))
            predictions = _push(scorer, batch)
            if predictions.num_rows:
                yield packed(predictions)


def _restore(scorer: Scorer, streams: dict[str, KeptStream]) -> None:
    """Restore streams that are not live, with the last truth of each. They count as what they were before."""
    new = {name: own for name, own in streams.items() if name not in scorer.fleet}
    scorer.restore(
        {name: own.snapshot for name, own in new.items()},
        {name: own.truth for name, own in new.items() if own.truth is not None},
        counts=scorer.counts(),
        state_counts=scorer.state_counts(),
    )
    go_on_watching(scorer.fleet, {name: own.watch for name, own in new.items()})


def _push(scorer: Scorer, samples: Samples) -> pa.RecordBatch:
    try:
        return scorer.push(samples)
    except OrderError as error:
        message = f"{error}; order = Order(...) can wait for late samples (lateness) and choose of repeats (duplicates)"
        raise DataError(message, path="") from None
    except TimeUnitError as error:
        raise DataError(f"{error}", path="") from None
    except SampleError as error:
        raise DataError(f"{error}; faults = 'drop' counts and skips such rows", path="") from None


def _counts(scorer: Scorer, notes: Notes) -> dict[str, int]:
    """Return the counts that are observed."""
    return scorer.counts()._asdict() | {
        "dropped": sum(notes.dropped.values()),
        "implausible": notes.implausible + sum(scorer.fleet.implausible.values()),
    }
