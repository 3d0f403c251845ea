"""The script on the quality of stacks runs on small simulated files. Its plain answers are right."""

import json
import math
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parent / "benchmarks" / "stack_quality.py"
TARGETS = ("rr", "hr", "spo2")


def run(*options):
    command = [sys.executable, str(SCRIPT), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)


@pytest.mark.slow
def test_every_table_has_the_stack_beside_plain_answers():
    tables = json.loads(run("--json", "--seeds", 0, 1, "--fit").stdout)
    patients = {(row["method"], row["seed"]): row for row in tables["patients"]}
    assert {method for method, _ in patients} == {"stack", "mean of training", "last label", "fit"}
    # The simulated targets of a person never change.
    assert all(patients["last label", seed][name] == 0 for seed in (0, 1) for name in TARGETS)
    assert patients["mean of training", 0]["hr"] != patients["mean of training", 1]["hr"]
    # What is not learned in one epoch is not claimed.
    for name in TARGETS:
        assert patients["stack", 0][name] < 1.5 * patients["mean of training", 0][name]
    methods = [row["method"] for row in tables["random"]]
    assert methods == ["stack", "stack, windows of 0.52 s"] * 2 + ["neighbours", "mean of training"]
    assert all(tables["random"][4][name] == 0 for name in TARGETS)
    ahead = {(row["method"], row["hours"], row["seed"]): row["rmse"] for row in tables["beijing"]}
    assert all(math.isfinite(rmse) for rmse in ahead.values())
    for hours in (6, 24):
        assert ahead["persistence", hours, 0] < ahead["mean of training", hours, 0]
        # A random walk: the last value is the best there is.
        assert ahead["ridge on the last 24 h", hours, 0] == pytest.approx(ahead["persistence", hours, 0], rel=0.5)


def test_no_training_begins_after_the_time_that_is_given():
    found = run("--minutes", 0, "--tables", "patients")
    assert "seed" not in found.stderr
    assert "| patients, test RMSE |" in found.stdout
