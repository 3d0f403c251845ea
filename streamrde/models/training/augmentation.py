"""Random changes to training streams that a model should not mind: start, orientation of a sensor, speed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamrde.arrays import Floats
from streamrde.fitting.rotations import random_rotation
from streamrde.models.training.config import AugmentConfig


class Variant(NamedTuple):
    """A changed stream. It has fewer rows if cropped, but at least 2 if there were 2."""

    t: Floats
    x: Floats
    tempo: float
    """Time since its first sample is this multiple of the original's."""

    def original(self, t: Floats) -> Floats:
        """Convert times of the variant to times of the original stream."""
        first = float(self.t[0])
        return first + (t - first) / self.tempo


def augment(
    t: Floats, x: Floats, config: AugmentConfig, *, names: Sequence[str], deviation: Floats, rng: np.random.Generator
) -> Variant:
    """Return a random variant of a stream.

    Args:
        t: seconds, (L,).
        x: data channels, (L, C-1). NaN stays NaN.
        names: their names, which `config.rotate` refers to.
        deviation: their standard deviations, the unit of `config.noise`, (C-1,).
    """
    tempo = 1.0
    if config.crop < 1:
        length = max(2, math.ceil(rng.uniform(config.crop, 1) * len(t)))
        start = int(rng.integers(0, max(1, len(t) - length + 1)))
        t, x = t[start : start + length], x[start : start + length]
    if config.tempo:
        tempo = rng.uniform(1 - config.tempo, 1 + config.tempo)
        t = t[0] + (t - t[0]) * tempo
    x = x.copy()
    triples = [[names.index(name) for name in triple] for triple in config.rotate]
    if triples and config.degrees:
        rotation = random_rotation(math.radians(config.degrees), rng)
        for triple in triples:
            x[:, triple] = x[:, triple] @ rotation.T
    for members in config.flip:
        if rng.random() < 0.5:
            x[:, [names.index(name) for name in members]] *= -1
    if config.gain:
        gains = rng.uniform(1 - config.gain, 1 + config.gain, size=(x.shape[1],))
        for triple in triples:
            gains[triple] = gains[triple[0]]
        x *= gains
    if config.noise:
        x += rng.normal(size=x.shape) * (config.noise * deviation)
    return Variant(t, x, tempo)
