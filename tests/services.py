"""`streamrde run` in a process, as tests start it, ask it and publish to it."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import aiomqtt
from bundles import make_bundle
from prometheus_client.parser import text_string_to_metric_families

from streamrde.connectors.mqtt import MqttAddress


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def samples(text: str) -> dict[str, float]:
    """Metric samples by name and labels."""
    return {
        sample.name + "".join(f"/{v}" for v in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def eventually(ready, process=None, seconds=30.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if result := ready():
                return result
        if process is not None and process.poll() is not None:
            raise AssertionError(process.stderr.read())
        time.sleep(0.05)
    raise AssertionError("it did not come to pass")


async def _publish(url: str, messages: list[tuple[str, bytes]]) -> None:
    address = MqttAddress.parse(url)
    async with aiomqtt.Client(address.host, address.port, username=address.user, password=address.password) as client:
        for topic, payload in messages:
            await client.publish(topic, payload, qos=1)


def publish(url: str, *messages: tuple[str, bytes]) -> None:
    asyncio.run(_publish(url, list(messages)))


def config(folder: Path, url: str, port: int, **changes: str) -> Path:
    make_bundle(seed=1).save(folder / "model.safetensors")
    lines = {
        "source": f'kind = "mqtt"\nurl = "{url}"\ntopic = "a/{{stream}}"\nclient_id = "s"\nsession = true\n'
        "quarantine_faults = 3\n",
        "sink": f'kind = "mqtt"\nurl = "{url}"\ntopic = "p/{{stream}}"',
        "state": f'path = "{folder / "state.db"}"\ncheckpoint_seconds = 0.1',
        "dead_letters": f'kind = "file"\npath = "{folder / "dead.jsonl"}"',
        "service": f'port = {port}\nlog_format = "json"',
    } | changes
    path = folder / "run.toml"
    text = "\n".join(f"[{name}]\n{body}" for name, body in lines.items())
    path.write_text(f'model = "{folder / "model.safetensors"}"\n{text}\n')
    return path


@contextlib.contextmanager
def service(path: Path):
    command = [sys.executable, "-m", "streamrde", "run", str(path), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
