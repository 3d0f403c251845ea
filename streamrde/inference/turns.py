"""The order of windows of the same streams: which can be worked on together, which come first and last."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from streamrde.arrays import Bools, Indices


def before(slots: Indices) -> Indices:
    """Return the place of each window's predecessor in its stream, or -1 if it is not among these."""
    order = np.argsort(slots, kind="stable")
    found = np.empty(len(slots), dtype=np.intp)
    found[order] = np.where(np.diff(slots[order], prepend=-1) == 0, np.append(-1, order[:-1]), -1)
    return found


def rounds(slots: Indices) -> Iterator[Indices]:
    """Yield places of windows that can be stepped together: each stream's first, then each one's second, and so on."""
    if len(slots) < 2:
        yield from [np.zeros(1, np.intp)] * len(slots)
        return
    order = np.argsort(slots, kind="stable")
    leads = np.flatnonzero(np.diff(slots[order], prepend=-1))
    turn = np.empty(len(slots), dtype=np.intp)
    turn[order] = np.arange(len(slots)) - np.repeat(leads, np.diff(leads, append=len(slots)))
    by_turn = np.argsort(turn, kind="stable")
    stops = [0, *np.cumsum(np.bincount(turn)).tolist()]
    yield from (by_turn[a:b] for a, b in pairwise(stops))


def stretches(slots: Indices) -> Iterator[Indices]:
    """Yield places in order, cut where a slot would come a second time."""
    begin = 0
    for place, earlier in enumerate(before(slots).tolist()):
        if earlier >= begin:
            yield np.arange(begin, place)
            begin = place
    if begin < len(slots):
        yield np.arange(begin, len(slots))


def lasts(slots: Indices) -> Bools:
    """Mark the places that are the last of their slot."""
    last = np.zeros(len(slots), dtype=bool)
    last[len(slots) - 1 - np.unique(slots[::-1], return_index=True)[1]] = True
    return last


def places_of(slots: Indices, wanted: Indices) -> Indices:
    """Return the places of the wanted slots among distinct ones."""
    order = np.argsort(slots)
    return np.asarray(order[np.searchsorted(slots, wanted, sorter=order)], dtype=np.intp)
