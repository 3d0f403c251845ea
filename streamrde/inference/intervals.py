"""Intervals and sets of outputs as columns: lower, upper and set."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from streamrde.adapting.scores import Sets, limits, members
from streamrde.arrays import Floats, Reals
from streamrde.inference.header import Header


class Limits(NamedTuple):
    """Intervals and sets of predictions."""

    lower: Floats | None
    upper: Floats | None
    """(n, outputs), NaN for classes. None if no output is a number."""
    sets: dict[str, list[tuple[str, ...]]]
    """Classes by head."""


def limits_of(value: Reals, threshold: Floats, header: Header, sets: Sets | None) -> Limits:
    """Return the intervals and sets of outputs.

    Args:
        value: (n, outputs).
        threshold: (n, units), see `adapting.scores`.
        sets: kind of the sets of classes. None: neither intervals nor sets are asked for.
    """
    if sets is None:
        return Limits(None, None, {})
    value, units = value.astype(np.float64), header.thresholds
    lower, upper = limits(units, value, threshold) if _has_numbers(header) else (None, None)
    found: dict[str, list[tuple[str, ...]]] = {}
    heads = [head for head in header.parts for _ in range(1 if head.classes else head.outputs)]
    for place, (unit, head) in enumerate(zip(units, heads, strict=True)):
        if head.classes:
            inside = members(unit, value, threshold[:, place], sets).tolist()
            found[head.name] = [
                tuple(name for name, own in zip(head.classes, row, strict=True) if own) for row in inside
            ]
    return Limits(lower, upper, found)


def interval_columns(value: Reals, threshold: Floats, header: Header, sets: Sets | None) -> list[pa.Array]:
    """Return the columns of `interval_fields`. Arguments are as of `limits_of`."""
    lower, upper, found = limits_of(value, threshold, header, sets)
    columns = [
        pa.FixedSizeListArray.from_arrays(pa.array(limit.ravel()), header.outputs)
        for limit in (lower, upper)
        if limit is not None
    ]
    return columns + [pa.array(own, pa.list_(pa.string())) for own in found.values()]


def interval_fields(header: Header, sets: Sets | None) -> list[pa.Field]:
    """Return lower and upper, if an output is a number, and set, or set_NAME for each head with classes."""
    fields: list[pa.Field] = []
    if sets is None:
        return fields
    for name in ("lower", "upper") if _has_numbers(header) else ():
        metadata = {"outputs": msgspec.json.encode([f"{output}_{name}" for output in header.output_names])}
        kind = pa.list_(pa.field("item", pa.float64()), header.outputs)
        fields.append(pa.field(name, kind, nullable=False, metadata=metadata))
    for head in header.parts:
        if head.classes:
            fields.append(pa.field(f"set_{head.name}" if head.name else "set", pa.list_(pa.string()), nullable=False))
    return fields


def _has_numbers(header: Header) -> bool:
    return any(not head.classes for head in header.parts)
