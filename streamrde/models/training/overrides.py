"""Settings on top of a configuration: ``training.epochs=5`` takes the place of that key."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from streamrde.errors import ConfigError


def override(tables: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """The tables with some keys set anew; a later setting wins over an earlier one.

    Args:
        tables: as read from a TOML file; left as they are.
        settings: ``key=value`` each, the key dotted, as in ``training.epochs=5``. The value is TOML; what is no TOML is
            text, so that paths and words need no quotes. A table, as in ``windows={policy="count", n=50}``, takes the
            place of the whole table.
    Raises:
        ConfigError: a setting has no ``=``, or its key goes through something that is no table.
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
                    f"setting '{setting}': {'.'.join(names[:depth])} is no table; set the whole of it instead"
                )
            table = inner
        table[names[-1]] = _value(text.strip())
    return result


def _value(text: str) -> Any:
    try:
        # Parsed as one document, so that a value cannot bring keys of its own along.
        parsed = tomllib.loads(f"value = {text}\n")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text
