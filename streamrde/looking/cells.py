"""Judge the values of one column: numbers, texts that are numbers, words, and spellings of no value."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from streamrde.arrays import Floats
from streamrde.connectors.values import NO_VALUE, WORDS

_DECIMALS = {",": re.compile(r"[+-]?\d*,\d+"), ".": re.compile(r"[+-]?(\d+\.\d*|\.\d+)([eE][+-]?\d+)?")}
# Shares of a column's values that decide what it is.
_NUMBERS = 0.9
# Numbers that loggers write where there is no value.
_SENTINELS = (-9999.0, -999.0, -99.0, -999.9, -9999.9, -99999.0, 9999.0, 99999.0, 9.9e37, 1e37, -32768.0, 32767.0)
_FAR = 10.0
_BEYOND = 1e100  # larger numbers are no values, and their sums and squares overflow
_HUGE = 1e30  # one overload of an instrument is enough


class OtherSign(str):
    """A number with another decimal sign than the others of its file, which is no number for who reads them."""

    __slots__ = ()


class Cells(NamedTuple):
    """Hold a column's values as numbers, and counts of what else stands there."""

    name: str
    values: Sequence[Any]
    numbers: Floats
    """(rows,), NaN where there is no number."""
    there: int
    """Values that are there."""
    texts: Counter[str]
    """Texts that are neither numbers nor known spellings of no value."""
    spelled: Counter[str]
    """Known spellings of no value, without empty cells."""
    words: int
    """Values that are switches: booleans, on and off."""
    moments: int
    """Values that are dates or times by their type."""

    @property
    def found(self) -> int:
        """Return how many values are numbers."""
        return int(np.isfinite(self.numbers).sum())

    @property
    def is_number(self) -> bool:
        """Return True if nearly all values are numbers."""
        return self.found > 0 and self.found >= _NUMBERS * self.there

    @property
    def distinct(self) -> int:
        """Return the number of different values."""
        return len({repr(value) for value in self.values if value is not None})

    @property
    def whole(self) -> bool:
        """Return True if all numbers are whole."""
        own = self.numbers[np.isfinite(self.numbers)]
        return bool(len(own)) and bool((own % 1 == 0).all())

    @property
    def constant(self) -> bool:
        """Return True if all numbers are the same."""
        own = self.numbers[np.isfinite(self.numbers)]
        return bool(len(own)) and bool((own == own[0]).all())

    @property
    def other_sign(self) -> str:
        """Return "comma" or "point" if a text is a number with this as its decimal sign, or an empty text."""
        return next((sign for text in self.texts if (sign := decimal_sign(text))), "")

    def sentinels(self) -> list[float]:
        """Return numbers that probably say that there is no value: usual ones that come again and lie far outside."""
        own = self.numbers[np.isfinite(self.numbers)]
        found = []
        for number in _SENTINELS:
            same = own == number
            rest = own[~same & ~np.isin(own, _SENTINELS)]
            if same.sum() < (1 if number > _HUGE else 2) or len(rest) < 4:
                continue
            low, middle, high = np.quantile(rest, (0.25, 0.5, 0.75))
            spread = max(high - low, 1e-9 * abs(middle), rest.std() / 2)
            if abs(number - middle) > _FAR * spread and not rest.min() <= number <= rest.max():
                found.append(number)
        return found


def decimal_sign(text: str) -> str:
    """Return "comma" or "point" if a text is a number with this as its decimal sign, or an empty text.

    >>> decimal_sign("-40,6"), decimal_sign("39.8"), decimal_sign("12 C")
    ('comma', 'point', '')
    """
    return "comma" if _DECIMALS[","].fullmatch(text) else "point" if _DECIMALS["."].fullmatch(text) else ""


def judge(name: str, values: Sequence[Any]) -> Cells:
    """Judge a column's values, of any Python type."""
    numbers = np.full(len(values), np.nan)
    texts: Counter[str] = Counter()
    spelled: Counter[str] = Counter()
    there = words = moments = 0
    for i, value in enumerate(values):
        if value is None:
            continue
        if isinstance(value, bool):
            numbers[i] = float(value)
            there, words = there + 1, words + 1
        elif isinstance(value, int | float | Decimal):
            if math.isnan(value):
                continue
            there += 1
            numbers[i] = _float(value)
        elif isinstance(value, OtherSign):
            there += 1
            texts[value.strip()] += 1
        elif isinstance(value, str):
            text = value.strip()
            lower = text.lower()
            if lower in NO_VALUE:
                spelled[text] += bool(text)
                continue
            there += 1
            if lower in WORDS:
                numbers[i] = WORDS[lower]
                words += 1
            elif (number := _number(text)) is not None:
                numbers[i] = number
            else:
                texts[text] += 1
        else:
            there += 1
            moments += isinstance(value, date | datetime)
            texts[str(value)[:80]] += 1
    return Cells(name, values, numbers, there, texts, +spelled, words, moments)


def _number(text: str) -> float | None:
    # float() takes 1_000 and "infinity" too, which no sensor means.
    if "_" in text or text[-1:].lower() == "y":
        return None
    try:
        return _float(float(text))
    except ValueError:
        return None


def _float(value: float | Decimal) -> float:
    try:
        number = float(value)
    except OverflowError:
        return math.inf
    return number if abs(number) < _BEYOND else math.inf
