"""Divide streams into folds that are left out in turn: groups stay together, classes are spread evenly."""

from __future__ import annotations

import numpy as np

from streamrde.arrays import Floats, Indices
from streamrde.errors import ParameterError

FOLDS = 5
FEW_GROUPS = 10
"""With so many groups or fewer, each is a fold of its own: a model then learns from all the other groups."""


def make_folds(groups: Indices, codes: Indices | None = None, *, seed: int = 0, most: int = FOLDS) -> Indices:
    """Return the number of each stream's fold, from 0. The same arguments give the same folds.

    Groups are dealt out from the largest to the smallest. Each goes to the fold where its classes are rarest so far.

    Args:
        groups: what a stream belongs to, (n,). A group is never divided.
        codes: numbers of the classes, (n,). None: only the folds' sizes are made even.
        seed: decides between groups of the same size.
        most: number of folds, unless there are fewer groups.
    Returns:
        (n,). Several streams in each of `FEW_GROUPS` groups or fewer: one fold per group.
    Raises:
        ParameterError: fewer than two groups.
    """
    names, group = np.unique(groups, return_inverse=True)
    count = len(names)
    if count < 2:
        raise ParameterError(f"{count} group: nothing is left to learn from while it is left out; give two at least")
    if count <= FEW_GROUPS and count < len(group):
        return group.astype(np.intp)
    kinds = np.zeros(len(group), np.intp) if codes is None else np.unique(codes, return_inverse=True)[1]
    members = np.zeros((count, int(kinds.max()) + 1))
    np.add.at(members, (group, kinds), 1.0)
    shares = members / members.sum(axis=0)
    order = np.random.default_rng(seed).permutation(count)
    # Classes stand together among groups of one size, so that each class is dealt out in turn.
    order = order[np.lexsort((members[order].argmax(axis=1), -members[order].sum(axis=1)))]
    folds = min(most, count)
    held, size = np.zeros((folds, shares.shape[1])), np.zeros(folds)
    fold = np.empty(count, np.intp)
    for i in order:
        crowding = held @ shares[i]
        fold[i] = np.lexsort((size, crowding))[0]
        held[fold[i]] += shares[i]
        size[fold[i]] += members[i].sum()
    return fold[group]


def make_blocks(times: Floats, purge: float, *, most: int = FOLDS) -> Indices:
    """Return the number of each row's block of time, and -1 for rows that are too near the block before.

    Blocks are common to all streams and hold about the same number of rows. A row sees its stream up to its time, and
    its target lies ahead. A block's first `purge` seconds are left out, so that no row of one block sees what a row of
    another one is to predict.

    Args:
        times: when each row's window ends, seconds, (n,).
        purge: seconds that a row looks back and ahead, together.
        most: number of blocks. There are fewer where a purge would take more than half of a block.
    Raises:
        ParameterError: two blocks with as many seconds between them are more than the rows span.
    Reference: Lopez de Prado 2018, "Advances in Financial Machine Learning", 7.4 (purging).
    """
    for count in range(most, 1, -1):
        edges = np.quantile(times, np.arange(1, count) / count)
        block = np.searchsorted(edges, times, side="right")
        starts = np.r_[-np.inf, edges][block]
        kept = (times >= starts + purge) | (block == 0)
        sizes = np.bincount(block[kept], minlength=count)
        if (2 * sizes >= np.bincount(block, minlength=count)).all() and (sizes > 0).all():
            return np.where(kept, block, -1)
    span = float(times.max() - times.min())
    raise ParameterError(
        f"rows span {span:g} s, too little to leave parts of it out with {purge:g} s between them: give longer "
        "streams, more groups, or a shorter horizon"
    )
