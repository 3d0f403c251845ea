import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tolerances import LAW

from streamrde import kernels

sizes = st.tuples(st.integers(1, 4), st.integers(1, 5))


def random_increments(seed, rows, channels):
    return np.random.default_rng(seed).normal(size=(rows, channels))


def folded(increments, depth):
    signatures = np.zeros((1, kernels.signature_channels(increments.shape[1], depth)))
    kernels.fold(signatures, increments, np.zeros(1, np.intp), np.array([len(increments)]), depth)
    return signatures


@pytest.mark.slow
@given(sizes, st.integers(0, 2**32))
def test_fold_equals_the_naive_signature(size, seed):
    channels, depth = size
    increments = random_increments(seed, 4, channels)
    path = np.vstack([np.zeros(channels), increments.cumsum(axis=0)])
    expected = naive.signature(path, depth)
    got = folded(increments, depth)[0]
    words = sorted(naive.words(channels, depth), key=lambda w: (len(w), w[::-1]))  # the first letter runs fastest
    np.testing.assert_allclose(got, [expected[w] for w in words], rtol=LAW, atol=LAW)


@given(sizes, st.integers(0, 2**32))
def test_chen_joins_any_cut_of_a_path_and_is_associative(size, seed):
    channels, depth = size
    parts = [folded(random_increments(seed + i, 3, channels), depth) for i in range(3)]
    whole = folded(np.vstack([random_increments(seed + i, 3, channels) for i in range(3)]), depth)
    left = kernels.chen(kernels.chen(parts[0], parts[1], channels, depth), parts[2], channels, depth)
    right = kernels.chen(parts[0], kernels.chen(parts[1], parts[2], channels, depth), channels, depth)
    scale = np.abs(whole).max()
    np.testing.assert_allclose(left, whole, rtol=0, atol=LAW * scale)
    np.testing.assert_allclose(right, whole, rtol=0, atol=LAW * scale)


@given(sizes, st.integers(0, 2**32))
def test_the_identity_is_neutral_for_chen(size, seed):
    channels, depth = size
    some = folded(random_increments(seed, 3, channels), depth)
    one = np.zeros_like(some)
    np.testing.assert_array_equal(kernels.chen(some, one, channels, depth), some)
    np.testing.assert_array_equal(kernels.chen(one, some, channels, depth), some)


@given(sizes, st.integers(0, 2**32))
def test_log_of_exp_is_the_increment(size, seed):
    channels, depth = size
    increment = random_increments(seed, 1, channels)
    signature = folded(increment, depth)
    log = kernels.log_words(signature, channels, depth, np.arange(signature.shape[1]))
    expected = np.zeros_like(log)
    expected[:, :channels] = increment
    np.testing.assert_allclose(log, expected, rtol=0, atol=LAW * max(1, np.abs(increment).max()) ** depth)


def test_a_path_run_back_and_forth_has_no_signature():
    increments = random_increments(1, 20, 3)
    there_and_back = np.vstack([increments, -increments[::-1]])
    assert np.abs(folded(there_and_back, 4)).max() < 1e-10


@given(st.integers(0, 2**32), st.lists(st.integers(1, 9), min_size=1, max_size=40))
def test_a_rows_bits_do_not_depend_on_the_rows_beside_it(seed, lengths):
    channels, depth = 3, 3
    increments = random_increments(seed, sum(lengths), channels)
    starts = np.cumsum([0, *lengths[:-1]])
    together = np.zeros((len(lengths), kernels.signature_channels(channels, depth)))
    kernels.fold(together, increments, starts, np.array(lengths), depth)
    for i, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        assert together[i].tobytes() == folded(increments[start : start + length], depth)[0].tobytes()


def test_blocks_do_not_change_a_bit(monkeypatch):
    increments = random_increments(3, 300, 3)
    args = np.arange(100) * 3, np.full(100, 3), 4
    one_block, blocks = (np.zeros((100, kernels.signature_channels(3, 4))) for _ in range(2))
    kernels.fold(one_block, increments, *args)
    monkeypatch.setattr("streamrde.kernels.reference._BLOCK", 1000)
    kernels.fold(blocks, increments, *args)
    assert one_block.tobytes() == blocks.tobytes()


@pytest.mark.parametrize(("channels", "depth"), [(1, 8), (2, 8), (5, 1), (16, 2)])
def test_levels_tile_the_row(channels, depth):
    levels = kernels.level_slices(channels, depth)
    assert levels[0].start == 0
    assert [level.stop - level.start for level in levels] == [channels**k for k in range(1, depth + 1)]
    assert levels[-1].stop == kernels.signature_channels(channels, depth)
