"""Jobs that are killed, workers that are killed, and Ray: the same output in the end."""

import contextlib
import itertools
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import msgspec
import pytest
from scoring_data import make_model, make_table, split, write

import streamrde as sr
from streamrde.errors import ConfigError, DataError, WorkerError
from streamrde.inference.novelty import TrainingWindows
from streamrde.scoring import Job, run_job
from streamrde.scoring.folder import JobFolder
from streamrde.scoring.local import RETRIES, ProcessEngine

pytestmark = pytest.mark.slow

PROC = pathlib.Path("/proc")


def job_of(tmp_path, source, model, **settings):
    return Job(files=str(source), model=str(model), out=str(tmp_path / "out.parquet"), **settings)


def stop_after(commits, monkeypatch):
    """Let a job in this process die after so many commits."""
    made = []
    commit = JobFolder.commit

    def commit_or_die(self, *arguments, **named):
        if len(made) == commits:
            raise KeyboardInterrupt
        made.append(commit(self, *arguments, **named))

    monkeypatch.setattr(JobFolder, "commit", commit_or_die)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("commits", [0, 1, 3, 4, 9])
def test_a_job_goes_on_from_its_last_commit(tmp_path, model, interleaved, commits):
    source = write(make_table(interleaved=interleaved), tmp_path / "in" / "a.parquet")
    # Every batch is committed: a part may be stopped anywhere in it.
    job = job_of(tmp_path, source, model, commit_seconds=0.0, batch_rows=50, truth=("kind",))
    with pytest.MonkeyPatch.context() as patch:
        stop_after(commits, patch)
        with pytest.raises(KeyboardInterrupt):
            run_job(job)
    assert not (tmp_path / "out.parquet").exists()
    summary = run_job(job, resume=True)
    assert summary.rows == make_table().num_rows
    resumed = (tmp_path / "out.parquet").read_bytes()
    whole = run_job(job)
    assert (tmp_path / "out.parquet").read_bytes() == resumed
    assert (summary.predictions, summary.counts) == (whole.predictions, whole.counts)
    assert summary.evaluation == whole.evaluation


@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".csv"])
def test_a_job_goes_on_from_each_commit_also_behind_a_file_s_last_row(tmp_path, suffix):
    model = make_model(tmp_path, hidden_range=True, novelty=TrainingWindows(windows=400, streams=10, alarm=3.0))
    source = split(make_table(), tmp_path / "in", files=2, suffix=suffix)
    job = job_of(tmp_path, source, model, commit_seconds=0.0, novelty=True)
    whole = run_job(job)
    assert whole.state_counts.novel > 0
    assert whole.state_counts.out_of_range > 0
    written = (tmp_path / "out.parquet").read_bytes()
    for commits in itertools.count():
        stopped = False
        with pytest.MonkeyPatch.context() as patch:
            stop_after(commits, patch)
            try:
                run_job(job)
            except KeyboardInterrupt:
                stopped = True
        if not stopped:
            break
        resumed = run_job(job, resume=True)
        assert (resumed.rows, resumed.counts, resumed.state_counts) == (whole.rows, whole.counts, whole.state_counts)
        assert (tmp_path / "out.parquet").read_bytes() == written
    # Both files end with a commit behind the last row, and one behind the ends of their streams.
    assert commits >= 4


def test_a_worker_that_was_given_up_and_comes_back_is_noticed(tmp_path, model):
    """Its machine was paused or cut off; meanwhile another has scored its part up to other rows."""
    source = write(make_table(), tmp_path / "in" / "a.parquet")
    job = job_of(tmp_path, source, model, commit_seconds=0.0, batch_rows=50)
    commit = JobFolder.commit

    def commit_beside_another(self, part, number, *rest, **named):
        commit(self, part, number, *rest, **named)
        if number == 2:
            commit(self, part, number, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JobFolder, "commit", commit_beside_another)
        with pytest.raises(DataError, match=r"another worker scores part 0, too; .* use --resume"):
            run_job(job)
    run_job(job, resume=True)
    resumed = (tmp_path / "out.parquet").read_bytes()
    run_job(job)
    assert (tmp_path / "out.parquet").read_bytes() == resumed


def test_another_job_is_not_resumed(tmp_path, model):
    source = write(make_table(), tmp_path / "in" / "a.parquet")
    job = job_of(tmp_path, source, model, commit_seconds=0.0, batch_rows=50)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            run_job(job)
    with pytest.raises(ConfigError, match="other settings"):
        run_job(msgspec.structs.replace(job, faults="drop"), resume=True)
    os.utime(source, (1, 1))
    with pytest.raises(ConfigError, match="files that have changed"):
        run_job(job, resume=True)


def test_two_jobs_do_not_share_an_output(tmp_path, model, monkeypatch):
    monkeypatch.setattr("streamrde.scoring.folder._LOCK_SECONDS", 0.0)
    source = write(make_table(), tmp_path / "in" / "a.parquet")
    job = job_of(tmp_path, source, model)
    with JobFolder.beside(job.out).locked(), pytest.raises(ConfigError, match="another process"):
        run_job(job)


@pytest.mark.skipif(os.name != "posix", reason="kills processes")
@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_a_job_killed_at_random_moments_and_resumed_gives_the_same(tmp_path, model, engine):
    table = make_table(20, 2000)
    source = split(table, tmp_path / "in", files=4)
    config = tmp_path / "job.toml"
    config.write_text("commit_seconds = 0.0\nbatch_rows = 1000\n")
    out = tmp_path / "out.parquet"
    command = [sys.executable, "-m", "streamrde", "score", str(source), "--config", str(config), "-m", str(model)]
    command += ["-o", str(out), "--jobs", "2", "--resume", "--engine", engine]
    rng, kills = random.Random(0), 0
    for _ in range(20):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        # Some commits later, whatever the machine's speed; the third run comes to its end, unless others did before.
        before = rng.randrange(1, 15) + committed(out)
        while kills < 2 and process.poll() is None:
            if committed(out) >= before:
                process.kill()
                kills += 1
                break
            time.sleep(0.001)
        _, errors = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGKILL), errors.decode()
        if kills == 2 and process.returncode == 0:
            break
    assert kills == 2
    sr.score(source, model, out=tmp_path / "whole.parquet")
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


@pytest.mark.skipif(not PROC.is_dir(), reason="finds workers in /proc")
def test_a_worker_that_is_killed_is_replaced(tmp_path, model):
    source = split(make_table(20, 1000), tmp_path / "in", files=4)
    job = job_of(tmp_path, source, model, jobs=2, engine="processes", commit_seconds=0.0, batch_rows=1000)
    killed = []

    def kill(status):
        workers = workers_of(os.getpid()) if status.stage == "scoring" and not killed else []
        if workers and status.done > 2000:
            killed.append(workers[0])
            os.kill(workers[0], signal.SIGKILL)

    run_job(job, on_status=kill)
    assert len(killed) == 1
    sr.score(source, model, out=tmp_path / "whole.parquet")
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


@pytest.mark.skipif(not PROC.is_dir(), reason="finds workers in /proc")
def test_a_worker_that_is_killed_again_and_again_is_not_replaced_for_ever(tmp_path, model):
    source = split(make_table(20, 1000), tmp_path / "in", files=4)
    job = job_of(tmp_path, source, model, jobs=2, engine="processes", commit_seconds=0.0, batch_rows=1000)
    killed, stopped = set(), threading.Event()

    def kill():
        # As soon as they are there, before they have done anything.
        while not stopped.wait(0.005):
            for worker in workers_of(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
                    killed.add(worker)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(WorkerError, match="died 3 times, last with status -9"):
            run_job(job)
    finally:
        stopped.set()
        killer.join()
    assert len(killed) > RETRIES
    run_job(job, resume=True)
    sr.score(source, model, out=tmp_path / "whole.parquet")
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


@pytest.mark.usefixtures("small_parts")
@pytest.mark.skipif(not PROC.is_dir(), reason="finds workers in /proc")
def test_a_worker_that_dies_with_nothing_to_do_is_not_missed(tmp_path, model, monkeypatch):
    source = write(make_table(), tmp_path / "in" / "a.parquet")
    job = job_of(tmp_path, source, model, jobs=2, engine="processes")
    run, given, done = ProcessEngine.run, [], []

    def run_and_kill(self, folder, parts, on_rows):
        given.extend(parts)
        for part, result in run(self, folder, parts, on_rows):
            done.append(part)
            if len(done) == len(parts) - 1:  # one worker has the last part, the other none
                for worker in workers_of(os.getpid()):
                    os.kill(worker, signal.SIGKILL)
                time.sleep(0.1)
            yield part, result

    monkeypatch.setattr(ProcessEngine, "run", run_and_kill)
    run_job(job)
    assert len(given) > 2
    assert sorted(done) == sorted(given)
    sr.score(source, model, out=tmp_path / "whole.parquet")
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def committed(out):
    """How many commits the job of an output has."""
    return len(list((out.parent / f".{out.name}.job").glob("[0-9]*.[0-9][0-9][0-9][0-9].arrow")))


def workers_of(parent):
    """Processes that `parent` started to score parts."""
    found = []
    for process in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_worker = b"streamrde.scoring.worker" in (process / "cmdline").read_bytes()
            if is_worker and int((process / "stat").read_text().split()[3]) == parent:
                found.append(int(process.name))
    return found
