"""A reservoir is served like any other model: one stream or many, cut anywhere, saved and restored."""

import pickle

import msgspec
import numpy as np
import pytest

from streamrde import Fleet, Predictor, load
from streamrde.errors import BundleError, ParameterError, SnapshotError
from streamrde.features import FeatureSpec, Pool, make_pooling, pool_streams
from streamrde.features.expansion import Expander, Expansion, Ranking
from streamrde.inference.card import sections
from streamrde.inference.ends import Layers
from streamrde.inference.plausibility import Plausible
from streamrde.inference.steppers import ArrayStepper, RowStepper, make_stepper
from streamrde.windowing.gaps import Gap
from streamrde.windowing.recorded import window_recordings
from streamrde.windowing.tokens import Scale, Token
from tests.bundles import make_bundle, make_recording, make_reservoir


def rows(batch):
    return batch.drop_columns(["flag", "step_error"]).to_pylist()


def streams(count, length=40):
    recordings = [make_recording(seed, length + 7 * seed, missing=0.1) for seed in range(count)]
    names = [f"s{i}" for i, (t, _) in enumerate(recordings) for _ in t]
    t, x = (np.concatenate(part) for part in zip(*recordings, strict=True))
    order = np.argsort(t, kind="stable")
    return recordings, np.array(names)[order], t[order], x[order]


TOKEN = Token(scales=(Scale(1), Scale(4, depth=1)), ends=True, summaries=True)
EXPANDED = {
    "token": TOKEN,
    "spec": FeatureSpec(pools=(Pool("last", "summaries"), Pool("mean", "ends", 2.0))),
    "expansion": Expansion(quantiles=9, pairs=40),
}


@pytest.mark.parametrize("kind", [{"token": Token()}, {"token": TOKEN}, EXPANDED], ids=["plain", "token", "expanded"])
def test_predictions_are_the_readout_of_the_pooled_tokens(kind):
    bundle = make_reservoir(**kind)
    t, x = make_recording(0, 60)
    predictor = Predictor(bundle)
    found = [*predictor.push_many(t, x), *predictor.flush()]
    (windowed,) = window_recordings([t], [x], bundle.header.partition)
    field = bundle.header.field
    pooling = make_pooling(
        field.features, bundle.header.partition.places, field.drawn("field", bundle.header, bundle.tensors)
    )
    count = len(windowed.logsigs)
    features = pool_streams(pooling, windowed.logsigs, [count], at=np.arange(count))
    if field.expansion is not None:
        parts = (bundle.tensors[f"field.expansion.{part}"].astype(float) for part in Ranking._fields)
        features = Expander(field.expansion, Ranking(*parts)).expand(features)
    logits = features @ bundle.tensors["readout.weight"].T + bundle.tensors["readout.bias"]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert len(found) == count
    np.testing.assert_allclose([p.value for p in found], expected, rtol=2e-5, atol=1e-6)
    assert all(p.flag is None for p in found)


@pytest.mark.parametrize(
    ("emit", "kind"),
    [
        ("every", {"token": Token()}),
        ("last", {"token": Token()}),
        ("every", {"token": TOKEN}),
        ("every", EXPANDED),
        ("last", EXPANDED),
    ],
)
def test_one_stream_alone_gives_the_same_bits_as_among_many_cut_anywhere(emit, kind):
    bundle = make_reservoir(emit=emit, **kind)
    recordings, names, t, x = streams(4)
    fleet, expected = Fleet(bundle), {}
    found = []
    for part in np.array_split(np.arange(len(t)), 7):
        found += rows(fleet.push(names[part], t[part], x[part]))
        fleet = pickle.loads(pickle.dumps(fleet))
    found += rows(fleet.flush())
    for i, (own_t, own_x) in enumerate(recordings):
        alone, batch = Predictor(bundle, stream=f"s{i}"), Fleet(bundle)
        predictions = [p for at, sample in zip(own_t, own_x, strict=True) for p in alone.push(at, sample)]
        predictions += alone.flush()
        whole = rows(batch.push([f"s{i}"] * len(own_t), own_t, own_x)) + rows(batch.flush())
        mine = [row for row in found if row["stream"] == f"s{i}"]
        assert mine == whole
        assert [(p.window, p.value.tolist()) for p in predictions] == [(row["window"], row["value"]) for row in mine]
        expected[i] = len(mine)
    assert all(count == 1 if emit == "last" else count > 10 for count in expected.values())


@pytest.mark.parametrize("kind", [{"token": Token()}, {"token": TOKEN}, EXPANDED], ids=["plain", "token", "expanded"])
def test_a_stream_goes_on_after_a_snapshot_at_any_moment(kind):
    bundle = make_reservoir(**kind)
    t, x = make_recording(3, 30)
    whole = Predictor(bundle, stream="s")
    expected = [p.value.tolist() for p in [*whole.push_many(t, x), *whole.flush()]]
    for cut in range(1, 30, 4):
        first = Predictor(bundle, stream="s")
        found = [p.value.tolist() for p in first.push_many(t[:cut], x[:cut])]
        second = Predictor.restore(bundle, first.snapshot())
        found += [p.value.tolist() for p in [*second.push_many(t[cut:], x[cut:]), *second.flush()]]
        assert found == expected


def test_peek_changes_nothing_and_is_what_closing_gives():
    bundle = make_reservoir(interpolation="hold")
    t, x = make_recording(4, 50)
    predictor, silent = Predictor(bundle), Predictor(bundle)
    for at, sample in zip(t, x, strict=True):
        predictor.push(at, sample)
        silent.push(at, sample)
        assert predictor.peek(at + 0.01).provisional
    assert predictor.snapshot() == silent.snapshot()
    end = t[0] + np.floor(t[-1] - t[0]) + 1
    ahead = predictor.peek(end)
    (*_, closed) = predictor.advance(end)
    assert (ahead.value == closed.value).all()


def test_a_fleet_without_streams_has_none_to_flush():
    fleet = Fleet(make_reservoir())
    assert fleet.flush([]).num_rows == fleet.flush().num_rows == 0
    assert fleet.advance(1.0).schema == fleet.schema


def test_a_gap_resets_the_state_to_a_blank_one():
    bundle = make_reservoir(gap=Gap(seconds=5.0, state="reset"))
    t, x = make_recording(5, 30)
    fleet, fresh = Fleet(bundle), Fleet(bundle)
    found = rows(fleet.push(["s"] * 60, np.append(t, t + t[-1] + 50), np.concatenate([x, x]))) + rows(fleet.flush())
    again = rows(fresh.push(["s"] * 30, t + t[-1] + 50, x)) + rows(fresh.flush())
    assert [row["value"] for row in found[-len(again) :]] == [row["value"] for row in again]


def test_a_token_that_is_not_finite_is_flagged_and_harms_nothing():
    bundle = make_reservoir()
    t, x = np.arange(0.0, 12.0, 0.5), np.zeros((24, 2))
    x[9] = 1e200
    fleet = Fleet(bundle, plausible=Plausible(otherwise="use"), on_trouble=lambda trouble: None)
    with np.errstate(over="ignore", invalid="ignore"):
        found = [*fleet.push(["s"] * len(t), t, x).to_pylist(), *fleet.flush().to_pylist()]
    flags = [row["flag"] for row in found]
    assert set(flags) == {None, "not_finite"}
    assert np.isfinite([row["value"] for row in found]).all()
    assert fleet.state_counts().not_finite == flags.count("not_finite")


def test_states_are_a_column_on_request():
    bundle = make_reservoir()
    _, names, t, x = streams(2)
    plain, full = Fleet(bundle), Fleet(bundle, features=("state", "logsignature"))
    expected, found = plain.push(names, t, x), full.push(names, t, x)
    assert found["value"].equals(expected["value"])
    states = np.array(found["state"].to_pylist())
    assert states.shape == (len(expected), bundle.header.hidden)
    assert (states[:, 0] == np.array(found["window"]) + 1).all()


def test_a_model_takes_over_the_streams_of_another_with_the_same_features():
    old, new = make_reservoir(0), make_reservoir(0)
    new = type(new)(new.header, new.tensors | {"readout.bias": new.tensors["readout.bias"] + 1})
    _, names, t, x = streams(2)
    fleet = Fleet(old)
    fleet.push(names[:60], t[:60], x[:60])
    fleet.swap(new)
    other = Fleet(new)
    other.push(names[:60], t[:60], x[:60])
    assert rows(fleet.push(names[60:], t[60:], x[60:])) == rows(other.push(names[60:], t[60:], x[60:]))
    drawn_again = type(new)(new.header, new.tensors | {"field.0.bias": new.tensors["field.0.bias"] + 1})
    with pytest.raises(BundleError, match=r"tensor 'field\.0\.bias' differs"):
        fleet.swap(drawn_again)
    with pytest.raises(BundleError, match="field differs"):
        fleet.swap(make_reservoir(1))


def test_a_model_accepts_snapshots_of_another_readout_and_of_no_other_features():
    old, trained = make_reservoir(0, **EXPANDED), make_reservoir(0, spec=EXPANDED["spec"], token=TOKEN)
    _, names, t, x = streams(2)
    fleet, whole = Fleet(old), Fleet(trained)
    fleet.push(names[:60], t[:60], x[:60])
    whole.push(names[:60], t[:60], x[:60])
    resumed = Fleet(trained)
    with pytest.raises(SnapshotError, match="belongs to the model"):
        resumed.restore(fleet.snapshot())
    resumed.accept([old.fingerprint])
    resumed.restore(fleet.snapshot())
    assert rows(resumed.push(names[60:], t[60:], x[60:])) == rows(whole.push(names[60:], t[60:], x[60:]))
    moved = trained.tensors | {"token.shift": trained.tensors["token.shift"] + 1}
    for other in (type(old)(trained.header, moved), make_reservoir(0, **EXPANDED | {"token": TOKEN}, clip=5.0)):
        wrong = Fleet(other)
        wrong.accept([old.fingerprint])
        with pytest.raises(SnapshotError, match="pools of other features"):
            wrong.restore(fleet.snapshot())
        assert wrong.streams == []


def test_the_expansion_may_change_where_a_model_takes_over_but_the_features_may_not():
    old, new = make_reservoir(0, **EXPANDED), make_reservoir(0, **EXPANDED)
    new = type(new)(new.header, new.tensors | {"field.expansion.biases": new.tensors["field.expansion.biases"] + 1})
    _, names, t, x = streams(2)
    fleet, other = Fleet(old), Fleet(new)
    fleet.push(names[:60], t[:60], x[:60])
    fleet.swap(new)
    other.push(names[:60], t[:60], x[:60])
    assert rows(fleet.push(names[60:], t[60:], x[60:])) == rows(other.push(names[60:], t[60:], x[60:]))


def test_a_model_without_expansion_says_nothing_of_it_in_its_file():
    assert "expansion" not in make_reservoir().header.written()["field"]
    assert make_reservoir(**EXPANDED).header.written()["field"]["expansion"]["pairs"] == 40


def test_an_expanded_model_survives_its_file(tmp_path):
    bundle = make_reservoir(**EXPANDED)
    bundle.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert again.fingerprint == bundle.fingerprint
    assert len(again.header.field.feature_names(again.header)) == len(bundle.tensors["readout.weight"].T)
    assert "expanded to 120 curves and pairs" in str([row for s in sections(again) for row in s.rows])


def test_the_file_holds_everything(tmp_path):
    bundle = make_reservoir()
    bundle.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert again.header == bundle.header
    assert again.fingerprint == bundle.fingerprint
    assert isinstance(make_stepper(again), RowStepper)
    text = str([row for section in sections(again) for row in section.rows])
    assert "reservoir: 29 random features (seed 0)" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decay": True}, "decay=True"),
        ({"pooling": "mean"}, "pooling='mean'"),
        ({"members": 2}, "members=2"),
        ({"dtype": "float64"}, "dtype='float64'"),
        ({"initial": Layers()}, "begins with zeros"),
        ({"readout": Layers(widths=(3,), activations=("tanh",))}, "is linear"),
        ({"clip": 0.0}, "needs clipped tokens"),
        ({"hidden": 3}, "hidden=3"),
        ({"substeps": 2}, "is stepped exactly"),
    ],
)
def test_headers_that_ask_for_what_a_reservoir_does_not_have_are_refused(changes, message):
    bundle = make_reservoir()
    with pytest.raises(BundleError, match=message):
        type(bundle)(msgspec.structs.replace(bundle.header, **changes), bundle.tensors)


def test_other_families_have_no_blank_beginning_and_other_steppers_no_reservoir():
    bundle = make_bundle()
    with pytest.raises(BundleError, match="only the initial state of fields 'reservoir'"):
        type(bundle)(msgspec.structs.replace(bundle.header, initial=make_reservoir().header.initial), bundle.tensors)
    with pytest.raises(ParameterError, match="leave stepper out"):
        Fleet(make_reservoir(), stepper=ArrayStepper(bundle))


def test_a_reservoir_has_no_torch_model():
    pytest.importorskip("torch")
    from streamrde.models import NeuralRDE

    with pytest.raises(ParameterError, match="fitted in closed form"):
        NeuralRDE.from_bundle(make_reservoir())
