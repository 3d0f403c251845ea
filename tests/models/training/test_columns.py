"""Training reads columns by the same keys as a run: units, limits, words and spellings of no value."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from models.recordings import config_for

from streamrde.errors import ConfigError
from streamrde.fitting.recordings import read_recordings
from streamrde.models.training.config import as_train_config

ROWS = {
    "stream_id": ["s"] * 4,
    "t": [0.0, 1.0, 2.0, 3.0],
    "a": [1000.0, -9999.0, 2000.0, 90000.0],
    "b": ["on", "off", "?", "unavailable"],
    "turn": ["left"] * 4,
}


def read(folder, **columns):
    path = folder / "rows.parquet"
    pq.write_table(pa.table(ROWS), path)
    config = as_train_config({**config_for(str(path)), "columns": {"missing": {"b": ["?"]}, **columns}})
    said = []
    (recording,) = read_recordings(config.data, say=said.append)
    return recording.x, said, config


def test_values_are_converted_before_limits_and_after_codes_of_no_value(tmp_path):
    missing = {"a": [-9999], "b": ["?"]}
    x, said, _ = read(tmp_path, units={"a": "mm"}, missing=missing, limits={"a": [0.0, 10.0]})
    np.testing.assert_array_equal(x, [[1, 1], [np.nan, 0], [2, np.nan], [np.nan, np.nan]])
    assert said == ["1 values of 'a' are outside of its limits, and count as not observed"]


def test_a_channel_without_a_unit_has_that_of_its_column(tmp_path):
    x, _, config = read(tmp_path, units={"b": "V"}, scale={"a": 0.5}, offset={"a": 1.0})
    np.testing.assert_array_equal(x[:, 0], [501, -4998.5, 1001, 45001])
    assert [channel.unit for channel in config.header([0.0, 0.0], ["left", "right"], "stream").channels] == ["m", "V"]


def test_a_unit_that_cannot_be_converted_is_refused_before_files_are_read(tmp_path):
    with pytest.raises(ConfigError, match="column 'a' is in 'degC', a unit of temperature, and the model's 'm'"):
        read(tmp_path, units={"a": "degC"})
    with pytest.raises(ConfigError, match="limits names 'c', which is none of the channels"):
        read(tmp_path, limits={"c": [0.0, 1.0]})
