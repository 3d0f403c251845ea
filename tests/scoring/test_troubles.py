"""Files whose streams go wrong: said with file, stream, reason and remedy, in the summary and at the command's end."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from bundles import make_bundle, make_recording, make_statistics
from typer.testing import CliRunner

import streamrde as sr
from streamrde.cli import app
from streamrde.errors import DataError
from streamrde.inference.plausibility import Plausible
from streamrde.inference.troubles import ImplausibleValueWarning

T, X = make_recording(0, 150)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    make_bundle(statistics=make_statistics()).save(path)
    return path


def write(path: Path, x: np.ndarray, t: np.ndarray = T) -> Path:
    rows = ["t,a,b", *(",".join("" if np.isnan(v) else repr(float(v)) for v in row) for row in np.column_stack([t, x]))]
    path.write_text("\n".join(rows) + "\n")
    return path


def spoiled(value: float) -> np.ndarray:
    x = X.copy()
    x[60, 0] = value
    return x


@pytest.mark.parametrize("value", [9.9e37, -9999.0, 1e30, 32767.0])
def test_a_value_that_cannot_be_is_as_an_empty_cell_and_said_with_its_file(tmp_path, model, value):
    bad, empty = write(tmp_path / "bad.csv", spoiled(value)), write(tmp_path / "empty.csv", spoiled(np.nan))
    outs = [tmp_path / "bad.parquet", tmp_path / "empty.parquet"]
    summaries = [sr.score(file, model, out=out, stream="") for file, out in zip((bad, empty), outs, strict=True)]
    tables = [pq.read_table(out).drop_columns(["stream"]) for out in outs]
    assert tables[0].equals(tables[1])
    assert summaries[0].implausible == {"a": 1}
    assert summaries[0].troubles == {"implausible": 1}
    (line,) = summaries[0].said
    assert line.startswith(f"{bad}: stream 'bad': channel 'a' has {value:g}, which is not plausible")
    assert summaries[1].implausible == summaries[1].troubles == {}


def test_a_channel_that_is_in_no_row_of_a_stream_is_said(tmp_path, model):
    x = X.copy()
    x[:, 1] = np.nan
    summary = sr.score(write(tmp_path / "half.csv", x), model, out=tmp_path / "p.parquet", stream="")
    assert summary.troubles == {"unseen": 1}
    assert "channel 'b' did not come in any of its" in summary.said[0]


def test_a_short_stream_says_at_its_end_which_channel_it_never_had(tmp_path, model):
    x = X[:8].copy()
    x[:, 1] = np.nan
    summary = sr.score(write(tmp_path / "short.csv", x, T[:8]), model, out=tmp_path / "p.parquet", stream="")
    assert summary.troubles == {"unseen": 1}


def test_a_clock_that_goes_back_is_said_where_rows_may_be_dropped(tmp_path, model):
    times = np.concatenate([T[:75], T[:75]])
    file = write(tmp_path / "reboot.csv", X, times)
    summary = sr.score(file, model, out=tmp_path / "p.parquet", stream="", sort="never", faults="drop")
    assert summary.troubles == {"restart": 1}
    assert "its times went back" in summary.said[0]


def test_the_command_prints_what_went_wrong_and_its_json_has_it(tmp_path, model):
    file = write(tmp_path / "bad.csv", spoiled(9.9e37))
    arguments = ["score", str(file), "--model", str(model), "--stream", "", "--out", str(tmp_path / "p.parquet")]
    printed = CliRunner().invoke(app, arguments)
    assert printed.exit_code == 0, printed.output
    assert "streams that went wrong: implausible values: 1 of a" in printed.output
    assert "bad.csv: stream 'bad': channel 'a' has 9.9e+37" in printed.output
    found = json.loads(CliRunner().invoke(app, [*arguments[:-1], str(tmp_path / "q.parquet"), "--json"]).stdout)
    assert found["implausible"] == {"a": 1}


def test_rows_may_be_rejected_instead_and_limits_given(tmp_path, model):
    file = write(tmp_path / "bad.csv", spoiled(9.9e37))
    out = tmp_path / "p.parquet"
    rejecting = Plausible(otherwise="reject")
    with pytest.raises(DataError, match=r"bad\.csv.*channel 'a' of stream 'bad' has 9.9e\+37, which is not plausible"):
        sr.score(file, model, out=out, stream="", plausible=rejecting)
    summary = sr.score(file, model, out=out, stream="", plausible=rejecting, faults="drop")
    assert (summary.counts.rejected, summary.counts.samples) == (1, 149)
    narrow = Plausible(limits={"b": (-0.1, 0.1)})
    outside = int((np.abs(X[:, 1]) > 0.1).sum())
    summary = sr.score(write(tmp_path / "good.csv", X), model, out=tmp_path / "q.parquet", stream="", plausible=narrow)
    assert summary.implausible == {"b": outside}


def test_a_reader_warns_once_per_stream_and_channel(tmp_path, model):
    x = spoiled(9.9e37)
    x[80:90, 0] = 1e30
    file = write(tmp_path / "bad.csv", x)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sr.score(file, model, stream="").read_all()
    assert [w.category for w in caught] == [ImplausibleValueWarning]
