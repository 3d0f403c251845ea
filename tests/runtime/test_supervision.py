"""What a run tells the supervisor that started it, over a real socket."""

import asyncio
import os
import socket

import pytest

from streamrde.runtime.supervision import Supervision

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")


@pytest.fixture(params=["path", "abstract"])
def heard(request, tmp_path, monkeypatch):
    """Messages to the supervisor until now."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@streamrde-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address.replace("@", "\0"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)

        def messages():
            found = []
            while True:
                try:
                    found.append(listener.recv(4096).decode())
                except BlockingIOError:
                    return found

        yield messages


async def watched(heard, until, obstacles):
    found = []
    async with Supervision(lambda: obstacles), asyncio.timeout(30):
        while not until(found):
            await asyncio.sleep(0.005)
            found += heard()
    return found + heard()


def test_a_run_is_ready_says_what_is_in_its_way_and_stops(heard):
    found = asyncio.run(watched(heard, lambda found: len(found) >= 2, ["waiting for the sink's broker", "starting"]))
    assert found == ["READY=1", "STATUS=waiting for the sink's broker; starting", "STOPPING=1"]


def test_the_watchdog_hears_of_a_run_twice_in_its_time(heard, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    found = asyncio.run(watched(heard, lambda found: found.count("WATCHDOG=1") >= 5, []))
    assert found.count("STATUS=samples become predictions") == 1


def test_a_watchdog_of_another_process_hears_nothing(heard, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getppid()))
    assert "WATCHDOG=1" not in asyncio.run(watched(heard, lambda found: len(found) >= 2, []))


def test_no_supervisor_or_one_that_is_gone_is_no_error(monkeypatch, tmp_path):
    async def enter():
        async with Supervision(list) as supervision:
            await asyncio.sleep(0)
        return supervision

    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    asyncio.run(enter())
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    asyncio.run(enter())
