"""Override keys of a configuration by settings such as ``training.epochs=5``."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from streamrde.errors import ConfigError


def override(tables: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return the tables with some keys overridden. A later setting wins over an earlier one.

    Args:
        tables: as read from a TOML file. They are not changed.
        settings: ``key=value`` each, with a dotted key, as in ``training.epochs=5``. A value that is not valid TOML is
            text, so that paths and words need no quotes. A table, as in ``windows={policy="count", n=50}``, replaces
            the whole table.
    Raises:
        ConfigError: a setting has no ``=``, or its key leads through something that is not a table.
    """
    result = copy.deepcopy(dict(tables))
    for setting in settings:
        key, equals, text = setting.partition("=")
        names = [name.strip() for name in key.split(".")]
        if not equals or not all(names):
            raise ConfigError(f"setting '{setting}': write it as key=value, such as training.epochs=5")
        table = result
        for depth, name in enumerate(names[:-1], 1):
            inner = table.setdefault(name, {})
            if not isinstance(inner, dict):
                raise ConfigError(
                    f"setting '{setting}': {'.'.join(names[:depth])} is not a table; set it as a whole instead"
                )
            table = inner
        table[names[-1]] = _value(text.strip())
    return result


def _value(text: str) -> Any:
    try:
        # Parse a whole document, so that a value cannot add keys.
        parsed = tomllib.loads(f"value = {text}\n")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text
