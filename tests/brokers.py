"""Real MQTT brokers for tests: mosquitto in a process, amqtt in this one."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from streamrde.connectors.broker import EmbeddedBroker

# Debian installs it where a user's PATH does not look.
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


# Below the ports that a system gives to clients, which would take one while its broker is away. Each process begins
# elsewhere: suites and their workers run side by side.
_ports = itertools.islice(itertools.cycle(range(20_000, 32_000)), os.getpid() * 97 % 12_000, None)


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens now, and that this process has not given before."""
    for port in _ports:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("a cycle does not end")


@contextmanager
def mosquitto(
    folder: Path, *, port: int | None = None, passwords: Path | None = None, config: str = ""
) -> Iterator[str]:
    """mosquitto on a free port (or `port`) of 127.0.0.1; the value is its mqtt:// address.

    `passwords`, a file made by mosquitto_passwd, shuts anonymous clients out; `config` has further lines.
    """
    if MOSQUITTO is None:
        raise FileNotFoundError("mosquitto is not installed: apt-get install mosquitto")
    port = port or free_port()
    access = f"allow_anonymous false\npassword_file {passwords}" if passwords else "allow_anonymous true"
    file = folder / f"mosquitto-{port}.conf"
    # Beyond 1000 messages behind a slow consumer mosquitto drops, QoS 1 or not, unless told to keep all.
    # Started by root it would become a user who cannot read the folder; started by another user it ignores this.
    file.write_text(f"user root\nmax_queued_messages 0\nlistener {port} 127.0.0.1\n{access}\n{config}\n")
    with (folder / f"mosquitto-{port}.log").open("wb") as log:
        process = subprocess.Popen([MOSQUITTO, "-c", str(file)], stdout=log, stderr=log, cwd=folder)
    try:
        for listening in (port, *map(int, re.findall(r"^listener (\d+)", config, re.MULTILINE))):
            _await_port(listening, process)
        yield f"mqtt://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def amqtt_broker() -> Iterator[str]:
    """The in-process broker of the demo; the value is its mqtt:// address."""
    with EmbeddedBroker() as broker:
        yield broker.url


def any_broker(folder: Path) -> AbstractContextManager[str]:
    """mosquitto where it is installed, else the in-process broker."""
    return mosquitto(folder) if MOSQUITTO else amqtt_broker()


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            time.sleep(0.01)
        else:
            return
    raise RuntimeError(f"mosquitto does not answer on port {port}; exit status {process.poll()}")
