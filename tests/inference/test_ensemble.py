"""Ensembles: one model of several members, and what each of them would give alone."""

import msgspec
import numpy as np
import pytest
from bundles import make_bundle, make_recording
from tolerances import LAW, STEPPER32

import streamrde as sr
from streamrde import MLP, Bundle, Linear, LogNCDE
from streamrde.errors import BundleError, ParameterError
from streamrde.inference.ends import Layers
from streamrde.inference.ensemble import join, split
from streamrde.inference.fields import External
from streamrde.inference.novelty import TrainingWindows
from streamrde.inference.steppers import make_stepper
from streamrde.windowing.policies import Every

MODELS = {
    "perceptron": {"field": MLP(width=16, layers=2), "dtype": "float32", "solver": "midpoint"},
    "decaying": {"field": MLP(width=16, layers=1), "decay": True, "hidden_range": True, "first_stage": "previous"},
    "auto": {"field": MLP(width=16, layers=2), "substeps": "auto", "tolerance": 1e-2, "solver": "euler"},
    "mean": {"field": MLP(width=16, layers=1, final_activation="tanh"), "pooling": "mean"},
    "log_ncde": {"field": LogNCDE(width=8, activation="silu"), "depth": 2},
    "linear": {"field": Linear(block=4), "solver": "euler", "task": "regression"},
    "regression": {"task": "regression", "labels": ("u", "v", "w"), "units": ("m", "s", "")},
}


def members_of(count: int = 3, **changes: object) -> list[Bundle]:
    """Models that differ in their weights alone."""
    first, *others = (make_bundle(seed, **{"dtype": "float64", **changes}) for seed in range(count))
    shared = {name: first.tensors[name] for name in first.tensors if name.split(".")[-1] in ("scale", "shift")}
    return [first, *(Bundle(other.header, other.tensors | shared) for other in others)]


@pytest.fixture(params=MODELS)
def members(request):
    return members_of(windows=Every(2.0), **MODELS[request.param])


def tolerance(bundle: Bundle) -> float:
    return LAW if bundle.header.dtype == "float64" else STEPPER32


def served(bundle: Bundle) -> list[np.ndarray]:
    """A stream's outputs, one by one."""
    predictor = sr.Predictor(bundle)
    found = [p.value for t, x in zip(*make_recording(0, 60), strict=True) for p in predictor.push(t, x)]
    return [*found, *(p.value for p in predictor.flush())]


def test_an_ensemble_gives_the_mean_of_its_members(members):
    whole, apart = np.array(served(join(members))), np.array([served(member) for member in members])
    expected = apart.mean(axis=0)
    if members[0].header.task == "classification":
        expected = np.exp(np.log(apart).mean(axis=0))
        expected /= expected.sum(axis=1, keepdims=True)
    assert len(whole) > 5
    limit = tolerance(members[0]) * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(whole, expected, atol=limit, rtol=limit)


def test_a_state_holds_the_members_states(members):
    bundle, hidden = join(members), members[0].header.hidden
    stepper, rng = make_stepper(bundle), np.random.default_rng(0)
    channels, features = bundle.header.path_channels, bundle.header.logsig_channels
    x0, logsigs = rng.normal(size=(5, channels)), rng.normal(size=(2, 5, features)) * 0.2
    logsigs[..., 0] = np.abs(logsigs[..., 0])
    z = stepper.initial(x0)
    moved, error = stepper.step_with_error(z, *logsigs)
    squares = []
    for place, member in enumerate(members):
        alone, own = make_stepper(member), slice(place * hidden, (place + 1) * hidden)
        np.testing.assert_array_equal(z[:, own], alone.initial(x0))
        state, own_error = alone.step_with_error(z[:, own], *logsigs)
        np.testing.assert_array_equal(moved[:, own], state)
        squares.append(own_error**2)
    np.testing.assert_array_equal(stepper.step(z, *logsigs), moved)
    np.testing.assert_allclose(error, np.sqrt(np.mean(squares, axis=0)), rtol=LAW)


def test_a_fleet_serves_an_ensemble_as_a_predictor_does(members):
    bundle = join(members)
    recordings = {f"s{i}": make_recording(i, 40) for i in range(7)}
    names = np.repeat(list(recordings), 40)
    t, x = (np.concatenate(arrays) for arrays in zip(*recordings.values(), strict=True))
    batch = sr.Fleet(bundle).push(names, t, x)
    for name, (own_t, own_x) in recordings.items():
        found = [row["value"] for row in batch.to_pylist() if row["stream"] == name]
        np.testing.assert_array_equal(found, [p.value for p in sr.Predictor(bundle).push_many(own_t, own_x)])


def test_an_ensemble_is_a_file_like_any_other(members, tmp_path):
    bundle = join(members)
    bundle.save(tmp_path / "ensemble.safetensors")
    again = sr.load(tmp_path / "ensemble.safetensors")
    assert again.fingerprint == bundle.fingerprint != members[0].fingerprint
    assert again.header.members == 3
    np.testing.assert_array_equal(served(again), served(bundle))
    predictor = sr.Predictor(bundle)
    t, x = make_recording(1, 40)
    predictor.push_many(t[:20], x[:20])
    restored = sr.Predictor.restore(again, predictor.snapshot())
    ours, theirs = (p.push_many(t[20:], x[20:]) for p in (predictor, restored))
    np.testing.assert_array_equal([p.value for p in ours], [p.value for p in theirs])


def test_ensembles_can_be_joined(members):
    twice = join([join(members), join(members)])
    assert twice.header.members == 6
    np.testing.assert_allclose(served(twice), served(join(members)), atol=tolerance(twice))


def test_the_parts_read_out_what_the_whole_does(members):
    bundle = join(members)
    z = np.random.default_rng(0).normal(size=(4, bundle.header.hidden)).astype(bundle.header.dtype)
    for part, member in zip(split(bundle), members, strict=True):
        assert part.header.hidden == member.header.hidden
        np.testing.assert_array_equal(part.tensors["initial.weight"], member.tensors["initial.weight"])
    total = z @ bundle.tensors["readout.weight"].T + bundle.tensors["readout.bias"]
    own = np.split(z, len(members), axis=1)
    added = sum(
        state @ part.tensors["readout.weight"].T + part.tensors["readout.bias"]
        for state, part in zip(own, split(bundle), strict=True)
    )
    np.testing.assert_allclose(added, total, atol=tolerance(bundle))


def test_novelty_is_kept_where_all_know_the_same_windows():
    told = TrainingWindows(windows=400, streams=10, alarm=3.0)
    plain, known = members_of(2), members_of(2, novelty=told)
    novelty = {name: tensor for name, tensor in known[0].tensors.items() if name.startswith("novelty.")}
    same = join([bundle.with_novelty(told, novelty) for bundle in plain])
    assert same.novelty_fingerprint == known[0].novelty_fingerprint
    assert join(known).header.novelty is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"hidden": 4}, "hidden was 8 and is 4"),
        ({"windows": Every(2.0)}, "windows was"),
        ({"solver": "euler"}, "solver was rk4 and is euler"),
        ({"field": MLP(width=16, layers=1)}, "field was"),
        ({"labels": ("x", "y", "q")}, "labels was"),
    ],
)
def test_models_that_differ_in_more_than_weights_are_not_joined(changes, told):
    first = members_of(1)[0]
    with pytest.raises(ParameterError, match=f"model 1 does not go with model 0: {told}.*train them on the same data"):
        join([first, members_of(1, **changes)[0]])


def test_models_of_other_data_are_not_joined():
    with pytest.raises(ParameterError, match=r"x0\.shift differs"):
        join([make_bundle(0), make_bundle(1)])
    with pytest.raises(ParameterError, match="no models"):
        join([])


def test_a_header_with_impossible_members_is_refused():
    bundle = make_bundle(members=2)
    with pytest.raises(BundleError, match="members=3 does not divide hidden=8"):
        Bundle(msgspec.structs.replace(bundle.header, members=3), bundle.tensors)
    with pytest.raises(BundleError, match="members=1001: use a number from 1 to 1000"):
        Bundle(msgspec.structs.replace(bundle.header, hidden=1001, members=1001), bundle.tensors)
    with pytest.raises(BundleError, match="not in the file"):
        Bundle(msgspec.structs.replace(bundle.header, field=External(name="m", digest="0")), bundle.tensors)
    with pytest.raises(BundleError, match=r"tensor 'field\.0\.0\.bias' is missing"):
        Bundle(bundle.header, {n: t for n, t in bundle.tensors.items() if n != "field.0.0.bias"})


def test_models_whose_ends_are_more_than_linear_layers_are_not_joined():
    deep = make_bundle(readout=Layers(widths=(5,), activations=("tanh",)))
    with pytest.raises(ParameterError, match="readout is more than one linear layer"):
        join([deep, deep])


def test_the_errors_of_a_member_are_not_taken_for_those_of_the_ensemble():
    scores, streams = np.random.default_rng(0).uniform(size=(40, 3)), np.arange(40) // 2
    members = [one.with_calibration([scores, scores], streams) for one in members_of(2, **MODELS["regression"])]
    joined = join(members)
    assert joined.header.calibration is None
    assert [member.header.calibration for member in split(joined.with_calibration([scores, scores], streams))] == [
        None
    ] * 2
    t, x = make_recording(0, 40)
    calibrated = sr.Predictor(joined.with_calibration([scores, scores], streams), intervals=0.9).push_many(t, x)
    plain = sr.Predictor(joined).push_many(t, x)
    assert all(np.isfinite(found.lower).all() for found in calibrated)
    assert [found.value.tolist() for found in calibrated] == [found.value.tolist() for found in plain]
