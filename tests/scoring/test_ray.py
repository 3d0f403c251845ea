"""Jobs on Ray: a machine of its own, and clusters of several nodes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from brokers import free_port
from scoring_data import make_table, split

import streamrde as sr
from streamrde.scoring import plan

pytest.importorskip("ray", reason="needs the extra ray")
pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds workers in /proc")

LEAST_ROWS = 10_000

# Processes of their own: Ray's start leaves open files and warnings behind.
PREPARATION = """
import contextlib, json, os, pathlib, signal, sys, threading, time
from streamrde.scoring import Job, plan, run_job

plan._LEAST_ROWS = 10_000
source, model, out = sys.argv[1:]

def job(name, **options):
    return Job(files=(source,), model=model, out=f"{out}/{name}.parquet", engine="ray", jobs=2,
               commit_seconds=0.0, batch_rows=500, **options)

def scoring():  # workers that have a part, and the process that started each
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cmdline").read_bytes().startswith(b"ray::_score"):
                yield int(process.name), int((process / "stat").read_text().rpartition(")")[2].split()[1])
"""

ONE_MACHINE = """
killed = []

def kill():  # the first worker that scores
    while not killed:
        for worker, _ in scoring():
            time.sleep(0.3)
            os.kill(worker, signal.SIGKILL)
            killed.append(worker)
            break
        time.sleep(0.01)

threading.Thread(target=kill, daemon=True).start()
summary = run_job(job("ray"))
print(json.dumps({"killed": len(killed), "rows": summary.rows, "parts": summary.parts}))
"""

TWO_NODES = """
import ray
import streamrde.scoring.ray as engine
from ray.cluster_utils import Cluster
from streamrde.errors import ConfigError

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}
cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
second = cluster.add_node(**NODE)
raylets = {node.all_processes["raylet"][0].process.pid: name
           for node, name in ((cluster.head_node, "head"), (second, "second"))}
at_work, ended, found = set(), threading.Event(), {}

def watch():
    while not ended.wait(0.005):
        at_work.update(raylets[parent] for _, parent in scoring() if parent in raylets)

def kill_second():
    while "second" not in {raylets.get(parent) for _, parent in scoring()}:
        time.sleep(0.005)
    time.sleep(0.3)
    os.kill(next(pid for pid, name in raylets.items() if name == "second"), signal.SIGKILL)
    found["killed"] = True

watching = threading.Thread(target=watch, daemon=True)
watching.start()
found["rows"] = run_job(job("both", ray_address=cluster.address)).rows
ended.set()
watching.join()
found["at_work"] = sorted(at_work)

for name, module in (("streamrde", engine), ("ray", ray)):
    version, module.__version__ = module.__version__, "0.0.1"
    try:
        run_job(job("never", ray_address=cluster.address))
    except ConfigError as error:
        found[name] = str(error)
    module.__version__ = version

killing = threading.Thread(target=kill_second, daemon=True)
killing.start()
found["rows_after"] = run_job(job("killed", ray_address=cluster.address)).rows
killing.join()
print(json.dumps(found))
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from bundles import make_bundle

    folder = tmp_path_factory.mktemp("ray")
    make_bundle().save(folder / "model.safetensors")
    split(make_table(30, 1500), folder / "in", files=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "_LEAST_ROWS", LEAST_ROWS)
        sr.score(folder / "in", folder / "model.safetensors", out=folder / "local.parquet")
    return folder


def run(script, folder):
    command = [sys.executable, "-c", PREPARATION + script, folder / "in", folder / "model.safetensors", folder]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().split("\n")[-1])


def test_ray_gives_the_bytes_of_a_local_job_although_a_worker_is_killed(folder):
    assert run(ONE_MACHINE, folder) == {"killed": 1, "rows": 45000, "parts": 5}
    assert (folder / "ray.parquet").read_bytes() == (folder / "local.parquet").read_bytes()


@pytest.fixture(scope="module")
def found(folder):
    """What jobs on a cluster of two nodes came to; in the last one a node is killed."""
    return run(TWO_NODES, folder)


def test_two_nodes_give_the_bytes_of_a_local_job(folder, found):
    assert found["at_work"] == ["head", "second"]
    assert found["rows"] == 45000
    assert (folder / "both.parquet").read_bytes() == (folder / "local.parquet").read_bytes()


def test_a_node_that_is_killed_changes_no_byte(folder, found):
    assert found["killed"]
    assert found["rows_after"] == 45000
    assert (folder / "killed.parquet").read_bytes() == (folder / "local.parquet").read_bytes()


def test_a_worker_of_another_version_refuses_the_job(found):
    assert f"has streamrde {sr.__version__}, but the job was started by 0.0.1" in found["streamrde"]
    assert found["streamrde"].endswith("install the same version on all machines")


def test_a_cluster_of_another_version_of_ray_is_an_error_with_the_remedy(found):
    assert "has other versions (Version mismatch" in found["ray"]
    assert found["ray"].endswith("install the same Ray and Python on all machines")


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "6379"])
def test_an_address_where_no_cluster_is_is_an_error_at_once(folder, address):
    address = address.format(port=free_port())
    command = [sys.executable, "-m", "streamrde", "score", folder / "in", "--model", folder / "model.safetensors"]
    command += ["--out", folder / "never.parquet", "--engine", "ray", "--ray-address", address]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert f"Ray at {address} cannot be reached" in done.stderr
    assert "check --ray-address" in done.stderr
