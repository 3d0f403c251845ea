"""A stack is served like any other model: one stream or many, cut anywhere, saved and restored."""

import pickle

import msgspec
import naive
import numpy as np
import pytest
from bundles import make_bundle, make_recording, make_stack
from tolerances import ORACLE

from streamrde import Every, Fleet, Gap, Predictor, load
from streamrde.errors import BundleError
from streamrde.inference.card import sections
from streamrde.inference.ends import Blank, Layers
from streamrde.inference.ensemble import join, split
from streamrde.inference.fields import Stack
from streamrde.inference.fields.stack import MEMORY
from streamrde.inference.novelty import TrainingWindows
from streamrde.inference.plausibility import Plausible
from streamrde.inference.stacks import RECURRENCES
from streamrde.inference.steppers import ArrayStepper, make_stepper
from streamrde.windowing import Adaptive, Count
from streamrde.windowing.tokens import Scale, Token

KINDS = pytest.mark.parametrize("kind", sorted(RECURRENCES))
TOKEN = Token(scales=(Scale(1), Scale(4, depth=1)), ends=True, summaries=True)


def rows(batch):
    return batch.drop_columns(["flag", "step_error"]).to_pylist()


def streams(count, length=40):
    recordings = [make_recording(seed, length + 7 * seed, missing=0.1) for seed in range(count)]
    names = [f"s{i}" for i, (t, _) in enumerate(recordings) for _ in t]
    t, x = (np.concatenate(part) for part in zip(*recordings, strict=True))
    order = np.argsort(t, kind="stable")
    return recordings, np.array(names)[order], t[order], x[order]


def random_inputs(bundle, count, windows, seed=1):
    rng = np.random.default_rng(seed)
    tokens = rng.normal(size=(count, windows, bundle.header.logsig_channels))
    tokens[:, :, 0] = rng.uniform(0.2, 2.0, size=(count, windows))
    return rng.normal(size=(count, bundle.header.path_channels)), tokens


@KINDS
@pytest.mark.parametrize("make", [ArrayStepper, make_stepper])
@pytest.mark.parametrize("pool", ["both", "last", "mean"])
def test_the_step_is_the_written_equation_number_by_number(kind, pool, make):
    bundle = make_stack(kind, options={"pool": pool, "gate_width": 5}, dtype="float64")
    (_, tokens), stepper = random_inputs(bundle, 1, 6), make(bundle)
    tensors = {name: tensor.tolist() for name, tensor in bundle.tensors.items()}
    oracle, z = naive.Stack(kind, blocks=2, width=6, tensors=tensors, clip=3.0), stepper.initial(np.zeros((1, 3)))
    for token in tokens[0]:
        z = stepper.step(z, token[None])
        mean, last = oracle.step(token.tolist(), time=token[0] / 0.8)
        pooled = {"both": [*mean, *last], "last": last, "mean": mean}[pool]
        np.testing.assert_allclose(z[0, : len(pooled)], pooled, rtol=0, atol=ORACLE)


@KINDS
@pytest.mark.parametrize("emit", ["every", "last"])
def test_one_stream_alone_gives_the_same_bits_as_among_many_cut_anywhere(kind, emit):
    bundle = make_stack(kind, emit=emit, token=TOKEN)
    recordings, names, t, x = streams(4)
    fleet, found = Fleet(bundle), []
    for part in np.array_split(np.arange(len(t)), 7):
        found += rows(fleet.push(names[part], t[part], x[part]))
        fleet = pickle.loads(pickle.dumps(fleet))
    found += rows(fleet.flush())
    for i, (own_t, own_x) in enumerate(recordings):
        alone, batch = Predictor(bundle, stream=f"s{i}"), Fleet(bundle, threads=2)
        predictions = [p for at, sample in zip(own_t, own_x, strict=True) for p in alone.push(at, sample)]
        predictions += alone.flush()
        whole = rows(batch.push([f"s{i}"] * len(own_t), own_t, own_x)) + rows(batch.flush())
        mine = [row for row in found if row["stream"] == f"s{i}"]
        assert mine == whole
        assert [(p.window, p.value.tolist()) for p in predictions] == [(row["window"], row["value"]) for row in mine]
        assert len(mine) == 1 if emit == "last" else len(mine) > 10


@KINDS
@pytest.mark.parametrize("members", [1, 2])
def test_a_stream_goes_on_after_a_snapshot_at_any_moment(kind, members):
    bundle = make_stack(kind, members=members, token=TOKEN)
    t, x = make_recording(3, 30)
    whole = Predictor(bundle, stream="s")
    expected = [p.value.tolist() for p in [*whole.push_many(t, x), *whole.flush()]]
    for cut in range(1, 30, 5):
        first = Predictor(bundle, stream="s")
        found = [p.value.tolist() for p in first.push_many(t[:cut], x[:cut])]
        second = Predictor.restore(bundle, first.snapshot())
        found += [p.value.tolist() for p in [*second.push_many(t[cut:], x[cut:]), *second.flush()]]
        assert found == expected


def test_peek_changes_nothing_and_is_what_closing_gives():
    bundle = make_stack(interpolation="hold")
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


@KINDS
def test_a_gap_resets_the_state_to_a_blank_one(kind):
    bundle = make_stack(kind, gap=Gap(seconds=5.0, state="reset"))
    t, x = make_recording(5, 30)
    fleet, fresh = Fleet(bundle), Fleet(bundle)
    found = rows(fleet.push(["s"] * 60, np.append(t, t + t[-1] + 50), np.concatenate([x, x]))) + rows(fleet.flush())
    again = rows(fresh.push(["s"] * 30, t + t[-1] + 50, x)) + rows(fresh.flush())
    assert [row["value"] for row in found[-len(again) :]] == [row["value"] for row in again]


@KINDS
def test_a_silence_is_stepped_window_by_window(kind):
    bundle = make_stack(kind, interpolation="hold")
    t, x = np.array([0.0, 0.5, 7.25, 8.0]), np.ones((4, 2))
    predictor, advanced = Predictor(bundle), Predictor(bundle)
    found = [p.value.tolist() for p in predictor.push_many(t, x)]
    expected = [p.value.tolist() for p in advanced.push_many(t[:2], x[:2])]
    for at in np.arange(0.75, 7.25, 0.5):
        expected += [p.value.tolist() for p in advanced.advance(at)]
    expected += [p.value.tolist() for p in advanced.push_many(t[2:], x[2:])]
    assert found == expected
    assert len(found) == 8


@KINDS
def test_a_state_that_is_not_finite_is_flagged_and_starts_again(kind):
    bundle = make_stack(kind, clip=0.0)
    t, x = np.arange(0.0, 12.0, 0.5), np.zeros((24, 2))
    x[9] = 1e200
    fleet = Fleet(bundle, plausible=Plausible(otherwise="use"), on_trouble=lambda trouble: None)
    with np.errstate(over="ignore", invalid="ignore"):
        found = [*fleet.push(["s"] * len(t), t, x).to_pylist(), *fleet.flush().to_pylist()]
    flags = [row["flag"] for row in found]
    assert set(flags) == {None, "not_finite"}
    assert np.isfinite(found[-1]["value"]).all()
    assert fleet.state_counts().not_finite == flags.count("not_finite")


def test_clipping_bounds_what_a_broken_sensor_does():
    bundle = make_stack(task="regression", labels=())
    t, x = np.arange(0.0, 12.0, 0.5), np.zeros((24, 2))
    x[9] = 1e30
    fleet = Fleet(bundle, plausible=Plausible(otherwise="use"), on_trouble=lambda trouble: None)
    found = [*fleet.push(["s"] * len(t), t, x).to_pylist(), *fleet.flush().to_pylist()]
    assert {row["flag"] for row in found} == {None}
    assert np.abs([row["value"] for row in found]).max() < 100


@pytest.mark.parametrize("kind", ["rg_lru", "min_gru", "lru", "s4d", "slice"])
def test_linear_recurrences_follow_time(kind):
    """With nothing but time passing, two windows leave of a state what one of twice the length does."""
    bundle = make_stack(kind, options={"blocks": 1}, dtype="float64")
    # Nothing enters the recurrence: its input is constant, and adds nothing.
    zero = ("field.input", "field.blocks.0.recurrence.value", "field.blocks.0.recurrence.drive")
    tensors = {name: t * 0 if name.startswith(zero) else t for name, t in bundle.tensors.items()}
    stepper = make_stepper(type(bundle)(bundle.header, tensors))
    z = np.random.default_rng(0).normal(size=(1, bundle.header.hidden))
    token = np.zeros((1, bundle.header.logsig_channels))
    token[0, 0] = 0.6
    twice = stepper.step(stepper.step(z, token), token)
    once = stepper.step(z, 2 * token)
    states = slice(2 * 6 + 1, None)
    assert not np.allclose(twice[:, states], z[:, states], rtol=0.01)
    np.testing.assert_allclose(twice[:, states], once[:, states], rtol=0, atol=ORACLE)


def test_without_a_window_of_its_own_every_token_counts_as_one():
    bundle = make_stack(token=Token(scales=(Scale(4),)), options={"window": 3.0})
    assert bundle.header.field.unit(bundle.header) == 0
    header = make_stack(options={"window": 0.0}, windows=Every(2.5)).header
    assert header.field.unit(header) == 2.5
    for windows in (Count(4), Adaptive(norm=1.0)):
        with pytest.raises(BundleError, match=r"field\.window=0"):
            make_stack(options={"window": 0.0}, windows=windows)


def test_the_running_mean_never_stands_still():
    bundle = make_stack(task="regression", labels=())
    stepper, column = make_stepper(bundle), bundle.header.field.counter
    _, tokens = random_inputs(bundle, 1, 1)
    z = stepper.step(stepper.initial(np.zeros((1, 3))), tokens[:, 0])
    assert z[0, column] == 1
    np.testing.assert_array_equal(z[0, :6], z[0, 6:12])
    z[0, column] = MEMORY - 1
    for _ in range(3):
        before, z = z, stepper.step(z, tokens[:, 0])
        assert z[0, column] == MEMORY
        np.testing.assert_allclose(z[0, :6] - before[0, :6], (z[0, 6:12] - before[0, :6]) / MEMORY, rtol=0.2, atol=1e-7)


@KINDS
def test_an_endless_stream_keeps_a_bounded_state(kind):
    bundle = make_stack(kind, dtype="float32")
    _, tokens = random_inputs(bundle, 1, 64)
    stepper = make_stepper(bundle)
    z, sizes = stepper.initial(np.zeros((1, 3))), []
    for k in range(800):
        z = stepper.step(z, tokens[:, k % 64])
        sizes.append(np.abs(z[0, 13:]).max())
    assert max(sizes[400:]) < 1.5 * max(sizes[:400])


def test_a_model_takes_over_the_streams_of_another_with_the_same_blocks():
    old, new = make_stack(seed=0), make_stack(seed=1)
    _, names, t, x = streams(2)
    fleet = Fleet(old)
    fleet.push(names[:60], t[:60], x[:60])
    fleet.swap(new)
    assert len(rows(fleet.push(names[60:], t[60:], x[60:])))
    with pytest.raises(BundleError, match="field differs"):
        fleet.swap(make_stack("min_gru"))  # whose state has the same size


def test_states_are_a_column_on_request():
    bundle = make_stack()
    _, names, t, x = streams(2)
    plain, full = Fleet(bundle), Fleet(bundle, features=("state",))
    expected, found = plain.push(names, t, x), full.push(names, t, x)
    assert found["value"].equals(expected["value"])
    states = np.array(found["state"].to_pylist())
    assert states.shape == (len(expected), bundle.header.hidden)
    assert (states[:, bundle.header.field.counter] == np.array(found["window"]) + 1).all()


@pytest.mark.parametrize("members", [1, 2])
def test_novelty_is_told_beside_predictions_that_it_does_not_change(members):
    bundle = make_stack(members=members, novelty=TrainingWindows(windows=400, streams=10, alarm=3.0))
    t, x = make_recording(7, 60)
    plain = Predictor(bundle).push_many(t, x)
    told = Predictor(bundle, novelty=True).push_many(t, x)
    assert [p.value.tolist() for p in told] == [p.value.tolist() for p in plain]
    assert sum(p.novelty is not None and 0 < p.novelty <= 1 for p in told) > 5


@KINDS
def test_an_ensemble_is_the_mean_of_its_members(kind):
    members = [make_stack(kind, seed, task="regression", labels=()) for seed in range(3)]
    shared = {
        name: members[0].tensors[name]
        for name in members[0].tensors
        if "." in name and name.split(".")[1] in ("shift", "scale")
    }
    members = [type(own)(own.header, dict(own.tensors) | shared) for own in members]
    joined = join(members)
    assert [part.tensors["readout.weight"].shape for part in split(joined)] == [(3, 12)] * 3
    t, x = make_recording(0, 40)
    found = np.array([p.value for p in Predictor(joined).push_many(t, x)])
    alone = [[p.value for p in Predictor(own).push_many(t, x)] for own in members]
    np.testing.assert_allclose(found, np.mean(alone, axis=0), rtol=1e-5, atol=1e-5)


@KINDS
def test_the_file_holds_everything(tmp_path, kind):
    bundle = make_stack(kind, token=TOKEN)
    bundle.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert again.header == bundle.header
    assert again.fingerprint == bundle.fingerprint
    text = str([row for section in sections(again) for row in section.rows])
    assert "stack of 2 blocks of width 6 with" in text
    ranged = make_stack(kind, hidden_range=True, members=2)
    high = ranged.tensors["range.high"].copy()
    high[ranged.header.field.counter :: ranged.header.member_hidden] = MEMORY
    text = str(sections(type(ranged)(ranged.header, dict(ranged.tensors) | {"range.high": high})))
    assert "leaves its range in training, -3 to 3'" in text  # without the count of windows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decay": True}, "decay by themselves"),
        ({"pooling": "mean"}, "use the field's pool"),
        ({"members": 2}, "hidden=25"),
        ({"initial": Layers()}, "begins with zeros"),
        ({"hidden": 3}, "hidden=3"),
        ({"substeps": 2}, "is stepped exactly"),
        ({"field": Stack(width=7, blocks=2)}, "hidden=25"),
    ],
)
def test_headers_that_ask_for_what_a_stack_does_not_have_are_refused(changes, message):
    bundle = make_stack()
    with pytest.raises(BundleError, match=message):
        type(bundle)(msgspec.structs.replace(bundle.header, **changes), bundle.tensors)


def test_a_stack_may_end_in_a_perceptron():
    bundle = make_stack(readout=Layers(widths=(4,), activations=("tanh",)))
    z = make_stepper(bundle).initial(np.zeros((2, 3)))
    assert make_stepper(bundle).output(z).shape == (2, 3)
    with pytest.raises(BundleError, match="only the initial state of fields 'reservoir' and 'stack'"):
        type(bundle)(msgspec.structs.replace(make_bundle().header, initial=Blank()), make_bundle().tensors)


def test_unknown_recurrences_are_refused_by_name():
    with pytest.raises(msgspec.ValidationError, match="kind"):
        msgspec.convert({"field": "stack", "recurrence": {"kind": "none"}}, Stack)
