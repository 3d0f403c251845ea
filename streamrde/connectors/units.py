"""Convert a recording's channels to the model's units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from streamrde.arrays import Floats
from streamrde.errors import ConfigError

# Unit: (dimension, factor, offset), so that value * factor + offset is in the dimension's first unit.
# Standard gravity 9.80665 m/s2, the inch of 25.4 mm, the pound-force and mmHg: BIPM / NIST SP 811, appendix B.
_UNITS: dict[str, tuple[str, float, float]] = {
    "m/s2": ("acceleration", 1.0, 0.0), "g": ("acceleration", 9.80665, 0.0), "mg": ("acceleration", 9.80665e-3, 0.0),
    "rad": ("angle", 1.0, 0.0), "deg": ("angle", math.pi / 180, 0.0),
    "rad/s": ("rate", 1.0, 0.0), "deg/s": ("rate", math.pi / 180, 0.0), "rpm": ("rate", math.pi / 30, 0.0),
    "K": ("temperature", 1.0, 0.0), "degC": ("temperature", 1.0, 273.15),
    "degF": ("temperature", 5 / 9, 459.67 * 5 / 9),
    "V": ("voltage", 1.0, 0.0), "mV": ("voltage", 1e-3, 0.0), "uV": ("voltage", 1e-6, 0.0),
    "A": ("current", 1.0, 0.0), "mA": ("current", 1e-3, 0.0),
    "W": ("power", 1.0, 0.0), "kW": ("power", 1e3, 0.0), "MW": ("power", 1e6, 0.0),
    "Pa": ("pressure", 1.0, 0.0), "hPa": ("pressure", 1e2, 0.0), "kPa": ("pressure", 1e3, 0.0),
    "bar": ("pressure", 1e5, 0.0), "mbar": ("pressure", 1e2, 0.0), "psi": ("pressure", 6894.757293168361, 0.0),
    "mmHg": ("pressure", 133.322387415, 0.0),
    "m": ("length", 1.0, 0.0), "mm": ("length", 1e-3, 0.0), "cm": ("length", 1e-2, 0.0), "um": ("length", 1e-6, 0.0),
    "km": ("length", 1e3, 0.0), "in": ("length", 0.0254, 0.0), "ft": ("length", 0.3048, 0.0),
    "m/s": ("speed", 1.0, 0.0), "mm/s": ("speed", 1e-3, 0.0), "km/h": ("speed", 1 / 3.6, 0.0),
    "mph": ("speed", 0.44704, 0.0),
    "T": ("field", 1.0, 0.0), "mT": ("field", 1e-3, 0.0), "uT": ("field", 1e-6, 0.0), "G": ("field", 1e-4, 0.0),
    "1": ("ratio", 1.0, 0.0), "%": ("ratio", 1e-2, 0.0), "ppm": ("ratio", 1e-6, 0.0),
}  # fmt: skip


class Conversion(NamedTuple):
    """``x * factor + offset``, channel by channel."""

    factor: Floats
    """(channels,)"""
    offset: Floats
    """(channels,)"""


def conversion(
    columns: Sequence[str],
    units: Sequence[str],
    *,
    recorded: Mapping[str, str] = {},
    scale: Mapping[str, float] = {},
    offset: Mapping[str, float] = {},
) -> Conversion | None:
    """Return the conversion of recorded channels to the model's units, or None if there is nothing to convert.

    Args:
        columns, units: the channels' columns and the model's units, in its order.
        recorded: unit of a column in the files, by column; a column that is not named is in the model's unit.
        scale, offset: for what no unit says: ``x * scale + offset`` gives the model's unit, by column.
    Raises:
        ConfigError: a column that is no channel, an unknown unit, or two units that cannot be converted.
    """
    for name, table in (("units", recorded), ("scale", scale), ("offset", offset)):
        for column in table:
            if column not in columns:
                raise ConfigError(f"{name} names {column!r}, which is none of the channels' columns {list(columns)}")
    factors, offsets = np.ones(len(columns)), np.zeros(len(columns))
    for i, (column, unit) in enumerate(zip(columns, units, strict=True)):
        if column in recorded:
            if column in scale or column in offset:
                raise ConfigError(f"column {column!r} has a unit and a scale or offset: give one of the two")
            factors[i], offsets[i] = _between(column, recorded[column], unit)
        factors[i] *= scale.get(column, 1.0)
        offsets[i] += offset.get(column, 0.0)
    if (factors == 1).all() and not offsets.any():
        return None
    return Conversion(factors, offsets)


def _between(column: str, recorded: str, wanted: str) -> tuple[float, float]:
    if recorded == wanted:
        return 1.0, 0.0
    for unit in (recorded, wanted):
        if unit not in _UNITS:
            raise ConfigError(
                f"column {column!r}: no conversion from {recorded!r} to the model's {wanted!r}, {unit!r} is not known; "
                f"give scale and offset instead, or one of {', '.join(_UNITS)}"
            )
    (dimension, factor, offset), (other, divisor, shift) = _UNITS[recorded], _UNITS[wanted]
    if dimension != other:
        raise ConfigError(
            f"column {column!r} is in {recorded!r}, a unit of {dimension}, and the model's {wanted!r} is one of "
            f"{other}: choose another column, or correct the unit"
        )
    return factor / divisor, (offset - shift) / divisor
