"""A run shows itself on a terminal in ten lines, and nowhere else."""

import contextlib
import functools
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
import time

import brokers
import pyte
import pytest
import services
from services import config, get, publish, samples
from shared_runs import SharedRun, rows_of

from streamrde import toml
from streamrde.cli.printing import plain, said

SIZE = (24, 110)
eventually = functools.partial(services.eventually, seconds=120)
HOSTILE = "evil\x1b[2J\x1b[31mname"


class Terminal:
    """A program on a pseudo-terminal, whose picture is kept by a terminal emulator."""

    def __init__(self, command, **environment):
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, SIZE)
        self.picture = pyte.Screen(SIZE[1], SIZE[0])
        self.received = b""
        self._stream = pyte.ByteStream(self.picture)
        own = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=own | {"TERM": "xterm-256color"} | environment
        )
        self._name = os.ttyname(slave)
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while data := os.read(self._master, 65536):
                self.received += data
                self._stream.feed(data)

    def flow(self, action):
        """Stop what the program writes, or let it go on, as Ctrl-S and Ctrl-Q do."""
        terminal = os.open(self._name, os.O_RDWR | os.O_NOCTTY)
        termios.tcflow(terminal, action)
        os.close(terminal)

    @property
    def lines(self):
        return [line.rstrip() for line in self.picture.display]

    def shows(self, pattern):
        return re.search(pattern, "\n".join(self.lines))

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self._reader.join(10)
        os.close(self._master)


@contextlib.contextmanager
def on_terminal(*arguments, **environment):
    terminal = Terminal([sys.executable, "-m", "streamrde", "run", *map(str, arguments)], **environment)
    try:
        yield terminal
    except AssertionError as error:
        raise AssertionError(f"{error}\n" + "\n".join(terminal.lines)) from None
    finally:
        terminal.close()


def sample(t, **more):
    return json.dumps({"t": t, "a": 0.1, "b": 0.2, **more}).encode()


@pytest.fixture
def url(tmp_path):
    with brokers.any_broker(tmp_path) as found:
        yield found


def test_ten_lines_show_rate_predictions_and_what_goes_wrong(tmp_path, url):
    source = f'kind = "mqtt"\nurl = "{url}"\ntopic = "a"\nstream = "who"\nclient_id = "s"\nsession = true'
    path = config(tmp_path, url, 0, service="port = 0", source=source)
    with on_terminal(path) as terminal:
        eventually(lambda: terminal.shows("sink connected"))
        publish(url, *[("a", sample(0.25 * i, who=name)) for i in range(12) for name in ("one", HOSTILE)])
        publish(url, ("a", b"no sample"))
        eventually(lambda: terminal.shows(r"last +evil\\x1b\[2J"))
        eventually(lambda: terminal.shows(r"last +\S+ +\d+\.\d s ") and terminal.shows("1 malformed"))
        eventually(lambda: terminal.shows("state saved"))
        view = [line for line in terminal.lines if line]
        begin = next(i for i, line in enumerate(view) if line.startswith("streamrde run  run.toml"))
        names = [line.split()[0] for line in view[begin:] if not line.startswith(" ")]
        assert names == ["streamrde", "rate", "lag", "streams", "ends", "last", "warnings"]
        assert len(view[begin:]) <= 10
        assert terminal.shows(r"\d+ rows/s, \d+ predictions/s  [▁-█]+")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(60) == 0
        terminal._reader.join(10)
        # The lines are gone, the report is there, and the cursor is back.
        assert not terminal.shows("^rate ")
        assert terminal.shows("done: .* predictions")
        assert b"\x1b[?25h" in terminal.received.rpartition(b"\x1b[?25l")[2]


def test_a_terminal_that_stands_still_holds_up_no_prediction(tmp_path, url):
    port = brokers.free_port()
    with on_terminal(config(tmp_path, url, port, service=f"port = {port}")) as terminal:
        eventually(lambda: terminal.shows("sink connected"))
        terminal.flow(termios.TCOOFF)
        begin = time.monotonic()
        sent = 0
        while time.monotonic() < begin + 1.5:  # three pictures, the first of which waits for the terminal
            publish(url, *[(f"a/{i}", sample(0.5 * sent + 0.1 * i)) for i in range(5)])
            sent += 5
        eventually(lambda: json.loads(get(port, "/status")[1])["rows"]["samples"] == sent)
        assert samples(get(port, "/metrics")[1])["streamrde_predictions_total"] > 0
        before = terminal.lines
        terminal.flow(termios.TCOON)
        eventually(lambda: terminal.lines != before)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(60) == 0


@pytest.mark.parametrize(("arguments", "logs"), [(["--quiet"], False), ([], True)])
def test_quiet_and_other_terminals_get_plain_lines(tmp_path, url, arguments, logs):
    path = config(tmp_path, url, 0, service="port = 0")
    environment = {} if arguments else {"TERM": "dumb"}
    with on_terminal(path, *arguments, **environment) as terminal:
        publish(url, ("a/one", b"no sample"))
        eventually(lambda: b"cannot be read" in terminal.received or (tmp_path / "dead.jsonl").exists())
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(60) == 0
        terminal._reader.join(10)
        assert b"\x1b" not in terminal.received
        assert (b" INFO " in terminal.received) == logs
        assert terminal.shows("done: ")


def test_workers_of_kafka_show_what_they_are_behind(tmp_path):
    with brokers.strict_kafka(tmp_path) as broker:
        run = SharedRun(broker.url, tmp_path, partitions=2)
        path = tmp_path / "shared.toml"
        path.write_text(toml.dumps(run.tables))
        with on_terminal(path) as terminal:
            eventually(lambda: terminal.shows("messages behind in 2 partitions"))
            run.send(rows_of(4, 20))
            eventually(lambda: terminal.shows(r"last +s\d +\d+\.\d s ") and terminal.shows("state saved"))
            terminal.process.send_signal(signal.SIGINT)
            assert terminal.process.wait(60) == 0


def test_words_of_predictions_are_text():
    assert plain(HOSTILE) == "evil\\x1b[2J\\x1b[31mname"
    assert said({"value": [0.2], "label": "no"}) == "no 80 %"
    assert said({"value": [0.1] * 6}) == "0.1, 0.1, 0.1, 0.1, ..."
    assert said({"value": [1.0], "labels": {"gait": "walk", "hand": None}}) == "gait walk, hand ?"
    assert said({"value": [1.0], "novelty": 0.002, "provisional": True}) == "1 (new to the model, p 0.002, provisional)"
