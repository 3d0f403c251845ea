"""Pooled random features against an obvious loop, and against themselves however streams are cut."""

import numpy as np
import pytest

from streamrde import kernels
from streamrde.errors import ParameterError, ShapeError
from streamrde.features import Block, FeatureSpec, Pool, draw, make_pooling, pool_streams
from streamrde.features.drawing import draw_directions
from streamrde.features.names import feature_names, token_names
from streamrde.features.pooling import CompiledPooling, Readout, ReferencePooling
from streamrde.windowing.partition import Partition
from streamrde.windowing.policies import Every
from streamrde.windowing.tokens import Scale, Token

PARTITION = Partition(
    (0.0, 0.0), 2, Every(1.0), "linear", token=Token(scales=(Scale(1), Scale(4, depth=1)), ends=True, summaries=True)
)
PLACES = PARTITION.places
SPEC = FeatureSpec(
    blocks=(
        Block(directions=7, scales=(0,), nonzeros=(2, 0)),
        Block(directions=19, scales=(1,), ends=True),
        Block(directions=3, summaries=True),
    ),
    pools=(
        Pool("share"),
        Pool("mean"),
        Pool("max"),
        Pool("last"),
        Pool("mean", half_life=3.0),
        Pool("share", half_life=0.5),
        Pool("mean", "token"),
        Pool("last", "summaries"),
        Pool("max", "ends"),
        Pool("mean", "logsigs", 3.0),
        Pool("share", rising=True),
        Pool("mean", "token", rising=True),
        Pool("best"),
        Pool("best", rising=True, stretched=True, blocks=(1, 3)),
        Pool("share", half_life=3.0, stretched=True),
        Pool("share", "ends", stretched=True),
        Pool("mean", half_life=7.0, blocks=(1, 2)),
    ),
    seed=5,
)
ROOTS = FeatureSpec(blocks=SPEC.blocks, pools=SPEC.pools, seed=5, squash="root")


def tokens_of(seed, count):
    tokens = np.random.default_rng(seed).normal(size=(count, PLACES.size)) * 3 + 1
    tokens[np.random.default_rng(seed).random(tokens.shape) < 0.05] = np.nan
    tokens[:, 1] = 4.25
    return tokens


@pytest.fixture(scope="module")
def pooling():
    return make_pooling(SPEC, PLACES, draw(SPEC, PLACES, tokens_of(0, 500)))


def obvious(drawn, tokens, *, root=False):
    """The features of one stream in float64, one window and one number after the other."""
    scaled = (tokens - drawn.shift) * drawn.scale
    if root:
        scaled[:, :9] = np.sign(scaled[:, :9]) * np.abs(scaled[:, :9]) ** 0.5
    scaled = np.nan_to_num(np.clip(scaled, -8, 8))
    parts = [
        np.arange(0, 6),
        np.r_[6:9, 9:11],
        np.arange(11, 29),
    ]
    h = np.concatenate(
        [scaled[:, p] @ w.T - b for p, w, b in zip(parts, drawn.weights, drawn.biases, strict=True)], axis=1
    )
    relu = np.maximum(h, 0)

    def fading(values, half_life):
        weights = 0.5 ** (np.arange(len(values))[::-1] / half_life)
        return (weights[:, None] * values).sum(0) / weights.sum()

    def best(values):
        found = np.zeros_like(values)
        for first, stop in [(0, 7), (7, 15), (15, 23), (23, 26), (26, 29)]:
            found[np.arange(len(values)), first + values[:, first:stop].argmax(1)] = 1
        return found

    def stretched(share):
        return np.sqrt(share) - np.sqrt(np.maximum(1 - share, 0))

    return np.concatenate(
        [
            (h > 0).mean(0),
            relu.mean(0),
            h.max(0),
            relu[-1],
            fading(relu, 3.0),
            fading(h > 0, 0.5),
            scaled.mean(0),
            scaled[-1, 11:],
            scaled[:, 9:11].max(0),
            fading(scaled[:, :9], 3.0),
            np.average(h > 0, axis=0, weights=1 + np.arange(len(h))),
            np.average(scaled, axis=0, weights=1 + np.arange(len(h))),
            best(h).mean(0),
            stretched(np.average(best(h)[:, 7:], axis=0, weights=1 + np.arange(len(h)))),
            stretched(fading(h > 0, 3.0)),
            stretched((scaled[:, 9:11] > 0).mean(0)),
            fading(relu[:, 7:26], 7.0),
        ]
    )


@pytest.mark.parametrize("count", [1, 2, 40, 300])
def test_features_are_those_of_an_obvious_loop(pooling, count):
    tokens = tokens_of(1, count)
    found = pool_streams(pooling, tokens, [count])
    assert found.shape == (1, pooling.size) == (1, SPEC.size(PLACES))
    np.testing.assert_allclose(found[0], obvious(pooling.drawn, tokens), rtol=1e-5, atol=2e-6)


def test_roots_are_taken_of_standardised_logsignatures_alone():
    pooling = make_pooling(ROOTS, PLACES, draw(ROOTS, PLACES, tokens_of(0, 500)))
    tokens = tokens_of(1, 40)
    found = pool_streams(pooling, tokens, [40])[0]
    np.testing.assert_allclose(found, obvious(pooling.drawn, tokens, root=True), rtol=1e-5, atol=2e-6)
    assert (found != pool_streams(make_pooling(SPEC, PLACES, pooling.drawn), tokens, [40])[0]).any()


@pytest.fixture(params=kernels.IMPLEMENTATION.available[:-1])
def variant(request):
    if kernels.Pooling is None:
        pytest.skip("the reference kernels run")
    native = pytest.importorskip("streamrde.kernels._native")
    before = native.variant()
    native.choose(request.param)
    yield
    native.choose(before)


BIG = FeatureSpec(blocks=(Block(directions=133, scales=(0, 1)), Block(directions=64, ends=True, scales=(0,))), seed=2)


@pytest.mark.parametrize("spec", [SPEC, ROOTS, BIG, FeatureSpec(pools=(Pool("mean", "token"),))])
@pytest.mark.usefixtures("variant")
def test_compiled_pools_have_the_bits_of_the_reference(spec):
    drawn = draw(spec, PLACES, tokens_of(0, 300))
    reference, compiled = ReferencePooling(spec, PLACES, drawn), CompiledPooling(spec, PLACES, drawn)
    tokens, stops, rng = tokens_of(7, 333), np.array([0, 1, 4, 140, 333]), np.random.default_rng(4)
    tokens[5, :3] = np.inf, -np.inf, np.nan
    readout = Readout(rng.normal(size=(6, compiled.size)), rng.normal(size=6))
    assert (compiled.pool(tokens, stops) == reference.pool(tokens, stops)).all()
    at = np.array([0, 2, 3, 50, 139, 140, 332])
    assert (compiled.pool(tokens, stops, at) == reference.pool(tokens, stops, at)).all()
    slots = rng.integers(0, 5, len(tokens))
    for given in (None, readout):
        states = np.zeros((2, 5, compiled.state_size + 3))
        own = states[:, :, 1:-2]
        results = [p.advance(s, slots, tokens, given) for p, s in zip((reference, compiled), own, strict=True)]
        (marks, values), (compiled_marks, compiled_values) = results
        assert (states[0] == states[1]).all()
        assert (marks == compiled_marks).all()
        assert given is None or (values == compiled_values).all()
        assert (reference.read(own[0], slots, readout) == compiled.read(own[1], slots, readout)).all()


@pytest.mark.skipif(kernels.Pooling is None, reason="no compiled kernels")
def test_compiled_pools_refuse_what_does_not_fit():
    compiled = CompiledPooling(SPEC, PLACES, draw(SPEC, PLACES, tokens_of(0, 50)))
    states, tokens, slots = np.zeros((2, compiled.state_size)), tokens_of(1, 2), np.array([0, 1])
    for rows in (states[:, :-1], states.astype(np.float32), np.zeros((compiled.state_size, 2)).T):
        with pytest.raises((TypeError, ValueError), match="rows"):
            compiled.advance(rows, slots, tokens)
    for wrong in (np.array([0, 2]), np.array([-1, 0])):
        with pytest.raises(IndexError, match="outside of the rows"):
            compiled.advance(states, wrong, tokens)
    with pytest.raises(ValueError, match="tokens"):
        compiled.advance(states, slots, tokens[:1])
    with pytest.raises(ValueError, match="weight"):
        compiled.read(states, slots, Readout(np.zeros((2, 3)), np.zeros(2)))
    states.flags.writeable = False
    with pytest.raises(TypeError, match="can be written"):
        compiled.advance(states, slots, tokens)


def test_streams_depend_neither_on_each_other_nor_on_how_they_are_cut(pooling):
    lengths = [3, 0, 300, 1, 17]
    tokens, stops = tokens_of(2, sum(lengths)), np.cumsum(lengths)
    together = pool_streams(pooling, tokens, stops)
    for i, (stop, length) in enumerate(zip(stops, lengths, strict=True)):
        alone = pool_streams(pooling, tokens[stop - length : stop], [length])
        assert (alone[0] == together[i]).all()
    assert (together[1] == 0).all()
    # The same windows of all streams in turns, cut into calls, in rows that hold other things too.
    slots = np.repeat(np.arange(len(lengths)), lengths)
    order = np.argsort(np.concatenate([np.arange(n) for n in lengths]), kind="stable")
    rows = np.full((len(lengths), pooling.state_size + 5), 7.0)
    states = rows[:, 2 : 2 + pooling.state_size]
    states[:] = 0.0
    for part in np.array_split(order, 9):
        pooling.advance(states, slots[part], tokens[part])
    assert (pooling.features(states) == together).all()
    assert (rows[:, [0, 1, -3, -2, -1]] == 7).all()


def test_features_after_chosen_windows_are_those_of_streams_that_end_there(pooling):
    tokens = tokens_of(3, 20)
    found = pool_streams(pooling, tokens, [12, 20], at=[0, 5, 11, 12, 19])
    begins = [0, 0, 0, 12, 12]
    for row, begin, stop in zip(found, begins, [1, 6, 12, 13, 20], strict=True):
        assert (row == pool_streams(pooling, tokens[begin:stop], [stop - begin])[0]).all()


def test_readout_is_a_linear_function_of_the_features(pooling):
    rng = np.random.default_rng(8)
    readout = Readout(rng.normal(size=(3, pooling.size)), rng.normal(size=3))
    tokens, slots = tokens_of(6, 30), np.arange(30) % 3
    states, live = np.zeros((2, 4, pooling.state_size))
    _, outputs = pooling.advance(states, slots, tokens, readout)
    for token, slot, output in zip(tokens, slots, outputs, strict=True):
        pooling.advance(live, np.array([slot]), token[None])
        expected = pooling.features(live[slot : slot + 1])[0] @ readout.weight.T + readout.bias
        np.testing.assert_allclose(output, expected, rtol=1e-12, atol=1e-11)
    assert (pooling.read(states, np.array([2, 0, 1]), readout) == outputs[[29, 27, 28]]).all()
    assert (pooling.read(states, np.array([3]), readout) == readout.bias).all()


def test_random_part_depends_on_the_seed_alone(pooling):
    again = draw_directions(SPEC, PLACES)[0]
    assert all((a == b).all() for a, b in zip(again, pooling.drawn.weights, strict=True))
    other = draw(SPEC, PLACES, tokens_of(9, 50))
    assert all((a == b).all() for a, b in zip(other.weights, pooling.drawn.weights, strict=True))
    changed = draw_directions(FeatureSpec(blocks=SPEC.blocks, seed=6), PLACES)[0]
    assert (changed[0] != pooling.drawn.weights[0]).any()
    for weight, block in zip(again, SPEC.blocks, strict=True):
        np.testing.assert_allclose((weight.astype(float) ** 2).sum(1), 1.0, rtol=1e-6)
        assert {min(n, weight.shape[1]) or weight.shape[1] for n in block.nonzeros} >= set((weight != 0).sum(1))


def test_biases_are_quantiles_of_training_features():
    spec = FeatureSpec(blocks=(Block(directions=50, scales=(0,), low=0.2, high=0.3),))
    tokens = np.random.default_rng(3).normal(size=(2000, PLACES.size))
    found = pool_streams(make_pooling(spec, PLACES, draw(spec, PLACES, tokens)), tokens, [2000])
    assert ((found[0, :50] > 0.69) & (found[0, :50] < 0.81)).all()


def test_tokens_that_are_not_finite_are_marked_unless_they_are_summaries(pooling):
    tokens = np.ones((4, PLACES.size))
    tokens[0, 0], tokens[1, 20], tokens[2, 10] = np.inf, np.nan, np.nan
    states = np.zeros((1, pooling.state_size))
    assert pooling.advance(states, np.zeros(4, np.intp), tokens)[0].tolist() == [True, False, True, False]
    assert np.isfinite(states).all()


def test_constant_and_never_observed_entries_count_nothing():
    tokens = tokens_of(4, 50)
    tokens[:, 12] = np.nan
    drawn = draw(SPEC, PLACES, tokens)
    assert (drawn.scale[[1, 12]] == 0).all()
    assert np.isfinite(drawn.shift).all()
    found = pool_streams(make_pooling(SPEC, PLACES, drawn), tokens, [50])
    assert np.isfinite(found).all()


def test_names_are_one_per_feature_and_all_different(pooling):
    expected = "1:t 1:x 1:y 1:t.x 1:t.y 1:x.y 4:t 4:x 4:y end:x end:y count:x first:x"
    assert token_names(PARTITION, "xy")[:13] == tuple(expected.split())
    names = feature_names(SPEC, PARTITION, "xy")
    assert len(names) == pooling.size == len(set(names))
    assert {
        "share(0/6)",
        "mean~3(2/0)",
        "last(slope:y)",
        "max(end:x)",
        "mean~3(4:y)",
        "share^(1/0)",
        "stretched_best^(1/3)",
    } <= set(names)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (FeatureSpec(blocks=(Block(directions=1, scales=(2,)),)), "have 2 scales"),
        (FeatureSpec(blocks=(Block(directions=1),)), "sees nothing"),
        (FeatureSpec(blocks=(Block(directions=1, scales=(0,), low=0.6, high=0.4),)), "swap them"),
        (FeatureSpec(pools=(Pool("share"),)), "keep nothing"),
        (FeatureSpec(pools=(Pool("max", "token", 2.0),)), "has no weights"),
        (FeatureSpec(pools=(Pool("mean", "token", stretched=True),)), "is no share"),
        (FeatureSpec(pools=(Pool("best", "token"),)), "has no directions"),
        (FeatureSpec(blocks=SPEC.blocks, pools=(Pool("max", blocks=(1, 4)),)), "there are 3 blocks"),
        (FeatureSpec(pools=(Pool("mean", "token", 2.0, rising=True),)), "both rise and fall"),
    ],
)
def test_specs_that_cannot_be_are_refused(spec, message):
    with pytest.raises(ParameterError, match=message):
        draw(spec, PLACES, tokens_of(0, 5))


def test_arrays_that_do_not_fit_are_refused(pooling):
    with pytest.raises(ShapeError, match="give \\(K, 29\\)"):
        pool_streams(pooling, np.zeros((2, 3)), [2])
    with pytest.raises(ParameterError, match="stops must ascend"):
        pool_streams(pooling, tokens_of(0, 5), [3])
    with pytest.raises(ParameterError, match="at must ascend"):
        pool_streams(pooling, tokens_of(0, 5), [5], at=[3, 3])
    with pytest.raises(ShapeError, match="draw them with this spec"):
        make_pooling(SPEC, PLACES, pooling.drawn._replace(biases=()))


WIDE = Partition((0.0,) * 8, 2, Every(1.0), "linear", token=Token(scales=(Scale(1), Scale(4), Scale(8)), ends=True))
EVERY_POOL = (Pool("share"), Pool("mean"), Pool("max"), Pool("last"), Pool("best"), Pool("mean", half_life=3.0))


def sparse_pair(seed, blocks, counts):
    """The reference and its twin, of directions that have numbers of weights besides zeros from `counts`."""
    rng, places = np.random.default_rng(seed), WIDE.places
    spec = FeatureSpec(blocks=blocks, pools=EVERY_POOL, squash="root")
    drawn = draw(spec, places, rng.normal(size=(60, places.size)))
    weights, biases = [], []
    for given, bias in zip(drawn.weights, drawn.biases, strict=True):
        weight = np.zeros(given.shape, np.float32)
        for row in weight:
            own = rng.choice(given.shape[1], min(rng.choice(counts), given.shape[1]), replace=False)
            row[own] = rng.normal(size=len(own))
        # Some biases are 0, and so is all that some directions see.
        biases.append(np.where(rng.random(bias.shape) < 0.3, rng.choice([0.0, -0.0], bias.shape), bias).astype("f4"))
        weights.append(weight)
    drawn = drawn._replace(weights=tuple(weights), biases=tuple(biases))
    return ReferencePooling(spec, places, drawn), CompiledPooling(spec, places, drawn)


SHAPES = {
    "fewer directions than a vector has": ((5, 1), (1,)),
    "no weights at all": ((16, 3), (0,)),
    "one weight": ((32, 40), (1,)),
    "as drawn for streams": ((133, 64), (1, 2, 3, 12)),
    "a dense direction among sparse ones": ((50, 7), (0, 1, 2, 1000)),
    "near the share from which zeros are left out": ((48, 48), (3, 4, 5, 6)),
    "all weights": ((20, 17), (1000,)),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 3, 4, 15, 16, 17, 35, 150])
@pytest.mark.usefixtures("variant")
def test_sparse_directions_have_the_bits_of_dense_ones(shape, count):
    (first, second), counts = SHAPES[shape]
    blocks = (
        Block(directions=first, scales=(0, 2), ends=True),
        Block(directions=9, scales=(1,), nonzeros=(0,)),
        Block(directions=second, scales=(1,)),
    )
    reference, compiled = sparse_pair(count, blocks, counts)
    rng = np.random.default_rng(count + 1)
    tokens = rng.normal(size=(count, WIDE.places.size)) * 3
    tokens[:, rng.random(tokens.shape[1]) < 0.1] = np.nan
    tokens[rng.random(tokens.shape) < 0.3] = np.nan
    tokens[rng.random(tokens.shape) < 0.02] = np.inf
    tokens[count // 2] = np.nan  # as of a window that has its training means, which counts as zeros
    slots, states = rng.integers(0, 3, count), np.zeros((2, 3, compiled.state_size))
    for pooling, state in zip((reference, compiled), states, strict=True):
        pooling.advance(state, slots, tokens)
    # Bytes, so that 0 and -0 are not the same.
    random = slice(len(compiled.spec.lives), None)
    assert states[0][:, random].tobytes() == states[1][:, random].tobytes()
    own = np.zeros((3, compiled.state_size))
    for slot, token in zip(slots, tokens, strict=True):
        compiled.advance(own, np.array([slot]), token[None])
    assert own.tobytes() == states[1].tobytes()


@pytest.mark.usefixtures("variant")
def test_directions_and_tokens_of_zeros_leave_no_negative_zero():
    blocks = (Block(directions=40, scales=(0, 1, 2)),)
    pair = sparse_pair(0, blocks, (0, 1))
    given = pair[0].drawn
    for pooling in pair:
        for weight in (given.weights[0], -np.ones_like(given.weights[0])):
            drawn = given._replace(weights=(weight,), biases=(np.zeros(40, np.float32),))
            made = type(pooling)(pooling.spec, WIDE.places, drawn)
            for count in (1, 20):
                found = made.pool(np.full((count, WIDE.places.size), np.nan), np.array([count]))
                assert not np.signbit(found).any()
                assert (found[0, :160] == 0).all()


@pytest.mark.usefixtures("variant")
def test_zeros_of_sparse_directions_count_where_tokens_are_infinite():
    spec = FeatureSpec(blocks=(Block(directions=40, scales=(0, 1, 2), nonzeros=(1,)),), pools=(Pool("share"),))
    tokens = np.random.default_rng(0).normal(size=(30, WIDE.places.size))
    drawn = draw(spec, WIDE.places, tokens)._replace(clip=np.inf)
    tokens[:, 0] = np.inf
    found = CompiledPooling(spec, WIDE.places, drawn).pool(tokens, np.array([30]))
    # 0 times infinity is no number, and so not above a bias.
    assert (found[0, drawn.weights[0][:, 0] == 0] == 0).all()
