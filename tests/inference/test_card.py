from __future__ import annotations

import io
import math

from bundles import make_bundle
from rich.console import Console

import streamrde as sr
from streamrde.inference.card import card, measured, sections
from streamrde.inference.novelty import TrainingWindows


def shown(bundle) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(card(bundle, "model.safetensors"))
    return console.file.getvalue()


def test_the_card_tells_what_the_model_is_for_and_how_it_was_trained():
    bundle = make_bundle(
        description="a toy",
        notes="for tests only",
        training={"data": "toys/*.parquet", "seed": "3"},
        gap=sr.Gap(seconds=5),
    )
    text = shown(bundle)
    for fact in ("a toy", "for tests only", "toys/*.parquet", "longer than 5 s: the state is restarted", "m/s2"):
        assert fact in text
    assert bundle.fingerprint in text.replace("\n", "").replace(" ", "")


def test_the_card_tells_what_novelty_is_measured_against():
    told = TrainingWindows(windows=6629, streams=98, alarm=math.log(1e4))
    text = " ".join(shown(make_bundle(novelty=told)).split())
    assert "p-values down to 0.0002, from 6,629 windows of 98 streams; drift at odds of 10,000 to 1" in text
    assert "novelty not known" in " ".join(shown(make_bundle()).split())


def test_a_section_without_anything_to_say_is_left_out():
    titles = [section.title for section in sections(make_bundle())]
    assert "what it is for" not in titles
    assert "measured in training" not in titles
    assert {"what it takes", "what it gives", "the model"} <= set(titles)


def test_measures_are_a_row_each_and_a_column_per_part():
    section = measured({"epochs": 7.0, "train_rmse_hr": 1.23456789, "test_rmse_hr": 2.0, "test_streams": 4.0})
    assert section.columns == ("measure", "train", "test", "")
    assert section.rows == [("epochs", "", "", "7"), ("rmse hr", "1.2346", "2", ""), ("streams", "", "4", "")]
