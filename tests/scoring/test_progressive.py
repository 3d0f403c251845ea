"""`streamrde score --progressive`: what streams would have learned from the truth of recorded files."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from late import NUMBERS, calibrated, samples
from typer.testing import CliRunner

import streamrde as sr
from streamrde.cli import app
from streamrde.errors import ConfigError
from streamrde.pages.progressive import progressive_page
from streamrde.scoring.progressive import evaluate_progressively


@pytest.fixture
def scored(tmp_path):
    """A model, and recorded samples with a truth that is off its answers by a constant."""
    bundle = calibrated(**NUMBERS)
    bundle.save(tmp_path / "model.safetensors")
    names, t, x = samples(3, 400)
    fleet = sr.Fleet(bundle)
    rows = [*fleet.push(names, t, x).to_pylist(), *fleet.flush().to_pylist()]
    answers = {(row["stream"], row["window"]): row["value"] for row in rows}
    own = np.array([answers[name, int(s)] for name, s in zip(names, t - 1e-9, strict=True)])
    truth = own + [3.0, 0.0] + 0.1 * np.random.default_rng(5).normal(size=own.shape)
    columns = {"stream": names, "t": t, "a": x[:, 0], "b": x[:, 1], "p": truth[:, 0], "q": truth[:, 1]}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    return tmp_path


def score(folder, *options, out="out.parquet"):
    paths = (
        str(folder / "rows.parquet"),
        "--model",
        str(folder / "model.safetensors"),
        "--out",
        str(folder / out),
        "--stream",
        "stream",
    )
    return CliRunner().invoke(app, ["score", *paths, *options])


def test_errors_and_coverage_are_reported(scored):
    shown = score(scored, "--evaluate", "p,q", "--progressive", "--delay", "3s", "--json")
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)["progressive"]
    assert found["labels"] > 500
    assert found["rmse"]["frozen"][0] == pytest.approx(3.0, rel=0.1)
    assert found["rmse"]["online"][0] < 1.0
    assert found["asked"] == 0.9
    assert set(found["streams"]) == {"s0", "s1", "s2"}
    assert {"coverage", "worst_stream", "worst_stream_coverage", "worst_200", "width"} <= found["coverage"][0].keys()
    assert [own["ratio"] > 0 for own in found["beside_last"]] == [True, True]
    assert {"until", "labels", "served", "rmse", "coverage"} <= found["over_time"][0].keys()
    page = scored / "page.html"
    plain = score(scored, "--evaluate", "p,q", "--progressive", "--report", str(page), out="folder")
    for word in ("online", "worst 200", "above 1.05", "page.html"):
        assert word in plain.stdout
    text = page.read_text()
    for word in ("Errors over time", "Errors by number of labels", "Coverage", "asked for", "s2"):
        assert word in text
    assert text.count("<svg") == 2 + 2 + 3 + 2
    assert "nan" not in text


def test_page_of_streams_without_labels_says_so():
    learned = {"outputs": ["p"], "labels": 0, "delay": 0.0, "rmse": {"frozen": [None]}, "streams": {}, "after": {}}
    assert "No prediction has a label" in progressive_page(learned, "nothing")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--progressive"], "--evaluate"),
        (["--evaluate", "p,q", "--delay", "3s"], "add --progressive"),
        (["--evaluate", "p,q", "--report", "page.html"], "add --progressive"),
        (["--evaluate", "p,q", "--progressive", "--delay", "soon"], "write a number and a unit"),
    ],
)
def test_options_that_do_not_fit_are_refused(scored, options, word):
    shown = score(scored, *options)
    assert shown.exit_code != 0
    assert word in f"{shown.output}{shown.exception}"
    assert not (scored / "out.parquet").exists()


def test_files_that_cannot_be_read_back_are_refused(scored):
    bundle = sr.load(scored / "model.safetensors")
    with pytest.raises(ConfigError, match="or a folder"):
        evaluate_progressively("x.csv", bundle, ("p", "q"))
