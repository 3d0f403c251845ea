"""Which streams are trained on together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from streamrde.arrays import Ints


def draw_batches(lengths: Sequence[int], *, size: int, pool: int, rng: np.random.Generator) -> Iterator[Ints]:
    """Yield every stream once, in random batches of `size` streams, the last one smaller.

    Streams of unlike lengths are padded to the longest of their batch. So as not to pad much, `pool` batches are drawn
    at once, sorted by length, cut into batches, and these shuffled: chance still decides who meets whom.
    """
    order = rng.permutation(len(lengths))
    known = np.asarray(lengths)
    if pool <= 1 or not len(known) or known.min() == known.max():
        for start in range(0, len(order), size):
            yield order[start : start + size]
        return
    batches = []
    for start in range(0, len(order), size * pool):
        part = order[start : start + size * pool]
        part = part[np.argsort(known[part], kind="stable")]
        batches += [part[i : i + size] for i in range(0, len(part), size)]
    for i in rng.permutation(len(batches)):
        yield batches[i]
