from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from bundles import make_bundle
from models.recordings import config_for, quiet, write_recordings

import streamrde as sr
from streamrde.fitting.record import read_runs
from streamrde.fitting.recordings import Recording
from streamrde.fitting.targets import Target
from streamrde.models import train
from streamrde.models.report.resolution import outputs_to_depth, step_errors
from streamrde.models.report.sections import _clock
from streamrde.models.report.speed import step_cost
from streamrde.models.training.examples import Example

VOID = {"meta", "line", "circle", "rect", "polyline", "polygon"}


class Balanced(HTMLParser):
    """Checks that elements end where they should, and collects what would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def page(tmp_path, *, novelty: bool = True, streams: int = 24, **tables: dict[str, object]) -> str:
    config = config_for(write_recordings(tmp_path, streams=streams), **tables) | {"novelty": novelty}
    config["output"] |= {"report": str(tmp_path / "out" / "run.html")}
    train(config, console=quiet())
    text = (tmp_path / "out" / "run.html").read_text(encoding="utf-8")
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert parser.fetched == []
    assert "<script" not in text
    assert "http" not in text
    assert "nan" not in re.sub(r"<[^>]*>", " ", text).lower().split()
    return text


def headings(text: str) -> list[str]:
    return re.findall("<h2>(.*?)</h2>", text)


@pytest.mark.slow
def test_the_report_of_a_classifier_has_its_chapters_and_needs_nothing_else(tmp_path) -> None:
    text = page(tmp_path, training={"epochs": 2}, streams=96)
    assert re.search(
        "Right at the end of [0-9]+ of [0-9]+ test streams: [0-9.]+ % .*always the most common class", text
    )
    assert "a linear model of summaries of each channel" in text
    assert headings(text) == [
        "What to try next",
        "Data",
        "Measures",
        "Learning",
        "Confusion",
        "How early is the answer right?",
        "Can the probabilities be trusted?",
        "Are the windows short enough, the signatures deep enough?",
        "How new are the windows?",
        "Speed",
        "Where it does worst",
        "Model card",
    ]
    assert "P-values of the windows" in text
    assert "kept: epoch" in text
    assert "Area under the ROC curve" in text
    assert "There is no" not in text


@pytest.mark.slow
def test_the_report_of_a_regression_has_a_scatter_per_target_with_its_unit(tmp_path) -> None:
    data = {"target": ["speed", "b"], "task": "regression", "target_units": ["rad/s", "m"]}
    split = {"validation": [], "test": []}
    text = page(tmp_path, data=data, training={"epochs": 1}, split=split)
    assert "the mean of training" in text
    for told in ("speed: predicted against true", "predicted (rad/s)", "predicted - true (m)", "There is no test part"):
        assert told in text
    assert "Can the probabilities be trusted?" not in headings(text)


@pytest.mark.slow
def test_groups_on_both_sides_of_the_split_are_warned_about(tmp_path) -> None:
    split = {"by": "stream", "column": "", "group": "subject", "validation": 0.2, "test": 0.2}
    text = page(tmp_path, training={"epochs": 2, "monitor": "accuracy_end"}, split=split, novelty=False)
    # The page holds its run, for comparisons.
    (run,) = read_runs(tmp_path / "out" / "run.html")
    assert [(name, curve.epochs) for name, curve in run.curves.items()] == [
        ("loss", (1, 2)),
        ("validation_loss", (1, 2)),
        ("accuracy_end", (1, 2)),
    ]
    assert run.settings["training.epochs"] == 2
    assert run.settings["model.field.width"] == 12
    assert 0 <= run.measures["test_accuracy_end"] <= 1
    assert run.seconds > 0
    assert "test streams are of the same &#x27;subject&#x27; as training streams" in text
    assert "How new are the windows?" not in text


@pytest.mark.slow
def test_a_field_with_an_exact_flow_has_no_step_error(tmp_path) -> None:
    model = {"field": {"field": "linear", "block": 3}, "depth": 1, "emit": "last"}
    text = page(tmp_path, model=model, training={"epochs": 1})
    assert "Step error against window length" not in text


def recording(seed: int, length: int = 300) -> Recording:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(length, 2)).cumsum(axis=0) * 0.1
    return Recording(f"s{seed}", np.arange(length) * 0.1, x, Target(np.zeros((1, 1)), None), "g", f"s{seed}")


@pytest.mark.parametrize("windows", [sr.Every(1.0), sr.Count(8), sr.Adaptive(1.0)], ids=["every", "count", "adaptive"])
def test_longer_windows_have_larger_step_errors(windows) -> None:
    bundle = make_bundle(windows=windows, solver="rk4")
    found = step_errors(bundle, [recording(i) for i in range(3)])
    assert [step.factor for step in found] == [0.25, 0.5, 1, 2, 4]
    assert all(a.median < b.median for a, b in itertools.pairwise(found))
    assert all(step.median <= step.most for step in found)


def test_step_errors_are_the_steppers_along_the_stream() -> None:
    bundle, own = make_bundle(windows=sr.Every(1.0)), recording(0)
    served = []
    predictor = sr.Predictor(bundle, step_error=True)
    for t, x in zip(own.t, own.x, strict=True):
        served += predictor.push(t, x)
    served += predictor.flush()
    (trained,) = [step for step in step_errors(bundle, [own]) if step.factor == 1]
    errors = [prediction.step_error for prediction in served]
    assert trained.windows == len(errors)
    assert trained.median == pytest.approx(np.median(errors), rel=1e-3)


def test_windows_that_cannot_be_shorter_are_left_out() -> None:
    assert sr.Count(2).scaled(0.25) is None
    assert sr.Every(2.0).scaled(0.25) == sr.Every(0.5)


def test_outputs_to_a_depth_are_those_without_deeper_levels() -> None:
    bundle, rng = make_bundle(), np.random.default_rng(0)
    logsigs = rng.normal(size=(4, bundle.header.logsig_channels))
    example = Example("s", np.zeros(3), np.arange(4.0), logsigs, np.zeros(4, int))
    emptied = example._replace(logsigs=np.where(np.arange(logsigs.shape[1]) < 3 + 3, logsigs, 0.0))
    (cut,), (same,) = outputs_to_depth(bundle, [example], 2), outputs_to_depth(bundle, [emptied], 3)
    assert cut.tobytes() == same.tobytes()
    assert abs(outputs_to_depth(bundle, [example], 3)[0] - cut).max() > 1e-6


def test_a_step_costs_some_time() -> None:
    # Which is less, alone or together, a busy machine does not show in so short a time.
    assert all(0 < seconds < 1 for seconds in step_cost(make_bundle(), seconds=0.02))


@pytest.mark.parametrize(("most", "name"), [(40.0, "seconds"), (600.0, "minutes"), (172800.0, "hours"), (1e6, "days")])
def test_times_are_shown_in_a_unit_that_suits_them(most, name) -> None:
    assert _clock(most)[1] == name
