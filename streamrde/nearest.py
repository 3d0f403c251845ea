"""Suggest the name that a mistyped one was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Of difflib's ratio: a letter or two are wrong in a word of eight.
_ALIKE = 0.7
# Names as short as "s" and "ms" differ in meaning by a letter.
_SHORT = 3


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the name that `name` was probably meant to be, or None.

    In this order: the same but for case and signs, a word that differs in a letter or two or in their order, the
    initials of several words, a part of one.

    >>> nearest("lr", ["epochs", "learning_rate"]), nearest("epoch", ["epochs"]), nearest("batch", ["batch_size"])
    ('learning_rate', 'epochs', 'batch_size')
    >>> nearest("min", ["s", "ms"])
    """
    known = {_plain(other): other for other in reversed([*names])}
    word = _plain(name)
    if word in known:
        return known[word]
    if len(word) >= _SHORT:
        close = difflib.get_close_matches(word, [other for other in known if len(other) >= _SHORT], 1, _ALIKE)
        close = close or [other for other in known if sorted(other) == sorted(word)]
        if close:
            return known[close[0]]
    for plain, other in known.items():
        if len(word) > 1 and word == "".join(part[:1] for part in plain.split("_")):
            return other
    parts = [plain for plain in known if min(len(word), len(plain)) >= _SHORT and (plain in word or word in plain)]
    return known[min(parts, key=lambda plain: abs(len(plain) - len(word)))] if parts else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return " (did you mean '...'?)" with the nearest name, or "" if none is near."""
    found = nearest(name, names)
    return "" if found is None else f" (did you mean '{found}'?)"


def listed(names: Iterable[str], *, most: int = 60) -> str:
    """Join names with commas. Of more than `most` names, count the rest."""
    names = [*names]
    return ", ".join(names[:most]) + (f", and {len(names) - most:,} more" if len(names) > most else "")


def either(choices: Iterable[object]) -> str:
    """Join choices as TOML writes them: ``"a", "b" or "c"``."""
    texts = [f'"{choice}"' if isinstance(choice, str) else str(choice) for choice in choices]
    return " or ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")
