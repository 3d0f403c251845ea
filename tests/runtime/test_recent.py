"""The latest rows of a run are kept in bounded memory, and each reader knows how far it is."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from streamrde.runtime.recent import Ring, Rows, join_batches


def rows(begin: int, count: int) -> Rows:
    t = np.arange(begin, begin + count, dtype=float)
    return Rows(pa.array([f"s{int(k) % 3}" for k in t], pa.string()), t, t[:, None])


@given(st.lists(st.integers(0, 40), max_size=300), st.integers(0, 4000))
def test_a_ring_has_the_latest_rows_in_order(sizes, since):
    ring, end = Ring(Rows.join, 500), 0
    for size in sizes:
        ring.append(rows(end, size))
        end += size
    assert ring.end == end
    kept = np.concatenate([piece.t for piece in ring.since(0)] or [np.empty(0)])
    assert kept.tolist() == list(range(end - len(kept), end))
    assert len(kept) >= min(end, 500)
    assert len(kept) <= 500 + 500 // 8 + 64 * 40
    later = np.concatenate([piece.t for piece in ring.since(since)] or [np.empty(0)])
    assert later.tolist() == [t for t in kept.tolist() if t >= since]


def test_many_small_pieces_become_few():
    ring = Ring(join_batches, 10_000)
    for k in range(5000):
        ring.append(pa.record_batch({"stream": ["a"], "t": [float(k)]}))
    pieces = ring.since(0)
    assert len(pieces) < 200
    assert pa.Table.from_batches(pieces)["t"].to_pylist() == [float(k) for k in range(5000)]


def test_rows_of_a_stream_are_found_in_plain_and_dictionary_columns():
    t = np.arange(4.0)
    for names in (pa.array(["a", "b", "a", "c"]), pa.array(["a", "b", "a", "c"]).dictionary_encode()):
        found = Rows(names, t, t[:, None]).of("a")
        assert found.t.tolist() == [0.0, 2.0]
        assert found.x.tolist() == [[0.0], [2.0]]
    joined = Rows.join([Rows(pa.array(["a"]).dictionary_encode(), t[:1], t[:1, None]), rows(1, 1)])
    assert joined.streams.to_pylist() == ["a", "s1"]
