"""The live page in a browser: what it shows is what the run has, and the names of streams are text."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from http import HTTPStatus

import numpy as np
import pyarrow as pa
import pytest
from brokers import free_port
from browser import CHROMIUM, Served, browser
from bundles import make_bundle
from services import eventually, get

import streamrde as sr
from streamrde.connectors.ends import DeadLetter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"),
]
HOSTILE = "<img src=x onerror=alert(1)>\"'&\u202e{{7*7}}"

COUNTED = (
    "[...document.querySelectorAll('.pairs dt')].find(d => d.textContent == 'predictions').nextSibling.textContent"
)
ACTIVE = "document.getElementById(document.activeElement.getAttribute('aria-activedescendant')).textContent"


@pytest.fixture(scope="module")
def chromium():
    with browser() as found:
        yield found


@pytest.fixture
def open_page(chromium):
    """Open a page, and find nothing on its console at the end."""
    said, contexts = [], []

    def open_one(url: str, **settings):
        context = chromium.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"{error}"))
        page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        page.goto(url)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not said


def feed(served: Served, streams: list[str], seconds: float = 6.0) -> None:
    t = np.repeat(np.arange(0, seconds, 0.25), len(streams))
    x = np.stack([np.sin(t + np.arange(len(t)) % 5), np.cos(2 * t)], axis=1)
    served.push(streams * (len(t) // len(streams)), t, x)


def rows_of(page) -> list[str]:
    return page.locator("#list .row:visible b").all_text_contents()


def test_streams_appear_and_their_numbers_are_those_of_the_sink(open_page):
    with Served(make_bundle(seed=1)) as served:
        page = open_page(served.url)
        page.get_by_text("Streams appear as their first samples arrive.").wait_for()
        feed(served, [f"pump-{i}" for i in range(42)])
        page.locator("#shown", has_text=re.compile("^42$")).wait_for()
        page.locator("#search").fill("pump-3")
        page.locator(".row", has_text=re.compile("^pump-3(?!\\d)")).first.click()
        page.locator("#name", has_text=re.compile("^pump-3$")).wait_for()
        page.locator("summary").click()
        page.locator("#table tbody tr").first.wait_for()
        shown = [
            row.locator("td").all_text_contents()
            for row in page.locator("#table tbody tr").all()
        ]  # fmt: skip
        wanted = [row for row in served.sink.rows if row["stream"] == "pump-3"][::-1]
        assert len(shown) == len(wanted) > 3
        for cells, row in zip(shown, wanted, strict=True):
            assert int(cells[0]) == row["window"]
            assert float(cells[2].removesuffix(" s")) == row["t_end"]
            values = [float(text) for text in cells[4].split(", ")] if "label" not in row else None
            if values is None:
                assert cells[3] == row["label"]
                assert float(cells[4].removesuffix(" %")) == pytest.approx(100 * max(row["value"]), abs=0.51)
            else:
                assert values == pytest.approx(row["value"], abs=1e-3)
        assert "predictions" in page.locator(".pairs").text_content()
        total = page.evaluate(COUNTED)
        assert int(total.replace(",", "")) == len(served.sink.rows)

        # What comes while somebody looks appears, too.
        feed_again = np.arange(6.0, 9.0, 0.25)
        served.push(["pump-3"] * len(feed_again), feed_again, np.zeros((len(feed_again), 2)))
        last = served.sink.rows[-1]
        page.locator("#table tbody tr td:first-child", has_text=re.compile(f"^{last['window']}$")).wait_for()


def test_the_name_of_a_stream_is_text(open_page):
    with Served(make_bundle(seed=1)) as served:
        feed(served, [HOSTILE, "plain"])
        served.call(served.recent.refuse, [DeadLetter(HOSTILE, HOSTILE, b"x", 0.0)])
        served.call(served.recent.labels.append, pa.record_batch({"stream": [HOSTILE], "label": [HOSTILE]}))
        page = open_page(served.url)
        page.locator(".row", has_text="onerror").click()
        page.locator("#name", has_text="onerror").wait_for()
        page.locator(".card", has_text="onerror").wait_for()
        page.locator("#answer .truth", has_text="onerror").wait_for()
        assert page.locator("#name").text_content() == HOSTILE
        assert page.locator("main img").count() == 0
        page.reload()  # the address has the name
        page.locator("#name", has_text="onerror").wait_for()


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_labels_are_shown_where_they_arrive_beside_predictions_and_intervals(task, open_page):
    numbers, rng = task == "regression", np.random.default_rng(0)
    names = ("level", "rate") if numbers else (HOSTILE, "other", "third")
    bundle = make_bundle(seed=1, task=task, labels=names, outputs=len(names), windows=sr.Every(1.0))
    errors = np.abs(rng.normal(size=(200, 2 if numbers else 1))) * (1 if numbers else 0.2)
    bundle = bundle.with_calibration([errors] * 2, np.repeat(np.arange(20), 10))
    with Served(bundle, adapt="best", intervals=0.9) as served:
        t = np.arange(0.0, 12.0, 0.25)
        labels = np.full((len(t), 2 if numbers else 1), np.nan)
        labels[5::4] = rng.normal(size=(len(labels[5::4]), 2)) if numbers else 0
        served.push(["a"] * len(t), t, np.column_stack([np.sin(t), np.cos(2 * t), labels]))
        learned = served.pipeline.fleet.adaptation().joined
        assert learned > 5
        page = open_page(served.url)
        page.locator("#answer .truth", has_text="truth: ").wait_for()
        truth = page.locator("#answer .truth").text_content()
        assert truth.count(",") == 1 if numbers else truth == f"truth: {HOSTILE}"
        assert page.locator("main img").count() == 0
        card = page.locator(".card", has_text="Counters")
        card.locator("dt", has_text="labels learned").wait_for()
        facts = dict(zip(*(card.locator(part).all_text_contents() for part in ("dt", "dd")), strict=True))
        assert facts["labels learned"] == f"{learned}"
        output, errors = "level" if numbers else "class", served.pipeline.metrics.labels.errors
        for name, method in (("error", "served"), ("the model's", "frozen"), ("last label's", "last")):
            assert float(facts[f"{output}: {name}"]) == pytest.approx(errors[method][output], rel=0.01, abs=0.01)
        assert facts[f"{output}: in interval"].endswith("%")
        if folder := os.environ.get("STREAMRDE_SHOTS"):
            page.wait_for_timeout(800)
            page.screenshot(path=f"{folder}/{task}.png", full_page=True)


def test_what_needs_a_look_comes_first_and_says_why(open_page):
    with Served(make_bundle(seed=1)) as served:
        feed(served, [f"s{i:02d}" for i in range(30)])
        served.push(["s17"] * 20, [1.0] * 20, np.zeros((20, 2)))
        served.call(served.source.quarantine.set_aside, "s23", 1e12)
        page = open_page(served.url)
        page.locator(".row", has_text="s17").first.wait_for()
        assert rows_of(page)[:2] == ["s23", "s17"]
        assert "late" in page.locator(".row", has_text="s17").text_content()
        page.locator(".card", has_text="s23").get_by_text("set aside").wait_for()
        page.locator(".card", has_text="s17").get_by_role("button").click()
        page.locator("#why", has_text="late").wait_for()
        page.locator("#tile-unused dd", has_text="20").wait_for()


def test_the_keyboard_finds_and_opens_streams(open_page):
    with Served(make_bundle(seed=1)) as served:
        feed(served, [f"s{i:02d}" for i in range(30)])
        page = open_page(served.url)
        page.locator(".row").first.wait_for()
        page.keyboard.press("/")
        page.keyboard.type("S2")
        page.locator("#shown", has_text="10 of 30").wait_for()
        page.keyboard.press("ArrowDown")
        page.locator("#name", has_text="s20").wait_for()
        for key, name in (("ArrowDown", "s21"), ("End", "s29"), ("ArrowUp", "s28"), ("Home", "s20")):
            page.keyboard.press(key)
            page.locator("#name", has_text=name).wait_for()
        assert page.evaluate(
            "document.getElementById(document.activeElement.getAttribute('aria-activedescendant')).textContent"
        ).startswith("s20")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)])
def test_labels_and_contrast_are_accessible(open_page, scheme, width):
    from axe_playwright_python.sync_playwright import Axe

    with Served(make_bundle(seed=1)) as served:
        feed(served, [f"s{i:02d}" for i in range(30)])
        served.push(["s17"] * 20, [1.0] * 20, np.zeros((20, 2)))
        page = open_page(served.url, color_scheme=scheme, viewport={"width": width, "height": 800}, bypass_csp=True)
        page.locator(".row").first.wait_for()
        page.locator(".card", has_text="s17").wait_for()
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        page.locator(".row").first.click()
        page.locator("summary").click()
        page.locator("#table tbody tr").first.wait_for()
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing is wider than the screen"


def test_the_page_says_that_the_run_has_ended(open_page):
    with Served(make_bundle(seed=1)) as served:
        feed(served, ["a"])
        page = open_page(served.url)
        # The stream's own connection stands once its predictions are there. One begun now would find nobody.
        page.locator("#table tbody tr").first.wait_for(state="attached")
    page.locator("#health", has_text="the run has ended").wait_for()


def test_the_demos_streams_appear_and_its_counts_are_those_that_it_prints(open_page):
    pytest.importorskip("amqtt")
    port = free_port()
    command = [sys.executable, "-m", "streamrde", "demo", "--port", f"{port}", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            eventually(lambda: get(port, "/healthz")[0] == HTTPStatus.OK, process, seconds=60)
            page = open_page(f"http://127.0.0.1:{port}/")
            page.locator("#shown", has_text=re.compile("^42$")).wait_for(timeout=60_000)
            page.locator("#answer .truth").wait_for()
            page.locator("#health", has_text="the run has ended").wait_for(timeout=120_000)
            out, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    total = page.evaluate(COUNTED)
    assert int(total.replace(",", "")) == json.loads(out)["predictions"]
