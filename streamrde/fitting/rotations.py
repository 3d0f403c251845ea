"""Turn tri-axial sensors at random: a sensor that sits otherwise on another person measures such streams."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from streamrde.arrays import Floats

Triples = tuple[tuple[int, int, int], ...]

_UNNAMED = (3, 6, 9)
"""Numbers of channels that may be tri-axial sensors though their names do not say so."""


def random_rotation(largest: float, rng: np.random.Generator) -> Floats:
    """Draw a rotation about a uniform axis by an angle uniform in [0, largest] radians, (3, 3) (Rodrigues' formula)."""
    axis = rng.normal(size=3)
    x, y, z = (axis / np.linalg.norm(axis)).tolist()
    angle = rng.uniform(0, largest)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * (cross @ cross))


def find_triples(names: Sequence[str]) -> Triples:
    """Return the places of channels that may be the axes of one sensor.

    They are channels whose names differ by x, y and z in one place. Where no name says so, 3, 6 or 9 channels are taken
    three by three: whether turning them helps is judged by what was left out.
    """
    lower = [name.lower() for name in names]
    found: list[tuple[int, int, int]] = []
    for i, name in enumerate(lower):
        for place, letter in enumerate(name):
            axes = [name[:place] + axis + name[place + 1 :] for axis in "xyz"]
            if letter == "x" and all(lower.count(axis) == 1 for axis in axes):
                found.append((i, lower.index(axes[1]), lower.index(axes[2])))
                break
    if found or len(names) not in _UNNAMED:
        return tuple(found)
    return tuple((i, i + 1, i + 2) for i in range(0, len(names), 3))


def turned(x: Floats, triples: Triples, degrees: float, rng: np.random.Generator) -> Floats:
    """Return a stream, (L, channels), with all its sensors turned alike."""
    changed, rotation = x.copy(), random_rotation(math.radians(degrees), rng)
    for triple in triples:
        changed[:, triple] = x[:, triple] @ rotation.T
    return changed
