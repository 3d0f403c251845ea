from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from streamrde.errors import ParameterError, SampleError
from streamrde.floats import as_floats, as_plain, as_size

ROWS = [[1.0, np.nan], [3.0, 4.0]]
MASKED = np.ma.array([[1.0, -9999.0], [3.0, 4.0]], mask=[[0, 1], [0, 0]])
COLUMNS = {"a": [1.0, 3.0], "b": [None, 4]}


@pytest.mark.parametrize(
    "values",
    [
        MASKED,
        MASKED.astype(np.float32),
        MASKED.astype(np.int64),
        MASKED.astype(object),
        [MASKED[0], MASKED[1]],
        np.ma.masked_values([[1.0, -9999.0], [3.0, 4.0]], -9999.0),
        [[1.0, None], [3.0, 4.0]],
        pd.DataFrame({"a": [1.0, 3.0], "b": pd.array([None, 4], dtype="Int64")}),
        pd.DataFrame({"a": [1.0, 3.0], "b": pd.array([None, 4], dtype="Float64")}),
        pd.DataFrame({"a": [1.0, 3.0], "b": [pd.NA, 4]}),
        pa.table(COLUMNS),
        pa.record_batch(COLUMNS),
        pl.DataFrame(COLUMNS),
    ],
    ids=str,
)
def test_masked_and_missing_values_become_nan(values) -> None:
    found = as_floats("x", values)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, ROWS)


def test_a_whole_column_that_is_masked_is_nan() -> None:
    np.testing.assert_array_equal(as_floats("x", np.ma.masked_all((2, 1), np.int32)), [[np.nan], [np.nan]])
    np.testing.assert_array_equal(as_floats("x", pa.array([1, None])), [1.0, np.nan])
    np.testing.assert_array_equal(as_floats("x", [1.0, np.ma.masked]), [1.0, np.nan])


@pytest.mark.parametrize("values", ["abc", [1j], [object()], np.ma.array([1j, 2j], mask=[0, 1]), [[1.0], [1.0, 2.0]]])
def test_what_is_no_number_is_refused_by_name(values) -> None:
    with pytest.raises(SampleError, match="x has a value that is not a number"):
        as_floats("x", values)


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_a_size_may_be_an_integer_of_numpy(value) -> None:
    assert as_size("n", value) == 3
    assert type(as_size("n", value)) is int


@pytest.mark.parametrize("value", [0, -1, 3.0, np.float64(3), True, np.True_, "3", None, np.int64(0)])
def test_all_else_is_no_size(value) -> None:
    with pytest.raises(ParameterError, match=r"n=.*must be a whole number of at least 1"):
        as_size("n", value)


def test_numbers_of_numpy_become_plain_ones() -> None:
    assert [type(as_plain(value)) for value in (np.int8(1), np.float32(1), np.True_)] == [int, float, bool]
    with pytest.raises(TypeError, match="use plain numbers"):
        as_plain(object())
