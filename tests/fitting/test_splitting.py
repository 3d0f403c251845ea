"""Parts that the data mark: tests that are only measured, and folds."""

import numpy as np
import pyarrow as pa
import pytest
from fit_data import swinging

import streamrde as sr
from streamrde.errors import DataError


def table(split):
    rows = swinging(streams=24)
    return rows.append_column("split", pa.array(np.repeat(split, 20)))


def test_a_test_part_is_measured_by_the_served_model_and_changes_no_fit() -> None:
    marked = table(["train"] * 16 + ["test"] * 8)
    report = sr.fit(marked, "label")
    alone = sr.fit(marked.slice(0, 16 * 20), "label", split="")
    assert report.fitted.bundle.fingerprint == alone.fitted.bundle.fingerprint
    assert len(report.fitted.examples.recordings) == 16
    served = (
        sr.score(marked.slice(16 * 20), report.bundle).read_pandas().groupby("stream", observed=True)["label"].last()
    )
    right = [name == ("fast" if int(stream[1:]) % 2 else "slow") for stream, name in served.items()]
    assert report.measures["test_accuracy"] == np.mean(right)
    assert {"test_majority_accuracy", "test_nearest_accuracy", "test_summaries_accuracy"} <= report.measures.keys()
    assert report.bundle.header.metrics["test_accuracy"] == report.measures["test_accuracy"]


def test_a_test_stream_of_a_single_sample_has_the_plainest_answer() -> None:
    marked = table(["train"] * 15 + ["test"] * 9)
    short = marked.slice(0, 16 * 20 + 1)  # eight of 15 streams to fit are slow, and of the two to test one is
    report = sr.fit(short, "label")
    assert report.measures["test_silent"] == 1
    assert report.measures["test_accuracy"] == 1.0
    assert any("the plainest answer stands for 1 stream without a window" in text for text in report.sentences)
    assert not any("single sample" in note for note in report.notes)
    last = short.slice(16 * 20).set_column(3, "label", pa.array(["fast"]))
    wrong = sr.fit(pa.concat_tables([short.slice(0, 16 * 20), last]), "label")
    assert wrong.measures["test_accuracy"] == 0.5
    assert wrong.bundle.fingerprint == report.bundle.fingerprint


def test_test_streams_of_classes_that_no_other_has_are_left_out_and_counted() -> None:
    marked = table(["train"] * 16 + ["test"] * 8)
    label = np.where(np.arange(24) >= 22, "stuck", np.where(np.arange(24) % 2, "fast", "slow"))
    report = sr.fit(marked.set_column(3, "label", pa.array(np.repeat(label, 20))), "label")
    assert report.measures["test_unknown"] == 2
    assert report.sentences[-1].endswith("; 2 streams of classes that it does not know are left out")
    assert sr.fit(marked, "label").measures["test_unknown"] == 0


def test_validation_is_fitted_beside_a_test_and_is_the_test_without_one() -> None:
    three = sr.fit(table(["train"] * 8 + ["val"] * 8 + ["test"] * 8), "label")
    two = sr.fit(table(["train"] * 16 + ["validation"] * 8), "label")
    assert len(three.fitted.examples.recordings) == len(two.fitted.examples.recordings) == 16
    assert any("8 streams, where 'split' is" in note for note in two.notes)
    true = sr.fit(table([False] * 16 + [True] * 8).rename_columns(["stream_id", "t", "a", "label", "is_test"]), "label")
    assert len(true.fitted.examples.recordings) == 16


def test_numbered_parts_are_folds() -> None:
    report = sr.fit(table([f"fold {i % 4}" for i in range(24)]), "label")
    assert report.fitted.examples.folds.tolist() == [i % 4 for i in range(24)]


def test_parts_that_are_not_known_are_said_and_all_is_fitted() -> None:
    report = sr.fit(table(["A"] * 12 + ["B"] * 12), "label")
    assert len(report.fitted.examples.recordings) == 24
    assert any("name no part known" in note for note in report.notes)
    assert report.bundle.header.channels[0].name == "a"


def test_a_class_that_only_the_test_has_is_no_class_of_the_model() -> None:
    rows = table(["train"] * 16 + ["test"] * 8)
    label = rows["label"].to_numpy(zero_copy_only=False)
    label[-20:] = "other"
    report = sr.fit(rows.set_column(3, "label", pa.array(label)), "label")
    assert report.bundle.header.labels == ("fast", "slow")


def test_a_split_that_changes_within_streams_is_not_used_unless_it_is_asked_for() -> None:
    rows = table(["train"] * 24)
    mixed = rows.set_column(4, "split", pa.array(np.where(np.arange(len(rows)) % 20 < 10, "train", "test")))
    assert any("changes within streams" in note for note in sr.fit(mixed, "label").notes)
    with pytest.raises(DataError, match="or set split = ''"):
        sr.fit(mixed, "label", split="split")
