"""Put a job's parts together: their predictions in order, with the truth, measured against it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from streamrde.connectors.files.errors import mapped_errors
from streamrde.connectors.files.restarts import split_streams
from streamrde.scoring.ahead import MOST_ROWS, TruthAhead, stated_horizon, with_truth
from streamrde.scoring.evaluation import Evaluation
from streamrde.scoring.part import read_samples
from streamrde.scoring.worker import Work


class Assembly:
    """Read the predictions of a job whose parts are done.

    Args:
        work: the job.
        schema: of the output.
    """

    def __init__(self, work: Work, schema: pa.Schema) -> None:
        self._folder, self._plan, self._bundle = work
        self._job = work.plan.job
        self._schema = schema
        self._evaluation = Evaluation(work.bundle.header, self._job.truth) if self._job.truth else None
        self.silent: list[str] = []
        """Streams without a prediction, of the parts that were read."""
        self.unmeasured = ""
        """Why predictions are not measured although truth was named."""
        self._looks_ahead = self._has_truth_ahead()

    def predictions(self, part: int) -> Iterator[pa.RecordBatch]:
        """Yield the predictions of a part, with the truth they are about."""
        truth = self._truth_ahead(part) if self._looks_ahead else None
        without = set(self._plan.part(part).streams)
        for batch in self._committed(part):
            without.difference_update(pc.unique(batch["stream"]).to_pylist())
            if truth is not None:
                batch = with_truth(batch, truth.lookup(batch))
            elif self.unmeasured:
                columns = [pa.nulls(batch.num_rows, batch[f"true_{name}"].type) for name in self._job.truth]
                batch = with_truth(batch, columns)
            if self._evaluation is not None:
                self._evaluation.add(batch)
            yield batch
        self.silent += sorted(without)

    def measures(self) -> dict[str, Any] | None:
        """Return the measures of the predictions that were read, or None if there was no truth."""
        return None if self._evaluation is None or self.unmeasured else self._evaluation.summary()

    def _has_truth_ahead(self) -> bool:
        """Return True if the truth has to be looked up a horizon after each window.

        Files of test streams have it ahead already.
        """
        horizon, truth = self._bundle.header.horizon, self._job.truth
        if not horizon or not truth:
            return False
        for file in self._plan.files:
            stated = None if file.path in self._plan.skipped else stated_horizon(file.recording(), truth)
            if stated is not None:
                if abs(stated - horizon) > 1e-9 * horizon:
                    self.unmeasured = (
                        f"{file.path} has the truth {stated:g} s ahead, and the model predicts {horizon:g} s"
                    )
                return False
        if max(part.rows for part in self._plan.parts) > MOST_ROWS:
            self.unmeasured = (
                f"the model predicts {horizon:g} s ahead, and the truth of {MOST_ROWS:,} rows at most can be looked up "
                "together; score fewer files at a time, or use --groups"
            )
        return not self.unmeasured

    def _truth_ahead(self, part: int) -> TruthAhead:
        samples = read_samples(self._plan.part(part), self._plan.files, self._job.reader(self._bundle.header))
        if cuts := self._folder.commits(part)[-1].progress.cuts:
            samples = split_streams(samples, cuts)
        return TruthAhead(samples, horizon=self._bundle.header.horizon)

    def _committed(self, part: int) -> Iterator[pa.RecordBatch]:
        for commit in self._folder.commits(part):
            path = commit.predictions
            with mapped_errors(path), pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
                for i in range(reader.num_record_batches):
                    yield reader.get_batch(i).cast(self._schema)
