"""`streamrde health`, as a container's health check calls it."""

import asyncio
import subprocess
import sys

import pytest
from brokers import free_port

from streamrde.runtime.health import HealthServer

OBSTACLES = ["waiting for the sink's broker", "starting"]


async def ask(*arguments):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamrde", "health", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, errors = await process.communicate()
    return process.returncode, out.decode(), errors.decode()


def test_the_status_is_that_of_the_run(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    async def all_of_them():
        async with HealthServer(obstacles=lambda: OBSTACLES, metrics=lambda: b"", port=0) as server:
            url = f"http://127.0.0.1:{server.port}"
            return await asyncio.gather(ask(url), ask(f"{url}/healthz"), ask(f"{url}/readyz"))

    alone, well, busy = asyncio.run(all_of_them())
    assert alone == well == (0, "ok\n", "")
    assert busy[0] == 1
    assert busy[2].endswith("/readyz: 503: waiting for the sink's broker; starting\n")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:{port}/healthz", "no answer"),
        ("https://127.0.0.1:9464/healthz", "not an http:// URL"),
        ("http://127.0.0.1:99999/healthz", "Port out of range"),
        ("9464", "not an http:// URL"),
    ],
)
def test_a_run_that_is_not_there_and_a_bad_url_are_errors_in_one_line(url, said):
    url = url.format(port=free_port())
    code, out, errors = asyncio.run(ask(url))
    assert (code, out) == (1, "")
    assert errors.startswith(f"streamrde: {url}: ")
    assert said in errors
    assert errors.count("\n") == 1
