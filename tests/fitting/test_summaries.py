"""Summaries of sparse streams: what was never observed, and when something was, is seen and served."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import streamrde as sr
from streamrde.fitting.examples import as_examples
from streamrde.fitting.families import summaries
from streamrde.fitting.families.summaries import fit_summaries
from streamrde.fitting.inputs import ChannelConfig, DataConfig
from streamrde.fitting.recordings import read_recordings


def table(*, streams=80, seed=0, first=0):
    """Ill ones have either a high `a` at some time or a low `b`; `c` is hardly ever observed, and `d` never."""
    rng = np.random.default_rng(seed)
    parts = []
    for i in range(streams):
        count, ill = int(rng.integers(6, 40)), i % 2
        t = np.sort(rng.choice(500, count, replace=False)) * 60.0
        x = rng.normal(size=(count, 4))
        x[:, 0 if i % 4 < 2 else 1] += (1 if i % 4 < 2 else -1) * 4.0 * ill * (np.arange(count) > count / 2)
        x[rng.random((count, 4)) < 0.5] = np.nan
        x[:, 2] = np.where(rng.random(count) < 0.02, x[:, 2], np.nan)
        x[:, 3] = np.nan
        x[0, 0] = x[-1, 1] = 0.0
        own = {"stream_id": [f"p{first + i}"] * count, "t": t, "label": ["ill" if ill else "well"] * count}
        parts.append(pa.table(own | {name: x[:, j] for j, name in enumerate("abcd")}))
    return pa.concat_tables(parts)


def examples_of(path, task="classification", target="label"):
    config = DataConfig(
        files=str(path), channels=tuple(ChannelConfig(name=name) for name in "abcd"), target=target, task=task,
        stream="stream_id", time="t",
    )  # fmt: skip
    recordings = read_recordings(config)
    single = [type(r)(**{**vars(r), "target": r.target.single(r.stream, [target], "")}) for r in recordings]
    return as_examples(single, tuple("abcd"), classify=task == "classification", seed=0)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    path = tmp_path_factory.mktemp("sparse") / "x.parquet"
    pq.write_table(table(), path)
    return examples_of(path)


def test_curves_see_what_straight_lines_do_not(examples):
    lines, curves = fit_summaries(examples)
    assert (lines.name, curves.name) == ("summaries, ridge", "curves of summaries, logistic")
    assert (curves.held_out.argmax(axis=1) == examples.codes).mean() > 0.85
    assert curves.losses.mean() < lines.losses.mean()


def test_there_are_fewer_pairs_where_there_is_more_work_and_at_last_no_curves(examples, monkeypatch):
    *_, usual = fit_summaries(examples)
    features = 4 * (9 + 2) * 4  # hats of nine summaries and two fading means of four channels
    assert usual.bundle().header.field.expansion.pairs == 16 * 80
    monkeypatch.setattr(summaries, "_WORK", 80 * (features + 5))
    *_, fewer = fit_summaries(examples)
    assert fewer.bundle().header.field.expansion.pairs == 5
    monkeypatch.setattr(summaries, "_WORK", 80 * features // 5)
    assert [own.name for own in fit_summaries(examples)] == ["summaries, ridge"]


def test_a_bundle_answers_recorded_streams_as_it_was_fitted(examples):
    for candidate in fit_summaries(examples):
        for fold in (0, 3):
            bundle = candidate.without(fold)
            new = examples.folds == fold
            for recording, expected in zip(
                [r for r, own in zip(examples.recordings, new, strict=True) if own],
                candidate.held_out[new],
                strict=True,
            ):
                predictor = sr.Predictor(bundle)
                found = [*predictor.push_many(recording.t, recording.x), *predictor.flush()]
                np.testing.assert_allclose(found[-1].value, expected, atol=1e-5)


def test_a_channel_that_was_never_observed_changes_nothing(examples):
    """Neither in training, where it is `d`, nor in a new stream, where it is all."""
    *_, candidate = fit_summaries(examples)
    bundle = candidate.bundle()
    recording = examples.recordings[0]
    answers = []
    for value in (np.nan, 7.0):
        x = recording.x.copy()
        x[:, 3] = value
        predictor = sr.Predictor(bundle)
        answers.append([*predictor.push_many(recording.t, x), *predictor.flush()][-1].value)
    np.testing.assert_array_equal(*answers)
    silent = sr.Predictor(bundle)
    found = [*silent.push_many([0.0, 60.0], np.full((2, 4), np.nan)), *silent.flush()]
    assert np.isfinite(found[-1].value).all()


def test_live_and_recorded_answers_have_the_same_bits(examples, tmp_path):
    *_, candidate = fit_summaries(examples)
    candidate.bundle().save(tmp_path / "m.safetensors")
    bundle, new = sr.load(tmp_path / "m.safetensors"), table(streams=6, seed=1, first=100)
    scored = sr.score(new, bundle).read_all().to_pylist()
    for name in sorted(set(new["stream_id"].to_pylist())):
        rows = [row for row in new.to_pylist() if row["stream_id"] == name]
        predictor = sr.Predictor(bundle)
        live = []
        for row in rows:
            sample = np.array([np.nan if row[channel] is None else row[channel] for channel in "abcd"])
            live += predictor.push(row["t"], sample)
        live += predictor.flush()
        recorded = [row["value"] for row in scored if row["stream"] == name]
        assert [p.value.tolist() for p in live] == recorded


def test_numbers_have_curves_too(tmp_path, monkeypatch):
    rows = table(streams=60)
    code = np.unique(rows["stream_id"].to_pylist(), return_inverse=True)[1]
    highest = np.array([np.nanmax(rows["a"].to_numpy()[code == k]) for k in range(60)])
    rows = rows.append_column("size", pa.array(np.minimum(highest, 2.0)[code]))
    pq.write_table(rows, tmp_path / "x.parquet")
    lines, curves = fit_summaries(examples_of(tmp_path / "x.parquet", "regression", "size"))
    assert curves.name == "curves of summaries, ridge"
    assert curves.losses.mean() < 0.5
    assert np.isfinite(lines.losses).all()
    monkeypatch.setattr(summaries, "_MOST_RIDGE", 50)
    assert [own.name for own in fit_summaries(examples_of(tmp_path / "x.parquet", "regression", "size"))] == [
        "summaries, ridge"
    ]
