"""`streamrde run` as a service: health, metrics, signals, the model file, dead letters, --check."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from brokers import MOSQUITTO, free_port, mosquitto
from bundles import make_bundle
from scripted_broker import ScriptedBroker
from services import config, eventually, get, publish, samples, service

from streamrde.connectors.dead_letters import decode_letter
from streamrde.runtime.exposition import Exposition
from streamrde.runtime.health import HealthServer
from streamrde.runtime.metrics import Metrics

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: apt-get install mosquitto"),
]


def row(t: float) -> bytes:
    return json.dumps({"t": t, "a": 1.0, "b": 2.0}).encode()


def test_a_service_from_start_to_end(tmp_path):
    """Ready, counting, swapping its model, setting a stream aside, ending in order, going on where it was."""
    port = free_port()
    with mosquitto(tmp_path) as url:
        path = config(tmp_path, url, port)
        with service(path) as process:
            eventually(lambda: get(port, "/readyz")[0] == 200, process)
            assert get(port, "/healthz") == (200, "ok\n")
            assert get(port, "/nothing")[0] == 404
            bad = [("a/bad", b"\xff\x00 no sample")] * 5
            publish(url, *[("a/x", row(t / 2)) for t in range(8)], *bad, ("a/bad", row(1.0)), ("a/y", row(0.0)))
            wanted = {"streamrde_samples_total/used": 10, "streamrde_predictions_total": 3}

            def counted() -> dict[str, float] | None:
                now = samples(get(port, "/metrics")[1])
                done = all(now.get(name, 0) >= number for name, number in wanted.items())
                return now if done and now["streamrde_unsaved_messages"] == 0 else None

            found = eventually(counted, process)
            assert found["streamrde_samples_total/used"] == 10, "a message that can be read ends the quarantine"
            assert found["streamrde_malformed_total"] == 3
            assert found["streamrde_quarantined_total"] == 2
            assert found["streamrde_predictions_total"] == 3
            assert found["streamrde_streams"] == 3
            assert found["streamrde_connected/source"] == found["streamrde_connected/sink"] == 1
            assert found["streamrde_latency_seconds_bucket/+Inf"] > 0
            letters = [decode_letter(line) for line in (tmp_path / "dead.jsonl").read_bytes().splitlines()]
            assert [letter.payload for letter in letters] == [payload for _, payload in bad]
            assert "not a sample" in letters[0].reason
            assert "quarantine" in letters[-1].reason

            make_bundle(seed=1, hidden=16).save(tmp_path / "model.safetensors")
            process.send_signal(signal.SIGHUP)
            swaps = "streamrde_model_swaps_refused_total"
            eventually(lambda: samples(get(port, "/metrics")[1])[swaps] == 1, process)
            make_bundle(seed=2).save(tmp_path / "model.safetensors")
            process.send_signal(signal.SIGHUP)
            eventually(lambda: samples(get(port, "/metrics")[1])["streamrde_model_swaps_total"] == 1, process)
            publish(url, ("a/x", row(4.0)))
            eventually(lambda: samples(get(port, "/metrics")[1])["streamrde_samples_total/used"] == 11, process)

            process.send_signal(signal.SIGTERM)
            out, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
        assert json.loads(out)["predictions"] == 4
        logged = [json.loads(line) for line in errors.splitlines()]
        assert any("hidden was 8 and is 16" in line["message"] for line in logged if line["level"] == "error")
        assert all(line.keys() >= {"time", "level", "logger", "message"} for line in logged)

        with service(path) as process:  # the swapped model's state, and what came meanwhile
            eventually(lambda: get(port, "/readyz")[0] == 200, process)
            publish(url, ("a/x", row(5.0)))
            found = eventually(
                lambda: (m := samples(get(port, "/metrics")[1]))["streamrde_predictions_total"] == 1 and m, process
            )
            assert found["streamrde_streams"] == 3
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0

        make_bundle(seed=1).save(tmp_path / "model.safetensors")
        refused = subprocess.run(
            [sys.executable, "-m", "streamrde", "run", str(path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert refused.returncode == 1
        assert "belongs to another run: model was" in refused.stderr


def check(path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streamrde", "run", str(path), "--check"]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=os.environ | environment
    )


def test_a_run_waits_for_its_broker_at_the_start(tmp_path):
    port, broker = free_port(), free_port()
    path = config(tmp_path, f"mqtt://127.0.0.1:{broker}", port)
    with service(path) as process:
        eventually(lambda: "waiting for the sink's broker" in get(port, "/readyz")[1], process)
        assert get(port, "/healthz")[0] == 200
        with mosquitto(tmp_path, port=broker) as url:
            eventually(lambda: get(port, "/readyz")[0] == 200, process)
            publish(url, *[("a/x", row(t / 2)) for t in range(8)])
            eventually(lambda: samples(get(port, "/metrics")[1])["streamrde_predictions_total"] == 3, process)
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    messages = [json.loads(line)["message"] for line in errors.splitlines()]
    assert sum("waiting for MQTT broker" in message for message in messages) == 1


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_that_waits_for_its_broker(tmp_path, name):
    port = free_port()
    with service(config(tmp_path, f"mqtt://127.0.0.1:{free_port()}", port)) as process:
        eventually(lambda: "waiting for the sink's broker" in get(port, "/readyz")[1], process)
        process.send_signal(name)
        out, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert "ended before both ends were connected" in errors
    assert json.loads(out)["rows"] == 0


def test_a_run_that_is_not_to_wait_fails_at_once(tmp_path):
    path = config(tmp_path, f"mqtt://127.0.0.1:{free_port()}", free_port())
    command = [sys.executable, "-m", "streamrde", "run", str(path)]
    for arguments, text in (([*command, "--no-wait"], None), (command, "wait = false")):
        if text:
            path.write_text(path.read_text().replace('kind = "mqtt"\n', f'kind = "mqtt"\n{text}\n'))
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert "start the broker or check host" in done.stderr


def refusing(folder: Path, rules: str) -> tuple[Path, Path]:
    passwords, acl = folder / "passwords", folder / "rules"
    passwords.touch(0o600)
    made = subprocess.run(["mosquitto_passwd", "-b", str(passwords), "alice", "pw"], capture_output=True, check=False)
    assert made.returncode == 0, made.stderr
    acl.write_text(f"user alice\n{rules}\n")
    return passwords, acl


def test_predictions_that_the_broker_refuses_end_the_run_and_their_input_comes_again(tmp_path):
    passwords, acl = refusing(tmp_path, "topic readwrite a/#")
    port = free_port()
    access = 'user = "alice"\npassword_env = "PW"\nversion = "5"'
    with mosquitto(tmp_path, passwords=passwords, config=f"acl_file {acl}") as url:
        path = config(
            tmp_path, url, port,
            source=f'kind = "mqtt"\nurl = "{url}"\ntopic = "a/{{stream}}"\nclient_id = "s"\nsession = true\n{access}',
            sink=f'kind = "mqtt"\nurl = "{url}"\ntopic = "p/{{stream}}"\n{access}',
        )  # fmt: skip
        command = [sys.executable, "-m", "streamrde", "run", str(path), "--json"]
        environment = os.environ | {"PW": "pw"}
        for attempt in range(2):
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
            )
            if attempt == 0:
                eventually(lambda: get(port, "/readyz")[0] == 200, process)
                publish(url.replace("://", "://alice:pw@"), *[("a/x", row(t / 2)) for t in range(8)])
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 1, errors
            assert "refuses a message on topic 'p/x' (Not authorized, code 135" in errors
            assert "what it was made of is not acknowledged" in errors


def test_check_finds_a_subscription_that_is_refused(tmp_path):
    from streamrde.config import RunConfig
    from streamrde.disk import read_toml

    async def main():
        async with ScriptedBroker(suback=[135]) as broker:
            text = f'kind = "mqtt"\nurl = "{broker.url}"\ntopic = "a/{{stream}}"\nversion = "5"'
            run = read_toml(config(tmp_path, broker.url, 0, source=text), RunConfig)
            with pytest.raises(ValueError, match=r"refuses the subscription to 'a/\+' \(Not authorized"):
                await run.source.probe()
            assert "a/{stream}" in await run.source.probe()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_check_says_what_a_run_would_do_and_leaves_no_trace(tmp_path):
    with mosquitto(tmp_path) as url:
        path = config(tmp_path, url, 9999)
        done = check(path)
        assert done.returncode == 0, done.stderr
        for text in ("a/{stream}", "p/{stream}", "a new store", "10 messages", "dead.jsonl", "127.0.0.1:9999/healthz"):
            assert text in done.stdout
        assert "max_queued_messages, 1000" in done.stdout, "what the broker may lose is said"
        path.write_text(path.read_text().replace("a/{stream}", "a/+/{stream}"))
        assert "warning      source topic 'a/+/{stream}'" in check(path).stdout
        assert not (tmp_path / "state.db").exists()
    done = check(path)
    assert done.returncode == 1
    assert "start the broker" in done.stderr


@pytest.mark.parametrize(
    ("section", "text", "match"),
    [
        ("source", 'kind = "mqtt"\nurl = "mqtt://h"\ntopic = "a/{stream}"', "session = true"),
        ("source", 'kind = "mqtt"\nurl = "mqtt://h"\ntopic = "a/{stream}"\nsession = true', "needs a client_id"),
        ("source", 'kind = "mqtt"\nurl = "mqtt://h"\nsession = true', "give topic"),
        ("source", 'kind = "mqtt"\nurl = "mqtt://h"\nsession = true\ntopics = [{ topic = "x" }]', "exactly one"),
        ("sink", 'kind = "arrow"\npath = "x.parquet"', 'use kind = "parts"'),
        ("sink", 'kind = "mqtt"\nurl = "mqtt://h"\ntopic = "+/{stream}"', "nothing can be published"),
        ("sink", 'kind = "mqtt"\nurl = "mqtt://h"\ntopic = "p/{stream}"\ntls = { ca = "x" }', "ca = 'x'|mqtts"),
        ("sink", 'kind = "mqtt"\nurl = "mqtt://h"\ntopic = "p/{stream}"\nuser = "u"\npassword_env = "NONE"', "NONE is"),
        ("sink", 'kind = "mqtt"\nurl = "mqtt://h"\ntopic = "p/{stream}"\nwill = { topic = "#" }', "without wildcards"),
        ("service", "port = 70000", "port"),
        ("state", 'path = "x"\nsync = "off"', "sync"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(tmp_path, section, text, match):
    import re

    from streamrde.config import RunConfig
    from streamrde.disk import read_toml
    from streamrde.errors import ConfigError, ParameterError

    path = config(tmp_path, "mqtt://127.0.0.1:1", 0, **{section: text})
    with pytest.raises((ConfigError, ParameterError)) as caught:
        read_toml(path, RunConfig).build(make_bundle(seed=1))
    assert re.search(match, str(caught.value))


def test_the_health_port_bears_bad_clients_and_a_port_in_use():
    async def main():
        trouble: list[str] = ["the broker is away"]
        server = HealthServer(obstacles=lambda: trouble, metrics=Exposition(Metrics(), connections={}).text, port=0)

        async def ask(request: bytes) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(request)
            with contextlib.suppress(OSError):
                await writer.drain()
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer

        async with server:
            assert (await ask(b"GET /readyz HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 503")
            assert b"the broker is away" in await ask(b"GET /readyz?x=1 HTTP/1.0\r\nHost: x\r\n\r\n")
            trouble.clear()
            assert (await ask(b"GET /readyz HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200")
            assert (await ask(b"HEAD /healthz HTTP/1.1\r\n\r\n")).endswith(b"\r\n\r\n")
            assert b"405" in await ask(b"POST /healthz HTTP/1.1\r\n\r\n")
            for request in (b"\xff\x00\r\n\r\n", b"\r\n\r\n", b"x" * 100_000):
                with contextlib.suppress(ConnectionResetError):
                    await ask(request)
            assert b"streamrde_rows_total" in await ask(b"GET /metrics HTTP/1.1\r\n\r\n")
            with pytest.raises(ValueError, match="choose another port"):
                async with HealthServer(obstacles=list, metrics=bytes, port=server.port):
                    pass

    asyncio.run(asyncio.wait_for(main(), 20))
