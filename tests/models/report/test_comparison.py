"""Several runs are ranked by a figure that all have, and a page shows what differs between them."""

from __future__ import annotations

import json
import re

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bundles import make_bundle
from models.recordings import config_for
from typer.testing import CliRunner

from streamrde.cli import app
from streamrde.errors import DataError
from streamrde.fitting.record import Curve, Run, aligned, as_comment, read_runs, run_of
from streamrde.inference.bundle import load
from streamrde.models.report import finding
from streamrde.models.report.compare import comparison_page
from streamrde.models.report.comparison import compare
from streamrde.models.report.finding import find_runs
from streamrde.models.sweeping.results import Outcome, Results
from streamrde.models.training.config import as_train_config
from streamrde.pages.page import page


def a_run(name: str, test: float | None, *, cost: float | None = 10.0, **changes) -> Run:
    measures = {"validation_accuracy_end": 0.8, "test_accuracy_end": test, "test_streams": 100.0}
    measures |= {"test_majority_accuracy_end": 0.3, "test_nearest_accuracy_end": 0.5}
    curve = Curve(epochs=(1.0, 2.0), minutes=(0.1, 0.2), values=(1.0, None))
    run = Run(
        name=name,
        kind="train",
        task="classification",
        targets=("turn",),
        data="x.parquet",
        settings={"model.hidden": len(name), "model.depth": 2},
        curves={"loss": curve, "validation_loss": curve},
        measures=measures,
        seconds=60.0,
        parameters=7,
        stream_us=cost,
    )
    return msgspec.structs.replace(run, **changes)


def numbers(name: str, rmse: float) -> Run:
    return a_run(name, None, task="regression", measures={"test_rmse_end": rmse, "test_mean_rmse_end": 0.5})


def test_the_best_by_test_streams_comes_first_and_a_cheaper_one_is_named() -> None:
    found = compare([a_run("bad", 0.6), a_run("cheap", 0.89, cost=2.0), a_run("dear", 0.9)])
    assert [run.name for run in found.runs] == ["dear", "cheap", "bad"]
    assert found.fronts == [True, True, False]
    assert found.settings == {"model.hidden": ["4", "5", "3"]}
    assert "dear, right at the end of 90.0 % of 100 test streams" in found.sentences[0]
    assert any("a difference of less than 6.0 % may be chance" in text for text in found.sentences)
    assert any("the most similar stream, reaches 50.0 %" in text for text in found.sentences)
    assert any("cheap is served 5.0 times as fast, with 89.0 %" in text for text in found.sentences)
    assert found.warnings == []


def test_of_equal_runs_the_cheaper_one_is_best() -> None:
    assert [run.name for run in compare([a_run("a", 0.9), a_run("b", 0.9, cost=1.0)]).runs] == ["b", "a"]


def test_errors_of_numbers_are_ranked_from_the_least() -> None:
    found = compare([numbers("far", 2.0), numbers("near", 1.0)])
    assert [run.name for run in found.runs] == ["near", "far"]
    assert found.measure == "rmse_end"
    assert "with a root mean square error at the end of a stream of 1 on test streams" in found.sentences[0]
    assert "even the best run is no better than the mean: 0.5" in found.warnings


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"targets": ("speed",)}, "predict different targets (speed, turn)"),
        ({"data": "y.parquet"}, "learned from different files"),
        ({"task": "regression"}, "some runs predict classes and others numbers"),
        ({"measures": {"validation_accuracy_end": 0.7}}, "no test streams in other"),
        ({"measures": {"train_loss": 0.7}}, "no figure is common to all runs"),
        ({"measures": {"test_accuracy_end": 0.7, "test_streams": 9.0}}, "different numbers of streams (9, 100)"),
        ({"measures": {"test_accuracy_end": 0.7, "test_majority_accuracy_end": 0.8}}, None),
    ],
)
def test_figures_that_mean_different_things_are_warned_of(changes, warning) -> None:
    found = compare([a_run("one", 0.9), a_run("other", 0.5, **changes)])
    assert (warning in "\n".join(found.warnings)) if warning else not found.warnings
    # The page and the JSON are there even without a common figure.
    assert "<h2>All measures</h2>" in comparison_page(found)
    json.dumps(found.as_dict(), allow_nan=False)


def test_the_page_draws_curves_costs_and_settings_of_hostile_names(tmp_path) -> None:
    runs = [a_run(f"<i>{i}</i>", 0.5 + i / 20, settings={"k": i, "t": "<b>" * i}) for i in range(8)]
    text = comparison_page(compare(runs))
    assert "<i>" not in text
    assert "<b>&lt;" not in text
    assert "nan" not in re.sub(r"<[^>]*>", " ", text).lower().split()
    titles = re.findall("<strong>(.*?)</strong>", text)
    assert titles[1:] == [
        "Score by the cost of serving", "Score by duration", "Validation loss by epoch", "Validation loss by time",
        "k", "t",
    ]  # fmt: skip
    # Six runs have colours and names. The others are grey.
    assert len(re.findall('class="legend"[^>]*>[1-9]<', text)) == 2 * 6


def test_runs_survive_their_page_whatever_their_texts(tmp_path) -> None:
    evil = a_run("--><script>alert(1)</script><!--", 0.5, data="a--b-->", settings={"k": [1, -2.5, "--", "é"]})
    (tmp_path / "run.html").write_text(page("t", "s", [], data=as_comment([evil])), encoding="utf-8")
    text = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert text.count("-->") == 1
    assert read_runs(tmp_path / "run.html") == [evil]
    (tmp_path / "cut.html").write_text('<!--streamrde-runs [{"name":3}]-->')
    with pytest.raises(DataError, match="cannot be read"):
        read_runs(tmp_path / "cut.html")


@pytest.fixture
def folder(tmp_path):
    """A folder with a model and its page, a model alone, a sweep, and files that are none of these."""
    bundle, other = make_bundle(seed=1), make_bundle(seed=2)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    bundle.save(tmp_path / "a" / "model.safetensors")
    run = run_of(
        bundle, name="", kind="train", settings={"model": {"depth": 3}}, seconds=3.0, model="gone/model.safetensors"
    )
    (tmp_path / "a" / "report.html").write_text(page("t", "s", [], data=as_comment([run])))
    other.save(tmp_path / "b" / "model.safetensors")
    (tmp_path / "b" / "junk.safetensors").write_bytes(b"junk")
    (tmp_path / "page.html").write_text("<p>no run</p>")
    pq.write_table(pa.table({"t": [1.0]}), tmp_path / "recordings.parquet")
    results = Results(tmp_path / "sweep.parquet", config=as_train_config(config_for("x")), resume=False)
    for trial, score in ((1, 0.5), (2, None)):
        results.add(
            Outcome(
                trial=trial, rung=0, repeat=0, epochs=2, values={"model.hidden": trial}, score=score, monitor="loss",
                curve=(1.0, 0.5), measures={"validation_accuracy_end": 0.5}, seconds=6.0, stream_us=4.0, parameters=3,
            )
        )  # fmt: skip
    return tmp_path


def test_a_folder_is_searched_for_pages_models_and_sweeps(folder) -> None:
    runs = {run.name: run for run in find_runs([folder])}
    assert sorted(runs) == ["a", "b", "sweep trial 1"]
    # The model beside the page is timed, and a page's settings are kept.
    assert runs["a"].settings == {"model.depth": 3}
    assert runs["a"].stream_us > 0
    assert runs["b"].stream_us > 0
    assert runs["sweep trial 1"].curves["validation_loss"].minutes == (0.05, 0.1)
    # A model file stands for the run of the page beside it.
    (alone,) = find_runs([folder / "a" / "model.safetensors"])
    assert alone.seconds == 3.0
    for path, match in ((folder / "page.html", "holds no run"), (folder / "none.html", "No such file")):
        with pytest.raises(DataError, match=match):
            find_runs([path])
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="no run in this folder"):
        find_runs([folder / "empty"])


@pytest.mark.parametrize("paths", [["."], ["a", "b"], ["a/model.safetensors", "b/model.safetensors"]])
def test_each_model_is_read_once(folder, paths, monkeypatch) -> None:
    read = []
    monkeypatch.setattr(finding, "load", lambda path: read.append(path) or load(path))
    runs = find_runs([folder / path for path in paths])
    assert all(run.stream_us > 0 for run in runs)
    assert sorted(path for path in read if path.stem == "model") == sorted(folder.glob("*/model.safetensors"))


def test_inspect_compares_and_writes_a_page(folder) -> None:
    out = folder / "out" / "page.html"
    done = CliRunner().invoke(app, ["inspect", str(folder), "--report", str(out), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert {run["name"] for run in found["runs"]} == {"a", "b", "sweep trial 1"}
    assert found["written"] == [str(out)]
    assert "<h2>Runs</h2>" in out.read_text()
    shown = CliRunner().invoke(app, ["inspect", str(folder / "a"), str(folder / "b")]).output
    assert "us per second of a stream" in shown
    lonely = CliRunner().invoke(app, ["inspect", str(folder / "a")])
    assert "there is only one run" in str(lonely.exception)


def test_a_fit_is_measured_by_the_names_of_a_training() -> None:
    own = {"validation_accuracy": 0.9, "validation_nearest_accuracy": 0.5, "test_log_loss": 0.2}
    ends = {"validation_accuracy_end": 0.9, "validation_nearest_accuracy_end": 0.5, "test_log_loss_end": 0.2}
    assert aligned(own, along=False) == ends
    assert [*aligned(own, along=True)] == [name.replace("_end", "_windows") for name in ends]
    assert [*aligned({"test_rmse": 1.0}, along=True)] == ["test_rmse"]
