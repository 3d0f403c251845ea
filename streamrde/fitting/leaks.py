"""Find what makes a model look better than it will be: columns that hold the target, streams that are there twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from streamrde.arrays import Floats
from streamrde.fitting.preparing import Columns
from streamrde.fitting.recordings import Recording
from streamrde.nearest import listed

_MOST = 2000  # streams that are looked at, evenly chosen
_ROWS = 20_000  # rows along streams that are looked at
_ALIKE = 0.9999  # squared correlation above which a channel is the target in other units
_FEW = 8  # streams below which everything may be by chance


def find_leaks(recordings: Sequence[Recording], columns: Columns, *, along: bool) -> tuple[str, ...]:
    """Return warnings on what gives the target away, one sentence each with a remedy.

    Looked for are channels that are copies of the target, or that are constant in each stream and determine it; streams
    that are there twice in different groups; channels that number streams or rows in an order that tells the
    class; and names that share a beginning, as of one person, without a column of groups.
    """
    own = [r for r in recordings if len(r.t) and np.isfinite(r.target.values).any()]
    own = own[:: -(-len(own) // _MOST)] if own else []
    if len(own) < (1 if along else _FEW):
        return ()
    found = _copies(own, columns) if along else [*_constants(own, columns), *_counters(own, columns)]
    return tuple(f"warning: {text}" for text in [*found, *_twins(own), *_persons(own, columns)])


def _copies(own: Sequence[Recording], columns: Columns) -> list[str]:
    """Compare channels and targets of the same rows."""
    stride = -(-sum(len(r.t) for r in own) // _ROWS)
    x = np.concatenate([r.x[::stride] for r in own])
    y = np.concatenate(
        [r.target.values[::stride] for r in own if len(r.target.values) == len(r.x)] or [np.zeros((0, 0))]
    )
    if len(x) != len(y):
        return []
    said = []
    for name, values in zip(columns.roles.channels, x.T, strict=True):
        for target, wanted in zip(columns.targets, y.T, strict=True):
            if (name == target) or columns.horizon:
                continue
            known = np.isfinite(values) & np.isfinite(wanted)
            if known.sum() >= _FEW and _determines(values[known], wanted[known], columns.classify):
                said.append(f"channel '{name}' determines target '{target}' row by row; if it is a copy of it, drop it")
    return said


def _constants(own: Sequence[Recording], columns: Columns) -> list[str]:
    """Compare targets and channels that are constant in each stream."""
    said = []
    y = np.array([r.target.values[0] for r in own])
    for j, name in enumerate(columns.roles.channels):
        value = np.array([_constant(r.x[:, j]) for r in own])
        if np.isnan(value).mean() > 0.1 or len(np.unique(value[np.isfinite(value)])) < 2:
            continue
        for target, wanted in zip(columns.targets, y.T, strict=True):
            known = np.isfinite(value) & np.isfinite(wanted)
            if _determines(value[known], wanted[known], columns.classify):
                said.append(
                    f"channel '{name}' is constant in each stream and determines target '{target}'; if it is made from "
                    "it, drop it"
                )
    return said


def _counters(own: Sequence[Recording], columns: Columns) -> list[str]:
    """Find channels that number the streams or the rows of the file, where the order tells the class."""
    if not columns.classify:
        return []
    code = np.array([r.target.values[0, 0] for r in own])
    classes, said = len(np.unique(code)), []
    for j, name in enumerate(columns.roles.channels):
        first = np.array([r.x[0, j] for r in own])
        step = np.array([_step(r.x[:, j]) for r in own])
        if len(np.unique(first)) < len(own) or not (step == step[0]).all() or step[0] not in (0.0, 1.0):
            continue
        changes = int((np.diff(code[np.argsort(first)]) != 0).sum())
        if len(code) >= 4 * classes and classes > 1 and changes <= 2 * (classes - 1):
            said.append(
                f"channel '{name}' numbers the {'rows' if step[0] else 'streams'} in an order that tells "
                f"'{columns.targets[0]}'; drop it"
            )
    return said


def _step(values: Floats) -> float:
    """Return by how much a channel rises from row to row, if always by the same. NaN: it does not."""
    steps = np.unique(np.diff(values))
    return float(steps[0]) if len(steps) == 1 else np.nan


def _twins(own: Sequence[Recording]) -> list[str]:
    """Find streams of different groups that have the same samples."""
    groups: dict[bytes, set[str]] = defaultdict(set)
    names: dict[bytes, list[str]] = defaultdict(list)
    for r in own:
        if len(r.t) > 1 and np.isfinite(r.x).any():
            key = np.ascontiguousarray(np.nan_to_num(r.x, nan=1e300)).tobytes()
            digest = hash(key).to_bytes(8, "little", signed=True) + len(key).to_bytes(8, "little")
            groups[digest].add(r.group)
            names[digest].append(r.stream)
    twice = [key for key, found in groups.items() if len(found) > 1]
    if not twice:
        return []
    return [
        f"the same samples are in streams of different groups, {len(twice):,} times, such as "
        f"{listed(names[twice[0]], most=3)}: one may be tested by the other; remove one, or give a column of groups"
    ]


def _persons(own: Sequence[Recording], columns: Columns) -> list[str]:
    """Find names such as subject1_rec2, where no column says what belongs together."""
    if columns.grouped or not columns.roles.stream or len(own) < _FEW:
        return []
    first = [r.stream.replace("-", "_").split("_")[0] for r in own]
    # A beginning with a number, that some streams share and not all.
    numbered = [name for name in first if any(c.isdigit() for c in name)]
    found, counts = np.unique(numbered, return_counts=True) if numbered else (np.zeros(0), np.zeros(0))
    if len(numbered) == len(own) and 1 < len(found) <= len(own) / 2 and counts.min() > 1:
        return [
            f"the streams' names share beginnings such as {listed(found[:3].tolist())}: if these are persons or "
            "devices, give them a column and name it with group, or the model is tested on those it knows"
        ]
    return []


def _constant(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known[0]) if len(known) and (known == known[0]).all() else np.nan


def _determines(values: Floats, wanted: Floats, classify: bool) -> bool:
    """Return True if a channel gives the target away: each of few values has one class, or both lie on a line."""
    if len(np.unique(wanted)) < 2 or len(values) < _FEW:
        return False
    if classify:
        kinds, place = np.unique(values, return_inverse=True)
        if len(kinds) > len(values) / 4:
            return False
        low, high = np.full(len(kinds), np.inf), np.full(len(kinds), -np.inf)
        np.minimum.at(low, place, wanted)
        np.maximum.at(high, place, wanted)
        return bool((low == high).all())
    if values.std() == 0 or wanted.std() == 0:
        return False
    return bool(np.corrcoef(values, wanted)[0, 1] ** 2 > _ALIKE)
