from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrde.models.training.batches import draw_batches, draw_streams


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=60), size=st.integers(1, 7), pool=st.integers(1, 5))
def test_every_stream_comes_once_in_batches_of_the_size(lengths, size, pool) -> None:
    batches = list(draw_batches(lengths, size=size, pool=pool, rng=np.random.default_rng(0)))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert sorted(map(len, batches), reverse=True) == [
        len(range(len(lengths))[i : i + size]) for i in range(0, len(lengths), size)
    ]


def test_streams_of_similar_lengths_meet_and_little_is_padded() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 1000, 640)

    def padded(pool: int) -> float:
        batches = draw_batches(lengths, size=32, pool=pool, rng=np.random.default_rng(1))
        return sum(len(batch) * lengths[batch].max() for batch in batches) / lengths.sum()

    assert padded(1) > 1.8
    assert padded(8) < 1.2


def test_chance_decides_who_meets_whom_in_every_epoch() -> None:
    rng = np.random.default_rng(0)
    epochs = [{frozenset(b.tolist()) for b in draw_batches(range(64), size=4, pool=4, rng=rng)} for _ in range(2)]
    assert len(epochs[0] & epochs[1]) < 4


@pytest.mark.parametrize("pool", [1, 8])
def test_of_equal_lengths_the_draw_is_plain(pool) -> None:
    batches = list(draw_batches([7] * 10, size=4, pool=pool, rng=np.random.default_rng(3)))
    assert np.concatenate(batches).tolist() == np.random.default_rng(3).permutation(10).tolist()


@given(
    groups=st.lists(st.sampled_from("abc"), min_size=1, max_size=30), count=st.integers(0, 50), balance=st.booleans()
)
def test_drawn_streams_are_as_many_as_asked_and_none_comes_again_before_its_group_is_through(
    groups, count, balance
) -> None:
    drawn = draw_streams(groups, count=count, balance=balance, rng=np.random.default_rng(0)).tolist()
    assert len(drawn) == (count or len(groups))
    assert drawn == sorted(drawn)
    shares = {name: [drawn.count(i) for i, own in enumerate(groups) if own == name or not balance] for name in groups}
    assert all(max(share) - min(share) <= 1 for share in shares.values())
    if balance:
        totals = [sum(share) for share in shares.values()]
        assert max(totals) - min(totals) <= 1


def test_every_stream_and_group_has_its_turn() -> None:
    rng, groups = np.random.default_rng(0), ["a"] * 8 + ["b"] * 2 + ["c"]
    counts = np.zeros(len(groups))
    for _ in range(400):
        np.add.at(counts, draw_streams(groups, count=5, balance=True, rng=rng), 1)
    np.testing.assert_allclose([counts[:8].sum(), counts[8:10].sum(), counts[10]], 2000 / 3, rtol=0.1)
    assert counts[:8].min() > 50
    assert not len(draw_streams([], count=0, balance=True, rng=rng))
