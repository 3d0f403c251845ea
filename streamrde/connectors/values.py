"""Texts that stand for values: words for numbers, and spellings of no value. The same for payloads and files."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from streamrde.arrays import Floats
from streamrde.connectors.columns import Columns

NO_VALUE: frozenset[str] = frozenset({
    "", "nan", "-nan", "na", "n/a", "#n/a", "#n/a n/a", "#na", "null", "none", "nil", "unavailable", "unknown",
    "missing", "undefined", "-", "--", "---", "----", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan",
})  # fmt: skip
"""Texts, trimmed and in lower case, that say that there is no value."""

WORDS: Mapping[str, float] = MappingProxyType({"on": 1.0, "off": 0.0, "true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0})
"""Numbers of words, which are trimmed and in lower case."""

# Python and Arrow read some more as numbers, such as 1_000 and 0x1p3, which no sensor sends.
_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)", re.ASCII | re.IGNORECASE)
_COMMA = re.compile(r"[+-]?\d*,\d+", re.ASCII)
_WITH_UNIT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))\s*(?:[°%µ]|[a-z]+[a-z0-9/²³%°]*$)", re.ASCII)
# A word of which no more is shown in a message.
_LONGEST = 40
# Classes that a message names.
_MOST_NAMES = 20


class Spellings(NamedTuple):
    """Texts of a column that are not plain numbers, trimmed and in lower case, and what they stand for."""

    texts: frozenset[str] = NO_VALUE
    """Texts that say that there is no value."""
    numbers: tuple[float, ...] = ()
    """Numbers that say so."""
    words: Mapping[str, float] = WORDS
    """Numbers of words."""
    classes: tuple[str, ...] = ()
    """Names whose number is their place, as they are written but for spaces around them."""

    def explain(self, word: str) -> str:
        """Say what is wrong with a word that stands for nothing, and what to do."""
        if self.classes:
            names = ", ".join(map(repr, self.classes[:_MOST_NAMES]))
            more = f", ... ({len(self.classes)} in all)" if len(self.classes) > _MOST_NAMES else ""
            return f"it is none of the classes {names}{more}; send one of them, or null where it is not known"
        return (
            f"send a number; or give the word one, as words = {{ {word!r} = 1 }}, or list it in missing if nothing was "
            "observed"
        )


USUAL = Spellings()
PLAIN_NUMBERS = Spellings(frozenset(), (), {})
"""Spellings of a column where every text has to be a number."""


def spellings(columns: Columns, channel: str) -> Spellings:
    """Return the spellings of a channel's column. What `columns` says wins over what is usual."""
    missing, words, classes = columns.missing_of(channel), columns.words, columns.classes.get(channel, ())
    if classes:
        words = {}
    given = {word.strip().lower(): float(number) for word, number in words.items()}
    texts, numbers = set(NO_VALUE - given.keys()), []
    for one in missing:
        text = str(one).strip().lower()
        if isinstance(one, str) and not _NUMBER.fullmatch(text):
            texts.add(text)
        else:
            numbers.append(float(text))
    known = {word: number for word, number in {**WORDS, **given}.items() if word not in texts}
    return Spellings(frozenset(texts), tuple(numbers), {} if classes else known, classes)


class NotANumberError(ValueError):
    """A value is neither a number nor a spelling of "no value"."""


class Values:
    """Read the values of channels one by one, as payloads have them.

    Args:
        columns: further words, and further spellings of "no value" by channel.
    """

    def __init__(self, columns: Columns) -> None:
        self._spellings = {name: spellings(columns, name) for name in columns.channels}
        codes = [(i, np.array(self._spellings[name].numbers)) for i, name in enumerate(columns.channels)]
        self._codes = [(i, found) for i, found in codes if len(found)]
        self.has_codes = bool(self._codes)
        """True if some numbers stand for "no value"."""

    def number(self, channel: str, value: Any) -> float:
        """Return a value as a number, with NaN for "no value".

        Raises:
            NotANumberError: it is another value.
            OverflowError: an integer is too large for float64.
        """
        if value is None:
            return math.nan
        if isinstance(value, int | float):  # a bool too, as 0 and 1
            return float(value)
        if not isinstance(value, str):
            raise NotANumberError("send a number, or null where it was not observed")
        own, text = self._spellings.get(channel, USUAL), value.strip()
        if text in own.classes:
            return float(own.classes.index(text))
        text = text.lower()
        if text in own.texts:
            return math.nan
        if (number := own.words.get(text)) is not None:
            return number
        if _NUMBER.fullmatch(text):
            return float(text)
        if own.classes:
            raise NotANumberError(own.explain(text))
        if _COMMA.fullmatch(text):
            raise NotANumberError(f"send a number with a decimal point, as {text.replace(',', '.')}")
        if (found := _WITH_UNIT.match(text)) is not None:
            raise NotANumberError(f"send the number alone, {found[1]}, and give its unit in units")
        raise NotANumberError(own.explain(text[:_LONGEST]))

    def without_codes(self, x: Floats) -> Floats:
        """Return values with NaN for numbers that stand for "no value".

        Args:
            x: (n, channels), or with more columns behind.
        """
        if not self._codes:
            return x
        x = x.copy()
        for i, codes in self._codes:
            x[np.isin(x[:, i], codes), i] = math.nan
        return x
