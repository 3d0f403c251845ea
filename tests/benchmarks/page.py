"""The live page under load: frames per second while 5,000 streams are scrolled, and what a stalled viewer costs a run.

    python tests/benchmarks/page.py

Prints the machine, then frames per second as traced by the browser, then the processor time of a run's thread, which
serves the page too, on equal batches: with nobody, without a page, with a viewer who takes nothing, and with one who
reads, in turns. On a busy machine the last is too high, since a viewer looks twice a second of the clock.
"""

from __future__ import annotations

import argparse
import os
import platform
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from browser import CHROMIUM, Served, browser
from bundles import make_bundle

import streamrde as sr

STREAMS = [f"device-{i:05d}" for i in range(5000)]
SCROLL = """async () => {
  const list = document.getElementById("list"), times = [];
  let longest = 0, last = performance.now(), down = 1;
  const end = last + 6000;
  while (last < end) {
    const now = await new Promise(requestAnimationFrame);
    times.push(now - last);
    last = now;
    list.scrollTop += 90 * down;
    if (list.scrollTop + list.clientHeight >= list.scrollHeight - 1) down = -1;
    if (list.scrollTop <= 0) down = 1;
  }
  const drawn = [...document.querySelectorAll("#list .row")].filter((row) => !row.hidden).length;
  return [times.slice(5), drawn];
}"""


def push(served: Served, rng: np.random.Generator, k: int) -> None:
    served.push(STREAMS, np.full(len(STREAMS), k / 2), rng.normal(size=(len(STREAMS), 2)))


def scroll() -> None:
    rng = np.random.default_rng(0)
    with Served(make_bundle(seed=1)) as served, browser() as found:
        for k in range(6):
            push(served, rng, k)
        page = found.new_page(viewport={"width": 1280, "height": 800})
        page.goto(served.url)
        page.locator("#shown", has_text="5,000").wait_for()
        ending = threading.Event()

        def feed() -> None:
            for k in range(6, 1000):
                if ending.wait(0.5):
                    return
                push(served, rng, k)

        feeding = threading.Thread(target=feed)
        feeding.start()
        times, drawn = page.evaluate(SCROLL)
        ending.set()
        feeding.join()
        version = found.version
    ordered = sorted(times)
    print(
        f"Chromium {version}, software rendering: 5,000 streams, all of which change twice a second: "
        f"{1000 * len(times) / sum(times):.0f} frames/s, median {statistics.median(times):.1f} ms, "
        f"p95 {ordered[int(0.95 * len(ordered))]:.1f} ms, longest {ordered[-1]:.0f} ms, {drawn} rows are elements"
    )


@contextmanager
def viewer(port: int, kind: str) -> Iterator[None]:
    """Look at the list and at a stream: "reads" takes all, "stalled" takes nothing."""
    if kind in ("nobody", "no page"):
        yield
        return
    sockets = []
    for path in ("/page/live", "/page/stream?name=device-00007"):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(("127.0.0.1", port))
        one.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        sockets.append(one)
    ending = threading.Event()

    def read(one: socket.socket) -> None:
        one.settimeout(0.2)
        while not ending.is_set():
            try:
                one.recv(1 << 16)
            except TimeoutError:
                continue

    threads = [threading.Thread(target=read, args=(one,)) for one in sockets] if kind == "reads" else []
    for thread in threads:
        thread.start()
    time.sleep(3)  # the buffers of a stalled one fill
    yield
    ending.set()
    for thread in threads:
        thread.join()
    for one in sockets:
        one.close()


def stall(rounds: int, batches: int) -> None:
    rng = np.random.default_rng(0)
    kinds = ("nobody", "no page", "stalled", "reads")
    cost: dict[str, list[float]] = {kind: [] for kind in kinds}
    with Served(make_bundle(seed=1, hidden=64)) as served:
        k = 0
        for _ in range(3 * 8):
            push(served, rng, k)
            k += 1
        for turn in range(rounds):
            for kind in kinds[turn % 4 :] + kinds[: turn % 4]:
                served.pipeline._recent = None if kind == "no page" else served.recent
                with viewer(served.port, kind):
                    began = served.call(time.thread_time)
                    for _ in range(batches):
                        push(served, rng, k)
                        k += 1
                    cost[kind].append(served.call(time.thread_time) - began)
    base = statistics.median(cost["nobody"])
    rows = batches * len(STREAMS)
    print(f"{rows:,} samples of 5,000 streams a turn, {rounds} turns each; nobody looks: {rows / base:,.0f} samples/s")
    names = {"no page": "page = false", "stalled": "a viewer that takes nothing", "reads": "a viewer that reads"}
    for kind, name in names.items():
        ratios = [a / b - 1 for a, b in zip(cost[kind], cost["nobody"], strict=True)]
        low, mid, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        print(f"{name:28} {mid:+.1%} of processor time (quartiles {low:+.1%}, {high:+.1%}; paired)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, default=150)
    parser.add_argument("--only-cost", action="store_true")
    options = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, streamrde {sr.__version__}"
    )
    if CHROMIUM is not None and not options.only_cost:
        scroll()
    stall(options.rounds, options.batches)


if __name__ == "__main__":
    main()
