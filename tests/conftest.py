"""Settings for the whole suite, and its use of every core."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("streamrde", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("streamrde")

# A shell that starts the suite in the background lets it ignore Ctrl-C, and its children inherit that: what the tests
# say of interrupted commands would then not be what they do.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Spark's processes, in tests, pages and examples, live for seconds: what starts fast is best.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")

# Tests wait for servers and clocks half of their time, so that two cores do the work of three workers. Every worker
# imports and collects the whole suite: beyond a few, more of them gain little.
_MOST_WORKERS = 4


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Share a folder of tests, or the whole suite, among processes.

    Files and tests that are named run here, where they start sooner, and so does what talks to the terminal.
    ``-n 0`` and ``-p no:xdist`` turn it off, ``-n 8`` asks for more.
    """
    option = config.option
    if not config.pluginmanager.hasplugin("xdist") or hasattr(config, "workerinput"):
        return
    if option.numprocesses is not None or option.dist != "no" or option.tx:
        return
    if option.usepdb or option.trace or option.collectonly or option.capture == "no":
        return
    if not any(Path(arg).is_dir() for arg in config.args):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores > 1:
        # Neighbours stay together, so that the brokers and models of a module are made once; who is done takes more.
        option.numprocesses, option.dist = min(cores + cores // 2, _MOST_WORKERS), "worksteal"
        # A worker is the use of its core already.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
