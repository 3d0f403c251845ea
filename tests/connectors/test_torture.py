"""Kill a run, and the server of its queue, with SIGKILL: nothing is missing and nothing is different."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from brokers import MOSQUITTO, NATS_SERVER, REDIS_SERVER, TANSU

TORTURE = Path(__file__).parents[2] / "examples" / "torture.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("queue", "installed", "more"),
    [
        ("mqtt", MOSQUITTO, ["--labels", "--broker-kills", "1"]),
        ("mqtt", MOSQUITTO, ["--labels", "apart", "--broker-kills", "1"]),
        ("nats", NATS_SERVER, ["--labels", "--broker-kills", "1"]),
        ("redis", REDIS_SERVER, ["--labels", "apart", "--broker-kills", "1"]),
        ("kafka", TANSU, ["--labels", "apart", "--broker-kills", "0"]),  # it keeps all in memory
    ],
)
def test_kills_lose_and_change_no_prediction(
    queue: str, installed: str | None, more: list[str], tmp_path: Path
) -> None:
    if installed is None:
        pytest.skip(f"the server of {queue} is not installed")
    # Logs, state and the broker's files stay there for a look.
    options = ["--queue", queue, "--service-kills", "1", "--keep", tmp_path, *more]
    done = subprocess.run([sys.executable, TORTURE, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["predictions"] > 500
    assert (result["missing"], result["unexpected"], result["different"]) == (0, 0, 0)
    assert result["streams_that_learned_otherwise"] == 0
    assert result["labels_learned"] > 500
