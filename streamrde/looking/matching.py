"""Match the channels of a model with the columns of data."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping

from streamrde.connectors.units import conversion
from streamrde.errors import ConfigError
from streamrde.inference.bundle import load
from streamrde.looking.guesses import Findings, Guess
from streamrde.nearest import listed, nearest

# Spellings of units in files, by those that streamrde converts.
_ALIASES = {
    "°C": "degC", "C": "degC", "°F": "degF", "F": "degF", "m/s^2": "m/s2", "m/s²": "m/s2", "°/s": "deg/s", "µV": "uV",
    "µT": "uT",
}  # fmt: skip
# A unit behind a name, which is no index of a path.
_UNIT = re.compile(r"\s*[\[(][^\])]*[^\])\d][^\])]*[\])]\s*$")

# Names of sensors with three axes, by the letter for them.
_SENSORS = {
    "a": ("a", "acc", "accel", "acceleration", "accelerometer", "linearacceleration"),
    "w": ("w", "g", "gyr", "gyro", "gyroscope", "rotation", "omega"),
    "m": ("m", "b", "mag", "magnetometer", "magneticfield"),
}
_AXIS = re.compile(rf"(?P<sensor>{'|'.join(name for group in _SENSORS.values() for name in group)})(?P<axis>[xyz])")


def match_channels(model: str | os.PathLike[str], found: Findings) -> dict[str, str]:
    """Return the column or path of each channel of a model, by the channels' names in the model's order.

    Names match if they are the same but for case and signs, if one is the end of the other, if they name the same axis
    of the same sensor (ax, accX, Accelerometer.csv:x), or if they are alike.

    Raises:
        ConfigError: a channel has no column.
    """
    wanted = [channel.name for channel in load(model).header.channels]
    left = [channel.name for channel in found.channels]
    matched: dict[str, str] = {}
    for ways in (_same, _ends, _axis, nearest):
        for own in wanted:
            if own not in matched and (name := ways(own, left)) is not None:
                matched[own] = name
                left.remove(name)
    if lacking := [own for own in wanted if own not in matched]:
        raise ConfigError(
            f"{model}: no column was found for its channel{'s' if len(lacking) > 1 else ''} {listed(lacking)}; "
            f"{found.source} has {listed([channel.name for channel in found.channels])}"
        )
    return {own: matched[own] for own in wanted}


def match_units(model: str | os.PathLike[str], channels: Mapping[str, str], found: Findings) -> Guess | None:
    """Return the units of columns that are not in the model's units and can be converted, or None if there are none.

    Args:
        channels: column of each channel, see `match_channels`.
    """
    recorded = {channel.name: _ALIASES.get(channel.unit, channel.unit) for channel in found.channels}
    wanted = {channels[own.name]: own.unit for own in load(model).header.channels}
    units = {}
    for column, unit in wanted.items():
        if not unit or not recorded[column] or recorded[column] == unit:
            continue
        with contextlib.suppress(ConfigError):  # not a unit that is known, or of something else
            conversion([column], [unit], recorded={column: recorded[column]})
            units[column] = recorded[column]
    if not units:
        return None
    said = ", ".join(f"{column} is in {unit}, the model's in {wanted[column]}" for column, unit in units.items())
    return Guess(units, f"{said}: values are converted")


def labels_of(model: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return names for the columns of a model's late labels: one per head of classes, and one per output of numbers.

    They are the names of heads and outputs, or "label". A channel of the same name makes it "true_" and the name.
    """
    header, names = load(model).header, list[str]()
    taken = {channel.name for channel in header.channels}
    for head in header.parts:
        own: tuple[str, ...] = (head.name or "label",)
        if not head.classes and (head.output_names or head.outputs > 1):
            own = head.output_names or tuple(f"{own[0]}_{i}" for i in range(head.outputs))
        for name in own:
            while name in taken:
                name = f"true_{name}"
            taken.add(name)
            names.append(name)
    return tuple(names)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", _UNIT.sub("", name).lower())


def _same(own: str, names: list[str]) -> str | None:
    return next((name for name in names if _plain(name) == _plain(own)), None)


def _ends(own: str, names: list[str]) -> str | None:
    wanted = _plain(own)
    alike = [name for name in names if _plain(name).endswith(wanted) or wanted.endswith(_plain(name) or "-")]
    return alike[0] if len(alike) == 1 else None


def _axis(own: str, names: list[str]) -> str | None:
    wanted = _axis_of(own)
    alike = [name for name in names if wanted is not None and _axis_of(name) == wanted]
    return alike[0] if len(alike) == 1 else None


def _axis_of(name: str) -> tuple[str, str] | None:
    """Return the sensor, as a letter, and the axis that a name is of, or None if it is of none."""
    found = _AXIS.fullmatch(_plain(name).replace("csv", ""))
    if found is None:
        return None
    return next(letter for letter, group in _SENSORS.items() if found["sensor"] in group), found["axis"]
