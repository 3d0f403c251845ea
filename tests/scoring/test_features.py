"""Features of recorded files are those of the same rows in memory."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from streamrde import Every, Features
from streamrde.errors import ConfigError, DataError, ParameterError
from tests.bundles import make_recording, make_reservoir


def recordings():
    parts = [make_recording(seed, 40) for seed in (1, 2)]
    names = ["p"] * 40 + ["q"] * 40
    return names, np.concatenate([t for t, _ in parts]), np.concatenate([x for _, x in parts])


def as_table(names, t, x):
    return pa.table({"who": names, "ms": t * 1000.0, "acc": x[:, 0], "gyr": x[:, 1], "note": ["-"] * len(t)})


COLUMNS = {"stream": "who", "time": "ms", "time_unit": "ms", "channels": ["acc", "gyr"]}


def sorted_rows(table):
    return table.sort_by([("stream", "ascending"), ("window", "ascending")])


@pytest.mark.parametrize("of", ["features", "tokens"])
def test_files_and_arrow_give_the_rows_of_arrays(of, tmp_path):
    names, t, x = recordings()
    t = t * 1000.0 / 1000.0
    table = as_table(names, t, x)
    features = Features(make_reservoir(), of=of)
    expected = sorted_rows(features.table(names, table["ms"].to_numpy() / 1000.0, x))
    parquet.write_table(table, tmp_path / "a.parquet")
    csv.write_csv(table, tmp_path / "a.csv")
    for source in (table, table.to_reader(7), table.to_pandas(), tmp_path / "a.parquet", str(tmp_path / "*.csv")):
        found = sorted_rows(features.table(source, **COLUMNS))
        assert found.schema == features.schema
        assert found["stream"].equals(expected["stream"])
        np.testing.assert_array_equal(features.to_numpy(found), features.to_numpy(expected))
    assert features.snapshot() == {}


def test_a_row_per_stream_trains_other_models():
    names, t, x = recordings()
    features = Features(channels=["acc", "gyr"], windows=Every(0.5), scales=(1, 4), emit="last")
    found = features.table(pd.DataFrame(as_table(names, t, x).to_pydict()), **COLUMNS)
    assert found["stream"].to_pylist() == ["p", "q"]
    assert features.to_numpy(found).shape == (2, len(features.names))
    live = features.push(names, t, x)
    assert live.num_rows == 0
    live = features.flush()
    np.testing.assert_allclose(features.to_numpy(live), features.to_numpy(found), rtol=1e-9, atol=1e-12)


def test_wrong_settings_are_refused(tmp_path):
    names, t, x = recordings()
    features = Features(make_reservoir())
    with pytest.raises(ParameterError, match="t and x belong together"):
        features.table(names, t)
    with pytest.raises(ConfigError, match="rows in memory have no columns"):
        features.table(names, t, x, stream="who")
    with pytest.raises(ConfigError, match="truth: features have no predictions"):
        features.table(as_table(names, t, x), truth=["note"])
    with pytest.raises(ConfigError, match="streem"):
        features.table(as_table(names, t, x), streem="who")
    with pytest.raises(DataError, match="absent"):
        features.table(as_table(names, t, x), **{**COLUMNS, "stream": "absent"})
    with pytest.raises(DataError):
        features.table(tmp_path / "absent.parquet")
