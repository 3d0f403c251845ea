"""Score one part of a job, from its last commit to its end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from streamrde.connectors.files.reading import SampleReader
from streamrde.connectors.files.restarts import Restarts, explain, part_name, split_streams
from streamrde.connectors.files.sorting import sort_by_time
from streamrde.connectors.files.together import in_order_together
from streamrde.connectors.samples import Samples
from streamrde.errors import DataError, OrderError, SampleError, TimeUnitError
from streamrde.inference.bundle import Bundle
from streamrde.inference.states import StateCounts
from streamrde.inference.table import Counts
from streamrde.inference.troubles import Trouble
from streamrde.scoring.folder import Commit, JobFolder, Progress
from streamrde.scoring.plan import File, Part, Piece, Plan
from streamrde.scoring.read_ahead import WriteBehind, read_ahead
from streamrde.scoring.scorer import Scorer

# Predictions that wait for a commit, at most.
_HELD_BYTES = 64 << 20
# Streams that went wrong, of which a part says how.
_SAID = 20

OnRows = Callable[[int], None]


class _Step(NamedTuple):
    """Samples of one piece, or its end."""

    piece: int
    row: int
    """Row of the file where to go on after them."""
    samples: Samples | None
    dropped: dict[str, int]
    """Rows that were left out until then, by the reason."""


class _OutOfOrderError(Exception):
    """A stream's rows are not in order of time."""


def score_part(
    folder: JobFolder, plan: Plan, part: int, bundle: Bundle, *, threads: int = 1, on_rows: OnRows
) -> Progress:
    """Score a part and commit its predictions. A part that was begun goes on from its last commit.

    Args:
        threads: of the fleet; no prediction depends on it.
        on_rows: called with the number of samples taken since the last call.
    Raises:
        DataError: a file of the part cannot be used, the disk is full; the commits stay.
        SampleError: a row cannot be used, with ``faults = "error"``.
    """
    commits = folder.commits(part)
    if commits and commits[-1].progress.done:
        return commits[-1].progress
    worker = _PartWorker(folder, plan, part, bundle, threads, on_rows)
    sort = plan.job.sort == "always" or bool(commits and commits[-1].progress.sorted)
    if not sort:
        try:
            return worker.score(commits[-1] if commits else None, sort=False)
        except _OutOfOrderError:
            folder.forget(part)
    return worker.score(None, sort=True)


def read_samples(part: Part, files: Sequence[File], reader: SampleReader) -> Iterator[Samples]:
    """Yield all samples of a part's streams, in the order of its files."""
    return (samples for _, samples in _with_files(part, files, reader))


def _with_files(part: Part, files: Sequence[File], reader: SampleReader) -> Iterator[tuple[str, Samples]]:
    """Yield all samples of a part's streams, each batch with its file."""
    streams = frozenset(part.streams) if any(piece.shared for piece in part.pieces) else None
    for piece in part.pieces:
        file = files[piece.file]
        file.check()
        stop, wanted = None if piece.stop < 0 else piece.stop, streams if piece.shared else None
        for _, samples in reader.read(file.recording(), start=piece.start, stop=stop, streams=wanted):
            yield file.path, samples


class _PartWorker:
    def __init__(self, folder: JobFolder, plan: Plan, part: int, bundle: Bundle, threads: int, on_rows: OnRows) -> None:
        self.folder = folder
        self.plan = plan
        self.number = part
        self.part: Part = plan.part(part)
        self.bundle = bundle
        self.threads = threads
        self.on_rows = on_rows
        self.reader = plan.job.reader(bundle.header)
        self.cuts: dict[str, list[int]] = {}
        self.seconds = {"reading": 0.0, "fleet": 0.0, "writing": 0.0}
        self.where = ""
        """The file whose rows are taken."""
        self.said: list[str] = []

    def score(self, last: Commit | None, *, sort: bool) -> Progress:
        job = self.plan.job
        start = self.folder.start(self.number) if job.state_in else None
        scorer = Scorer(
            self.bundle,
            job,
            threads=self.threads,
            load=None if start is None else lambda names: {name: start[name] for name in names if name in start},
            on_trouble=self._note,
        )
        number, piece, row, rows, predictions = 0, 0, 0, 0, 0
        self.reader.dropped.clear()
        before: Counter[str] = Counter()
        self.said, troubles, implausible = [], Counter[str](), Counter[str]()
        if last is not None:
            at = last.progress
            number, piece, row = last.number + 1, at.piece, at.row
            rows, predictions = at.rows, at.predictions
            self.seconds |= at.seconds
            before.update(at.dropped)
            troubles.update(at.troubles)
            implausible.update(at.implausible)
            self.said = list(at.said)
            scorer.restore(
                *self.folder.live(self.number, last.number),
                counts=Counts(*at.counts),
                state_counts=StateCounts(*at.state_counts),
            )
            self.on_rows(rows)
        steps = self._steps(piece, row)
        if sort:
            steps = self._sorted(steps)
        held: list[pa.RecordBatch] = []
        size = 0
        due = time.monotonic() + job.commit_seconds
        with WriteBehind() as behind:
            for step in read_ahead(self._timed(steps)):
                began = time.perf_counter()
                self.where = "" if sort else self.plan.files[self.part.pieces[step.piece].file].path
                if step.samples is None:
                    ends = None if sort else self.part.pieces[step.piece].ends
                    batch = scorer.end(ends)
                    piece, row = step.piece + 1, 0
                else:
                    batch = self._push(scorer, step.samples, step, sort=sort)
                    piece, row = step.piece, step.row
                    rows += len(step.samples.t)
                    self.on_rows(len(step.samples.t))
                self.seconds["fleet"] += time.perf_counter() - began
                predictions += batch.num_rows
                if batch.num_rows:
                    held.append(batch)
                    size += batch.nbytes
                done = piece == len(self.part.pieces)
                if not done and (sort or (time.monotonic() < due and size < _HELD_BYTES)):
                    continue
                if job.sort == "auto" and not sort and scorer.counts().late:
                    raise _OutOfOrderError
                progress = Progress(
                    piece,
                    row,
                    rows,
                    predictions,
                    tuple(scorer.counts()),
                    tuple(scorer.state_counts()),
                    done=done,
                    sorted=sort,
                    seconds=dict(self.seconds),
                    dropped=dict(before + Counter(step.dropped)),
                    troubles=dict(troubles + Counter(scorer.fleet.trouble_counts)),
                    implausible=dict(implausible + Counter(scorer.fleet.implausible)),
                    said=tuple(self.said),
                    cuts=self.cuts,
                )
                live, kept = None if done else scorer.snapshot(), scorer.kept
                scorer.kept = {}
                behind(self._commit, (number, held, scorer.schema, progress, live, kept))
                number, held, size, due = number + 1, [], 0, time.monotonic() + job.commit_seconds
        return progress

    def _note(self, trouble: Trouble) -> None:
        if not trouble.again and len(self.said) < _SAID:
            self.said.append(f"{self.where}: {trouble}" if self.where else str(trouble))

    def _push(self, scorer: Scorer, samples: Samples, step: _Step, *, sort: bool) -> pa.RecordBatch:
        try:
            return scorer.push(samples)
        except OrderError as error:
            if self.plan.job.sort == "auto" and not sort and error.t < error.last:
                raise _OutOfOrderError from None
            raise self._located(error, step) from None
        except SampleError as error:
            raise self._located(error, step) from None

    def _located(self, error: SampleError, step: _Step) -> DataError:
        """Return the error with the file that the row came from."""
        files = {self.plan.files[piece.file].path for piece in self.part.pieces}
        path = self.plan.files[self.part.pieces[step.piece].file].path if step.row or len(files) == 1 else ""
        begin = "" if not step.row else f", rows from {step.row - len(step.samples.t)}"  # type: ignore[union-attr]
        row = max(0, step.row - len(step.samples.t))  # type: ignore[union-attr]
        setting = "time_check" if isinstance(error, TimeUnitError) else "faults"
        return DataError(f"{path}{begin}: {error}", path=path, row=row, setting=setting)

    def _commit(self, commit: tuple) -> None:  # type: ignore[type-arg]
        number, batches, schema, progress, live, kept = commit
        began = time.perf_counter()
        self.folder.commit(self.number, number, batches, schema, progress, live=live, kept=kept)
        self.seconds["writing"] += time.perf_counter() - began

    def _timed(self, steps: Iterator[_Step]) -> Iterator[_Step]:
        while True:
            began = time.perf_counter()
            step = next(steps, None)
            self.seconds["reading"] += time.perf_counter() - began
            if step is None:
                return
            yield step

    def _steps(self, piece: int, row: int) -> Iterator[_Step]:
        """Yield the part's samples from a row of a piece on."""
        streams = None
        for number in range(piece, len(self.part.pieces)):
            one = self.part.pieces[number]
            if one.shared and streams is None:
                streams = frozenset(self.part.streams)
            file = self.plan.files[one.file]
            file.check()
            samples = self.reader.read(
                file.recording(),
                start=max(one.start, row),
                stop=None if one.stop < 0 else one.stop,
                streams=streams if one.shared else None,
            )
            for after, batch in samples:
                yield _Step(number, after, batch, self._dropped(one))
            yield _Step(number, 0, None, self._dropped(one))
            row = 0

    def _dropped(self, piece: Piece) -> dict[str, int]:
        """Return the rows left out, by the reason. Those without a stream count if the scan has not seen them."""
        if piece.stop < 0:
            self.reader.dropped.update(self.reader.nameless)
        self.reader.nameless.clear()
        return dict(self.reader.dropped)

    def _find_restarts(self) -> None:
        """Read the part once more, to tell streams that begin again from rows that are out of order."""
        job = self.plan.job
        if job.restarts == "sort":
            return
        restarts = Restarts(partial=self.reader.is_partial)
        for file, samples in _with_files(self.part, self.plan.files, job.reader(self.bundle.header)):
            restarts.push(samples, file)
        if job.restarts == "error" and (found := restarts.found()):
            raise DataError(f"{found[0].file}: {explain(found, 'restarts =')}", path=found[0].file, setting="restarts")
        if job.restarts == "split":
            self.cuts = restarts.places()
            for name, cuts in self.cuts.items():
                taken = {part_name(name, part) for part in range(1, len(cuts) + 1)} & set(self.part.streams)
                if taken:
                    raise DataError(
                        f"{file}: stream '{name}' begins again, and '{taken.pop()}' is another stream's name "
                        "already; rename that one, or set restarts = 'sort'",
                        path=file,
                    )

    def _sorted(self, steps: Iterator[_Step]) -> Iterator[_Step]:
        last = len(self.part.pieces) - 1
        self._find_restarts()
        samples: Iterator[Samples] = (step.samples for step in steps if step.samples is not None)
        if self.cuts:
            samples = split_streams(samples, self.cuts)
        ordered = sort_by_time(
            samples, folder=self.folder.path, memory=self.plan.job.sort_memory, batch_rows=self.plan.job.batch_rows
        )
        for batch in in_order_together(ordered) if self.reader.is_partial else ordered:
            yield _Step(last, 0, batch, dict(self.reader.dropped))
        yield _Step(last, 0, None, dict(self.reader.dropped))
