"""Intervals and sets beside predictions: in Predictor and Fleet, before labels and after, in files and payloads."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from bundles import make_bundle
from late import HEADS, NUMBERS, calibrated, errors, run, samples

import streamrde as sr
from streamrde.adapting.bands import SETS, Bands, Calibration
from streamrde.adapting.scores import Unit, members, scores_of, units_of
from streamrde.adapting.split import calibrate
from streamrde.adapting.trackers import Tracking
from streamrde.connectors.codecs.predictions import decode_prediction, encode_prediction
from streamrde.connectors.files.formats.csv import Csv
from streamrde.errors import BundleError, ParameterError


def test_intervals_lie_around_values():
    bundle = calibrated(**NUMBERS)
    fleet = sr.Fleet(bundle, intervals=0.9)
    batch = fleet.push(*samples(3, 20))
    value, lower, upper = (np.array(batch[name].to_pylist()) for name in ("value", "lower", "upper"))
    assert len(batch) > 10
    assert batch.schema == fleet.schema
    np.testing.assert_allclose((lower + upper) / 2, value, rtol=1e-6)
    known = np.sort(bundle.tensors["calibration.scores"][0], axis=1)
    assert ((upper - lower) / 2 >= known[:, 160]).all()
    assert (np.ptp(upper - lower, axis=0) < 1e-5).all()


def test_predictor_has_the_intervals_of_the_fleet():
    for changes in (NUMBERS, {}, HEADS):
        bundle = calibrated(**changes)
        names, t, x = samples(1, 30)
        rows = sr.Fleet(bundle, intervals=0.8).push(names, t, x).to_pylist()
        found = sr.Predictor(bundle, stream="s0", intervals=0.8).push_many(t, x)
        assert len(rows) == len(found) > 0
        for row, one in zip(rows, found, strict=True):
            if "lower" in row:
                np.testing.assert_array_equal(row["lower"], one.lower)
                np.testing.assert_array_equal(row["upper"], one.upper)
            if "set" in row:
                assert tuple(row["set"]) == one.set
            if "set_kind" in row:
                assert tuple(row["set_kind"]) == one.heads["kind"].set


def test_a_model_without_scores_has_no_intervals():
    with pytest.raises(ParameterError, match="fit or train it again"):
        sr.Fleet(make_bundle(), intervals=0.9)


@pytest.mark.parametrize("asked", [True, "wide"])
def test_coverage_is_a_number(asked):
    with pytest.raises(ParameterError, match="such as 0"):
        sr.Fleet(calibrated(), intervals=asked)


def test_scores_are_kept_in_the_file_and_change_no_fingerprint(tmp_path):
    plain, bundle = make_bundle(windows=sr.Every(1.0), **NUMBERS), calibrated(**NUMBERS)
    bundle.save(tmp_path / "model.safetensors")
    loaded = sr.load(tmp_path / "model.safetensors")
    assert loaded.header.calibration == bundle.header.calibration
    assert loaded.header.calibration.streams == (40, 40)
    np.testing.assert_array_equal(loaded.tensors["calibration.scores"], bundle.tensors["calibration.scores"])
    assert loaded.fingerprint == plain.fingerprint
    assert loaded.parameters == plain.parameters


def test_scores_that_do_not_ascend_are_refused():
    bundle = calibrated(**NUMBERS)
    tensors = dict(bundle.tensors)
    tensors["calibration.scores"] = tensors["calibration.scores"][:, :, ::-1].copy()
    with pytest.raises(BundleError, match="does not ascend"):
        sr.Bundle(bundle.header, tensors)


def test_intervals_follow_late_labels():
    fleet = sr.Fleet(calibrated(**NUMBERS), intervals=0.9, adapt="frozen")
    predicted, labelled = run(fleet, 1200, errors)
    width = [row["upper"][0] - row["lower"][0] for row in predicted if row["stream"] == "s1"]
    assert np.mean(width[-200:]) / width[0] == pytest.approx(4, rel=0.25)
    inside = [row["covered"][0] for row in labelled if row["outcome"] == "joined" and row["stream"] == "s1"]
    assert np.mean(inside[-300:]) == pytest.approx(0.9, abs=0.03)
    joined = np.array([row["covered"] for row in labelled if row["outcome"] == "joined"])
    np.testing.assert_allclose(fleet.adaptation().coverage, joined.mean(axis=0), rtol=1e-12)
    by_key = {(row["stream"], row["window"]): row for row in predicted}
    for row in labelled[:50]:
        issued = by_key[row["stream"], row["window"]]
        assert row["lower"] == issued["lower"]
        expected = [a <= y <= b for a, y, b in zip(issued["lower"], row["label"], issued["upper"], strict=True)]
        assert row["covered"] == expected


@pytest.mark.parametrize("method", ["tracker", "aci", "pid"])
def test_restored_streams_have_the_same_intervals(method):
    bundle = calibrated(**NUMBERS)
    options = {"intervals": Tracking(method=method), "adapt": "frozen"}
    whole = sr.Fleet(bundle, **options)
    names, t, x = samples(2, 120)
    results = []
    for restores in (False, True):
        fleet, found = sr.Fleet(bundle, **options), []
        for k in range(0, len(names), 2):
            batch = fleet.push(names[k : k + 2], t[k : k + 2], x[k : k + 2])
            found.append(batch)
            for row in batch.to_pylist():
                fleet.label([row["stream"]], errors(row), window=[row["window"]])
            if restores and k % 10 == 0:
                snapshots = fleet.snapshot()
                fleet = sr.Fleet(bundle, **options)
                fleet.restore(snapshots)
        results.append(pa.Table.from_batches(found))
    assert results[0].equals(results[1])
    assert whole.schema == results[0].schema


def test_sets_hold_the_right_class_as_often_as_asked():
    rng = np.random.default_rng(2)
    logits = 2 * rng.normal(size=(20_000, 4))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (p.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1).astype(float)[:, None]
    units = units_of([(4, True)])
    sizes = {}
    for sets in SETS:
        scores = scores_of(units, p, truth, sets)[:, 0]
        inside = members(units[0], p[10_000:], np.full(10_000, np.quantile(scores[:10_000], 0.9)), sets)
        assert inside[np.arange(10_000), truth[10_000:, 0].astype(int)].mean() == pytest.approx(0.9, abs=0.01)
        sizes[sets] = inside.sum(axis=1).mean()
    assert sizes["lac"] <= sizes["aps"]


@pytest.mark.parametrize("threshold", [0.0, 1e-9, 0.5])
def test_the_most_likely_class_is_in_every_set_of_aps(threshold):
    p = np.random.default_rng(4).dirichlet([0.05] * 5, size=500)
    inside = members(units_of([(5, True)])[0], p, np.full(500, threshold), "aps")
    assert inside[np.arange(500), p.argmax(axis=1)].all()
    if threshold <= 0:
        assert (inside.sum(axis=1) == 1).all()


@pytest.mark.parametrize("sets", SETS)
@pytest.mark.parametrize("threshold", [-0.01, 0.0, 0.3, 0.9])
def test_a_label_is_in_the_set_exactly_if_it_is_no_miss(threshold, sets):
    p = np.random.default_rng(6).dirichlet([0.3] * 4, size=200)
    units = units_of([(4, True)])
    inside = members(units[0], p, np.full(200, threshold), sets)
    for k in range(4):
        missed = scores_of(units, p, np.full((200, 1), float(k)), sets)[:, 0] > threshold
        assert np.array_equal(inside[:, k], ~missed)


@pytest.mark.parametrize("sets", SETS)
def test_sets_of_a_model_that_was_right_in_training_and_errs_later_come_to_the_share_asked_for(sets):
    units, confident = units_of([(3, True)]), np.array([[0.98, 0.015, 0.005]])
    rng = np.random.default_rng(5)
    held_out = scores_of(units, np.repeat(confident, 200, axis=0), np.zeros((200, 1)), sets)
    table, streams = calibrate(held_out, np.arange(200))
    scores = np.stack([table if own == sets else np.zeros_like(table) for own in SETS])
    bands = Bands(units, Tracking(sets=sets), Calibration(streams=tuple(streams.tolist())), scores)
    bands = bands.at(0)
    rows, slots, covered = bands.blank[None].copy(), np.zeros(1, np.intp), []
    for _ in range(4000):
        label = np.zeros((1, 3))
        label[0, int(rng.random() < 0.3)] = 1.0  # the second class in three of ten
        covered.append(not bands.learn(rows, slots, confident, label, bands.threshold(rows, slots))[0, 0])
    assert np.mean(covered[:500]) > 0.7
    assert np.mean(covered[500:]) == pytest.approx(0.9, abs=0.03)


def test_one_output_is_the_second_of_two_classes():
    unit = Unit(slice(0, 1), 2)
    value = np.array([[0.9], [0.2]])
    scores = scores_of((unit,), value, np.array([[1.0], [1.0]]))
    np.testing.assert_allclose(scores[:, 0], [0.1, 0.8])
    assert members(unit, value, np.array([0.15, 0.3])).tolist() == [[False, True], [True, False]]


def test_sets_of_classes_follow_labels():
    fleet = sr.Fleet(calibrated(), intervals=0.9, adapt="frozen")

    def label(row):
        return np.random.default_rng([row["window"], int(row["stream"][1:])]).choice(["x", "y", "z"], size=1).tolist()

    _, labelled = run(fleet, 800, label, streams=2)
    joined = [row for row in labelled if row["outcome"] == "joined"]
    assert np.mean([row["covered"][0] for row in joined[-400:]]) == pytest.approx(0.9, abs=0.03)
    for row in joined[:30]:
        truth = ["x", "y", "z"][int(np.argmax(row["label"]))]
        assert row["covered"] == [truth in row["set"]]


@pytest.mark.parametrize("changes", [NUMBERS, {}, HEADS])
def test_payloads_and_files_have_them(changes):
    batch = sr.Fleet(calibrated(**changes), intervals=0.9).push(*samples(1, 6))
    row = batch.to_pylist()[0]
    payload = decode_prediction(encode_prediction(row))
    if "set" in row:
        assert payload["set"] == row["set"]
    elif "set_kind" in row:
        assert payload["sets"] == {"kind": row["set_kind"]}
    if "lower" in row:
        assert payload["lower"][0] == row["lower"][0]
    table = Csv().converted(batch)
    if changes is NUMBERS:
        assert {"p", "p_lower", "p_upper", "q_lower", "q_upper"} <= set(table.schema.names)
    if not changes:
        assert table["set"][0].as_py() == " | ".join(row["set"])
