"""Data that do not fit in memory: what is summed over all rows equals what is computed in memory."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamrde.errors import DataError, ParameterError
from streamrde.fitting import large, summing
from streamrde.fitting.entry import fit
from streamrde.fitting.inputs import ChannelConfig, DataConfig
from streamrde.fitting.large import draw_sample, find_large, slimmed
from streamrde.fitting.memory import as_memory, usual_memory
from streamrde.fitting.progress import Stage
from streamrde.fitting.readout import ridge_readout
from streamrde.fitting.recordings import read_recordings
from streamrde.fitting.serving import answers_of
from streamrde.fitting.summing import features_of, fold_of, solve, sum_features
from streamrde.fitting.survey import Survey, survey
from streamrde.windowing.recorded import window_recordings

MEMORY = 20 << 20


@pytest.fixture(autouse=True)
def few_streams(monkeypatch):
    """Let the memory hold 26 streams while models are compared."""
    monkeypatch.setattr(large, "STREAM_BYTES", 800_000)


def table(*, streams=60, length=40, seed=3, noise=0.3, classes=("left", "right", "still")):
    """Turn left, right, or not at all, with noise; two streams per person."""
    rng, t = np.random.default_rng(seed), np.arange(length) / 10
    kind = np.arange(streams) // 2 % 3
    sign, size = np.array([-1.0, 1.0, 0.0])[kind], 1 + 0.2 * rng.normal(size=streams)
    a = np.concatenate([r * np.cos(2 * t) + noise * rng.normal(size=length) for r in size])
    b = np.concatenate(
        [s * r * np.sin(2 * t) + noise * rng.normal(size=length) for s, r in zip(sign, size, strict=True)]
    )
    b[rng.random(len(b)) < 0.1] = np.nan
    number = np.repeat(np.arange(streams), length)
    return pa.table(
        {
            "stream_id": [f"s{i:02}" for i in number],
            "t": np.tile(t, streams),
            "a": a,
            "b": b,
            "subject": number // 2,
            "label": np.array(classes)[kind[number]],
            "size": size[number],
        }
    )


def config(path, target="label", **changes):
    return DataConfig(
        files=str(path),
        channels=(ChannelConfig(name="a"), ChannelConfig(name="b")),
        target=target,
        task="classification" if target == "label" else "regression",
        restarts="split",
        faults="drop",
        **changes,
    )


def several(rows):
    """Add a target of every stream, and one that every third stream does not have."""
    number = np.arange(rows.num_rows) // 40
    size = rows["size"].to_numpy()
    rows = rows.append_column("other", pa.array(100 - 7 * size + 0.1 * np.sin(number)))
    return rows.append_column("seldom", pa.array(np.where(number % 3, size**2, np.nan)))


def write(rows, folder, *, order="grouped"):
    """Write two files whose rows are grouped by stream, or those of all streams in order of time."""
    if order == "interleaved":
        rows = rows.take(pa.array(np.lexsort((rows["stream_id"].to_numpy(), rows["t"].to_numpy()))))
    half = rows.num_rows // 2 + 7
    pq.write_table(rows.slice(0, half), folder / "a.parquet", row_group_size=500)
    pq.write_table(rows.slice(half), folder / "b.parquet", row_group_size=500)


def in_memory(data, known, bundle):
    """Return the readout that is fitted to features of all streams at once."""
    recordings = [r for r in read_recordings(data, group="subject") if len(r.t) > 1]
    header = bundle.header
    parts = window_recordings([r.t for r in recordings], [r.x for r in recordings], header.partition)
    field = header.field.build("field", header, bundle.tensors)
    states, slots = np.zeros((len(parts), header.hidden)), [np.full(len(p.logsigs), i) for i, p in enumerate(parts)]
    field.advance(states, np.concatenate(slots), np.concatenate([part.logsigs for part in parts]), read=False)
    features = field.features(states)
    number = np.array([known.names[r.stream] for r in recordings])
    folds = fold_of(known.group[number])
    return ridge_readout(features, known.target[number], len(known.classes), folds), number


@pytest.mark.parametrize("order", ["grouped", "interleaved"])
@pytest.mark.parametrize("target", ["label", "size", ("size", "other"), ("size", "seldom")])
def test_the_sums_of_all_streams_give_the_ridge_of_memory(tmp_path, monkeypatch, order, target) -> None:
    write(several(table()), tmp_path, order=order)
    data = config(tmp_path, target)
    known = survey(data, group="subject", batch_rows=177)
    bundle = slimmed(fit(tmp_path, target, channels=["a", "b"], choice="above, ridge").bundle, 60)
    everything, told = np.ones(len(known.rows), bool), []
    monkeypatch.setattr(summing, "_LEAST_ROWS", 16)
    sums = sum_features(data, known, bundle, everything, memory=1, progress=told.append)
    passes = 1 if order == "grouped" else 4
    assert told[-1] == Stage("learn from all streams", passes * 2400, passes * 2400)
    linear, held_out = solve(sums, len(known.classes))
    wanted, number = in_memory(data, known, bundle)
    assert sums.streams == 60
    np.testing.assert_allclose(linear.weight, wanted.linear.weight, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(linear.bias, wanted.linear.bias, rtol=1e-6, atol=1e-9)
    place = np.argsort(sums.kept_streams)
    np.testing.assert_allclose(held_out[place], wanted.held_out[np.argsort(number)], atol=1e-7)


def test_streams_are_closed_when_they_have_ended(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(summing, "_LEAST_ROWS", 16)
    write(table(), tmp_path)
    data, told, open_at = config(tmp_path), [], []
    known = survey(data, group="subject", batch_rows=500)
    bundle = slimmed(fit(tmp_path, "label", channels=["a", "b"]).bundle, 60)
    closed = 0
    for _, streams in features_of(data, known, bundle, memory=1, progress=told.append):
        open_at.append(told[-1].done / 40 - closed)
        closed += len(streams)
    assert closed == 60
    assert max(open_at) <= known.most_open() < 20


def test_a_slimmed_model_has_no_more_features_than_wanted(tmp_path) -> None:
    write(table(streams=24), tmp_path)
    for choice in ("above, ridge", "above and best, ridge"):
        bundle = fit(tmp_path, "label", channels=["a", "b"], choice=choice).bundle
        assert bundle.header.field.readout_inputs(bundle.header) > 2048
        for most in (200, 2048):
            slim = slimmed(bundle, most)
            assert 0.5 * most < slim.header.field.readout_inputs(slim.header) <= most


def test_streams_that_begin_again_are_split_as_in_memory(tmp_path) -> None:
    rows = table(streams=12)
    twice = rows.slice(0, 40).set_column(2, "a", pa.array(np.cos(np.arange(40.0))))
    rows = pa.concat_tables([twice, rows])
    write(rows, tmp_path)
    data = config(tmp_path)
    known = survey(data, group="subject")
    assert known.cuts == {"s00": [40]}
    assert known.rows[[known.names["s00"], known.names["s00#2"]]].tolist() == [40, 40]
    bundle = slimmed(fit(tmp_path, "label", drop=["size"]).bundle, 60)
    sums = sum_features(data, known, bundle, np.ones(len(known.rows), bool), memory=1 << 20)
    wanted, _ = in_memory(data, known, bundle)
    assert sums.streams == 13
    np.testing.assert_allclose(solve(sums, 3)[0].weight, wanted.linear.weight, rtol=1e-6, atol=1e-9)


def test_a_survey_knows_rows_targets_and_groups(tmp_path) -> None:
    rows = table(streams=8)
    label = np.array(rows["label"].to_pylist(), object)
    label[40:80] = None
    write(rows.set_column(5, "label", pa.array(label, pa.string())), tmp_path)
    known = survey(config(tmp_path), group="subject", batch_rows=100)
    assert known.rows.tolist() == [40] * 8
    assert known.classes == ("left", "right", "still")
    np.testing.assert_array_equal(known.target[:, 0], [0, np.nan, 1, 1, 2, 2, 0, 0])
    assert known.usable.sum() == 7
    np.testing.assert_array_equal(known.group[::2], known.group[1::2])
    assert len(np.unique(known.group)) == 4
    assert known.most_open() == 3  # rows 100 to 166 are those of three streams
    assert not known.varied


def test_a_target_that_changes_is_said_and_two_groups_are_an_error(tmp_path) -> None:
    rows = table(streams=6)
    size = rows["size"].to_numpy().copy()
    size[5] = 9.0
    write(rows.set_column(6, "size", pa.array(size)), tmp_path)
    assert "stream 's00' has" in survey(config(tmp_path, "size")).varied
    with pytest.raises(DataError, match=r"stream 's00' has .* in column 'size'; it must be one value per stream"):
        survey(config(tmp_path), group="size")


def test_a_sample_has_whole_groups_and_all_classes() -> None:
    rng = np.random.default_rng(0)
    count = 5000
    group = rng.integers(0, 1 << 62, 1000)[np.arange(count) // 5]
    target = (np.arange(count) // 5 % 500 == 499).astype(float)
    nothing = np.zeros(count, np.int64)
    known = Survey({}, np.full(count, 50), nothing, nothing, target[:, None], ("often", "seldom"), group, {})
    parts = [target == 0, target == 1]
    chosen = draw_sample(known, 5, 400 << 20, parts)
    assert 0 < chosen.sum() * 800_000 <= 400 << 20
    assert chosen.reshape(-1, 5).any(axis=1).tolist() == chosen.reshape(-1, 5).all(axis=1).tolist()
    assert set(target[chosen]) == {0.0, 1.0}
    np.testing.assert_array_equal(chosen, draw_sample(known, 5, 400 << 20, parts))


def test_small_data_are_not_sampled_and_large_data_are_fitted_to_all_streams(tmp_path) -> None:
    write(table(streams=300, noise=1.0), tmp_path)
    said: list[str] = []
    assert find_large(config(tmp_path), memory=400 << 20, say=said.append) is None
    assert not said
    report = fit(tmp_path, "label", drop=["size"], memory=MEMORY, say=said.append)
    assert any("a sample of 26 streams chooses the model" in text for text in said)
    assert any("300 streams" in text and "sample" not in text for text in said if text.startswith("the readout")), said
    assert report.measures["accuracy"] > 0.6
    assert report.bundle.header.labels == ("left", "right", "still")


def test_a_fit_with_little_memory_is_repeated_by_its_settings(tmp_path) -> None:
    write(table(streams=60), tmp_path)
    first = fit(tmp_path, "size", channels=["a", "b"], memory=MEMORY)
    again = fit(**first.config.arguments())
    assert first.config.memory == MEMORY
    assert again.bundle.fingerprint == first.bundle.fingerprint


def test_ctrl_c_keeps_the_model_of_the_sample(tmp_path, monkeypatch) -> None:
    def interrupt(*given, **options):
        raise KeyboardInterrupt

    write(table(streams=90), tmp_path)
    monkeypatch.setattr(large, "sum_features", interrupt)
    said: list[str] = []
    assert fit(tmp_path, "label", drop=["size"], memory=MEMORY, say=said.append).bundle.header.outputs == 3
    assert "interrupted: the readout of the sample stays" in said


def test_memory_that_holds_no_two_groups_is_an_error(tmp_path) -> None:
    write(table(streams=12), tmp_path)
    with pytest.raises(DataError, match=r"fewer than two groups fit into 0\.00105 GB; give more with memory"):
        fit(tmp_path, "label", drop=["size"], memory="1MiB")


def test_memory_is_given_in_bytes_or_text() -> None:
    assert as_memory("2GB") == 2 * 10**9
    assert as_memory("1.5 GiB") == 3 << 29
    assert as_memory(1 << 21) == 1 << 21
    assert as_memory(None) == usual_memory() >= 1 << 20
    for wrong in ("2 apples", "-1GB", 1000):
        with pytest.raises(ParameterError, match="give a size of at least 1MiB"):
            as_memory(wrong)


def test_several_targets_are_learned_from_all_streams(tmp_path) -> None:
    write(several(table(streams=120, noise=0.05)), tmp_path)
    said: list[str] = []
    targets, settings = ["size", "seldom"], {"channels": ["a", "b"], "choice": "above, ridge", "memory": MEMORY}
    report = fit(tmp_path, targets, say=said.append, **settings)
    assert any("from all 120 streams" in text for text in said), said
    assert report.measures["size_r2"] > 0.5
    assert report.measures["seldom_r2"] > 0.3
    assert report.bundle.header.outputs == 2


@pytest.mark.parametrize("split", ["test", "folds"])
def test_all_streams_are_learned_from_but_those_of_the_test(tmp_path, split) -> None:
    rows = table(streams=120, noise=0.6)
    number = np.arange(rows.num_rows) // 80  # whole groups
    marks = np.where(number % 4, "train", "test") if split == "test" else (number % 4).astype(str)
    write(rows.append_column("split", pa.array(marks)), tmp_path)
    said: list[str] = []
    settings = {"drop": ["size"], "choice": "above, ridge", "memory": MEMORY}
    report = fit(tmp_path, "label", say=said.append, **settings)
    count = 90 if split == "test" else 120
    assert any(text.startswith(f"the readout has learned from all {count} streams") for text in said), said
    if split == "folds":
        assert np.unique(report.fitted.examples.folds).tolist() == [0, 1, 2, 3]
        return
    # What is never learned from changes nothing, whatever it says.
    label = np.where(number % 4, rows["label"].to_pylist(), "still")
    changed = rows.set_column(5, "label", pa.array(label)).append_column("split", pa.array(marks))
    write(changed, tmp_path)
    again = fit(tmp_path, "label", **settings)
    assert again.bundle.fingerprint == report.bundle.fingerprint
    assert again.measures["test_accuracy"] < report.measures["test_accuracy"]


def test_the_test_part_is_measured_with_the_readout_of_all_streams(tmp_path) -> None:
    rows = table(streams=120, noise=0.6)
    number = np.arange(rows.num_rows) // 80
    write(rows.append_column("split", pa.array(np.where(number % 4, "train", "test"))), tmp_path)
    report = fit(tmp_path, "label", drop=["size"], choice="above, ridge", memory=MEMORY)
    config_of = config(tmp_path)
    known = find_large(config_of, group="subject", split="split", memory=MEMORY)
    assert known is not None
    assert known.test.sum() == 30
    assert (known.chosen & known.test).any()
    tested = [
        r for r in read_recordings(config_of) if r.stream in known.sample and known.test[known.survey.names[r.stream]]
    ]
    right = [
        known.survey.classes[int(known.survey.codes[known.survey.names[r.stream]])]
        == report.bundle.header.labels[int(answers.value[-1].argmax())]
        for r, answers in zip(tested, answers_of(report.bundle, tested), strict=True)
    ]
    assert report.measures["test_accuracy"] == pytest.approx(np.mean(right))


def test_targets_along_streams_are_learned_from_the_sample_and_the_remedy_is_said(tmp_path) -> None:
    rows = table(streams=60)
    along = rows["a"].to_numpy() + rows["size"].to_numpy()
    write(rows.set_column(6, "size", pa.array(along)), tmp_path)
    said: list[str] = []
    fit(tmp_path, "size", channels=["a", "b"], memory=MEMORY, minutes=0.001, say=said.append)
    assert any("targets change along the streams; give more memory" in text for text in said), said
