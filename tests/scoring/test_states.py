"""States in and out: a recording goes on in another one, and in a live predictor, without a seam."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from scoring_data import by_key, make_table, predict, read, write

import streamrde as sr
from streamrde.config import RunConfig
from streamrde.disk import read_toml
from streamrde.errors import ConfigError, StateError
from streamrde.state import SqliteStore


@pytest.mark.parametrize("same_store", [True, False])
@pytest.mark.parametrize("jobs", [1, 2])
def test_yesterdays_file_goes_on_in_todays(tmp_path, model, same_store, jobs):
    table = make_table(interleaved=True)
    half = table.num_rows // 2
    for name, part in (("1", table.slice(0, half)), ("2", table.slice(half))):
        write(part, tmp_path / f"{name}.parquet")
    first, second = tmp_path / "state.db", tmp_path / ("state.db" if same_store else "other.db")
    summary = sr.score(tmp_path / "1.parquet", model, out=tmp_path / "out1.parquet", state_out=first, jobs=jobs)
    assert summary.states == 12
    sr.score(tmp_path / "2.parquet", model, out=tmp_path / "out2.parquet", state_in=first, state_out=second, jobs=jobs)
    sr.score(tmp_path / "2.parquet", model, out=tmp_path / "end.parquet", state_in=first if not same_store else "")
    both = by_key(pa.concat_tables([read(tmp_path / "out1.parquet"), read(tmp_path / "out2.parquet")]))
    expected = predict(model, table)
    last = {stream: max(w for s, w in expected if s == stream) for stream, _ in expected}
    assert both == {key: row for key, row in expected.items() if last[key[0]] != key[1]}
    # A live fleet goes on from there: here its streams end.
    store = SqliteStore(second)
    store.open({"model": sr.load(model).fingerprint})
    fleet = sr.Fleet(sr.load(model))
    fleet.restore(store.read(list(last)))
    store.close()
    assert both | by_key(pa.Table.from_batches([fleet.flush()])) == expected


def test_a_stream_that_has_no_state_begins(tmp_path, model):
    write(make_table(2), tmp_path / "1.parquet")
    sr.score(tmp_path / "1.parquet", model, out=tmp_path / "out1.parquet", state_out=tmp_path / "state.db")
    new = make_table(3, prefix="new")
    write(new, tmp_path / "2.parquet")
    summary = sr.score(tmp_path / "2.parquet", model, out=tmp_path / "out2.parquet", state_in=tmp_path / "state.db")
    assert by_key(read(tmp_path / "out2.parquet")) == predict(model, new)
    assert summary.counts.samples == new.num_rows


def test_lazily_too(tmp_path, model):
    table = make_table(4, interleaved=True)
    half = table.num_rows // 2
    first = sr.score(table.slice(0, half), model, state_out=tmp_path / "state.db").read_all()
    second = sr.score(table.slice(half), model, state_in=tmp_path / "state.db").read_all()
    assert by_key(pa.concat_tables([first, second])) == predict(model, table)


def test_a_state_of_another_model_or_none_is_refused(tmp_path, model):
    source = write(make_table(2), tmp_path / "1.parquet")
    with pytest.raises(ConfigError, match="no such state store"):
        sr.score(source, model, out=tmp_path / "out.parquet", state_in=tmp_path / "absent.db")
    store = SqliteStore(tmp_path / "other.db")
    store.open({"model": "another"})
    store.close()
    with pytest.raises(StateError, match="another"):
        sr.score(source, model, out=tmp_path / "out.parquet", state_in=tmp_path / "other.db")


RUN = """
model = "{model}"
order = {{ lateness = 0.5 }}
[source]
kind = "mqtt"
url = "mqtt://127.0.0.1:1"
topic = "sensors/{{stream}}"
client_id = "c"
session = true
[sink]
kind = "parts"
folder = "{folder}/parts"
[state]
path = "{folder}/live.db"
"""


@pytest.mark.slow
def test_a_recording_warms_up_a_live_run(tmp_path, model):
    """Its state store is one that the run opens, with samples held that may yet come before others."""
    config = tmp_path / "run.toml"
    config.write_text(RUN.format(model=model, folder=tmp_path))
    table = make_table(4, interleaved=True)
    half = table.num_rows // 2
    write(table.slice(0, half), tmp_path / "1.parquet")
    command = [sys.executable, "-m", "streamrde", "score", tmp_path / "1.parquet", "-m", model]
    subprocess.run([*command, "-o", tmp_path / "out.parquet", "--state-out", config], check=True)
    run = read_toml(config, RunConfig)
    bundle = sr.load(model)
    store = SqliteStore(run.state.path)
    store.open(run.identity(bundle.fingerprint))
    fleet = sr.Fleet(bundle, order=run.order)
    fleet.restore(store.read(["s0", "s1", "s2", "s3"]))
    store.close()
    rest = table.slice(half)
    x = np.stack([rest["a"].to_numpy(), rest["b"].to_numpy()], axis=1)
    live = [fleet.push(rest["stream_id"], rest["t"].to_numpy(), x), fleet.flush()]
    both = pa.concat_tables([read(tmp_path / "out.parquet"), pa.Table.from_batches(live)])
    assert by_key(both) == predict(model, table)
    # And the other way: a job goes on from the store as the run left it.
    write(rest, tmp_path / "2.parquet")
    command[4] = tmp_path / "2.parquet"
    subprocess.run([*command, "-o", tmp_path / "rest.parquet", "--state-in", run.state.path], check=True)
    both = pa.concat_tables([read(tmp_path / "out.parquet"), read(tmp_path / "rest.parquet")])
    assert by_key(both) == predict(model, table)
