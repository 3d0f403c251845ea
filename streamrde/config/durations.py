"""Durations as people write them: "200ms", "2s", "5min", "30d"."""

from __future__ import annotations

import re

from streamrde.errors import ConfigError

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(key: str, text: str) -> float:
    """Return a duration in seconds.

    Raises:
        ConfigError: it is none, or not positive; names the key.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(us|ms|s|min|h|d)", text.strip())
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not seconds > 0:
        raise ConfigError(f'{key} = "{text}": write a number and a unit, as "200ms"; units are {", ".join(_UNITS)}')
    return seconds
