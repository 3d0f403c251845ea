"""Judge and convert texts that stand for numbers, as cells of a CSV file do."""

from __future__ import annotations

import functools
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from streamrde.arrays import Bools, Floats
from streamrde.connectors.dialect import PLAIN, Dialect
from streamrde.connectors.values import Spellings

_NUMBER = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)$"
_POINT_NUMBER = re.compile(r"[+-]?(\d+\.\d*|\.\d+)([eE][+-]?\d+)?")
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


def are_like_numbers(own: Spellings) -> bool:
    """Return True if a word is what a reader of CSV takes for a number or for no value."""
    words = (*own.words, *(name.lower() for name in own.classes))
    return any(re.match(_NUMBER, word) or word in _null_words() for word in words)


def numbers_of(text: pa.Array, own: Spellings, dialect: Dialect = PLAIN) -> tuple[Floats, Bools]:
    """Return texts as numbers, NaN where there is no value, and mark those that are none of both."""
    trimmed = pc.utf8_trim_whitespace(text)
    lower = pc.utf8_lower(trimmed)
    nothing = pc.fill_null(pc.is_in(lower, pa.array(sorted(own.texts), pa.string())), True)
    if own.classes:
        word = pc.index_in(trimmed, pa.array(own.classes, pa.string()))
        nothing = pc.and_not(nothing, pc.is_valid(word))
    else:
        word = pc.index_in(lower, pa.array(list(own.words), pa.string()))
    plain = as_plain_numbers(trimmed, dialect)
    other = pc.or_(nothing, pc.is_valid(word))
    number = pc.and_not(pc.fill_null(pc.match_substring_regex(plain, _NUMBER), True), other)
    values: Floats = (
        pc.if_else(number, plain, pa.scalar(None, pa.string())).cast(pa.float64()).to_numpy(zero_copy_only=False)
    )
    places = pc.fill_null(word, -1).to_numpy(zero_copy_only=False)
    spoken = (places >= 0) & ~nothing.to_numpy(zero_copy_only=False)
    if spoken.any():
        numbers = [*range(len(own.classes))] if own.classes else [*own.words.values()]
        values = np.where(spoken, np.array([*numbers, np.nan])[places], values)
    bad: Bools = pc.invert(pc.or_(number, other)).to_numpy(zero_copy_only=False)
    return values, bad


@functools.cache
def _null_words() -> frozenset[str]:
    return frozenset(text.lower() for text in pa.csv.ConvertOptions().null_values)


def as_plain_numbers(text: pa.Array, dialect: Dialect) -> pa.Array:
    """Return the numbers of a dialect with a decimal point and without signs for thousands.

    What is no number in the dialect, such as 1.5 where commas are decimal signs, does not become one.
    """
    if dialect.decimal == "." and not dialect.thousands:
        return text
    decimal, thousands = re.escape(dialect.decimal), re.escape(dialect.thousands)
    own = rf"(?i)^[+-]?(\d+({decimal}\d*)?|{decimal}\d+)(e[+-]?\d+)?$|^[+-]?(nan|inf|infinity)$"
    plain = text
    if dialect.thousands:
        parted = pc.fill_null(pc.match_substring(text, dialect.thousands), False)
        some = text.filter(parted)
        grouped = pc.match_substring_regex(some, rf"^[+-]?\d{{1,3}}({thousands}\d{{3}})+({decimal}\d*)?$")
        whole = pc.if_else(grouped, pc.replace_substring(some, dialect.thousands, ""), some)
        plain = pc.replace_with_mask(text, parted, whole)
    number = pc.fill_null(pc.match_substring_regex(plain, own), True)
    pointed = pc.replace_substring(plain, dialect.decimal, ".")
    if pc.all(number).as_py():
        return pointed
    # Other texts stay, but those that are numbers in another dialect get a sign that no number has.
    other = pc.if_else(pc.match_substring_regex(text, _NUMBER), pc.binary_join_element_wise("?", text, ""), text)
    return pc.if_else(number, pointed, other)


def mask_of_no_numbers(text: pa.Array) -> Bools:
    """Mark the texts that are there but are not numbers."""
    number = pc.match_substring_regex(without_blanks(text), _NUMBER)
    bad: Bools = pc.invert(pc.fill_null(number, True)).to_numpy(zero_copy_only=False)
    return bad


def mask_of_no_text(values: pa.Array) -> Bools:
    """Mark the values whose bytes are not UTF-8."""
    return np.array([value.as_py() is not None and not _is_utf8(value.as_py()) for value in values], np.bool_)


def explain_text(text: str, dialect: Dialect = PLAIN) -> str:
    """Say why a text is not a number."""
    text = text.strip()
    if dialect.decimal == "," and re.fullmatch(r"[+-]?\d{1,3}(\.\d{3})+", text):
        return 'is not a number: its point may part thousands; set csv.thousands = ".", or write it without'
    if dialect.decimal == "," and _POINT_NUMBER.fullmatch(text):
        return 'is not a number: it has a decimal point, and csv.decimal is ","; write it with a decimal comma'
    if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?", text) and not re.fullmatch(r"[+-]?0,\d+", text):
        return (
            "is not a number: its comma may part thousands or be a decimal sign; set csv.thousands or csv.decimal = "
            '",", or write it with a decimal point alone'
        )
    if COMMA_NUMBER.fullmatch(text):
        return 'is not a number: it has a decimal comma; set csv.decimal = ",", or write it with a decimal point'
    if re.fullmatch(r"[+-]?[\d.,' ]*\d\s*[^\d\s.,]{1,6}", text):
        return "is not a number: it has a unit; store the number alone"
    return "is not a number; say what it stands for in columns.words or columns.missing, correct it, or drop the row"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
