"""Judge and convert texts that stand for numbers, as cells of a CSV file do."""

from __future__ import annotations

import functools
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from streamrde.arrays import Bools

_NUMBER = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)$"
COMMA_NUMBER = re.compile(r"[+-]?\d{1,3}(\.\d{3})*,\d+|[+-]?\d+,\d+")


@functools.cache
def _nulls() -> pa.Array:
    """Return the texts by which pyarrow's reader understands that there is no value."""
    return pa.array(pa.csv.ConvertOptions().null_values)


def without_blanks(text: pa.Array) -> pa.Array:
    """Return texts without spaces around them.

    A text that says that there is no value, as CSV readers understand it, becomes null.
    """
    trimmed = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.is_in(trimmed, _nulls()), pa.scalar(None, pa.string()), trimmed)


def mask_of_no_numbers(text: pa.Array) -> Bools:
    """Mark the texts that are there but are not numbers."""
    number = pc.match_substring_regex(without_blanks(text), _NUMBER)
    bad: Bools = pc.invert(pc.fill_null(number, True)).to_numpy(zero_copy_only=False)
    return bad


def mask_of_no_text(values: pa.Array) -> Bools:
    """Mark the values whose bytes are not UTF-8."""
    return np.array([value.as_py() is not None and not _is_utf8(value.as_py()) for value in values], np.bool_)


def explain_text(text: str) -> str:
    """Say why a text is not a number."""
    text = text.strip()
    if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?", text) and not re.fullmatch(r"[+-]?0,\d+", text):
        return "is not a number: its comma may part thousands or be a decimal sign; write it with a decimal point alone"
    if COMMA_NUMBER.fullmatch(text):
        return "is not a number: it has a decimal comma; write it with a decimal point"
    if re.fullmatch(r"[+-]?[\d.,' ]*\d\s*[^\d\s.,]{1,6}", text):
        return "is not a number: it has a unit; store the number alone"
    return "is not a number; correct it, leave the cell empty, or drop the row"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
