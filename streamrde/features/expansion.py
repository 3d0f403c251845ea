"""Expand pooled features before the readout: ranks among training streams, hats on them, and random pairs.

A linear readout of the features themselves gives each a straight line, which one large value can bend. The rank
``r(f)`` is the share of training streams with less than f, interpolated between stored quantiles. The hats ``max(0, 1 -
|(K - 1) r - k|)``, k = 0 .. K - 1, make the readout a curve in each rank. ``max(0, a (r_i - 1/2) + b (r_j - 1/2) - c)``
with random i, j, a, b sees two features at once.

A feature of exactly 0 is taken as not observed: pools of tokens have it where a channel never was. It has no hat, and
the middle rank in pairs.

All of it is done entry by entry in float64, and sums are halved in a fixed order: a row has the same bits whatever else
is in a call.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec
import numpy as np

from streamrde.arrays import Bools, Floats, Indices
from streamrde.errors import ParameterError, ShapeError

_CHUNK = 128
"""Rows that are expanded at once: comparing 500 features with 33 quantiles then fills 2 MB."""
_ROWS = 16
"""Rows that are read out at once: 4,000 pairs of them fill 0.5 MB, and stay in the cache."""
_LOW, _HIGH = 0.05, 0.95
"""Shares between which the quantiles lie that become biases of pairs."""


class Expansion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe what is made of P pooled features: hats of each, feature by feature, then pairs."""

    quantiles: Annotated[int, msgspec.Meta(ge=2, le=1025)] = 33
    """Number of quantiles that are stored of each feature."""
    hats: Annotated[int, msgspec.Meta(ge=2, le=64)] = 4
    """K, the number of hats on each rank."""
    pairs: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] = 0
    """Number of random pairs."""

    def size(self, features: int) -> int:
        """Return E, the number of values that `features` pooled ones become."""
        return features * self.hats + self.pairs

    def names(self, features: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of these values: ``hat2(last(mean:x))``, ``pair(17)``."""
        hats = (f"hat{k}({name})" for name in features for k in range(self.hats))
        return (*hats, *(f"pair({k})" for k in range(self.pairs)))

    def shapes(self, features: int) -> dict[str, tuple[int, ...]]:
        """Return name and shape of each array of `Ranking`, for P pooled features."""
        return {
            "knots": (features, self.quantiles),
            "ranks": (features, self.quantiles),
            "pairs": (self.pairs, 2),
            "slopes": (self.pairs, 2),
            "biases": (self.pairs,),
        }


class Ranking(NamedTuple):
    """The fitted and the random part of an expansion: float64, each number one of float32, as models store it."""

    knots: Floats
    """Quantiles of each feature, ascending, (P, quantiles)."""
    ranks: Floats
    """Rank at each of them, (P, quantiles). Equal quantiles have one rank: the middle of the streams there."""
    pairs: Floats
    """Numbers of the two features of each pair, whole numbers, (pairs, 2)."""
    slopes: Floats
    """a and b, of length 1 together, (pairs, 2)."""
    biases: Floats
    """c, (pairs,)."""


def fit_ranking(spec: Expansion, features: Floats, *, seed: int) -> Ranking:
    """Take quantiles and biases from the pooled features of training streams, and draw pairs of what they have.

    Args:
        features: (n, P), finite, n >= 1.
        seed: of the pairs.
    """
    observed = features != 0.0
    shares = np.linspace(0.0, 1.0, spec.quantiles)
    knots, ranks = (np.zeros((features.shape[1], spec.quantiles)) for _ in range(2))
    for j, column in enumerate(features.T):
        known = np.sort(column[observed[:, j]])
        if len(known):
            # In float32, as models store them. Interpolation may leave a quantile out of order by a last place.
            knots[j] = np.maximum.accumulate(np.quantile(known, shares).astype(np.float32))
            below, upto = (np.searchsorted(known, knots[j], side=side) for side in ("left", "right"))
            ranks[j] = (below + upto) / (2 * len(known))
    ranks = ranks.astype(np.float32).astype(np.float64)
    rng = np.random.Generator(np.random.PCG64([seed, 1 << 20]))
    # What few streams have says little in a pair: features are drawn by the share of streams that have them.
    upto = np.cumsum(np.maximum(observed.mean(axis=0), 1e-9)) if features.size else np.ones(1)
    pairs = np.searchsorted(upto, rng.random((spec.pairs, 2)) * upto[-1], side="right")
    pairs = np.minimum(pairs, max(0, features.shape[1] - 1)).astype(np.float64)
    angle = rng.uniform(0.0, 2 * np.pi, spec.pairs)
    slopes = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32).astype(np.float64)
    share = rng.uniform(_LOW, _HIGH, spec.pairs)
    ranking = Ranking(knots, ranks, pairs, slopes, np.zeros(spec.pairs))
    rank, seen = Expander(spec, ranking).rank(features)
    centred, places = np.where(seen, rank - 0.5, 0.0), pairs.astype(np.intp)
    biases = np.empty(spec.pairs)
    for begin in range(0, spec.pairs, _CHUNK):
        own = slice(begin, begin + _CHUNK)
        first, second = (centred[:, places[own, k]] * slopes[own, k] for k in (0, 1))
        value = np.sort(first + second, axis=0)
        place = share[own] * (len(value) - 1)
        below, column = np.floor(place).astype(np.intp), np.arange(value.shape[1])
        lower, upper = value[below, column], value[np.minimum(below + 1, len(value) - 1), column]
        biases[own] = lower + (place - below) * (upper - lower)
    return ranking._replace(biases=biases.astype(np.float32).astype(np.float64))


class Expander:
    """Expand pooled features, and read the result out.

    Args:
        spec: what is made.
        ranking: from `fit_ranking`, or from a model.
    Raises:
        ShapeError: an array has another shape than the spec asks for.
        ParameterError: quantiles do not ascend, or a pair names a feature that does not exist.
    """

    def __init__(self, spec: Expansion, ranking: Ranking) -> None:
        knots, ranks = ranking.knots, ranking.ranks
        self.spec, self.features, self.size = spec, len(knots), spec.size(len(knots))
        for name, wanted in spec.shapes(len(knots)).items():
            if (found := getattr(ranking, name).shape) != wanted:
                raise ShapeError(f"{name} of the expansion have shape {found}, and the spec asks for {wanted}")
        if (np.diff(knots, axis=1) < 0).any():
            raise ParameterError("knots of the expansion descend: they are quantiles, fit them again")
        pairs = ranking.pairs.astype(np.intp)
        if (pairs != ranking.pairs).any() or (pairs.size and not 0 <= pairs.min() <= pairs.max() < len(knots)):
            raise ParameterError(f"pairs of the expansion: use whole numbers from 0 to {len(knots) - 1}")
        self._knots, self._ranks, self._pairs = knots, ranks, pairs
        self._upper = np.ascontiguousarray(knots.T[1:])
        self._slopes, self._biases = ranking.slopes, ranking.biases
        width = np.diff(knots, axis=1)
        rising = np.where(width > 0, np.diff(ranks, axis=1) / np.where(width > 0, width, 1.0), 0.0)
        self._rising = np.concatenate([rising, np.zeros((len(knots), 1))], axis=1)

    def rank(self, features: Floats) -> tuple[Floats, Bools]:
        """Return the ranks of features (n, P), (n, P), and True where the feature was observed."""
        found = np.empty(features.shape)
        columns = np.arange(self.features)
        for begin in range(0, len(features), _CHUNK):
            own = slice(begin, begin + _CHUNK)
            value = np.clip(features[own], self._knots[:, 0], self._knots[:, -1])
            place = self._places(value)
            at = columns * self.spec.quantiles + place
            found[own] = self._ranks.take(at) + (value - self._knots.take(at)) * self._rising.take(at)
        return found, features != 0.0

    def expand(self, features: Floats) -> Floats:
        """Return hats and pairs of pooled features (n, P), (n, E)."""
        found = np.empty((len(features), self.size))
        hats, most = self.spec.hats, self.features * self.spec.hats
        for begin in range(0, len(features), _CHUNK):
            own = slice(begin, begin + _CHUNK)
            rank, seen = self.rank(features[own])
            height = np.maximum(0.0, 1.0 - np.abs(rank[:, :, None] * (hats - 1) - np.arange(hats)))
            height *= seen[:, :, None]
            found[own, :most] = height.reshape(len(height), most)
            found[own, most:] = self._pairs_of(rank, seen)
        return found

    def read(self, features: Floats, weight: Floats, bias: Floats) -> Floats:
        """Return the outputs of a linear readout of the expanded features, (n, outputs).

        Args:
            features: pooled, (n, P).
            weight, bias: (outputs, E), (outputs,).
        """
        found = np.empty((len(features), len(bias)))
        count, most = self.features, self.features * self.spec.hats
        columns, terms = np.arange(count), np.empty((_ROWS, count + self.spec.pairs))
        heights = [row[:most] for row in weight]
        for begin in range(0, len(features), _ROWS):
            own = slice(begin, begin + _ROWS)
            rank, seen = self.rank(features[own])
            # Of a feature's hats two at most are not 0: those on either side of its rank.
            at = rank * (self.spec.hats - 1)
            left = np.minimum(at.astype(np.intp), self.spec.hats - 2)
            part, left_hat = at - left, columns * self.spec.hats + left
            pairs, part_left, own_terms = self._pairs_of(rank, seen), 1.0 - part, terms[: len(rank)]
            for k, (height, row) in enumerate(zip(heights, weight, strict=True)):
                curve = height.take(left_hat) * part_left + height.take(left_hat + 1) * part
                np.multiply(curve, seen, out=own_terms[:, :count])
                np.multiply(pairs, row[most:], out=own_terms[:, count:])
                found[own, k] = _halved(own_terms) + bias[k]
        return found

    def _pairs_of(self, rank: Floats, seen: Bools) -> Floats:
        """Return the pairs of ranks, (n, pairs)."""
        centred = np.where(seen, rank - 0.5, 0.0)
        first, second = (np.take(centred, places, axis=1) for places in self._pairs.T)
        first *= self._slopes[:, 0]
        second *= self._slopes[:, 1]
        first += second
        first -= self._biases
        return np.asarray(np.maximum(first, 0.0, out=first))

    def _places(self, value: Floats) -> Indices:
        """Return the number of the last quantile that is not above each value, (n, P)."""
        place = np.zeros(value.shape, np.intp)
        for knot in self._upper:
            place += value >= knot
        return place


def _halved(terms: Floats) -> Floats:
    """Return the sums of rows (n, E), which are overwritten: one half is added to the other until one term is left."""
    width = terms.shape[1]
    while width > 1:
        half = width // 2
        terms[:, :half] += terms[:, width - half : width]
        width -= half
    return np.asarray(terms[:, 0])
