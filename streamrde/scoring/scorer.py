"""Score samples with a fleet: put the truth beside predictions, load and keep streams' states."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamrde.connectors.samples import Samples
from streamrde.errors import ConfigError, ParameterError
from streamrde.inference.bundle import Bundle
from streamrde.inference.fleet import Fleet
from streamrde.inference.states import StateCounts
from streamrde.inference.table import Counts
from streamrde.inference.troubles import Trouble
from streamrde.scoring.evaluation import truth_schema
from streamrde.scoring.job import Job

C = TypeVar("C", Counts, StateCounts)
# Windows that time closes in one call at most.
_SLICE = 10_000
Load: TypeAlias = Callable[[Collection[str]], Mapping[str, bytes]]
"""Snapshots of those of the streams that have one."""


class Scorer:
    """Turn samples into record batches of predictions: the Fleet's, and a column ``true_...`` for each of `truth`.

    The truth of a window is that of the last sample in it or before it. If the model's targets are those of windows, it
    is that of a sample in it. The truth of a model that predicts ahead is looked up afterwards; see `TruthAhead`.

    Args:
        bundle: the model.
        job: the settings.
        threads: of the fleet; no prediction depends on it.
        load: streams go on from the snapshots that it gives.
        on_trouble: as of Fleet.
    """

    def __init__(
        self,
        bundle: Bundle,
        job: Job,
        *,
        threads: int = 1,
        load: Load | None = None,
        on_trouble: Callable[[Trouble], None] | None = None,
    ) -> None:
        self.fleet = Fleet(
            bundle,
            faults=job.faults,
            order=job.order,
            features=job.features,
            novelty=job.novelty,
            intervals=job.intervals or None,
            threads=threads,
            time_check=job.check_of_times(),
            plausible=job.plausible,
            on_trouble=on_trouble,
        )
        truth = job.truth
        self._truth = truth
        self._within = bundle.header.target_at == "window"
        self._none = (*(None,) * len(truth), -math.inf)
        self._latest: dict[str, tuple[Any, ...]] = {}
        """Of each stream the truth of its last sample, and that sample's time."""
        # Counted before: what loaded snapshots bring along, less what ended.
        self._before, self._states_before = Counts(), StateCounts()
        self._load = load
        self._keep = bool(job.state_out)
        self.kept: dict[str, bytes] = {}
        """Snapshots of the streams that ended, if the job leaves its states; the caller removes them."""
        self.schema = output_schema(self.fleet.schema, truth_schema(bundle.header, truth) if truth else None)

    def push(self, samples: Samples) -> pa.RecordBatch:
        """Return the predictions of the windows that these samples close."""
        if self._load is not None:
            self._restore_new(samples.streams)
        # In slices, so that neither memory nor Ctrl-C waits for all the windows of a long silence.
        parts = [self.fleet.push(samples.streams, samples.t, samples.x, windows=_SLICE)]
        parts += self.fleet.slices(windows=_SLICE).owed() if self.fleet.owing else ()
        batch = parts[0] if len(parts) == 1 else pa.concat_batches(parts)
        if not self._truth:
            return batch
        return self._complete(batch, self._truth_of(samples, batch))

    def end(self, streams: Iterable[str] | None = None) -> pa.RecordBatch:
        """End streams (None: all), and return the predictions of their last windows.

        A job that leaves its states keeps their snapshots instead.
        """
        names = [name for name in (self.fleet.streams if streams is None else streams) if name in self.fleet]
        if self._keep:
            self.kept |= self.fleet.snapshot(names)
        batch = self.fleet.flush(names)
        if self._keep:
            batch = batch.slice(0, 0)
        batch = self._with_latest(batch)
        for name in names:
            self._latest.pop(name, None)
        return batch

    def advance(self, t: float) -> Iterator[pa.RecordBatch]:
        """Let time reach t in all streams, and yield the predictions of the windows that end by then."""
        for batch in self.fleet.slices(windows=_SLICE).advance(t):
            if batch.num_rows:
                yield self._with_latest(batch)

    def evict(self, *, idle: float, now: float) -> Iterator[pa.RecordBatch]:
        """End the streams that were silent for long, and yield the predictions of their last windows."""
        before = self.fleet.streams
        for batch in self.fleet.slices(windows=_SLICE).evict(idle=idle, now=now):
            if batch.num_rows:
                yield self._with_latest(batch)
        for name in before:
            if name not in self.fleet:
                self._latest.pop(name, None)

    def _with_latest(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return predictions with the truth of their streams' last samples."""
        if not self._truth:
            return batch
        starts = batch["t_start"].to_pylist()
        rows = [self._latest[name] for name in batch["stream"].to_pylist()]
        if self._within:
            rows = [row if row[-1] > start else self._none for row, start in zip(rows, starts, strict=True)]
        kinds = self.schema.types[-len(self._truth) :]
        columns = [pa.array([row[i] for row in rows], kind) for i, kind in enumerate(kinds)]
        return self._complete(batch, columns)

    @property
    def latest(self) -> Mapping[str, tuple[Any, ...]]:
        """Truth of each live stream's last sample, and that sample's time."""
        return self._latest

    def counts(self) -> Counts:
        """Return the counts of rows by outcome, without those that a snapshot counted before this job."""
        return _less(self.fleet.counts(), self._before)

    def state_counts(self) -> StateCounts:
        """Return the counts of windows that need attention, without those that a snapshot counted before this job."""
        return _less(self.fleet.state_counts(), self._states_before)

    def snapshot(self) -> tuple[dict[str, bytes], dict[str, tuple[Any, ...]]]:
        """Return the live streams' snapshots, and the last truth of each."""
        return self.fleet.snapshot(), dict(self._latest)

    def restore(
        self,
        snapshots: Mapping[str, bytes],
        latest: Mapping[str, tuple[Any, ...]],
        *,
        counts: Counts,
        state_counts: StateCounts,
    ) -> None:
        """Go on from `snapshot`, and from the counts at that time."""
        self.fleet.restore(snapshots)
        self._latest |= latest
        self._before = _less(self.fleet.counts(), counts)
        self._states_before = _less(self.fleet.state_counts(), state_counts)

    def _restore_new(self, streams: pa.Array) -> None:
        names = pc.unique(streams.dictionary_decode() if pa.types.is_dictionary(streams.type) else streams)
        new = [name for name in names.to_pylist() if name not in self.fleet]
        if new and self._load is not None:
            snapshots = self._load(new)
            self.fleet.restore(snapshots)
            for name in snapshots:
                self._before += self.fleet.counts(name)
                self._states_before += self.fleet.state_counts(name)

    def _truth_of(self, samples: Samples, batch: pa.RecordBatch) -> list[pa.Array]:
        codes, names = samples.by_code()
        order = np.lexsort((samples.t, codes))
        t_start = batch["t_start"].to_numpy()
        window_codes, t_end = (
            pc.index_in(batch["stream"], names).to_numpy(zero_copy_only=False),
            batch["t_end"].to_numpy(),
        )
        # Rows of the truth: first one of every window that has none in this batch, then the batch's.
        earlier: list[tuple[Any, ...]] = []
        outside = np.zeros(batch.num_rows, np.bool_)
        rows = np.empty(batch.num_rows, np.int64)
        for code in np.unique(window_codes):
            own = order[slice(*np.searchsorted(codes[order], [code, code + 1]))]
            here = np.flatnonzero(window_codes == code)
            place = np.searchsorted(samples.t[own], t_end[here], side="right") - 1
            rows[here] = np.where(place < 0, -1 - len(earlier), own[place])
            if (place < 0).any():
                earlier.append(self._latest.get(names[int(code)].as_py(), self._none))
            if self._within:
                latest = earlier[-1][-1] if (place < 0).any() else -math.inf
                outside[here] = np.where(place < 0, latest, samples.t[own[place]]) <= t_start[here]
        rows = np.where(rows < 0, -1 - rows, rows + len(earlier))
        columns = []
        for i, column in enumerate(self._columns(samples)):
            before = pa.array([row[i] for row in earlier], column.type)
            columns.append(pa.concat_arrays([before, column]).take(pa.array(rows, mask=outside)))
        self._remember(samples, codes, names, order)
        return columns

    def _remember(self, samples: Samples, codes: Any, names: pa.Array, order: Any) -> None:
        lasts = order[np.flatnonzero(np.diff(codes[order], append=-1))]
        values = [column.take(pa.array(lasts)).to_pylist() for column in self._columns(samples)]
        values.append(samples.t[lasts].tolist())
        streams = names.take(pa.array(codes[lasts])).to_pylist()
        self._latest |= dict(zip(streams, zip(*values, strict=True), strict=True))

    def _columns(self, samples: Samples) -> list[pa.Array]:
        if samples.extra is None:
            raise ParameterError(f"samples have no extra columns: read them with extra={list(self._truth)}")
        columns: list[pa.Array] = samples.extra.columns
        return columns

    def _complete(self, batch: pa.RecordBatch, columns: list[pa.Array]) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([*batch.columns, *columns], schema=self.schema)


def _less(a: C, b: C) -> C:
    return type(a)(*(x - y for x, y in zip(a, b, strict=True)))


def output_schema(predictions: pa.Schema, truth: pa.Schema | None) -> pa.Schema:
    """Return the predictions' columns, then one per truth, named ``true_`` and the column's name.

    Raises:
        ConfigError: two columns would have the same name.
    """
    schema = predictions
    for field in truth or ():
        name = f"true_{field.name}"
        if name in schema.names:
            raise ConfigError(f"truth {field.name!r}: the output has a column {name!r} already; rename the column")
        schema = schema.append(field.with_name(name))
    return schema
