"""Draw the streams that are trained on in an epoch, and those of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from streamrde.arrays import Ints


def draw_streams(groups: Sequence[str], *, count: int, balance: bool, rng: np.random.Generator) -> Ints:
    """Return the places of an epoch's streams, (count,), in ascending order.

    Args:
        groups: group of each stream.
        count: number of streams to draw. 0: as many as there are.
        balance: draw from each group the same number of streams, but for rounding, instead of each stream as often.
            Within a group each stream is drawn once before any is drawn again.
    """
    count = count or len(groups)
    names = np.asarray(groups) if balance else np.zeros(len(groups), np.intp)
    own = [np.flatnonzero(names == name) for name in np.unique(names)]
    # Which groups have one more than the others is drawn too.
    shares = (np.arange(len(own)) + count) // max(1, len(own))
    found = [
        np.concatenate([rng.permutation(places) for _ in range(-(-share // len(places)))] or [places[:0]])[:share]
        for places, share in zip(own, rng.permutation(shares), strict=True)
    ]
    return np.sort(np.concatenate(found)) if found else np.zeros(0, np.intp)


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
