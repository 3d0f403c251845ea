"""Check that names, numbers and structures are the same in Python and in the compiled kernels.

The extension exports the text of its declarations (kernels/layout.hpp). Without it there is nothing to check.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from streamrde.kernels import LAYOUT
from streamrde.kernels.reference import Event

_TYPES = {"std::int64_t": np.int64, "double": np.float64}


def check_numbers(name: str, numbers: Mapping[str, int]) -> None:
    """Raise ImportError unless the compiled kernels give these names the same numbers.

    Args:
        name: of the enumeration in C++.
        numbers: number of each name; upper and lower case are the same.
    """
    if name in LAYOUT:
        names = [part.strip() for part in LAYOUT[name].split(",")]
        _compare(name, {name: number for number, name in enumerate(names)}, {k.lower(): n for k, n in numbers.items()})


def check_fields(name: str, dtype: np.dtype[np.void]) -> None:
    """Raise ImportError unless the C++ structure of this name has the fields of a dtype."""
    if name in LAYOUT:
        declarations = (part.split(maxsplit=1) for part in LAYOUT[name].split(";") if part.strip())
        fields = [(field.strip(), _TYPES[kind]) for kind, names in declarations for field in names.split(",")]
        _compare(name, np.dtype(fields), dtype)


def _compare(name: str, compiled: object, here: object) -> None:
    if compiled != here:
        raise ImportError(
            f"the compiled kernels belong to another version of streamrde: {name} is {compiled} there and {here} here; "
            "install streamrde again"
        )


check_numbers("Event", Event.__members__)
