"""Time the way of a newcomer: a clean copy of the project, a clean home, a CSV of their own, two commands, a picture.

usage: python tests/benchmarks/newcomer.py [--keep FOLDER] [--screenshot PNG]

The commands are those of README.md: `pip install .` into a fresh environment, and `streamrde fit own.csv --target state
--open`. The CSV has the columns of a logger in a factory: a machine's name, dates, two channels with holes, a state.
A program takes the browser's place and notes what would be opened. Pip uses the package index of the machine, and no
cache of an earlier install unless PIP_CACHE_DIR names one. With --screenshot a headless Chromium draws the page.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import math
import os
import pathlib
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT = 300.0  # seconds that a newcomer is promised at most
COMMANDS = (
    "python3 -m venv .venv && .venv/bin/pip install --quiet .",
    ".venv/bin/streamrde fit own.csv --target state --open",
)


def write_csv(path: pathlib.Path) -> int:
    """Write 60 shifts of six machines, in which a loose bearing shakes a little faster. Return the number of rows."""
    draw, rows = random.Random(0), 0
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["shift", "machine", "timestamp", "vibration", "temperature", "state"])
        for shift in range(60):
            loose, phase = shift % 2, draw.uniform(0, 6)
            begin = datetime.datetime(2026, 3, 1, 6, tzinfo=datetime.UTC) + datetime.timedelta(hours=8 * shift)
            for i in range(240):
                at = begin + datetime.timedelta(seconds=0.5 * i + draw.uniform(0, 0.2))
                shaking = math.sin(phase + (1.0 + 0.5 * loose) * i / 2) + draw.gauss(0, 0.4)
                warm = "" if draw.random() < 0.1 else f"{40 + i / 60 + draw.gauss(0, 0.3):.2f}"
                state = "loose" if loose else "fine"
                writer.writerow([f"shift-{shift}", f"M{shift // 2 % 6}", at.isoformat(), f"{shaking:.4f}", warm, state])
                rows += 1
    return rows


def clean_copy(folder: pathlib.Path) -> None:
    """Write the project's files as they are committed."""
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)


def screenshot(address: str, path: str) -> None:
    """Draw a page with Chromium."""
    sys.path.insert(0, str(ROOT / "tests"))
    from browser import browser

    with browser() as found:
        page = found.new_page(viewport={"width": 1200, "height": 1400})
        page.goto(address)
        page.screenshot(path=path)


def processor_seconds() -> float:
    """Return the time that commands so far have computed for, which says more than the clock on a busy machine."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def walk(folder: pathlib.Path, picture: str | None) -> float:
    """Type the commands in a folder, print the time of each, and return the sum."""
    project, home = folder / "streamrde", folder / "home"
    project.mkdir()
    home.mkdir()
    clean_copy(project)
    print(f"own.csv: {write_csv(project / 'own.csv'):,} rows")
    opened = folder / "opened"
    browser = folder / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment = {**kept, "HOME": str(home), "BROWSER": f"{browser} %s"}
    total = 0.0
    for command in COMMANDS:
        print(f"\n$ {command}", flush=True)
        began, used = time.perf_counter(), processor_seconds()
        subprocess.run(command, shell=True, cwd=project, env=environment, check=True)
        seconds = time.perf_counter() - began
        total += seconds
        print(f"# {seconds:.1f} s, {processor_seconds() - used:.1f} s of processors", flush=True)
    deadline = time.monotonic() + 10
    while not opened.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    if not opened.exists():
        sys.exit("no page was opened")
    address = opened.read_text().strip()
    page = pathlib.Path(urllib.parse.unquote(urllib.parse.urlsplit(address).path)).read_text(encoding="utf-8")
    for needed in ("One stream while it runs", "What the model says", "vibration", "right, not seen before"):
        if needed not in page:
            sys.exit(f"the page does not show: {needed}")
    if picture:
        screenshot(address, picture)
    return total


def main() -> None:
    """Walk once, and fail where it takes too long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=pathlib.Path, help="an empty folder to work in, which is kept")
    parser.add_argument("--screenshot", help="PNG of the page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        total = walk(options.keep or pathlib.Path(temporary), options.screenshot)
    machine = f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores"
    print(f"\n{len(COMMANDS)} commands, {total:.1f} s in all, load {os.getloadavg()[0]:.1f}; {machine}")
    if total > LIMIT:
        sys.exit(f"more than {LIMIT:g} s")


if __name__ == "__main__":
    main()
