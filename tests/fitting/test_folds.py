"""Folds: laws that hold for any groups and classes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrde.errors import ParameterError
from streamrde.fitting.folds import FEW_GROUPS, make_folds


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=2, max_size=80), st.integers(0, 5))
def test_groups_are_kept_together_and_no_fold_is_empty(rows, seed) -> None:
    groups, codes = np.array(rows).T
    if len(np.unique(groups)) < 2:
        with pytest.raises(ParameterError, match="1 group"):
            make_folds(groups, codes, seed=seed)
        return
    folds = make_folds(groups, codes, seed=seed)
    assert len(set(zip(groups, folds, strict=True))) == len(np.unique(groups))
    assert np.array_equal(np.unique(folds), np.arange(folds.max() + 1))
    assert folds.max() >= 1
    assert np.array_equal(folds, make_folds(groups, codes, seed=seed))


@given(st.lists(st.integers(0, 3), min_size=11, max_size=90), st.integers(0, 5))
def test_single_streams_of_a_class_are_spread_within_one(codes, seed) -> None:
    codes = np.array(codes)
    folds = make_folds(np.arange(len(codes)), codes, seed=seed)
    for code in np.unique(codes):
        counts = np.bincount(folds[codes == code], minlength=5)
        assert counts.max() - counts.min() <= 1


def test_few_groups_are_left_out_one_by_one() -> None:
    groups = np.arange(40) % FEW_GROUPS
    assert len(np.unique(make_folds(groups))) == FEW_GROUPS
    assert len(np.unique(make_folds(np.arange(44) % 11))) == 5


def test_the_seed_decides_and_sizes_are_even() -> None:
    a, b = (make_folds(np.arange(50), seed=s) for s in (0, 1))
    assert not np.array_equal(a, b)
    assert np.bincount(a).tolist() == [10] * 5
