"""The page of a sweep ranks its trials, weighs scores against cost, and shows what each key did."""

import re
from html.parser import HTMLParser

import pytest

from streamrde.models.report.sweep import sweep_page, write_sweep
from streamrde.models.sweeping.results import Standing
from streamrde.models.sweeping.space import Trial
from streamrde.models.training.config import as_train_config

CONFIG = as_train_config(
    {"data": {"files": "x", "channels": ["a"], "target": "y"}, "windows": {"policy": "every", "seconds": 1.0}}
)


def standing(number, hidden, solver, score, cost, *, rung=1, spread=0.0, pareto=False, error=""):
    trial = Trial(number, {"model.hidden": hidden, "model.solver": solver, "model.depth": 2}, CONFIG)
    return Standing(trial, rung, 9 * (rung + 1), score, spread, 100 * hidden, cost / 2, cost, 1.0, error, pareto)


TRIALS = [
    standing(3, 64, "rk4", 0.30, 40.0, spread=0.05, pareto=True),
    standing(1, 16, "rk4", 0.32, 10.0, spread=0.04, pareto=True),
    standing(0, 8, "euler", 0.9, 12.0, rung=0),
    standing(2, 32, "<b>odd</b>", None, float("nan"), error="the loss is not finite"),
]


def words(page):
    return re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.S)


def test_the_best_trial_its_cheaper_rival_and_failures_are_named():
    page = sweep_page(TRIALS, CONFIG)
    text = words(page)
    assert re.search("Best: .*hidden.?=.?64.*, with loss 0.3 ± 0.05", text)
    assert "is served 4.0 times as fast, with loss 0.32 ± 0.04" in text
    assert "1 of 4 trials failed" in text
    assert "The first two differ by less than repeated trainings do" in text
    assert "the loss is not finite" in text
    assert "<b>odd" not in page
    # Keys with one value have no chart, and each trial of the top rung a dot of the cost.
    assert re.findall("<strong>(.*?)</strong>", page) == ["Score by the cost of serving", "hidden", "solver"]
    assert page.count("</title></circle>") == 2 + 2 * 3


def test_a_page_of_failures_alone_has_only_the_table(tmp_path):
    write_sweep(tmp_path / "sweep.html", TRIALS[-1:], CONFIG)
    page = (tmp_path / "sweep.html").read_text()
    assert "1 of 1 trials failed" in page
    assert re.findall("<h2>(.*?)</h2>", page) == ["Trials"]


@pytest.mark.parametrize("trials", [TRIALS, TRIALS[:1]])
def test_the_page_is_well_formed_and_fetches_nothing(trials):
    class Checked(HTMLParser):
        def handle_starttag(self, tag, attrs):
            assert tag != "script"
            assert not {"src", "href"} & {name for name, _ in attrs}

    page = sweep_page(trials, CONFIG)
    Checked().feed(page)
    assert page.count("<figure>") == page.count("</figure>")
