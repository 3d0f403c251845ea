"""The unit of systemd: verified, its exposure measured, and run by a systemd that the test boots in namespaces."""

import json
import re
import shutil
import subprocess

import pytest
from brokers import MOSQUITTO, free_port, mosquitto
from bundles import make_bundle
from deployment.image import DEPLOYMENT, can_unshare, in_layer

UNIT = DEPLOYMENT / "streamrde@.service"
NSPAWN = shutil.which("systemd-nspawn")
# By systemd-analyze(1): 0 is no exposure, 10 all of it. What is left is the network.
MOST_EXPOSURE = 1.5

# For the test: a watchdog that barks soon. The interpreter of the image is this machine's, in another place.
QUICK = """
[Service]
WatchdogSec=2
RestartSec=0.1
Environment=LD_LIBRARY_PATH=/opt/python/lib
"""

BOOT = r"""
folder=$3
mkdir -p "$root/results" "$root/etc/streamrde" "$root/var/lib/private"
mount --bind "$folder" "$root/results"
cp "$folder/watch.toml" "$root/etc/streamrde/"; cp "$folder/model.safetensors" "$root/etc/streamrde/"
rm -rf "$root"/etc/systemd/system/*; : > "$root/etc/machine-id"
cp "$folder/streamrde@.service" "$root/etc/systemd/system/"
mkdir "$root/etc/systemd/system/streamrde@.service.d"
cp "$folder/quick.conf" "$root/etc/systemd/system/streamrde@.service.d/"
cat > "$root/etc/systemd/system/check.service" <<END
[Service]
Type=oneshot
ExecStart=/bin/bash /results/check.sh
ExecStopPost=/bin/systemctl --no-block poweroff --force
END
mkdir -p "$root/etc/systemd/system/basic.target.wants"
ln -s ../check.service "$root/etc/systemd/system/basic.target.wants/"
exec systemd-nspawn --quiet --register=no --keep-unit --resolv-conf=off --directory "$root" --boot \
  systemd.unit=basic.target systemd.show_status=no
"""

# What is asked of systemd and of the service, inside. Each answer is a file.
CHECK = r"""
cd /results
export LD_LIBRARY_PATH=/opt/python/lib
health() { /opt/streamrde/bin/streamrde health "http://127.0.0.1:$PORT/$1"; }
properties=ActiveState,StatusText,MainPID,NRestarts,Result,ExecMainStatus
show() { systemctl show --property $properties streamrde@watch > "$1"; }
status() { systemctl show --value --property StatusText streamrde@watch; }
# The service says how it is once a second, a moment after it is so.
until_well() { for _ in $(seq 100); do health readyz && status | grep -q become && return; sleep 0.1; done; }
systemd-analyze verify /etc/systemd/system/streamrde@.service > verify 2>&1; echo $? >> verify
systemctl start streamrde@watch || { journalctl --unit streamrde@watch --output cat > log; exit 1; }
until_well
show started
pid=$(systemctl show --value --property MainPID streamrde@watch)
cat "/proc/$pid/status" > process
ls -ln /var/lib/private/streamrde/watch > state
for place in /etc/streamrde/x /opt/x /root/x /home/x /var/lib/x; do
  nsenter --target "$pid" --mount --setuid "$(stat -c %u "/proc/$pid")" touch "$place" 2>> refused
done
cp model2.safetensors /etc/streamrde/model.safetensors
systemctl reload streamrde@watch; echo $? > reload
checkpoints="import sys, urllib.request as u
sys.exit(b'\nstreamrde_checkpoints_total 0.0' in u.urlopen('http://127.0.0.1:$PORT/metrics').read())"
for _ in $(seq 100); do
  # From its first checkpoint on, the store belongs to the new model.
  journalctl --unit streamrde@watch | grep -q "went on with model" || { sleep 0.1; continue; }
  /opt/streamrde/bin/python -c "$checkpoints" && break
  sleep 0.1
done
kill -STOP "$pid"
for _ in $(seq 200); do
  [ "$(systemctl show --value --property NRestarts streamrde@watch)" = 1 ] && break; sleep 0.1
done
until_well
show again
systemctl stop streamrde@watch; echo $? > stop
show stopped
journalctl --unit streamrde@watch --output cat > log
"""

needs_systemd = pytest.mark.skipif(
    NSPAWN is None or MOSQUITTO is None or not can_unshare(),
    reason="needs root, namespaces, mosquitto and systemd-nspawn: apt-get install systemd-container",
)


@pytest.fixture(scope="module")
def results(tmp_path_factory, environment):
    """What a systemd and the service that it ran said, by the name of the answer."""
    folder, port = tmp_path_factory.mktemp("systemd"), free_port()
    shutil.copy(UNIT, folder)
    make_bundle(seed=1).save(folder / "model.safetensors")
    make_bundle(seed=2).save(folder / "model2.safetensors")
    (folder / "quick.conf").write_text(QUICK)
    (folder / "check.sh").write_text(f"PORT={port}\n{CHECK}")
    with mosquitto(folder) as url:
        (folder / "watch.toml").write_text(f"""
model = "/etc/streamrde/model.safetensors"
[source]
kind = "mqtt"
url = "{url}"
topic = "a/{{stream}}"
client_id = "s"
session = true
[sink]
kind = "mqtt"
url = "{url}"
topic = "p/{{stream}}"
[state]
path = "state.db"
checkpoint_seconds = 0.1
[service]
port = {port}
""")
        command = in_layer(folder, environment, BOOT, folder)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)
    found = {path.name: path.read_text() for path in folder.iterdir() if path.is_file() and not path.suffix}
    assert "stopped" in found, (done.stdout.decode(errors="replace")[-2000:], done.stderr.decode()[-2000:], found)
    return found


def properties(text):
    return dict(line.split("=", 1) for line in text.splitlines())


@needs_systemd
def test_systemd_finds_no_fault_with_the_unit(results):
    assert results["verify"] == "0\n"


@needs_systemd
def test_the_service_is_started_when_it_says_so_and_says_how_it_is(results):
    started = properties(results["started"])
    assert started["ActiveState"] == "active"
    assert started["StatusText"] == "samples become predictions"


@needs_systemd
def test_the_service_has_a_user_of_its_own_and_writes_to_its_state_alone(results):
    (user,) = re.findall(r"^Uid:\t(\d+)", results["process"], re.MULTILINE)
    assert 61184 <= int(user) <= 65519, "the range of DynamicUser="
    assert re.search(r"^CapEff:\t0+$", results["process"], re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", results["process"], re.MULTILINE)
    assert re.search(r"^Seccomp:\t2$", results["process"], re.MULTILINE)
    assert "state.db" in results["state"]
    assert len(results["refused"].splitlines()) == 5


@needs_systemd
def test_a_reload_takes_on_the_model(results):
    assert results["reload"] == "0\n"
    assert "went on with model" in results["log"]


@needs_systemd
def test_a_stuck_service_is_started_again_by_the_watchdog(results):
    again = properties(results["again"])
    assert (again["NRestarts"], again["ActiveState"]) == ("1", "active")
    assert again["MainPID"] != properties(results["started"])["MainPID"]


@needs_systemd
def test_a_stop_ends_the_service_in_order(results):
    assert results["stop"] == "0\n"
    stopped = properties(results["stopped"])
    assert (stopped["Result"], stopped["ExecMainStatus"]) == ("success", "0")
    assert "ending: working off what has arrived" in results["log"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_exposes_little():
    command = [
        "systemd-analyze",
        "security",
        "--offline=true",
        f"--threshold={MOST_EXPOSURE * 10:g}",
        "--json=short",
        UNIT,
    ]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if "--offline" in done.stderr:
        pytest.skip("systemd is older than version 250")
    assert done.returncode == 0, done.stdout + done.stderr
    exposed = {one["name"] for one in json.loads(done.stdout) if float(one["exposure"] or 0) > 0}
    assert "UserOrDynamicUser" not in exposed


def test_a_stop_may_take_longer_than_the_end_of_a_run():
    from streamrde.config.service import ServiceConfig

    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT.read_text("utf-8"), re.MULTILINE)
    assert int(seconds) >= ServiceConfig().drain_seconds + 10
