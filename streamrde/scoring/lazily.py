"""Score an Arrow stream, or files, as the predictions are read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol, runtime_checkable

import pyarrow as pa

from streamrde.connectors.files.restarts import Restarts, explain, split_streams
from streamrde.connectors.files.sorting import sort_by_time
from streamrde.connectors.files.together import in_order_together
from streamrde.connectors.samples import Samples
from streamrde.errors import ConfigError, DataError, OrderError, SampleError, TimeUnitError
from streamrde.inference.bundle import Bundle
from streamrde.scoring.job import Job
from streamrde.scoring.read_ahead import read_ahead
from streamrde.scoring.scorer import Scorer
from streamrde.scoring.states import open_store, save_snapshots


@runtime_checkable
class ArrowStream(Protocol):
    """Export an Arrow stream, as objects of pyarrow, polars, duckdb and pandas do."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return a capsule with an ArrowArrayStream."""


def predict_lazily(source: ArrowStream | None, job: Job, bundle: Bundle) -> pa.RecordBatchReader:
    """Return the predictions for a source or the job's files as they are read. One thread reads ahead.

    Raises:
        DataError: when a batch is read: a missing column, a wrong type, rows out of order.
    """
    if job.truth and bundle.header.horizon:
        raise ConfigError(
            f"truth {list(job.truth)}: the model predicts {bundle.header.horizon:g} s ahead, and a stream of "
            "predictions cannot look ahead for its truth; give `out`, a file"
        )
    scorer = Scorer(bundle, job)
    return pa.RecordBatchReader.from_batches(scorer.schema, _batches(source, job, bundle))


def _batches(source: ArrowStream | None, job: Job, bundle: Bundle) -> Iterator[pa.RecordBatch]:
    with ExitStack() as stack:
        load = None
        if job.state_in:
            before = stack.enter_context(
                open_store(job.state_in, bundle.fingerprint, identity=job.identity, must_exist=True)
            )
            load = before.read
        scorer = Scorer(bundle, job, threads=job.jobs, load=load)
        partial = job.reader(bundle.header).is_partial
        samples = _files(job, bundle) if source is None else _arrow(source, job, bundle)
        if job.restarts == "split":
            samples = _split(source, job, bundle)
        elif job.restarts == "error" and job.sort == "always":
            samples = _watched(samples, partial=partial)
        if job.sort == "always":
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamrde-")))
            samples = sort_by_time(samples, folder=folder, memory=job.sort_memory, batch_rows=job.batch_rows)
            samples = in_order_together(samples) if partial else samples
        for batch in read_ahead(samples):
            try:
                predictions = scorer.push(batch)
            except OrderError as error:
                raise DataError(f"{error}; or sort = 'always' sorts them on disk", path="") from None
            except TimeUnitError as error:
                raise DataError(f"{error}", path="") from None
            except SampleError as error:
                raise DataError(f"{error}; faults = 'drop' counts and skips such rows", path="") from None
            if predictions.num_rows:
                yield predictions
        last = scorer.end()
        if last.num_rows:
            yield last
        if job.state_out:
            stack.close()  # it may be the same store
            with open_store(job.state_out, bundle.fingerprint, identity=job.identity) as store:
                save_snapshots(store, [scorer.kept])


def _files(job: Job, bundle: Bundle) -> Iterator[Samples]:
    reader = job.reader(bundle.header)
    for recording in reader.find(job.patterns):
        yield from (samples for _, samples in reader.read(recording))


def _split(source: ArrowStream | None, job: Job, bundle: Bundle) -> Iterator[Samples]:
    """Read the samples of files in two passes. A stream that starts over becomes another stream."""
    if source is not None:
        raise ConfigError("restarts = 'split' reads its source twice: give files, or split the Arrow stream before")
    reader = job.reader(bundle.header)
    restarts = Restarts(partial=reader.is_partial)
    for recording in reader.find(job.patterns):
        for _, samples in reader.read(recording):
            restarts.push(samples, str(recording.path))
    return split_streams(_files(job, bundle), restarts.places())


def _watched(samples: Iterator[Samples], *, partial: bool) -> Iterator[Samples]:
    """Yield the samples that are to be sorted. Raise an error at their end if that would mix several recordings."""
    restarts = Restarts(partial=partial)
    for batch in samples:
        restarts.push(batch)
        yield batch
    if found := restarts.found():
        raise DataError(explain(found, "restarts ="), path="", setting="restarts")


def _arrow(source: ArrowStream, job: Job, bundle: Bundle) -> Iterator[Samples]:
    try:
        with pa.RecordBatchReader.from_stream(source) as batches:
            yield from job.reader(bundle.header).read_arrow(batches)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"the Arrow stream broke off ({error}); what sent it may say why", path="") from None
