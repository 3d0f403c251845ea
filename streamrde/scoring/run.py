"""Run a job: plan, score and write it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TypeAlias

from msgspec.structs import replace

from streamrde.connectors.files.places import shown
from streamrde.errors import ConfigError, DataError
from streamrde.inference.bundle import Bundle, load
from streamrde.inference.states import StateCounts
from streamrde.inference.table import Counts
from streamrde.scoring.assembly import Assembly
from streamrde.scoring.folder import JobFolder, Progress
from streamrde.scoring.job import Job
from streamrde.scoring.local import Engine, InProcessEngine, ProcessEngine, ThreadEngine
from streamrde.scoring.output import check_output, check_store, is_folder, provenance, write_file, write_folder
from streamrde.scoring.plan import FORMAT, File, Plan, make_plan
from streamrde.scoring.ray import RayEngine
from streamrde.scoring.scan import Scan, scan
from streamrde.scoring.scorer import Scorer
from streamrde.scoring.states import open_store, save_snapshots
from streamrde.scoring.status import Status, Summary
from streamrde.scoring.worker import Done, Failure, Work

# A process takes half a second to start, as long as two million rows take; but it does not share Python's lock.
_PROCESS_ROWS = 20_000_000

# Names of streams without a prediction that a summary has.
_SAID = 20
_EXAMPLES = 5

OnStatus: TypeAlias = Callable[[Status], None]


def run_job(
    job: Job, *, bundle: Bundle | None = None, resume: bool = False, on_status: OnStatus | None = None
) -> Summary:
    """Score recorded files into an output that appears whole or not at all.

    The job's folder, ``.NAME.job`` beside the output, holds what is done until the output is there.

    Args:
        bundle: the job's model, loaded; None: it is loaded.
        resume: go on with a job that was stopped; the same settings, model and files, or it is an error. Without one
            it begins.
        on_status: called often with how far the job is.
    Raises:
        ConfigError: settings that cannot work, an output in use, another job to resume.
        DataError: a file that cannot be used, with ``on_error = "stop"``; the disk is full.
        WorkerError: workers die again and again.
    """
    return _Run(job, bundle or load(job.model), on_status or (lambda status: None), resume).run(resume)


class _Run:
    def __init__(self, job: Job, bundle: Bundle, on_status: OnStatus, resume: bool) -> None:
        self.began = time.perf_counter()
        self.folder = JobFolder.beside(job.out)
        check_output(job.out, resume=resume and self.folder.plan() is not None)
        self.job = job
        self.on_status = on_status
        self.bundle = bundle
        self.schema = Scorer(bundle, job).schema
        self.reader = job.reader(self.bundle.header)
        if job.state_out:
            check_store(job.state_out)
        self.rows = 0

    def run(self, resume: bool) -> Summary:
        with self.folder.locked() as lock:
            try:
                plan = self._plan(resume)
                resumed = self._done(plan)
                plan = self._score(plan, lock)
                summary = self._finish(plan, len(resumed))
            except BaseException:
                # What can be resumed stays; a plan alone is made anew faster than it is explained.
                if not any(self.folder.path.glob("[0-9]*.arrow")):
                    self.folder.remove()
                raise
            self.folder.remove()
        return summary

    def _plan(self, resume: bool) -> Plan:
        recordings = self.reader.find(self.job.patterns)
        files: list[File] = []
        skipped: dict[str, str] = {}
        for recording in recordings:
            try:
                files.append(File.of(recording))
            except DataError as error:
                self._skip(error, skipped)
        novelty = [self.bundle.novelty_fingerprint] if self.job.novelty else []
        named = [replace(file, url="") for file in files]  # an address that is signed anew names the same file
        fingerprint = self.job.fingerprint(self.bundle.fingerprint, named, *novelty)
        if resume and (plan := self.folder.plan()) is not None:
            if plan.fingerprint != fingerprint:
                raise ConfigError(
                    f"{self.folder.path}: holds a job with other settings, another model, or files that have changed; "
                    f"start over without --resume, or set them back"
                )
            return plan
        scans = self._scan(files, skipped)
        parts = make_plan([s for s in scans if s is not None], groups=self.job.groups)
        kept = [file for file, s in zip(files, scans, strict=True) if s is not None]
        if not parts:
            raise DataError(
                "no file can be used: " + "; ".join(skipped.values()), path=", ".join(map(str, self.job.patterns))
            )
        dropped = {f.path: dict(s.dropped) for f, s in zip(files, scans, strict=True) if s is not None and s.dropped}
        plan = Plan(FORMAT, fingerprint, self.bundle.fingerprint, self.job, tuple(kept), tuple(parts), skipped, dropped)
        self.folder.save(plan)
        model = self.bundle.fingerprint
        if self.job.state_in:
            with open_store(self.job.state_in, model, identity=self.job.identity, must_exist=True) as store:
                for number, part in enumerate(parts):
                    self.folder.put_start(number, store.read(part.streams))
        return plan

    def _scan(self, files: list[File], skipped: dict[str, str]) -> list[Scan | None]:
        def look(file: File) -> Scan | DataError:
            try:
                return scan(file.recording(), self.reader)
            except DataError as error:
                return error

        found: list[Scan | None] = []
        with ThreadPoolExecutor(self.job.jobs) as pool:
            for i, result in enumerate(pool.map(look, files)):
                if isinstance(result, DataError):
                    self._skip(result, skipped)
                found.append(None if isinstance(result, DataError) else result)
                self.on_status(Status("scanning", i + 1, len(files)))
        return found

    def _skip(self, error: DataError, skipped: dict[str, str]) -> None:
        if self.job.on_error == "stop":
            raise error
        skipped[error.path] = str(error)

    def _done(self, plan: Plan) -> dict[int, Progress]:
        found = {}
        for part in plan.live_parts():
            commits = self.folder.commits(part)
            if commits and commits[-1].progress.done:
                found[part] = commits[-1].progress
        return found

    def _score(self, plan: Plan, lock: int) -> Plan:
        """Score what is not done, without the files that turn out to be bad, if they may be skipped."""
        while open_parts := sorted(plan.live_parts() - self._done(plan).keys()):
            self.rows = sum(progress.rows for progress in self._done(plan).values())
            # The largest first, so that no worker is left with one at the end.
            largest = max(plan.parts[i].rows for i in open_parts)
            open_parts.sort(key=lambda i: -(8 * plan.parts[i].rows // max(largest, 1)))
            bad: dict[str, str] = {}
            work = Work(self.folder, plan, self.bundle)
            done = len(plan.live_parts()) - len(open_parts)
            with closing(
                self._engine(plan, lock, len(open_parts)).run(work, open_parts, self._on_rows(plan))
            ) as results:
                for _, result in results:
                    if isinstance(result, Failure):
                        if not result.path or self.job.on_error == "stop":
                            raise result.as_error()
                        bad[result.path] = result.error
                    done += isinstance(result, Done)
                    self._report(plan, done)
            if bad:
                plan = plan.without(bad)
                for part in plan.touched(bad):
                    self.folder.forget(part)
                self.folder.replace(plan)
                if not plan.live_parts():
                    raise DataError("no file can be used: " + "; ".join(bad.values()), path=next(iter(bad)))
        return plan

    def _engine(self, plan: Plan, lock: int, parts: int) -> Engine:
        if self.job.engine == "ray":
            return RayEngine(self.job.jobs, address=self.job.ray_address)
        if self.job.engine == "processes":
            return ProcessEngine(self.job.jobs, lock=lock)
        if self.job.jobs == 1 or parts == 1:
            return InProcessEngine(threads=self.job.jobs)
        if self.job.engine == "threads" or sum(part.rows for part in plan.parts) < _PROCESS_ROWS:
            return ThreadEngine(self.job.jobs)
        return ProcessEngine(self.job.jobs, lock=lock)

    def _on_rows(self, plan: Plan) -> Callable[[int], None]:
        def count(rows: int) -> None:
            self.rows += rows
            self._report(plan)

        return count

    def _report(self, plan: Plan, done: int | None = None) -> None:
        self.parts_done = self.parts_done if done is None else done
        total = sum(part.rows for part in plan.parts)
        self.on_status(Status("scoring", self.rows, total, self.parts_done, len(plan.parts)))

    parts_done = 0

    def _finish(self, plan: Plan, resumed: int) -> Summary:
        done = self._done(plan)
        total = Progress.total([done[part] for part in sorted(done)])
        self.on_status(Status("writing", total.rows, total.rows, len(done), len(done)))
        states = 0
        if self.job.state_out:
            with open_store(self.job.state_out, self.bundle.fingerprint, identity=self.job.identity) as store:
                states = save_snapshots(store, (some for part in sorted(done) for some in self.folder.kept(part)))
        metadata = provenance(self.job, self.bundle)
        assembly = Assembly(Work(self.folder, plan, self.bundle), self.schema)
        parts = (assembly.predictions(part) for part in sorted(done))
        began = time.perf_counter()
        if is_folder(self.job.out):
            write_folder(self.job.out, self.schema, parts, metadata)
        else:
            write_file(self.job.out, self.schema, (batch for part in parts for batch in part), metadata)
        dropped = Counter(total.dropped)
        for path, reasons in plan.dropped.items():
            if path not in plan.skipped:
                dropped.update(reasons)
        return Summary(
            out=shown(self.job.out),
            files=len([file for file in plan.files if file.path not in plan.skipped]),
            streams=sum(len(plan.part(part).streams) for part in done) + sum(map(len, total.cuts.values())),
            parts=len(done),
            rows=total.rows,
            predictions=total.predictions,
            counts=Counts(*total.counts),
            state_counts=StateCounts(*total.state_counts),
            novelty=self.job.novelty,
            horizon=self.bundle.header.horizon,
            seconds=time.perf_counter() - self.began,
            resumed=resumed,
            sorted=sum(progress.sorted for progress in done.values()),
            skipped=plan.skipped,
            dropped=dict(dropped),
            restarts={name: len(cuts) for name, cuts in total.cuts.items()},
            phases=total.seconds | {"writing": total.seconds["writing"] + time.perf_counter() - began},
            states=states,
            evaluation=assembly.measures(),
            unmeasured=assembly.unmeasured,
            silent=len(assembly.silent),
            silent_examples=tuple(assembly.silent[:_EXAMPLES]),
            troubles=total.troubles,
            implausible=total.implausible,
            said=total.said[:_SAID],
        )
