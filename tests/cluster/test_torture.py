"""Kill, pause and cut off workers of a cluster: no prediction is missing, none is different, none comes twice."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cables import can_have_cables

TORTURE = Path(__file__).parents[2] / "examples" / "cluster_torture.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("cluster_torture", TORTURE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["cluster_torture"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["cluster_torture"]


@pytest.fixture(scope="module")
def expected(script):
    return script.undisturbed(script.make_model(), [script.make_round(0, number, 20) for number in range(12)])


def test_rounds_depend_on_their_arguments_only(script):
    one, again = script.make_round(7, 3, 50), script.make_round(7, 3, 50)
    assert one.streams == again.streams
    assert one.t.tobytes() == again.t.tobytes()
    assert one.x.tobytes() == again.x.tobytes()
    assert one.streams != script.make_round(7, 4, 50).streams


def test_the_comparison_passes_what_is_equal(script, expected):
    assert len(expected) > 50
    result = script.compare(expected, expected.values())
    assert (result.expected, result.wrong) == (len(expected), 0)


def test_the_comparison_finds_a_missing_prediction(script, expected):
    result = script.compare(expected, [*expected.values()][1:])
    assert (result.missing, result.wrong) == (1, 1)


def test_the_comparison_finds_a_duplicate(script, expected):
    last = [*expected.values()][-1]
    result = script.compare(expected, [*expected.values(), last])
    assert (result.duplicates, result.wrong) == (1, 1)


def test_the_comparison_finds_a_changed_bit(script, expected):
    (key, payload), *rest = expected.items()
    place = payload.rindex(b"]") - 1
    changed = payload[:place] + bytes([payload[place] ^ 1]) + payload[place + 1 :]
    result = script.compare(expected, [changed, *(value for _, value in rest)])
    assert (result.different, result.wrong) == (1, 1), key


def test_the_comparison_finds_a_prediction_that_nobody_should_make(script, expected):
    *payloads, last = expected.values()
    result = script.compare(expected, [*payloads, last, last.replace(b'"stream":"s', b'"stream":"z')])
    assert (result.unexpected, result.wrong) == (1, 1)


def test_the_comparison_finds_windows_out_of_order(script, expected):
    payloads = sorted(expected.values(), reverse=True)
    stream = next(iter(expected))[0]
    backwards = [value for key, value in reversed(expected.items()) if key[0] == stream]
    result = script.compare({key: value for key, value in expected.items() if key[0] == stream}, backwards)
    assert payloads
    assert result.unordered == len(backwards) - 1 > 0


def torture(*options):
    done = subprocess.run(
        [sys.executable, TORTURE, "--json", *options], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_killed_paused_and_cut_off_workers_predict_what_one_process_does(tmp_path):
    """examples/cluster_torture.py also runs as an example; here with local copies and KIP-848."""
    found = torture("--seed", "1", "--cache", "--protocol", "consumer", "--keep", str(tmp_path))
    assert found["predictions"] > 500
    assert (found["missing"], found["different"], found["duplicates"], found["unexpected"]) == (0, 0, 0, 0)
    assert found["starts"] > found["workers"]


@pytest.mark.slow
@pytest.mark.skipif(not can_have_cables(), reason="network namespaces need root")
def test_a_pulled_cable_loses_and_doubles_nothing(tmp_path):
    """Packets are lost without a word, first for longer than the session, then for less."""
    others = [text for name in ("kill", "pause", "turn", "fault") for text in (f"--{name}", "0")]
    found = torture("--cables", "--cut", "2", *others, "--keep", str(tmp_path))
    assert found["predictions"] > 500
    assert (found["missing"], found["different"], found["duplicates"], found["unexpected"]) == (0, 0, 0, 0)
