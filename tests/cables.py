"""Network cables that can be pulled: network namespaces of Linux, which need root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


class Cable:
    """The only connection of a namespace with this machine. Pulled, it loses packets without a word to either end."""

    def __init__(self, name: str, near: tuple[str, str], far: tuple[str, str]) -> None:
        self.command = ["ip", "netns", "exec", name]
        """A command that begins so runs in the namespace, as the same process."""
        # An end's neighbour is at the other end. Packets to a wrong hardware address are lost; an interface that is
        # down would tell its programs so.
        self._neighbours = [
            ([], ["to", far[1], "dev", near[0]]),
            (["-n", name], ["to", near[1], "dev", far[0]]),
        ]

    @contextmanager
    def pulled(self) -> Iterator[None]:
        for place, neighbour in self._neighbours:
            _ip(*place, "neighbour", "replace", *neighbour, "lladdr", "02:00:00:00:00:01", "nud", "permanent")
        try:
            yield
        finally:
            for place, neighbour in self._neighbours:
                _ip(*place, "neighbour", "delete", *neighbour)


def can_have_cables() -> bool:
    """Say whether this process may make network namespaces."""
    if os.geteuid() or not shutil.which("ip"):
        return False
    name = f"probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return False
    _ip("netns", "delete", name)
    return True


@contextmanager
def cables(count: int) -> Iterator[tuple[str, list[Cable]]]:
    """Namespaces with a cable each, and the address at which a server of this machine is seen from all of them."""
    network = f"10.231.{os.getpid() % 250}"
    server = f"{network}.1"
    with ExitStack() as stack:
        _ip("address", "add", f"{server}/32", "dev", "lo")
        stack.callback(_ip, "address", "delete", f"{server}/32", "dev", "lo")
        found = []
        for number in range(count):
            name, near, far = (f"{sign}{os.getpid()}x{number}" for sign in ("sn", "near", "far"))
            here, there = f"{network}.{4 * number + 5}", f"{network}.{4 * number + 6}"
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "delete", name)
            _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
            _ip("address", "add", f"{here}/30", "dev", near)
            _ip("link", "set", near, "up")
            for interface in ("lo", far):
                _ip("-n", name, "link", "set", interface, "up")
            _ip("-n", name, "address", "add", f"{there}/30", "dev", far)
            _ip("-n", name, "route", "add", "default", "via", here)
            found.append(Cable(name, (near, here), (far, there)))
        yield server, found


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
