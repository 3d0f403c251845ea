"""Divide streams by a column of the data: a part that only measures at the end, or folds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from streamrde.arrays import Indices
from streamrde.errors import DataError
from streamrde.fitting.recordings import Recording
from streamrde.nearest import listed

_TRAIN = ("train", "training", "false")
_VALIDATION = ("val", "valid", "validation", "dev", "eval", "evaluation")
_TEST = ("test", "testing", "holdout", "hold-out", "true")
_MOST_FOLDS = 20


class Parts(NamedTuple):
    """Streams to fit and to test."""

    train: list[Recording]
    test: list[Recording]
    folds: Indices | None
    """Number of the fold of each stream of `train`, if the data say it."""


class Marks(NamedTuple):
    """Meaning of the values of a column of parts."""

    train: tuple[str, ...] = ()
    """Values of streams to fit: those of training first, then those of validation."""
    test: tuple[str, ...] = ()
    """Values of streams that only measure. (): there is no test."""
    folds: tuple[str, ...] = ()
    """Values that are folds, in their order. (): they are none."""


def marks_of(values: Iterable[str]) -> Marks:
    """Return what the values of a column say. They may say nothing."""
    names = sorted(set(values))
    known = {value: _part(value) for value in names}
    if all(known.values()) and len(names) > 1:
        if "test" not in known.values():
            known = {value: "test" if part == "validation" else part for value, part in known.items()}
        train, validation, test = (
            tuple(value for value in names if known[value] == part) for part in ("train", "validation", "test")
        )
        if test:
            return Marks((*train, *validation), test)
    if 1 < len(names) <= _MOST_FOLDS and None not in [_fold(value) for value in names]:
        return Marks(tuple(names), (), tuple(names))
    return Marks()


def divide(recordings: Sequence[Recording], column: str) -> tuple[Parts, list[str]]:
    """Return the parts that a column marks, and sentences on them.

    "train" is fitted, and "validation" too where there is a "test". Without one, validation is the test. Whole numbers,
    "fold 0", "fold 1", ... are folds. True is the test of a column such as is_test.

    Args:
        recordings: with the column's value in `given`.
        column: its name. "": there is none.
    Raises:
        DataError: no stream is left to fit.
    """
    if not column:
        return Parts(list(recordings), [], None), []
    values = sorted({recording.given for recording in recordings})
    marks = marks_of(values)
    if marks.test:
        # In training's order first: folds are made in the order of the streams.
        first = [r for r in recordings if _part(r.given) == "train"]
        train = first + [r for r in recordings if r.given in marks.train and _part(r.given) != "train"]
        test = [r for r in recordings if r.given in marks.test]
        if not train:
            raise DataError(
                f"column '{column}' has {listed(values)}, and no stream is left to fit: name the part to fit 'train', "
                "or set split = ''",
                path="",
                column=column,
            )
        note = (
            f"test: {len(test):,} streams, where '{column}' is {listed(marks.test)}; they are only measured, at the end"
        )
        return Parts(train, test, None), [note]
    if marks.folds:
        fold = np.array([values.index(recording.given) for recording in recordings], np.intp)
        return Parts(list(recordings), [], fold), [
            f"folds: column '{column}' has {len(values)}; they are left out in turn"
        ]
    shown = listed(values, most=6)
    if len(values) == 1:
        note = f"column '{column}' is {shown} for all streams: there is no test part"
    else:
        note = f"warning: column '{column}' has {shown}, which name no part known; all streams are fitted"
    return Parts(list(recordings), [], None), [note]


def _part(value: str) -> str:
    word = value.strip().lower()
    for name, words in (("train", _TRAIN), ("validation", _VALIDATION), ("test", _TEST)):
        if word in words:
            return name
    return ""


def _fold(value: str) -> int | None:
    digits = value.strip().lower().removeprefix("fold").strip(" _-")
    return int(digits) if digits.isdigit() else None
