"""Texts that stand for values: words for numbers, and spellings of no value. The same for payloads and files."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

NO_VALUE: frozenset[str] = frozenset({
    "", "nan", "-nan", "na", "n/a", "#n/a", "#n/a n/a", "#na", "null", "none", "nil", "unavailable", "unknown",
    "missing", "undefined", "-", "--", "---", "----", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan",
})  # fmt: skip
"""Texts, trimmed and in lower case, that say that there is no value."""

WORDS: Mapping[str, float] = MappingProxyType({"on": 1.0, "off": 0.0, "true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0})
"""Numbers of words, which are trimmed and in lower case."""
