"""The script on the quality of fit runs on the recordings that ship, and a fitted model beats plain answers there."""

import json
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parent / "benchmarks" / "fit_quality.py"


def run(*options):
    command = [sys.executable, str(SCRIPT), "--sets", "demo", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)


@pytest.mark.slow
def test_a_fit_without_options_is_right_on_most_recordings_of_new_people(tmp_path):
    rows = {row["method"]: row for row in json.loads(run("--json", "--cache", tmp_path).stdout)}
    ours = rows["streamrde"]
    assert ours["accuracy"] > 0.8 > rows["nearest"]["accuracy"] > rows["plainest"]["accuracy"]
    assert ours["log_loss"] < min(rows["nearest"]["log_loss"], rows["plainest"]["log_loss"])
    assert ours["after 10%"] <= ours["after 100%"] == ours["accuracy"]
    cached = run("--cache", tmp_path)
    assert not cached.stderr
    assert f"| {100 * ours['accuracy']:.1f} |" in cached.stdout


def test_no_run_begins_after_the_time_that_is_given(tmp_path):
    stopped = run("--minutes", 0, "--cache", tmp_path)
    assert "4 runs are left" in stopped.stderr
    assert "accuracy" not in stopped.stdout
