import copy
import pickle

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import cases
from tolerances import EXACT, LAW, ORACLE

import streamrde as sr
from streamrde.errors import ParameterError, SampleError, ShapeError, SnapshotError
from streamrde.kernels import reference
from streamrde.signature import lyndon_words
from streamrde.signature.words import word_indices


@pytest.mark.parametrize("case", cases("logsignatures"), ids=lambda c: f"{c['path'].shape}x{c['depth']}")
def test_signature_and_both_bases_equal_signatory(case):
    path, depth = case["path"], int(case["depth"])
    np.testing.assert_allclose(sr.signature(path, depth), case["signature"], rtol=0, atol=ORACLE)
    np.testing.assert_allclose(sr.logsignature(path, depth), case["words"], rtol=0, atol=ORACLE)
    np.testing.assert_allclose(sr.logsignature(path, depth, "brackets"), case["brackets"], rtol=0, atol=ORACLE)


@pytest.mark.parametrize(("channels", "depth"), [(1, 1), (1, 8), (2, 8), (3, 6), (4, 4), (7, 3)])
def test_lyndon_words_are_the_words_smaller_than_their_rotations(channels, depth):
    assert list(lyndon_words(channels, depth)) == naive.lyndon_words(channels, depth)
    assert sr.logsignature_channels(channels, depth) == len(lyndon_words(channels, depth))


def test_depth_eight_equals_the_naive_logsignature():
    path = np.random.default_rng(8).normal(size=(5, 2))
    np.testing.assert_allclose(sr.logsignature(path, 8), naive.logsignature(path, 8), rtol=0, atol=1e-9)


def test_batched_equals_singles_bit_for_bit():
    paths = np.random.default_rng(0).normal(size=(2, 3, 9, 3))
    for basis in ("words", "brackets"):
        batched = sr.logsignature(paths, 4, basis)
        singles = [[sr.logsignature(paths[i, j], 4, basis) for j in range(3)] for i in range(2)]
        assert batched.tobytes() == np.array(singles).tobytes()


def test_brackets_of_an_area_are_its_signed_area():
    square = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
    np.testing.assert_allclose(sr.logsignature(square, 2, "brackets"), [0, 0, 1], atol=1e-15)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32), st.integers(1, 19))
def test_any_cut_into_pushes_gives_the_same_bits(channels, depth, seed, cut):
    path = np.random.default_rng(seed).normal(size=(20, channels))
    one, many = sr.LogSignature(channels, depth), sr.LogSignature(channels, depth)
    for x in path:
        one.push(x)
    many.push_many(path[:cut])
    many = sr.LogSignature.restore(many.snapshot())
    many.push_many(path[cut:])
    assert one.value().tobytes() == many.value().tobytes() == sr.logsignature(path, depth).tobytes()


@pytest.mark.parametrize("basis", ["words", "brackets"])
def test_a_value_is_written_where_asked(basis):
    path = np.random.default_rng(4).normal(size=(9, 3))
    acc = sr.LogSignature(3, 3, basis)
    acc.push_many(path)
    out = np.empty(sr.logsignature_channels(3, 3))
    assert acc.value(out) is out
    assert out.tobytes() == acc.value().tobytes() == acc.value(out=None).tobytes()
    assert out.tobytes() == sr.logsignature(path, 3, basis).tobytes()
    with pytest.raises((TypeError, ValueError)):
        acc.value(np.empty(3))
    with pytest.raises(TypeError):
        acc.value(into=out)


def test_reset_starts_a_window_at_the_last_sample():
    path = np.random.default_rng(1).normal(size=(12, 3))
    acc = sr.LogSignature(3, 3)
    acc.push_many(path[:5])
    acc.reset()
    np.testing.assert_array_equal(acc.value(), 0.0)
    acc.push_many(path[5:])
    assert acc.value().tobytes() == sr.logsignature(path[4:], 3).tobytes()


def test_the_value_does_not_depend_on_what_windows_came_before():
    rng = np.random.default_rng(2)
    acc = sr.LogSignature(3, 3)
    for window in rng.normal(size=(50, 8, 3)).cumsum(axis=1):
        acc.push_many(window)
        acc.reset()
    tail = rng.normal(size=(8, 3))
    acc.push(tail[0])
    acc.reset()
    acc.push_many(tail[1:])
    np.testing.assert_allclose(acc.value(), sr.logsignature(tail, 3), rtol=0, atol=LAW)


def test_a_bad_sample_raises_and_leaves_the_state():
    acc = sr.LogSignature(2, 2)
    acc.push_many([[0.0, 0.0], [1.0, 2.0]])
    before = acc.snapshot()
    with pytest.raises(ShapeError, match=r"shape \(3,\).*\(2,\)"):
        acc.push([1.0, 2.0, 3.0])
    with pytest.raises(SampleError, match="sample 1, channel 0 is nan"):
        acc.push_many([[1.0, 1.0], [np.nan, 1.0]])
    assert acc.snapshot() == before


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: sr.LogSignature(0, 2), "channels=0"),
        (lambda: sr.LogSignature(2, 1.5), "depth=1.5"),
        (lambda: sr.LogSignature(2, 2, "hall"), "'words' or 'brackets'"),
        (lambda: sr.logsignature([[0.0], [1.0]], 0), "depth=0"),
    ],
)
def test_a_size_that_cannot_work_is_named(call, match):
    with pytest.raises(ParameterError, match=match):
        call()


def test_a_path_that_is_none_is_refused():
    with pytest.raises(ShapeError, match="points, channels"):
        sr.signature([1.0, 2.0], 2)
    with pytest.raises(SampleError, match="nan"):
        sr.signature([[1.0], [np.nan]], 2)


def test_damaged_snapshots_are_refused():
    acc = sr.LogSignature(2, 3)
    acc.push_many(np.eye(2))
    data = acc.snapshot()
    for bad in (b"", b"hello", data[:-1], data[:20], data[:30] + b"\0" + data[31:], data + b"\0"):
        with pytest.raises(SnapshotError):
            sr.LogSignature.restore(bad)


@pytest.mark.parametrize(("rows", "length"), [(1, 1024), (1, 1025), (1, 5000), (3, 2000), (7, 1500), (8, 1100)])
def test_long_paths_cut_in_time_equal_the_incremental_ones(rows, length):
    paths = np.random.default_rng(rows).normal(size=(rows, length, 3)).cumsum(axis=1) * 0.02
    for path, logsig in zip(paths, sr.logsignature(paths, 4), strict=True):
        acc = sr.LogSignature(3, 4)
        acc.push_many(path)
        expected = acc.value()
        np.testing.assert_allclose(logsig, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.slow
def test_a_long_stream_loses_no_digit_to_exact_arithmetic():
    rng, acc, window = np.random.default_rng(0), sr.LogSignature(3, 3), 40
    points = rng.normal(size=(200_000, 3)).cumsum(axis=0) * 0.1
    acc.push(points[0])
    for begin in range(0, len(points) - window, window):
        acc.push_many(points[begin + 1 : begin + 1 + window])
        value = acc.value()
        acc.reset()
        if begin % 40_000 == 0:
            exact = naive.logsignature(naive.exact(points[begin : begin + 1 + window]), 3)
            error = [abs(naive.Fraction(float(a)) - b) for a, b in zip(value, exact, strict=True)]
            assert max(error) <= EXACT * max(abs(b) for b in exact)


@pytest.mark.slow
@given(st.lists(st.sampled_from(["push", "push_many", "value", "reset", "snapshot"]), max_size=120), st.integers(0, 99))
def test_samples_that_wait_to_be_folded_are_never_seen_to_wait(steps, seed):
    rng = np.random.default_rng(seed)
    acc, plain = sr.LogSignature(3, 3), reference.Accumulator(3, 3, word_indices(3, 3), False)
    for step in [*steps, "value"]:
        if step == "push":
            x = rng.normal(size=3)
            acc.push(x)
            plain.push(x)
        elif step == "push_many":
            X = rng.normal(size=(rng.integers(0, 40), 3))
            acc.push_many(X)
            plain.push_many(X)
        elif step == "reset":
            acc.reset()
            plain.reset()
        elif step == "snapshot":
            acc = sr.LogSignature.restore(acc.snapshot())
        else:
            expected = plain.value()
            np.testing.assert_allclose(acc.value(), expected, rtol=0, atol=LAW * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("copied", [lambda a: pickle.loads(pickle.dumps(a)), copy.copy, copy.deepcopy])
@pytest.mark.parametrize("basis", ["words", "brackets"])
def test_a_copy_of_an_accumulator_goes_on_bit_for_bit(copied, basis):
    path = np.random.default_rng(0).normal(size=(50, 3))
    acc = sr.LogSignature(np.int64(3), np.int32(3), basis)
    acc.push_many(path[:20])
    acc.push(path[20])
    twin = copied(acc)
    acc.push_many(path[21:])
    np.testing.assert_array_equal(sr.LogSignature.restore(twin.snapshot()).value(), twin.value())
    twin.push_many(path[21:])
    np.testing.assert_array_equal(twin.value(), acc.value())
    assert repr(twin) == repr(acc)


def test_an_accumulator_that_has_no_sample_can_be_copied():
    twin = copy.deepcopy(sr.LogSignature(2, 2))
    twin.push_many([[1.0, 1.0], [2.0, 3.0]])
    np.testing.assert_array_equal(twin.value(), [1.0, 2.0, 0.0])


@pytest.mark.parametrize(
    "push",
    [
        lambda acc, row: acc.push(row),
        lambda acc, row: acc.push_many(np.ma.stack([row, row])),
        lambda acc, row: acc.push_many([row, row]),
    ],
)
def test_a_masked_sample_is_refused_as_not_observed(push):
    acc = sr.LogSignature(2, 2)
    with pytest.raises(SampleError, match="channel 1 is nan"):
        push(acc, np.ma.array([1.0, -9999.0], mask=[False, True]))


@pytest.mark.parametrize("compute", [sr.signature, sr.logsignature])
@pytest.mark.parametrize("shape", [(2, 304128), (5, 2, 304128)])
def test_axes_that_look_swapped_are_named_where_memory_would_not_do(compute, shape):
    with pytest.raises(ShapeError, match=r"the axes look swapped: give path.swapaxes\(-1, -2\), of shape"):
        compute(np.broadcast_to(0.0, shape), 2)


def test_an_accumulator_names_axes_that_look_swapped():
    with pytest.raises(ShapeError, match=r"the axes look swapped: give X.swapaxes\(-1, -2\), of shape \(60, 2\)"):
        sr.LogSignature(2, 2).push_many(np.zeros((2, 60)))


def test_an_accumulator_beyond_all_memory_is_refused_with_its_size():
    with pytest.raises(ParameterError, match=r"level 2 of a signature has 92,493,840,384 numbers"):
        sr.LogSignature(304128, 2)
