"""One [columns] reads the same samples from payloads and from recorded files."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamrde.connectors.columns import ColumnKeys
from streamrde.connectors.ends import Message
from streamrde.connectors.files.reading import SampleReader
from streamrde.connectors.files.recordings import find_recordings
from streamrde.connectors.messages import MessageReader
from streamrde.connectors.payloads import PayloadConfig
from streamrde.connectors.topics import MQTT
from streamrde.connectors.units import conversion

KEYS: dict[str, Any] = {
    "channels": ("temp", "door"), "words": {"Open": 1, "ajar": 0.5}, "missing": {"temp": (-9999, "err"), "*": ("?",)},
    "units": {"temp": "degF"}, "scale": {"door": 2.0}, "offset": {"door": -1.0},
}  # fmt: skip
UNITS = ("degC", "")
numbers = st.one_of(st.integers(-99, 99).map(str), st.floats(-1e6, 1e6).map(repr), st.just("-9999"), st.just("-9999.0"))
words = ["on", "OFF", "true", "no", "open", "AJAR", "?", "N/A", "---", "", "unavailable", " 7 "]
texts = st.one_of(numbers, st.sampled_from(words))
rows = st.lists(st.tuples(st.one_of(texts, st.just("Err")), texts), min_size=1, max_size=6)


def from_payloads(own: list[tuple[str, str]]) -> np.ndarray:
    config = PayloadConfig(topic="s/{stream}", time="t", **KEYS)
    subscription = config.subscription(config.template(MQTT), ("a", "b"), UNITS, max_bytes=9999)
    reader = MessageReader([subscription], ("a", "b"), queue="q")
    sent = [{"t": i, "temp": temp, "door": door} for i, (temp, door) in enumerate(own)]
    batch = reader.read([Message(b"s/w1", msgspec.json.encode(payload), 0.0) for payload in sent])
    assert batch.letters == ()
    return batch.samples.x


def from_files(path: Path, keys: dict[str, Any]) -> np.ndarray:
    columns = ColumnKeys(stream="", **keys).columns_for(("a", "b"))
    maps = {"recorded": keys["units"], "scale": keys["scale"], "offset": keys["offset"]}
    reader = SampleReader(columns, conversion=conversion(columns.channels, UNITS, **maps))
    (recording,) = find_recordings(path)
    return np.concatenate([samples.x for _, samples in reader.read(recording)])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(own=rows)
def test_files_and_payloads_give_the_same_samples(tmp_path: Path, own: list[tuple[str, str]]) -> None:
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("t", "temp", "door"), *((i, *row) for i, row in enumerate(own))])
    np.testing.assert_allclose(from_files(path, KEYS), from_payloads(own), rtol=1e-12)


@pytest.mark.parametrize(("text", "value"), [("50", 10.0), ("-9999", np.nan), ("Err", np.nan), ("ajar", -17.5)])
def test_what_a_spelling_is_in_the_models_unit(text: str, value: float) -> None:
    np.testing.assert_allclose(from_payloads([(text, "on")]), [[value, 1.0]], rtol=1e-12)
